"""Predictions for the files of a music library: computed in worker processes and stored in SQLite.

A prediction is stored by path and model, with the file's size and modification time; a file that has changed since is
predicted again.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from joblib import effective_n_jobs

from genre.audio.left_out import LeftOut
from genre.audio.listing import find_audio_files
from genre.audio.suffixes import list_accepted
from genre.config import UNKNOWN
from genre.errors import DataError
from genre.library.replacing import state_stamp
from genre.workers import dask_cluster, pool

#: Files per batch: seconds of work, so that a kill loses little.
BATCH_FILES = 8

#: Errors that may not occur again: files with these are predicted again.
RETRIED_ERRORS = ("unreadable", "failed")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    path BLOB NOT NULL, model TEXT NOT NULL, stamp TEXT NOT NULL, genre TEXT, confidence REAL, probabilities TEXT,
    code TEXT, message TEXT, note TEXT, PRIMARY KEY (path, model)
) WITHOUT ROWID
"""

#: Columns that were added later, with their types: older databases lack them.
_ADDED_COLUMNS = {"note": "TEXT"}


@dataclass(frozen=True)
class PredictionWork:
    """Prediction with a logged model, as `genre.workers.pool.Work`.

    Attributes
    ----------
    directory : Path
        Folder of the logged model.
    """

    directory: Path
    name: ClassVar[str] = "the model"
    # Isolated (-I): the worker runs the code logged with the model and must not import this project's.
    python_args: ClassVar[tuple[str, ...]] = ("-I", "serving/isolated/library.py")

    @property
    def initial_message(self) -> str:
        """Folder of the model."""
        return str(self.directory)

    def on_crash(self, row: pd.DataFrame, reason: str) -> list[dict[str, Any]]:
        """Return the prediction for a file that crashes every worker process: an error."""
        error = {"code": "crashed", "message": f"the worker process that read it {reason}"}
        return [{"path": row["path"].iloc[0], "error": error}]


class PredictionStore:
    """Database of predictions, for one thread of one process at a time.

    Parameters
    ----------
    path : Path
        The database, made if it is missing.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path)
        self._db.execute(_SCHEMA)
        present = {name for _, name, *_ in self._db.execute("PRAGMA table_info(answers)")}
        for name in _ADDED_COLUMNS.keys() - present:
            self._db.execute(f"ALTER TABLE answers ADD COLUMN {name} {_ADDED_COLUMNS[name]}")

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def find_missing(self, files: pd.DataFrame, model: str) -> pd.DataFrame:
        """Return those of `files`, from `list_library`, without a prediction of this model for their present state."""
        marks = ", ".join("?" * len(RETRIED_ERRORS))
        query = f"SELECT path, stamp FROM answers WHERE model = ? AND coalesce(code, '') NOT IN ({marks})"
        stored = set(self._db.execute(query, (model, *RETRIED_ERRORS)))
        keys = zip(map(os.fsencode, files["path"]), files["stamp"], strict=True)
        return files[[key not in stored for key in keys]]

    def save_predictions(self, files: pd.DataFrame, model: str, answers: Iterable[Mapping[str, Any]]) -> None:
        """Store a model's predictions for some of `files`: all of them or, if the process is killed, none."""
        stamps = dict(zip(files["path"], files["stamp"], strict=True))
        rows = [
            (
                os.fsencode(prediction["path"]),
                model,
                stamps[prediction["path"]],
                prediction.get("genre"),
                prediction.get("confidence"),
                json.dumps(prediction.get("probabilities")),
                (prediction.get("error") or {}).get("code"),
                (prediction.get("error") or {}).get("message"),
                prediction.get("note"),
            )
            for prediction in answers
        ]
        with self._db:
            self._db.executemany(f"INSERT OR REPLACE INTO answers VALUES ({', '.join('?' * 9)})", rows)

    def update_stamp(self, path: str, stamp: str) -> None:
        """Keep the predictions of a file whose tags have changed, but not its audio, under its new stamp."""
        with self._db:
            self._db.execute("UPDATE answers SET stamp = ? WHERE path = ?", (stamp, os.fsencode(path)))

    def list_genres(self, model: str) -> list[str]:
        """List the genres of a model in alphabetical order; empty if no file has probabilities of it."""
        query = "SELECT probabilities FROM answers WHERE model = ? AND probabilities != 'null' LIMIT 1"
        row = self._db.execute(query, (model,)).fetchone()
        return sorted(json.loads(row[0])) if row else []

    def iter_predictions(
        self, paths: Iterable[str], model: str, min_confidence: float = -1.0
    ) -> Iterator[dict[str, Any]]:
        """Iterate over the stored predictions of files.

        Parameters
        ----------
        paths : iterable of str
            Files with a prediction of this model, as `list_library` returns them.
        model : str
            Key of the model, as passed to `save_predictions`.
        min_confidence : float
            Confidence below which a genre is ``unknown``, 0..1; -1 for the genre that the model returned.

        Yields
        ------
        dict
            ``path``, ``stamp`` (of the file that was predicted), ``genre``, ``confidence``, ``probabilities`` (a dict),
            ``error`` (a code), ``message`` and ``note`` (how a file was analysed, where not in the usual way); None for
            those that the file does not have.
        """
        columns = "stamp, genre, confidence, probabilities, code, message, note"
        query = f"SELECT {columns} FROM answers WHERE path = ? AND model = ?"
        for path in paths:
            row = self._db.execute(query, (os.fsencode(path), model)).fetchone()
            stamp, genre, confidence, probabilities, code, message, note = row
            proba = json.loads(probabilities)
            if min_confidence >= 0 and proba:
                genre = max(proba, key=proba.__getitem__) if confidence >= min_confidence else UNKNOWN
            yield {
                "path": path,
                "stamp": stamp,
                "genre": genre,
                "confidence": confidence,
                "probabilities": proba,
                "error": code,
                "message": message,
                "note": note,
            }


