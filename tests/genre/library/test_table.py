"""Table of a library, and texts that can be shown."""

import io
import os

import pandas as pd
import pytest

from genre.errors import GenreError
from genre.library import table as library_table


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
