"""What a model says of the files of a music library: asked in processes, kept in SQLite, handed on as a table.

An answer is kept by path and model, with the file's size and time of change: a file changed since is asked about again.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from joblib import effective_n_jobs

from genre.audio.listing import AUDIO_SUFFIXES, find_audio_files
from genre.config import UNKNOWN
from genre.errors import DataError, GenreError, UsageError
from genre.files import write_atomically
from genre.workers import dask_cluster, pool

#: Files asked about at once: seconds of work, so that a kill loses little.
BATCH_FILES = 8

#: Errors that may be gone next time: files with these are asked about again.
RETRIED_ERRORS = ("unreadable", "failed")

#: Rows of a table that are in memory at once.
_CHUNK_ROWS = 2000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    path BLOB NOT NULL, model TEXT NOT NULL, stamp TEXT NOT NULL, genre TEXT, confidence REAL, probabilities TEXT,
    code TEXT, message TEXT, PRIMARY KEY (path, model)
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class PredictionWork:
    """The asking of a model, as `genre.workers.pool.Work`.

    Attributes
    ----------
    directory : Path
        The logged model.
    """

    directory: Path
    name: ClassVar[str] = "the model"
    # isolated: the code is the model's own, and its process must not find this project's
    python_args: ClassVar[tuple[str, ...]] = ("-I", "serving/isolated/library.py")

    @property
    def initial_message(self) -> str:
        """The model's folder."""
        return str(self.directory)

    def on_crash(self, row: pd.DataFrame, reason: str) -> list[dict[str, Any]]:
        """Answer for a file that no process survives."""
        error = {"code": "crashed", "message": f"the process that listened to it {reason}"}
        return [{"path": row["path"].iloc[0], "error": error}]