def check_folder(source: Path) -> None:
    """Check that the music library is a folder.

    Raises
    ------
    DataError
        If it is not.
    """
    if not source.is_dir():
        state = "is a file, not a folder" if source.exists() else "does not exist"
        raise DataError(f"{source} {state}; give the folder of your music, such as -P source=~/Music")


def list_library(source: Path, left_out: LeftOut | None = None) -> pd.DataFrame:
    """List the audio files below a folder.

    Parameters
    ----------
    source : Path
        The folder; see `genre.audio.listing.find_audio_files` for the files that count as audio.
    left_out : LeftOut, optional
        Receives what is left out.

    Returns
    -------
    pd.DataFrame
        Columns ``path`` (str, absolute) and ``stamp`` (size and modification time), both of dtype object, since no
        other holds a name that is not UTF-8.

    Raises
    ------
    DataError
        If there is no such folder, or no audio in it.
    """
    check_folder(source)
    left_out = LeftOut() if left_out is None else left_out
    rows = [(str(path), file_stamp(path)) for path in find_audio_files(source.resolve(), left_out)]
    if not rows:
        raise DataError(
            f"no audio in {source}; accepted: {list_accepted()}; give the folder of your music as source"
            f"{left_out.to_clause()}"
        )
    return pd.DataFrame(rows, columns=["path", "stamp"], dtype=object)


def file_stamp(path: Path) -> str:
    """Return size and modification time of a file; empty if it has just been removed."""
    try:
        return state_stamp(path.stat())
    except OSError:
        return ""


def predict_files(
    files: pd.DataFrame, model_dir: Path, *, n_jobs: int = -1, dask: str = ""
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Predict files with a logged model, in worker processes that have it loaded.

    Parameters
    ----------
    files : pd.DataFrame
        Files from `list_library`.
    model_dir : Path
        Folder of the logged model.
    n_jobs : int
        Number of worker processes, -1 for one per core.
    dask : str
        Address of a Dask scheduler whose workers predict instead, one process per worker thread; they must see
        `model_dir` and the files under the same paths. Empty for this machine.

    Yields
    ------
    n_files : int
        Number of files of each batch as it is finished, in any order.
    predictions : list of dict
        One per file of the batch: ``path``, ``genre``, ``confidence``, ``probabilities``, ``error``, ``note``.

    Raises
    ------
    UsageError
        If `n_jobs` is 0.
    GenreError
        If the model cannot be loaded, or the cluster cannot be reached or fails.
    """
    pool.check_n_jobs(n_jobs)
    work = PredictionWork(model_dir)
    n_batches = -(-len(files) // BATCH_FILES)
    batches = (files.iloc[start : start + BATCH_FILES] for start in range(0, len(files), BATCH_FILES))
    if dask:
        results = dask_cluster.run_on_dask(batches, work, dask)
    else:
        results = pool.run_local(batches, work, min(effective_n_jobs(n_jobs), n_batches))
    for n_files, pieces in results:
        yield n_files, [prediction for piece in pieces for prediction in piece]
