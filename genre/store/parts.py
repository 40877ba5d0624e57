"""Files of a store: parts, each written whole.

A part is an index, ``part-<digest>.parquet``, with one row per clip: its status and the reason where it has no values.
The index also records what computed the part: libraries, processor, kernels. It is written last and makes the part
exist. The values lie beside it, in ``part-<digest>.npy``.

Inputs that every build computes share their parts, the base family; those of them that are vectors are columns of the
index, so that a source can bring features of its own. Any other input has a family of parts of its own,
``part-<input>-v<version>-<digest>``, so that it can be added to a store, and dropped, without touching the others. One
that is computed with weights has their digest in the name too, ``part-<input>-v<version>-<weights>-<digest>``: of the
file of weights in the store, so that other weights leave the parts of the earlier ones unread.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genre.config import library_versions
from genre.errors import DataError, first_line
from genre.files import write_atomically
from genre.inputs import BASE_INPUTS, INPUTS, get_input, is_vector
from genre.inputs.backend import backend_name

#: Family of the inputs that every build computes.
BASE = ""

#: Columns that every index has before its vectors.
OUTCOME_COLUMNS = ["clip_id", "stamp", "status", "reason"]

#: Rows of an index that are read at a time: few parts have more, but the features of a source are a single part.
READ_ROWS = 65_536

_VERSIONS = b"versions"

#: Names of the parts of families; every other part is of the base, whatever its name.
_FAMILY_PART = re.compile(r"part-\w+-v\d+-.+")


def family_of(name: str) -> str:
    """Return the family of parts that holds an input."""
    return BASE if get_input(name).in_every_build else name


def family_inputs(family: str) -> tuple[str, ...]:
    """Return the names of the inputs that a family of parts holds."""
    return (family,) if family else BASE_INPUTS


def vector_columns(family: str) -> list[str]:
    """Return the columns of a family's index that hold vectors; none but in the base family."""
    vectors = filter(is_vector, BASE_INPUTS) if family == BASE else ()
    return [column for name in vectors for column in get_input(name).module.column_names()]


def array_input(family: str) -> str:
    """Return the input of a family whose values are in the file beside the index."""
    return family or next(name for name in BASE_INPUTS if not is_vector(name))


def stored_weights(directory: Path, name: str) -> str:
    """Return twelve hexadecimal digits of the weights in a store that an input is computed with.

    They are empty for an input without weights, and ``none`` where the store has no such file.
    """
    entry = get_input(name)
    path = directory / entry.weights_file
    if not entry.weights_file:
        return ""
    return _weights_digest(name, path, path.stat().st_mtime_ns) if path.exists() else "none"


def weights_digests(names: Iterable[str], directory: Path) -> dict[str, str]:
    """Return the digests of the weights in a store for those inputs that are computed with some."""
    return {name: stored_weights(directory, name) for name in names if get_input(name).weights_file}


@cache
def _weights_digest(name: str, path: Path, modified_ns: int) -> str:
    """Return the digest of a file of weights; `modified_ns` makes a file that was replaced be read again."""
    digest: str = get_input(name).module.load_weights(path).digest
    return digest[:12]


def row_keys(table: pd.DataFrame) -> pd.Series:
    """Return the key of each stored row: clip id plus file stamp."""
    return table["clip_id"].astype(str) + "\t" + table["stamp"].astype(str)


def part_path(clips: pd.DataFrame, directory: Path, family: str = BASE) -> Path:
    """Return the path of the index of a part with these clips; it is the same wherever they are computed."""
    digest = hashlib.sha256("\n".join(row_keys(clips)).encode()).hexdigest()[:16]
    return directory / f"part-{_family_prefix(family, directory)}{digest}.parquet"


def list_parts(directory: Path, family: str = BASE) -> list[Path]:
    """Return the index of every part of a family, the oldest first."""
    found = directory.glob(f"part-{_family_prefix(family, directory)}*.parquet")
    if family == BASE:
        found = (path for path in found if not _FAMILY_PART.fullmatch(path.stem))
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path))


def list_families(directory: Path) -> list[str]:
    """Return the base family, and the others that have parts in a store."""
    return [BASE, *(name for name in INPUTS if name not in BASE_INPUTS and list_parts(directory, name))]


