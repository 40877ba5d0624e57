"""The CSV of genres that a model is sure of."""

import os
from pathlib import Path

import pandas as pd
import pytest

from genre.errors import GenreError
from genre.library import labels


def prediction(path: Path | str, genre: str | None, confidence: float | None) -> dict[str, object]:
    return {"path": str(path), "genre": genre, "confidence": confidence}


def test_only_files_with_a_genre_are_listed_once_each_and_the_least_sure_first(tmp_path):
    (tmp_path / "a.mp3").touch()
    (tmp_path / "link.mp3").symlink_to(tmp_path / "a.mp3")
    predictions = [
        prediction(tmp_path / "a.mp3", "rock", 0.91239),
        prediction(tmp_path / "link.mp3", "rock", 0.91239),
        prediction(tmp_path / 'b, "c".mp3', "NA", 0.6),
        prediction(tmp_path / "d.mp3", "unknown", 0.3),
        prediction(tmp_path / "broken.mp3", None, None),
        prediction(os.fsdecode(b"/caf\xe9.mp3"), "rock", 0.9),
    ]
    table = labels.select_labels(predictions)
    assert table.to_numpy().tolist() == [
        [str(tmp_path / 'b, "c".mp3'), "NA", 0.6],
        [str(tmp_path / "a.mp3"), "rock", 0.9124],
    ]
    assert labels.select_labels(predictions[3:]).empty


def test_a_csv_is_never_replaced_and_other_labels_go_to_another(tmp_path):
    table = pd.DataFrame({"path": ["/a", "/b"], "genre": ["NA", "x"], "confidence": [0.5, 1]})
    path, is_new = labels.write_labels(table, tmp_path / "new" / "out.parquet")
    assert is_new and path.parent == tmp_path / "new" and path.name.startswith("out-sure-") and path.suffix == ".csv"
    assert path.read_text() == "path,genre,confidence\n/a,NA,0.5\n/b,x,1.0\n"
    path.write_text("corrected")
    assert labels.write_labels(table, tmp_path / "new" / "out.parquet") == (path, False)
    assert path.read_text() == "corrected"
    other, is_new = labels.write_labels(table.assign(genre="y"), tmp_path / "new" / "out.parquet")
    assert is_new and other != path and len(list(other.parent.iterdir())) == 2


def test_a_folder_that_cannot_be_written_to_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(GenreError, match=r"cannot write .*out-sure-.*; choose another folder with -P out="):
        labels.write_labels(pd.DataFrame({"path": ["/a"]}), tmp_path / "file" / "out.csv")