class PredictionStore:
    """The answers that are there.

    Parameters
    ----------
    path : Path
        The database; made where it is missing. For one thread at a time, in one process at a time.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path)
        self._db.execute(_SCHEMA)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def find_missing(self, files: pd.DataFrame, model: str) -> pd.DataFrame:
        """Those of `files`, from `list_library`, that have no answer of this model, or one of an earlier state."""
        marks = ", ".join("?" * len(RETRIED_ERRORS))
        query = f"SELECT path, stamp FROM answers WHERE model = ? AND coalesce(code, '') NOT IN ({marks})"
        known = set(self._db.execute(query, (model, *RETRIED_ERRORS)))
        pairs = zip(map(os.fsencode, files["path"]), files["stamp"], strict=True)
        return files[[pair not in known for pair in pairs]]

    def save_predictions(self, files: pd.DataFrame, model: str, answers: Iterable[Mapping[str, Any]]) -> None:
        """Keep what a model said of some of `files`; all of it or, if the process is killed, nothing."""
        stamps = dict(zip(files["path"], files["stamp"], strict=True))
        rows = [
            (
                os.fsencode(answer["path"]),
                model,
                stamps[answer["path"]],
                answer.get("genre"),
                answer.get("confidence"),
                json.dumps(answer.get("probabilities")),
                (answer.get("error") or {}).get("code"),
                (answer.get("error") or {}).get("message"),
            )
            for answer in answers
        ]
        with self._db:
            self._db.executemany(f"INSERT OR REPLACE INTO answers VALUES ({', '.join('?' * 8)})", rows)

    def update_stamp(self, path: str, stamp: str) -> None:
        """Take the answers of a file as those of its new state, in which it sounds the same."""
        with self._db:
            self._db.execute("UPDATE answers SET stamp = ? WHERE path = ?", (stamp, os.fsencode(path)))

    def list_genres(self, model: str) -> list[str]:
        """Genres that a model gives probabilities of, in alphabetical order; none where it judged no file."""
        query = "SELECT probabilities FROM answers WHERE model = ? AND probabilities != 'null' LIMIT 1"
        found = self._db.execute(query, (model,)).fetchone()
        return sorted(json.loads(found[0])) if found else []

    def iter_predictions(
        self, paths: Iterable[str], model: str, min_confidence: float = -1.0
    ) -> Iterator[dict[str, Any]]:
        """What a model said of files that it was asked about.

        Parameters
        ----------
        paths : iterable of str
            As `list_library` gives them.
        model : str
            As recorded.
        min_confidence : float
            Confidence below which a genre is ``unknown``, 0..1; -1 for what the model found itself.

        Yields
        ------
        dict
            ``path``, ``genre``, ``confidence``, ``probabilities`` (a dict), ``error`` (a code) and ``message``; None
            where there is none.
        """
        query = "SELECT genre, confidence, probabilities, code, message FROM answers WHERE path = ? AND model = ?"
        for path in paths:
            genre, confidence, packed, code, message = self._db.execute(query, (os.fsencode(path), model)).fetchone()
            proba = json.loads(packed)
            if min_confidence >= 0 and proba:
                genre = max(proba, key=proba.__getitem__) if confidence >= min_confidence else UNKNOWN
            said = {"genre": genre, "confidence": confidence, "probabilities": proba, "error": code, "message": message}
            yield {"path": path} | said


def list_library(source: Path) -> pd.DataFrame:
    """Audio files below a folder.

    Parameters
    ----------
    source : Path
        The folder; see `genre.audio.listing.find_audio_files` for what counts.

    Returns
    -------
    pd.DataFrame
        Columns ``path`` (str, absolute) and ``stamp`` (size and time of change), both as objects, since a name that is
        not UTF-8 fits no other.

    Raises
    ------
    DataError
        If there is no such folder, or no audio in it.
    """
    if not source.is_dir():
        raise DataError(f"{source} is no folder; give the folder of your music: -P source=~/Music")
    rows = [(str(path), file_stamp(path)) for path in find_audio_files(source.resolve())]
    if not rows:
        raise DataError(f"no audio in {source}; looked for {', '.join(sorted(s[1:] for s in AUDIO_SUFFIXES))}")
    return pd.DataFrame(rows, columns=["path", "stamp"], dtype=object)


def escape_non_utf8(text: str | None) -> str | None:
    """A path, or what is said of one, as it can be written: what is not UTF-8 in it is spelt out."""
    return os.fsencode(text).decode(errors="backslashreplace") if text else text


def file_stamp(path: Path) -> str:
    """Size and time of change of a file; empty where it has just gone."""
    try:
        state = path.stat()
    except OSError:
        return ""
    return f"{state.st_size}-{state.st_mtime_ns}"


def predict_files(
    files: pd.DataFrame, model_dir: Path, *, n_jobs: int = -1, dask: str = ""
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Ask a logged model about files, in processes that have it loaded.

    Parameters
    ----------
    files : pd.DataFrame
        As `list_library` gives them.
    model_dir : Path
        Folder of the logged model.
    n_jobs : int
        Processes, -1 for one per core.
    dask : str
        Address of a Dask scheduler, whose workers ask instead, a process for each of their threads; they must see
        `model_dir` and the files under the same names. Empty for this machine.

    Yields
    ------
    n_files : int
        Of each batch as it is finished, in any order.
    answers : list of dict
        To each of its files: ``path``, ``genre``, ``confidence``, ``probabilities``, ``error``.

    Raises
    ------
    UsageError
        If `n_jobs` is 0.
    GenreError
        If the model cannot be loaded, or the cluster is not there or fails.
    """
    if n_jobs == 0:
        raise UsageError("n_jobs must be a number of processes, or -1 for one per core; got 0")
    work, n_batches = PredictionWork(model_dir), -(-len(files) // BATCH_FILES)
    batches = (files.iloc[start : start + BATCH_FILES] for start in range(0, len(files), BATCH_FILES))
    if dask:
        done = dask_cluster.run_on_dask(batches, work, dask)
    else:
        done = pool.run_local(batches, work, min(effective_n_jobs(n_jobs), n_batches))
    for n, pieces in done:
        yield n, [answer for piece in pieces for answer in piece]


def table_columns(genres: Sequence[str], *, tag: bool) -> list[str]:
    """Columns of a library's table; a genre that is called like another column has ``(genre)`` behind its name."""
    others = ["error", "message", "model_version"] + ["tag"] * tag
    fixed = {"path", "genre", "confidence", *others}
    return ["path", "genre", "confidence", *(f"{g} (genre)" if g in fixed else g for g in genres), *others]


def write_library_table(out: Path, rows: Iterable[Sequence[Any]], names: Sequence[str], genres: Sequence[str]) -> None:
    """Write a library's table, whole or not at all, a part in memory at a time.

    Parameters
    ----------
    out : Path
        ``.csv`` or ``.parquet``.
    rows : iterable of sequence
        Values in the order of `names`; of the first three, text, text and number.
    names : sequence of str
        As `table_columns` gives them.
    genres : sequence of str
        What the columns after the first three hold probabilities of.

    Raises
    ------
    GenreError
        If it cannot be written.
    """
    rest = iter(rows)
    parts = iter(lambda: list(islice(rest, _CHUNK_ROWS)), [])

    def csv(path: Path) -> None:
        with path.open("w", newline="") as file:
            pd.DataFrame(columns=list(names)).to_csv(file, index=False)
            for part in parts:
                pd.DataFrame(part).to_csv(file, index=False, header=False)

    def parquet(path: Path) -> None:
        numbers = {"confidence", *names[3 : 3 + len(genres)]}
        schema = pa.schema([(name, pa.float64() if name in numbers else pa.string()) for name in names])
        with pq.ParquetWriter(path, schema) as file:
            for part in parts:
                file.write_table(pa.table(dict(zip(names, zip(*part, strict=True), strict=True)), schema))

    try:
        write_atomically(out, csv if out.suffix == ".csv" else parquet)
    except OSError as error:
        raise GenreError(
            f"{out} cannot be written ({error.strerror}); the answers are kept, name another -P out="
        ) from None
