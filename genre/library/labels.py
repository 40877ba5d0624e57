"""Genres that a model is sure of, as a CSV that a person corrects and that the data set ``folder`` takes."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from genre.config import UNKNOWN
from genre.errors import GenreError
from genre.files import write_atomically


def select_labels(predictions: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Select the files whose genre a model is sure of, the least sure first.

    Parameters
    ----------
    predictions : iterable of mapping
        From `genre.library.answers.PredictionStore.iter_predictions`.

    Returns
    -------
    pd.DataFrame
        Columns ``path`` (absolute, links resolved, one row per file), ``genre`` and ``confidence`` (0..1, to four
        digits). There is none for files that are ``unknown``, have no prediction, or whose name is not UTF-8.
    """
    rows = [
        (str(Path(prediction["path"]).resolve()), prediction["genre"], round(prediction["confidence"], 4))
        for prediction in predictions
        if prediction["genre"] not in (None, UNKNOWN)
    ]
    table = pd.DataFrame([row for row in rows if _is_utf8(row[0])], columns=["path", "genre", "confidence"])
    return table.sort_values(["confidence", "path"]).drop_duplicates("path", ignore_index=True)


def write_labels(labels: pd.DataFrame, table_path: Path) -> tuple[Path, bool]:
    """Write the CSV beside the table of predictions, unless it exists.

    Its name holds a digest of its content as it is written here. A CSV that a person has corrected is therefore never
    replaced: the same predictions lead to the same file, which is left as it is, and others to another file.

    Parameters
    ----------
    labels : pd.DataFrame
        From `select_labels`.
    table_path : Path
        Table of predictions.

    Returns
    -------
    path : Path
        The CSV.
    is_new : bool
        False if it existed.

    Raises
    ------
    GenreError
        If it cannot be written.
    """
    content = labels.to_csv(index=False, lineterminator="\n").encode()
    path = table_path.with_name(f"{table_path.stem}-sure-{hashlib.sha256(content).hexdigest()[:6]}.csv")
    if path.exists():
        return path, False
    try:
        return write_atomically(path, lambda temporary: temporary.write_bytes(content)), True
    except OSError as error:
        raise GenreError(f"cannot write {path} ({error.strerror}); choose another folder with -P out=") from None


def _is_utf8(text: str) -> bool:
    """Return False for a file name with bytes that are not UTF-8, which cannot be written to a CSV."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