def save_part(
    index: pd.DataFrame,
    arrays: np.ndarray,
    directory: Path,
    computed_with: dict[str, str] | None = None,
    family: str = BASE,
) -> Path:
    """Write a part, whole or not at all.

    Parameters
    ----------
    index : pd.DataFrame
        `OUTCOME_COLUMNS`, ``row`` (the clip's place in `arrays`, -1 where it has none) and, in the base family, the
        columns of vectors.
    arrays : np.ndarray [shape=(n, ...)]
        Values of the family's `array_input`.
    directory : Path
        The store.
    computed_with : dict, optional
        What computed the part; by default `current_versions`.
    family : str
        Family of the part, by default the base.

    Returns
    -------
    Path
        Index of the part.
    """
    path = part_path(index, directory, family)
    vectors = vector_columns(family)
    names = [*OUTCOME_COLUMNS, "row", *vectors]
    table = index.reindex(columns=names)
    # By hand: pandas takes fifteen milliseconds for a hundred columns, as long as a clip does.
    columns = [pa.array(table[name], pa.string()) for name in OUTCOME_COLUMNS] + [pa.array(table["row"], pa.int64())]
    columns += [pa.array(values) for values in table[vectors].to_numpy(np.float32).T]
    metadata = {_VERSIONS: json.dumps(computed_with or current_versions())}
    # the file alone is waited for here, and its folder with the index, which makes the part exist
    write_atomically(path.with_suffix(".npy"), lambda p: _save_array(p, arrays), sync=False)
    return write_atomically(path, lambda p: pq.write_table(pa.table(columns, names, metadata=metadata), p))


def read_part_index(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read columns of a part's index, by default all.

    Raises
    ------
    DataError
        If it is damaged.
    FileNotFoundError
        If it is not there (any more).
    """
    return pd.concat([batch.to_pandas() for batch in iter_index(path, columns)], ignore_index=True)


def iter_index(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Iterate over columns of a part's index, by default all, `READ_ROWS` rows at a time.

    Raises
    ------
    DataError
        If it is damaged.
    FileNotFoundError
        If it is not there (any more).
    """
    try:
        # a third of the time of `pandas.read_parquet`, which also looks for further files of a data set
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(READ_ROWS, columns=columns, use_threads=False)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(damage_message(path, first_line(error))) from error


def check_part(path: Path, family: str = BASE) -> None:
    """Check that a part can be read, and has its arrays and all columns.

    The features that a source brought, which have no arrays beside them, may have any columns.

    Raises
    ------
    DataError
        If it is damaged.
    """
    vectors = vector_columns(family) if path.with_suffix(".npy").exists() else []
    expected = [*OUTCOME_COLUMNS, "row", *vectors]
    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in expected if name not in file.schema_arrow.names]
            rows = None if missing else file.read(["row"], use_threads=False)["row"]
    except (OSError, ValueError) as error:
        raise DataError(damage_message(path, first_line(error))) from error
    if rows is None:
        raise DataError(damage_message(path, f"it lacks the column {missing[0]}"))
    n_arrays = pc.max(rows).as_py() + 1 if len(rows) else 0
    if n_arrays:
        open_arrays(path, n_arrays)


def current_versions() -> dict[str, str]:
    """Return what this process computes with: libraries, processor, and kernels of the features."""
    return library_versions() | {"kernels": backend_name()}


def read_versions(path: Path) -> dict[str, str]:
    """Read what computed a part, as `current_versions` returns it; empty where the source brought the features."""
    return json.loads((pq.read_schema(path).metadata or {}).get(_VERSIONS, b"{}"))


def open_arrays(path: Path, n: int = 0) -> np.memmap:
    """Map the arrays of a part into memory.

    Parameters
    ----------
    path : Path
        Index of the part, or the file of its arrays.
    n : int, default 0
        Least number of arrays expected.

    Returns
    -------
    np.memmap [shape=(>= n, ...)]
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
        raise DataError(damage_message(path, f"it has {len(found)} clips of {n}"))
    return found


def remove_part(path: Path) -> None:
    """Remove a part, its index first: without that it does not exist."""
    path.unlink(missing_ok=True)
    path.with_suffix(".npy").unlink(missing_ok=True)


def damage_message(path: Path, why: str) -> str:
    """Return a sentence that names a damaged file, the damage and the command that repairs it."""
    command = '"mlflow run . -e build" with the same -P dataset= and -P source='
    return f"{path} is damaged: {why}; {command} repairs it"


def family_identity(family: str, directory: Path) -> list[str]:
    """Return the input, version and weights that name the files of a family; nothing for the base family."""
    if family == BASE:
        return []
    weights = stored_weights(directory, family)
    return [family, f"v{get_input(family).version}", *([weights] if weights else [])]


def _family_prefix(family: str, directory: Path) -> str:
    """Return what stands before the digest in the name of a family's parts."""
    return "".join(f"{word}-" for word in family_identity(family, directory))


def _save_array(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, np.ascontiguousarray(array))  # readers seek to a row and read its bytes
        file.flush()
        os.fsync(file.fileno())
