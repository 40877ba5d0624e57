"""Table of a library's predictions, and texts that a table or a terminal can show."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from genre.audio.left_out import escape_name
from genre.errors import GenreError
from genre.files import write_atomically
from genre.library.outcomes import TagOutcome, join_genres

#: Rows of a table held in memory at once.
_CHUNK_ROWS = 2000


def table_columns(genres: Sequence[str], *, tag: bool) -> list[str]:
    """List the columns of a library's table; a genre named like another column gets ``(genre)`` after its name."""
    others = ["error", "message", "note", "model_version"] + ["proposed", "tag"] * tag
    fixed = {"path", "genre", "confidence", *others}
    return ["path", "genre", "confidence", *(f"{g} (genre)" if g in fixed else g for g in genres), *others]


def table_row(prediction: Mapping[str, Any], genres: Sequence[str], model_version: str) -> list[Any]:
    """Return the cells of a file in the columns from `table_columns`, without those for tags.

    Parameters
    ----------
    prediction : mapping
        From `genre.library.answers.PredictionStore.iter_predictions`.
    genres : sequence of str
        Genres of the model, as passed to `table_columns`.
    model_version : str
        Such as ``genre/1``.
    """
    proba = prediction["probabilities"] or {}
    return [
        escape_non_utf8(prediction["path"]),
        prediction["genre"],
        prediction["confidence"],
        *map(proba.get, genres),
        prediction["error"],
        escape_non_utf8(prediction["message"]),
        prediction["note"],
        model_version,
    ]


def tag_cells(outcome: TagOutcome | None) -> tuple[str | None, str | None]:
    """Return the cells of a file in the columns ``proposed`` and ``tag``; None if there was no genre to write."""
    if outcome is None:
        return None, None
    return escape_non_utf8(join_genres(outcome.proposed)), escape_non_utf8(str(outcome))


def write_library_table(out: Path, rows: Iterable[Sequence[Any]], names: Sequence[str], genres: Sequence[str]) -> None:
    """Write a library's table, whole or not at all, with a part of its rows in memory at a time.

    Parameters
    ----------
    out : Path
        Table to write, ``.csv`` or ``.parquet``.
    rows : iterable of sequence
        Values in the order of `names`; the first three are text, text and number.
    names : sequence of str
        Columns from `table_columns`.
    genres : sequence of str
        Genres whose probabilities are in the columns after the first three.

    Raises
    ------
    GenreError
        If the table cannot be written.
    """
    remaining = iter(rows)
    parts = iter(lambda: list(islice(remaining, _CHUNK_ROWS)), [])

    def write_csv(path: Path) -> None:
        with path.open("w", newline="") as file:
            pd.DataFrame(columns=list(names)).to_csv(file, index=False)
            for part in parts:
                pd.DataFrame(part).to_csv(file, index=False, header=False)

    def write_parquet(path: Path) -> None:
        numbers = {"confidence", *names[3 : 3 + len(genres)]}
        schema = pa.schema([(name, pa.float64() if name in numbers else pa.string()) for name in names])
        with pq.ParquetWriter(path, schema) as file:
            for part in parts:
                columns = zip(*part, strict=True)
                file.write_table(pa.table(dict(zip(names, columns, strict=True)), schema))

    try:
        write_atomically(out, write_csv if out.suffix == ".csv" else write_parquet)
    except OSError as error:
        raise GenreError(
            f"cannot write {out} ({error.strerror}); the predictions are kept, choose another file with -P out="
        ) from None


def escape_non_utf8(text: str | None) -> str | None:
    """Escape the bytes of a path, or of a message with a path, that are not UTF-8, so that it can be written."""
    return os.fsencode(text).decode(errors="backslashreplace") if text else text


def escape_unprintable(text: str) -> str:
    """Escape what a line on the terminal cannot show: bytes of a path that are not UTF-8, and control characters."""
    shown = escape_name(text)
    encoding = sys.stdout.encoding or "utf-8"  # a terminal of another encoding has no arrows, nor other alphabets
    return shown.encode(encoding, "backslashreplace").decode(encoding)
