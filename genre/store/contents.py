"""Features and spectrograms on disk, keyed by clip: what is computed, and how it is read.

What the files look like is in `genre.store.parts`;
what fills a store with a process for each core is `genre.store.building`.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from genre.errors import DataError
from genre.files import write_table
from genre.inputs import features
from genre.store import parts
from genre.workspace import BUILD_FIRST

_log = logging.getLogger(__name__)

#: Columns of a part's index beside the features.
_INDEX_COLUMNS = {*parts.OUTCOME_COLUMNS, "row"}


def write_source_features(clips: pd.DataFrame, table: pd.DataFrame, directory: Path) -> None:
    """Write features that the source brought, for all of `clips`, as one part without spectrograms."""
    index = clips[parts.OUTCOME_COLUMNS].assign(row=-1).set_index("clip_id").join(table)
    write_table(parts.part_path(clips, directory), index.reset_index())


def read_outcomes(directory: Path) -> pd.DataFrame:
    """What became of every clip in the store: ``clip_id``, ``stamp``, ``status``, ``reason``.

    Raises
    ------
    DataError
        If a part is damaged.
    """
    return _read_index(directory, parts.OUTCOME_COLUMNS)


def is_made_here(directory: Path) -> bool:
    """Whether this process would compute all of a store to the last digit: same libraries, processor and kernels."""
    return all(parts.read_versions(path) == parts.current_versions() for path in parts.list_parts(directory))


def remove_damaged_parts(directory: Path) -> None:
    """Take away what a crash or a full disk has damaged, so that the next build computes it anew.

    That is a part whose index cannot be read or whose spectrograms are missing or cut short, and spectrograms whose
    index was never written. Nothing else may be writing.
    """
    for path in parts.list_parts(directory):
        try:
            rows = parts.read_part_index(path, ["row"])["row"]
            if rows.max() >= 0:
                parts.open_spectrograms(path, int(rows.max()) + 1)
        except DataError as error:
            _log.warning("%s", error)
            parts.remove_part(path)
    for pictures in directory.glob("part-*.npy"):
        if not pictures.with_suffix(".parquet").exists():
            pictures.unlink(missing_ok=True)


def find_missing(clips: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Those of `clips` that can be computed (status ``pending`` or ``ok``) and that the store lacks."""
    todo = clips[clips["status"].isin(["pending", "ok"])]
    known = read_outcomes(directory)
    return todo[~parts.row_keys(todo).isin(parts.row_keys(known))] if len(known) else todo


def with_outcomes(clips: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """`clips` with the status and reason that the store recorded for them."""
    known = read_outcomes(directory)
    known = known.set_index(parts.row_keys(known))[["status", "reason"]]
    known = known[~known.index.duplicated(keep="last")]
    at = parts.row_keys(clips)
    built = at.isin(known.index)
    clips = clips.copy()
    for column in ("status", "reason"):
        clips.loc[built, column] = known.loc[at[built], column].to_numpy()
    return clips


def feature_names(directory: Path) -> list[str]:
    """Names of the features in a store: the 97, or those that a source without audio brought."""
    own = next((parts.read_column_names(path) for path in parts.list_parts(directory)), features.FEATURE_NAMES)
    return [name for name in own if name not in _INDEX_COLUMNS]


def load_features(clips: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Features of `clips`, in their order: float32 columns as `feature_names` has them, indexed by ``clip_id``.

    Raises
    ------
    DataError
        If a clip is not in the store, or a part is damaged.
    """
    names = feature_names(directory)
    table = _select_rows(clips, _read_index(directory, ["clip_id", "stamp", *names]), directory)
    return table[names].astype("float32")


class Spectrograms:
    """Spectrograms of some clips, read from the store's parts as they are asked for.

    It survives that the store is compacted meanwhile.

    Parameters
    ----------
    clips : pd.DataFrame
        Clips in the order wanted; columns ``clip_id`` and ``stamp``.
    directory : Path
        The store.

    Raises
    ------
    DataError
        If a clip is not in the store, or a part is damaged.
    """

    def __init__(self, clips: pd.DataFrame, directory: Path) -> None:
        self._clips, self._directory = clips[["clip_id", "stamp"]], directory
        self._locate_rows()
        self.shape = (len(clips), *parts.open_spectrograms(self._paths[0]).shape[1:])
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, at: int | slice | np.ndarray) -> np.ndarray:
        """Copy of the spectrograms at these positions, uint8 ``(n, n_mels, n_frames)``."""
        try:
            return self._read_rows(at)
        except FileNotFoundError:  # compacted since: the same bytes are in another part
            self._locate_rows()
        try:
            return self._read_rows(at)
        except FileNotFoundError as error:
            raise DataError(parts.damage_message(Path(error.filename), "it is missing")) from error

    def _locate_rows(self) -> None:
        """Look up which part has each clip, and where."""
        index = _read_index(self._directory, ["clip_id", "stamp", "row"], with_part=True)
        table = _select_rows(self._clips, index, self._directory)
        self._row = table["row"].to_numpy()
        self._part, paths = pd.factorize(table["part"])
        self._paths = [Path(path).with_suffix(".npy") for path in paths]
        self._offset = parts.open_spectrograms(self._paths[0]).offset

    def _read_rows(self, at: int | slice | np.ndarray) -> np.ndarray:
        rows, of = np.atleast_1d(self._row[at]), np.atleast_1d(self._part[at])
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for one, row, part in zip(out, rows, of, strict=True):
            # Read, not mapped: a map costs a page fault for every 4 kB, and a thousand parts cannot all stay mapped.
            with self._paths[part].open("rb", buffering=0) as file:
                file.seek(self._offset + int(row) * one.nbytes)
                if file.readinto(one) != one.nbytes:
                    raise DataError(parts.damage_message(self._paths[part], "it is cut short"))
        return out[0] if np.isscalar(at) else out


def _read_index(directory: Path, columns: list[str], *, with_part: bool = False) -> pd.DataFrame:
    """Rows of all parts; listed again when one is compacted away meanwhile."""
    for _ in range(10):
        try:
            tables = [
                parts.read_part_index(path, columns).assign(part=str(path)) for path in parts.list_parts(directory)
            ]
        except FileNotFoundError:
            continue
        table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*columns, "part"])
        return table if with_part else table[columns]
    raise DataError(f"the parts of {directory} keep changing; wait for the build that is writing them")


def _select_rows(clips: pd.DataFrame, index: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Rows of `index` for `clips`, in their order, indexed by ``clip_id``."""
    index = index.set_index(parts.row_keys(index))
    index = index[~index.index.duplicated(keep="last")]
    absent = ~parts.row_keys(clips).isin(index.index)
    if absent.any():
        raise DataError(
            f"{absent.sum()} clips are not in the store {directory}, {clips['clip_id'][absent].iloc[0]!r} the first; "
            f"{BUILD_FIRST}"
        )
    return index.loc[parts.row_keys(clips)].set_index("clip_id")
