"""Log of a served model's answers, without audio."""

import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genre.config import AudioConfig
from genre.inputs import features

#: A file of the log, and all of them: at 1.2 kB an answer some 200,000 answers, of which the oldest go.
MAX_FILE_BYTES, MAX_LOG_BYTES = 8 * 2**20, 256 * 2**20

#: Columns of the log beside the features.
LOG_COLUMNS = ("time", "version", "config", "genre", "confidence")

_log = logging.getLogger(__name__)


def log_dir() -> Path | None:
    """Folder of the log: ``GENRE_LOG``; None where answers are not to be logged."""
    named = os.environ.get("GENRE_LOG", "").strip()
    return Path(named).expanduser().resolve() if named else None


def log_prediction(
    version: str | None, probabilities: Mapping[str, float], row: np.ndarray | None, config: AudioConfig
) -> None:
    """Add an answer to the log, if there is to be one; a disk that refuses it is a warning and no error.

    Parameters
    ----------
    version : str or None
        Model and version that answered, such as ``genre/3``; one of no registry (None) is not logged.
    probabilities : mapping
        Genre to its probability, 0..1; the likeliest is logged, be it below the confidence for ``unknown`` or not.
    row : np.ndarray [shape=(97,)] or None
        Features of one window of the file, where the model takes features: the mean of many windows would be less
        spread than those of the ten-second clips that they are compared with.
    config : AudioConfig
        How the features are computed.
    """
    directory = log_dir()
    if directory is None or version is None:
        return
    genre = max(probabilities, key=lambda name: probabilities[name])
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "version": version,
        "config": config.fingerprint,
        "genre": genre,
        "confidence": round(float(probabilities[genre]), 6),
        "features": None if row is None else [float(f"{value:.6g}") for value in row],
    }
    try:
        _append_line(directory, json.dumps(line))
    except OSError as error:
        _log.warning("an answer could not be logged in %s: %s", directory, error.strerror or error)


def read_log(directory: Path, *, version: str | None = None, config: AudioConfig | None = None) -> pd.DataFrame:
    """The log as a table, the oldest answer first; lines that a crash cut short are counted in a warning.

    Parameters
    ----------
    directory : Path
        Its folder; one that is not there is an empty log.
    version : str, optional
        Answers of this model and version only, such as ``genre/3``.
    config : AudioConfig, optional
        Answers with features of this configuration only.

    Returns
    -------
    pd.DataFrame
        ``time`` (UTC), ``version``, ``config``, ``genre``, ``confidence`` (0..1), and the 97 features, NaN where the
        model takes none.
    """
    rows = [
        row
        for path in sorted(directory.glob("*.jsonl"))
        for row in _read_rows(path)
        if version in (None, row["version"]) and (config is None or row["config"] == config.fingerprint)
    ]
    values = np.full((len(rows), len(features.FEATURE_NAMES)), np.nan, np.float32)
    for n, row in enumerate(rows):
        if row["features"] is not None:
            values[n] = row["features"]
    table = pd.DataFrame([{name: row[name] for name in LOG_COLUMNS} for row in rows], columns=list(LOG_COLUMNS))
    table["time"] = pd.to_datetime(table["time"], utc=True, format="ISO8601")
    table[list(features.FEATURE_NAMES)] = values
    return table.sort_values("time", kind="stable", ignore_index=True)


def _append_line(directory: Path, line: str) -> None:
    """Add a line to this process's file of today; one write, so that threads do not mix theirs."""
    path = directory / f"{datetime.now(UTC):%Y%m%d}-{socket.gethostname()}-{os.getpid()}.jsonl"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        _drop_oldest_files(directory)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        # The break comes first: a line that a full disk cuts short spoils only itself.
        os.write(file, f"\n{line}".encode())
        size = os.fstat(file).st_size
    finally:
        os.close(file)
    if size > MAX_FILE_BYTES:
        with suppress(FileNotFoundError):  # another thread was first
            path.rename(path.with_stem(f"{path.stem}-{datetime.now(UTC):%H%M%S%f}"))


def _drop_oldest_files(directory: Path) -> None:
    """Drop the oldest files, as many as the limit asks for."""
    sizes = {path: path.stat() for path in directory.glob("*.jsonl")}
    total = sum(stat.st_size for stat in sizes.values()) + MAX_FILE_BYTES
    for path in sorted(sizes, key=lambda p: sizes[p].st_mtime):
        if total <= MAX_LOG_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= sizes[path].st_size


def _read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The answers in one file."""
    n_broken, lines = 0, list[bytes]()
    with suppress(FileNotFoundError):  # the oldest go when there are too many, also now
        lines = path.read_bytes().split(b"\n")
    for line in filter(None, lines):
        try:
            row = json.loads(line)
        except ValueError:
            n_broken += 1
            continue
        if len(row["features"] or features.FEATURE_NAMES) == len(features.FEATURE_NAMES):
            yield row
    if n_broken:
        _log.warning("%s: %d answers were cut short and are left out", path, n_broken)
