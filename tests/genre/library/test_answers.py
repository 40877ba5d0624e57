"""Stored predictions for a library, and the table made of them."""

import os
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
import soundfile as sf

from genre.config import UNKNOWN
from genre.errors import DataError, GenreError, UsageError
from genre.library import answers
from genre.library.answers import PredictionStore
from tests.support.sounds import tone

PREDICTION = {"genre": "a", "confidence": 0.6, "probabilities": {"b": 0.4, "a": 0.6}, "error": None}


def library_files(*names: str) -> pd.DataFrame:
    return pd.DataFrame({"path": list(names), "stamp": "1"}, dtype=object)


@pytest.fixture
def store(tmp_path: Path):
    with closing(PredictionStore(tmp_path / "answers.sqlite")) as store:
        yield store


def error_of(path: str, code: str) -> dict:
    return {"path": path, "error": {"code": code, "message": "why"}}


def test_files_without_a_prediction_of_this_model_and_state_are_missing(store):
    both = library_files("/x", os.fsdecode(b"/caf\xe9"))
    store.save_predictions(both, "m/1", [PREDICTION | {"path": path} for path in both["path"]])
    assert store.find_missing(both, "m/1").empty
    assert len(store.find_missing(both, "m/2")) == 2
    assert store.find_missing(both.assign(stamp=["1", "2"]), "m/1")["path"].tolist() == [both["path"][1]]
    store.update_stamp(both["path"][1], "2")
    assert store.find_missing(both.assign(stamp=["1", "2"]), "m/1").empty


def test_files_with_a_passing_error_are_predicted_again(store):
    codes = ["undecodable", "crashed", *answers.RETRIED_ERRORS]
    failed = library_files(*codes)
    store.save_predictions(failed, "m/1", [error_of(code, code) for code in codes])
    assert store.find_missing(failed, "m/1")["path"].tolist() == list(answers.RETRIED_ERRORS)
    first = next(store.iter_predictions(codes, "m/1"))
    assert (first["error"], first["message"], first["genre"], first["probabilities"]) == (
        "undecodable",
        "why",
        None,
        None,
    )


def test_the_note_on_a_file_is_its_message(store):
    noted = PREDICTION | {"path": "/x", "note": "the channels cancel each other out"}
    store.save_predictions(library_files("/x"), "m/1", [noted])
    assert [(row["error"], row["message"]) for row in store.iter_predictions(["/x"], "m/1")] == [(None, noted["note"])]


def test_another_min_confidence_needs_no_new_prediction(store):
    store.save_predictions(library_files("/x"), "m/1", [PREDICTION | {"path": "/x", "genre": UNKNOWN}])
    genres = {c: next(store.iter_predictions(["/x"], "m/1", c))["genre"] for c in (-1.0, 0.0, 0.6, 0.61)}
    assert genres == {-1.0: UNKNOWN, 0.0: "a", 0.6: "a", 0.61: UNKNOWN}
    assert store.list_genres("m/1") == ["a", "b"] and store.list_genres("m/2") == []


def test_audio_files_are_listed_at_any_depth(tmp_path):
    (tmp_path / "d" / "e").mkdir(parents=True)
    for name in ("d/e/a.WAV", "b.mp3", ".hidden.mp3", "c.txt"):
        (tmp_path / name).touch()
    (tmp_path / "link.mp3").symlink_to(tmp_path / "b.mp3")
    (tmp_path / "dangling.mp3").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.mp3").mkdir()
    listed = answers.list_library(tmp_path)
    assert [Path(path).name for path in listed["path"]] == ["b.mp3", "a.WAV", "link.mp3"]
    for wrong, message in ((tmp_path / "b.mp3", "is not a folder"), (tmp_path / "folder.mp3", "no audio in")):
        with pytest.raises(DataError, match=message):
            answers.list_library(wrong)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("n", [0, 1, answers._CHUNK_ROWS + 1])
def test_the_table_is_whole_and_holds_every_row(tmp_path, suffix, n):
    out = tmp_path / "new" / f"t{suffix}"
    genres = ["a,b", "path", "error"]
    names = answers.table_columns(genres, tag=True)
    probabilities = ["a,b", "path (genre)", "error (genre)"]
    assert names == ["path", "genre", "confidence", *probabilities, "error", "message", "model_version", "tag"]
    rows = [[f"/{k}\n,", None if k % 2 else "a,b", 0.5, 0.5, 0.25, 0.25, None, None, "m/1", ""] for k in range(n)]
    answers.write_library_table(out, iter(rows), names, genres)
    table = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    assert list(table) == names and table["path"].tolist() == [row[0] for row in rows]
    assert table["genre"].notna().sum() == (n + 1) // 2
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_a_table_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(GenreError, match="the predictions are kept, choose another file with -P out="):
        answers.write_library_table(tmp_path / "file" / "t.csv", iter([]), ["path"], [])


def test_n_jobs_of_zero_is_refused(tmp_path):
    sf.write(tmp_path / "a.wav", tone(1, hz=300), 22050)
    with pytest.raises(UsageError, match="n_jobs must be"):
        list(answers.predict_files(answers.list_library(tmp_path), tmp_path, n_jobs=0))
