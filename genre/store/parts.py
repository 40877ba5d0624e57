"""The files of a store: parts, each written whole.

A part is ``part-<digest>.npy``, the spectrograms of a batch, and ``part-<digest>.parquet``, its index: one row per
clip with what became of it and its features, and what computed them: libraries, processor, kernels. The index is
written last and makes the part exist.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from genre.config import library_versions
from genre.errors import DataError
from genre.files import write_atomically
from genre.inputs.backend import backend_name
from genre.inputs.features import FEATURE_NAMES

#: What a part says of every clip, before its features.
OUTCOME_COLUMNS = ["clip_id", "stamp", "status", "reason"]

#: Columns of an index; ``row`` is the clip's place among the spectrograms, -1 where it has none.
INDEX_COLUMNS = [*OUTCOME_COLUMNS, "row", *FEATURE_NAMES]

_VERSIONS_KEY = b"versions"


def row_keys(table: pd.DataFrame) -> pd.Series:
    """What a stored row answers for: the clip, as its file was."""
    return table["clip_id"].astype(str) + "\t" + table["stamp"].astype(str)


def part_path(clips: pd.DataFrame, directory: Path) -> Path:
    """Where the index of a part with these clips lies: wherever they are computed, the name is the same."""
    digest = hashlib.sha256("\n".join(row_keys(clips)).encode()).hexdigest()[:16]
    return directory / f"part-{digest}.parquet"


def list_parts(directory: Path) -> list[Path]:
    """Index of every part, the oldest first."""
    found = [(path.stat().st_mtime_ns, path) for path in directory.glob("part-*.parquet")]
    return [path for _, path in sorted(found)]


def save_part(
    index: pd.DataFrame, spectrograms: np.ndarray, directory: Path, computed_with: dict[str, str] | None = None
) -> Path:
    """Write a part, whole or not at all.

    Parameters
    ----------
    index : pd.DataFrame
        `OUTCOME_COLUMNS`, ``row`` and, where there are any, features.
    spectrograms : np.ndarray [shape=(n, n_mels, n_frames), dtype=uint8]
        What ``row`` counts.
    directory : Path
        The store.
    computed_with : dict, optional
        What computed it; by default `current_versions`.

    Returns
    -------
    Path
        Its index.
    """
    path, table = part_path(index, directory), index.reindex(columns=INDEX_COLUMNS)
    # By hand: pandas takes fifteen milliseconds for a hundred columns, as long as a clip does.
    columns = [pa.array(table[name], pa.string()) for name in OUTCOME_COLUMNS] + [pa.array(table["row"], pa.int64())]
    columns += [pa.array(values) for values in table[list(FEATURE_NAMES)].to_numpy(np.float32).T]
    about = {_VERSIONS_KEY: json.dumps(computed_with or current_versions())}
    write_atomically(path.with_suffix(".npy"), lambda p: _save_array(p, spectrograms))
    return write_atomically(path, lambda p: pq.write_table(pa.table(columns, INDEX_COLUMNS, metadata=about), p))


def read_part_index(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Columns of a part's index, by default all.

    Raises
    ------
    DataError
        If it is damaged.
    FileNotFoundError
        If it is not there (any more).
    """
    try:
        return pd.read_parquet(path, columns=columns)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(damage_message(path, str(error).splitlines()[0])) from error


def read_column_names(path: Path) -> list[str]:
    """Names of the columns of a part's index.

    Raises
    ------
    DataError
        If it is damaged.
    """
    try:
        return list(pq.read_schema(path).names)
    except (OSError, ValueError) as error:
        raise DataError(damage_message(path, str(error).splitlines()[0])) from error


def current_versions() -> dict[str, str]:
    """What this process computes with: libraries, processor, and kernels of the features."""
    return library_versions() | {"kernels": backend_name()}


def read_versions(path: Path) -> dict[str, str]:
    """What computed a part, as `current_versions` says it; nothing where its source brought the features."""
    return json.loads((pq.read_schema(path).metadata or {}).get(_VERSIONS_KEY, b"{}"))


def open_spectrograms(path: Path, n: int = 0) -> np.memmap:
    """Spectrograms of a part, memory-mapped.

    Parameters
    ----------
    path : Path
        Its index, or themselves.
    n : int, default 0
        How many there must be at least.

    Returns
    -------
    np.memmap [shape=(>= n, n_mels, n_frames), dtype=uint8]
        Read-only.

    Raises
    ------
    DataError
        If they are missing or cut short.
    """
    path = path.with_suffix(".npy")
    try:
        found = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(damage_message(path, "it is cut short" if path.exists() else "it is missing")) from error
    if len(found) < n:
        raise DataError(damage_message(path, f"it has {len(found)} spectrograms of {n}"))
    return found


def remove_part(path: Path) -> None:
    """Remove a part, its index first: without that it does not exist."""
    path.unlink(missing_ok=True)
    path.with_suffix(".npy").unlink(missing_ok=True)


def damage_message(path: Path, why: str) -> str:
    """What to say of a damaged file, and what repairs it."""
    command = '"mlflow run . -e build" with the same -P dataset= and -P source='
    return f"{path} is damaged: {why}; {command} repairs it"


def _save_array(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, np.ascontiguousarray(array))  # readers seek to a row and read its bytes
