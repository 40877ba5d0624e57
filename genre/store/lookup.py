"""Clips looked up in the parts of a store, one piece of a part at a time.

The index of a million clips takes more memory than all else that a build keeps of them. So the parts are never joined
with a clips table as a whole: each piece is looked up among the clips and then forgotten.
"""

import functools
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from genre.errors import DataError
from genre.store import parts

P = ParamSpec("P")
R = TypeVar("R")

#: Columns that identify a row of a store.
KEY_COLUMNS = ["clip_id", "stamp"]

#: Times that a reader begins anew because a compaction has removed a part.
_MAX_READS = 10


class ClipLookup:
    """Positions of clips in a table, by clip id and file stamp.

    Parameters
    ----------
    clips : pd.DataFrame
        Columns ``clip_id``, each once, and ``stamp``.
    """

    def __init__(self, clips: pd.DataFrame) -> None:
        self._ids = pd.Index(clips["clip_id"].astype(str))
        self._stamps = clips["stamp"].astype(str).array

    def find(self, rows: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
        """Find the clips that some rows of a store belong to.

        Parameters
        ----------
        rows : pa.RecordBatch
            Columns ``clip_id`` and ``stamp``.

        Returns
        -------
        positions : np.ndarray [shape=(m,), dtype=int]
            Positions of the clips found.
        found : np.ndarray [shape=(m,), dtype=int]
            Their rows.
        """
        positions = self._ids.get_indexer(rows.column("clip_id").to_pandas())
        known = np.flatnonzero(positions >= 0)
        stamps = rows.column("stamp").to_pandas().array
        is_same = np.asarray(self._stamps.take(positions[known]) == stamps.take(known), dtype=bool)
        found = known[is_same]
        return positions[found], found


class _PartRemovedError(Exception):
    """A part that was listed is no longer there."""


def begin_anew_if_compacted(read: Callable[P, R]) -> Callable[P, R]:
    """Call a function that uses `iter_parts` once more where a compaction has removed a part meanwhile; a decorator.

    Parameters
    ----------
    read : callable
        The function; it must have no effect but its result.

    Returns
    -------
    callable
        The function, begun anew up to ten times.

    Raises
    ------
    DataError
        When called, if parts were removed each time.
    """

    @functools.wraps(read)
    def read_again(*args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(_MAX_READS):
            try:
                return read(*args, **kwargs)
            except _PartRemovedError as error:
                directory = error
        raise DataError(f"the parts of {directory} keep changing; wait for the build that is writing them")

    return read_again


def iter_parts(directory: Path, family: str, columns: list[str] | None = None) -> Iterator[tuple[Path, pa.RecordBatch]]:
    """Iterate over columns of each part's index, the oldest part first, a piece at a time.

    Only for functions with the decorator `begin_anew_if_compacted`.

    Parameters
    ----------
    directory : Path
        The store.
    family : str
        Family of parts, see `genre.store.parts`.
    columns : list of str, optional
        Columns of the index, by default all.

    Yields
    ------
    path : Path
        Path of the index.
    rows : pa.RecordBatch
        Some of its rows.

    Raises
    ------
    DataError
        If a part is damaged.
    _PartRemovedError
        If a part was removed meanwhile; the decorator handles it.
    """
    try:
        for path in parts.list_parts(directory, family):
            for rows in parts.iter_index(path, columns):
                yield path, rows
    except FileNotFoundError as error:
        raise _PartRemovedError(directory) from error


def rows_with(rows: pa.RecordBatch, statuses: Collection[str]) -> pa.RecordBatch:
    """Return the rows of an index that have one of some statuses."""
    return rows.filter(pc.is_in(rows.column("status"), pa.array(statuses, pa.string())))


def rows_without(rows: pa.RecordBatch, status: str) -> pa.RecordBatch:
    """Return the rows of an index that have another status."""
    return rows.filter(pc.not_equal(rows.column("status"), status))
