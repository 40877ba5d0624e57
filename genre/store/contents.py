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
_BOOKKEEPING = {*parts.OUTCOME, "row"}


def adopt(clips: pd.DataFrame, table: pd.DataFrame, directory: Path) -> None:
    """Write features that the source brought, for all of `clips`, as one part without spectrograms."""
    index = clips[parts.OUTCOME].assign(row=-1).set_index("clip_id").join(table)
    write_table(parts.path_of(clips, directory), index.reset_index())


def outcomes(directory: Path) -> pd.DataFrame:
    """What became of every clip in the store: ``clip_id``, ``stamp``, ``status``, ``reason``.

    Raises
    ------
    DataError
        If a part is damaged.
    """
    return _index(directory, parts.OUTCOME)


def is_made_here(directory: Path) -> bool:
    """Whether this process would compute all of a store to the last digit: same libraries, processor and kernels."""
    return all(parts.made_by(path) == parts.made_here() for path in parts.paths(directory))


def repair(directory: Path) -> None:
    """Take away what a crash or a full disk has damaged, so that the next build computes it anew.

    That is a part whose index cannot be read or whose spectrograms are missing or cut short, and spectrograms whose
    index was never written. Nothing else may be writing.
    """
    for path in parts.paths(directory):
        try:
            rows = parts.read(path, ["row"])["row"]
            if rows.max() >= 0:
                parts.pictures(path, int(rows.max()) + 1)
        except DataError as error:
            _log.warning("%s", error)
            parts.remove(path)
    for pictures in directory.glob("part-*.npy"):
        if not pictures.with_suffix(".parquet").exists():
            pictures.unlink(missing_ok=True)


def missing(clips: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Those of `clips` that can be computed (status ``pending`` or ``ok``) and that the store lacks."""
    todo = clips[clips["status"].isin(["pending", "ok"])]
    known = outcomes(directory)
    return todo[~parts.key(todo).isin(parts.key(known))] if len(known) else todo


def with_outcomes(clips: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """`clips` with the status and reason that the store recorded for them."""
    known = outcomes(directory)
    known = known.set_index(parts.key(known))[["status", "reason"]]
    known = known[~known.index.duplicated(keep="last")]
    at = parts.key(clips)
    built = at.isin(known.index)
    clips = clips.copy()
    for column in ("status", "reason"):
        clips.loc[built, column] = known.loc[at[built], column].to_numpy()
    return clips


def feature_names(directory: Path) -> list[str]:
    """Names of the features in a store: the 97, or those that a source without audio brought."""
    own = next((parts.columns(path) for path in parts.paths(directory)), features.FEATURE_NAMES)
    return [name for name in own if name not in _BOOKKEEPING]


def load_features(clips: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Features of `clips`, in their order: float32 columns as `feature_names` has them, indexed by ``clip_id``.

    Raises
    ------
    DataError
        If a clip is not in the store, or a part is damaged.
    """
    names = feature_names(directory)
    table = _rows(clips, _index(directory, ["clip_id", "stamp", *names]), directory)
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
        self._find()
        self.shape = (len(clips), *parts.pictures(self._paths[0]).shape[1:])
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, at: int | slice | np.ndarray) -> np.ndarray:
        """Copy of the spectrograms at these positions, uint8 ``(n, n_mels, n_frames)``."""
        try:
            return self._copy(at)
        except FileNotFoundError:  # compacted since: the same bytes are in another part
            self._find()
        try:
            return self._copy(at)
        except FileNotFoundError as error:
            raise DataError(parts.damage(Path(error.filename), "it is missing")) from error

    def _find(self) -> None:
        """Look up which part has each clip, and where."""
        index = _index(self._directory, ["clip_id", "stamp", "row"], with_part=True)
        table = _rows(self._clips, index, self._directory)
        self._row = table["row"].to_numpy()
        self._part, paths = pd.factorize(table["part"])
        self._paths = [Path(path).with_suffix(".npy") for path in paths]
        self._offset = parts.pictures(self._paths[0]).offset

    def _copy(self, at: int | slice | np.ndarray) -> np.ndarray:
        rows, of = np.atleast_1d(self._row[at]), np.atleast_1d(self._part[at])
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for one, row, part in zip(out, rows, of, strict=True):
            # Read, not mapped: a map costs a page fault for every 4 kB, and a thousand parts cannot all stay mapped.
            with self._paths[part].open("rb", buffering=0) as file:
                file.seek(self._offset + int(row) * one.nbytes)
                if file.readinto(one) != one.nbytes:
                    raise DataError(parts.damage(self._paths[part], "it is cut short"))
        return out[0] if np.isscalar(at) else out


def _index(directory: Path, columns: list[str], *, with_part: bool = False) -> pd.DataFrame:
    """Rows of all parts; listed again when one is compacted away meanwhile."""
    for _ in range(10):
        try:
            tables = [parts.read(path, columns).assign(part=str(path)) for path in parts.paths(directory)]
        except FileNotFoundError:
            continue
        table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*columns, "part"])
        return table if with_part else table[columns]
    raise DataError(f"the parts of {directory} keep changing; wait for the build that is writing them")


def _rows(clips: pd.DataFrame, index: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Rows of `index` for `clips`, in their order, indexed by ``clip_id``."""
    index = index.set_index(parts.key(index))
    index = index[~index.index.duplicated(keep="last")]
    absent = ~parts.key(clips).isin(index.index)
    if absent.any():
        raise DataError(
            f"{absent.sum()} clips are not in the store {directory}, {clips['clip_id'][absent].iloc[0]!r} the first; "
            f"{BUILD_FIRST}"
        )
    return index.loc[parts.key(clips)].set_index("clip_id")
