"""Log of a served model's predictions, without audio."""

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

#: Size at which a file of the log is closed and a new one begun.
MAX_FILE_BYTES = 8 * 2**20

#: Size of all files of the log, above which the oldest are deleted: some 200,000 predictions at 1.2 kB each.
MAX_LOG_BYTES = 256 * 2**20

#: Columns of the log besides the features.
LOG_COLUMNS = ("time", "version", "config", "genre", "confidence")

#: File in the folder of a registered model that holds its name and version, which the log needs.
VERSION_FILE = "registered_version.json"

_log = logging.getLogger(__name__)


def log_dir() -> Path | None:
    """Return the folder of the log, from ``GENRE_LOG``; None if predictions are not logged."""
    name = os.environ.get("GENRE_LOG", "").strip()
    return Path(name).expanduser().resolve() if name else None


def log_prediction(
    version: str | None, probabilities: Mapping[str, float], row: np.ndarray | None, config: AudioConfig
) -> None:
    """Add a prediction to the log, if ``GENRE_LOG`` is set; a failure to write is a warning, not an error.

    Parameters
    ----------
    version : str or None
        Model and version, such as ``genre/3``. Predictions of a model that is not registered (None) are not logged.
    probabilities : mapping
        Genre to its probability, 0..1; the likeliest is logged, even below the confidence for ``unknown``.
    row : np.ndarray [shape=(97,)] or None
        Features of one window of the file if the model takes features, else None. Not the mean over windows: means
        would vary less than the features of the ten-second clips that they are compared with.
    config : AudioConfig
        Configuration that the features are computed with.
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
        _log.warning("a prediction could not be logged in %s: %s", directory, error.strerror or error)


def read_log(directory: Path, *, version: str | None = None) -> pd.DataFrame:
    """Read the log as a table, the oldest prediction first; truncated lines are counted in a warning.

    Parameters
    ----------
    directory : Path
        Folder of the log; if it does not exist, the log is empty.
    version : str, optional
        Read only the predictions of this model and version, such as ``genre/3``.

    Returns
    -------
    pd.DataFrame
        ``time`` (UTC), ``version``, ``config`` (`AudioConfig.fingerprint`), ``genre``, ``confidence`` (0..1), and the
        features, NaN where the model takes none, or there were not as many as now.
    """
    rows = [
        row
        for path in sorted(directory.glob("*.jsonl"))
        for row in _read_rows(path)
        if version in (None, row["version"])
    ]
    values = np.full((len(rows), len(features.FEATURE_NAMES)), np.nan, np.float32)
    for n, row in enumerate(rows):
        if len(row["features"] or ()) == values.shape[1]:
            values[n] = row["features"]
    table = pd.DataFrame([{name: row[name] for name in LOG_COLUMNS} for row in rows], columns=list(LOG_COLUMNS))
    table["time"] = pd.to_datetime(table["time"], utc=True, format="ISO8601")
    table[list(features.FEATURE_NAMES)] = values
    return table.sort_values("time", kind="stable", ignore_index=True)


def _append_line(directory: Path, line: str) -> None:
    """Append a line to this process's file of the day, in a single write, so that threads do not mix their lines."""
    path = directory / f"{datetime.now(UTC):%Y%m%d}-{socket.gethostname()}-{os.getpid()}.jsonl"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        _drop_oldest_files(directory)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        # The line break comes first, so that a line truncated by a full disk does not spoil the next one.
        os.write(descriptor, f"\n{line}".encode())
        size = os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    if size > MAX_FILE_BYTES:
        with suppress(FileNotFoundError):  # another thread has renamed it
            path.rename(path.with_stem(f"{path.stem}-{datetime.now(UTC):%H%M%S%f}"))


def _drop_oldest_files(directory: Path) -> None:
    """Delete the oldest files until the others and a new one are within `MAX_LOG_BYTES`."""
    stats = {path: path.stat() for path in directory.glob("*.jsonl")}
    total = sum(stat.st_size for stat in stats.values()) + MAX_FILE_BYTES
    for path in sorted(stats, key=lambda p: stats[p].st_mtime):
        if total <= MAX_LOG_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= stats[path].st_size


def _read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the predictions in one file."""
    n_truncated = 0
    lines: list[bytes] = []
    with suppress(FileNotFoundError):  # a server may delete the oldest files at any time
        lines = path.read_bytes().split(b"\n")
    for line in filter(None, lines):
        try:
            yield json.loads(line)
        except ValueError:
            n_truncated += 1
    if n_truncated:
        _log.warning("%s: %d truncated lines are left out", path, n_truncated)
