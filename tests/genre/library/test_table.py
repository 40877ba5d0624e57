"""Table of a library, and texts that can be shown."""

import io
import os

import pandas as pd
import pytest

from genre.errors import GenreError
from genre.library import table as library_table
from genre.library.outcomes import TagOutcome, TagStatus


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("n", [0, 1, library_table._CHUNK_ROWS + 1])
def test_the_table_is_whole_and_holds_every_row(tmp_path, suffix, n):
    out = tmp_path / "new" / f"t{suffix}"
    genres = ["a,b", "path", "note"]
    names = library_table.table_columns(genres, tag=True)
    probabilities = ["a,b", "path (genre)", "note (genre)"]
    assert names == [
        "path",
        "genre",
        "confidence",
        *probabilities,
        "error",
        "message",
        "note",
        "model_version",
        "proposed",
        "tag",
    ]
    rows = [
        [f"/{k}\n,", None if k % 2 else "a,b", 0.5, 0.5, 0.25, 0.25, None, None, None, "m/1", "", ""] for k in range(n)
    ]
    library_table.write_library_table(out, iter(rows), names, genres)
    table = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    assert list(table) == names and table["path"].tolist() == [row[0] for row in rows]
    assert table["genre"].notna().sum() == (n + 1) // 2
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_each_cell_of_a_file_stands_in_its_column():
    names = library_table.table_columns(["a", "b"], tag=True)
    path = os.fsdecode(b"/caf\xe9.wav")
    prediction = {"genre": "b", "confidence": 0.6, "probabilities": {"b": 0.6, "a": 0.4}, "error": None}
    prediction |= {"path": path, "message": None, "note": "the louder channel was analysed"}
    refused = TagOutcome(TagStatus.REFUSED, ("b", "c"), None, f"{path} is read-only")
    cells = [*library_table.table_row(prediction, ["a", "b"], "m/1"), *library_table.tag_cells(refused)]
    assert dict(zip(names, cells, strict=True)) == {
        "genre": "b",
        "confidence": 0.6,
        "a": 0.4,
        "b": 0.6,
        "error": None,
        "message": None,
        "model_version": "m/1",
        "path": r"/caf\xe9.wav",
        "note": "the louder channel was analysed",
        "proposed": "b; c",
        "tag": r"refused: /caf\xe9.wav is read-only",
    }


def test_a_file_without_a_genre_has_empty_cells():
    names = library_table.table_columns(["a", "b"], tag=True)
    error = {"genre": None, "confidence": None, "probabilities": None, "note": None}
    error |= {"path": "/x", "error": "silent", "message": "no sound"}
    cells = [*library_table.table_row(error, ["a", "b"], "m/1"), *library_table.tag_cells(None)]
    given = {"path": "/x", "error": "silent", "message": "no sound", "model_version": "m/1"}
    assert dict(zip(names, cells, strict=True)) == dict.fromkeys(names) | given


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Röck → 日本", "Röck → 日本"),
        (os.fsdecode(b"caf\xe9.mp3: a"), r"caf\xe9.mp3: a"),
        ("two\nlines\x1b[31m", r"two\nlines\x1b[31m"),
        ("half\ud800", r"half\ud800"),
    ],
)
def test_a_line_on_the_terminal_has_only_what_can_be_shown(text, line):
    assert library_table.escape_unprintable(text) == line


def test_a_terminal_without_arrows_gets_escapes(monkeypatch):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="iso8859-1"))
    assert library_table.escape_unprintable("Röck → 日本") == r"Röck \u2192 \u65e5\u672c"


def test_a_table_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(GenreError, match="the predictions are kept, choose another file with -P out="):
        library_table.write_library_table(tmp_path / "file" / "t.csv", iter([]), ["path"], [])
