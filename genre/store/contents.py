"""Inputs of clips on disk: which there are, and how they are read.

The files are described in `genre.store.parts`; `genre.store.building` fills a store on every core.
"""

import filecmp
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from genre.errors import BUILD_FIRST, DataError
from genre.files import write_atomically, write_table
from genre.inputs import get_input, is_vector
from genre.store import parts
from genre.store.lookup import ClipLookup, begin_anew_if_compacted, iter_parts, rows_with, rows_without

_log = logging.getLogger(__name__)

#: Status of a clip that has crashed in two builds, and is not tried again.
CRASHED_TWICE = "crashed_twice"

#: Columns of a part's index beside its vectors.
_INDEX_COLUMNS = {*parts.OUTCOME_COLUMNS, "row"}


def install_weights(path: Path, directory: Path, name: str) -> None:
    """Copy a file of weights into a store, unless it has the same.

    What was computed with other weights stays on disk and is no longer read.

    Parameters
    ----------
    path : Path
        The file.
    directory : Path
        The store.
    name : str
        Name of the input that is computed with it.
    """
    target = directory / get_input(name).weights_file
    if not target.exists() or not filecmp.cmp(path, target, shallow=False):
        write_atomically(target, lambda temporary: shutil.copyfile(path, temporary))


def write_source_features(clips: pd.DataFrame, table: pd.DataFrame, directory: Path) -> None:
    """Write features that the source brought, for all of `clips`, as one part without spectrograms."""
    index = clips[parts.OUTCOME_COLUMNS].assign(row=-1).set_index("clip_id").join(table)
    write_table(parts.part_path(clips, directory), index.reset_index())


@begin_anew_if_compacted
def read_outcomes(directory: Path, family: str = parts.BASE) -> pd.DataFrame:
    """Read the outcome of every clip in the store: ``clip_id``, ``stamp``, ``status``, ``reason``.

    Parameters
    ----------
    directory : Path
        The store.
    family : str
        Family of parts, see `genre.store.parts`; by default the inputs of every build.

    Raises
    ------
    DataError
        If a part is damaged.
    """
    tables = [rows.to_pandas() for _, rows in iter_parts(directory, family, parts.OUTCOME_COLUMNS)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=parts.OUTCOME_COLUMNS)


def is_made_here(directory: Path) -> bool:
    """Return whether this process would compute all of a store to the last digit.

    That is so where libraries, processor and kernels are the same.
    """
    return all(parts.read_versions(path) == parts.current_versions() for path in _all_parts(directory))


def remove_damaged_parts(directory: Path) -> None:
    """Remove what a crash or a full disk has damaged, so that the next build computes it anew.

    That is a part whose index cannot be read or lacks a column, or whose arrays are missing or cut short, and arrays
    whose index was never written. Nothing else may be writing.
    """
    for family in parts.list_families(directory):
        for path in parts.list_parts(directory, family):
            try:
                parts.check_part(path, family)
            except DataError as error:
                _log.warning("%s", error)
                parts.remove_part(path)
    for arrays in directory.glob("part-*.npy"):
        if not arrays.with_suffix(".parquet").exists():
            arrays.unlink(missing_ok=True)


def find_missing(clips: pd.DataFrame, directory: Path, family: str = parts.BASE) -> pd.DataFrame:
    """Return those of `clips` that can be computed (status ``pending`` or ``ok``) and that a family of parts lacks.

    A clip that the base family has as unusable is missing from no other one. One that the base family has and another
    one could not compute is tried again. So is one that has crashed in a single build: memory may have been short.
    """
    return clips[is_missing(clips, directory, family)]


@begin_anew_if_compacted
def is_missing(clips: pd.DataFrame, directory: Path, family: str = parts.BASE) -> np.ndarray:
    """Return whether each clip is among those that `find_missing` returns, as an array of bool."""
    missing = clips["status"].isin(["pending", "ok"]).to_numpy(copy=True)
    lookup = ClipLookup(clips)
    for _, rows in iter_parts(directory, family, ["clip_id", "stamp", "status"]):
        known = rows_without(rows, "crashed") if family == parts.BASE else rows_with(rows, ["ok", CRASHED_TWICE])
        missing[lookup.find(known)[0]] = False
    return missing if family == parts.BASE else missing & ~_is_unusable(lookup, len(clips), directory)


def _is_unusable(lookup: ClipLookup, n: int, directory: Path) -> np.ndarray:
    """Return whether each of n clips is in the base family, and there without values."""
    is_known = np.zeros(n, bool)
    is_ok = np.zeros(n, bool)
    for _, rows in iter_parts(directory, parts.BASE, ["clip_id", "stamp", "status"]):
        is_known[lookup.find(rows)[0]] = True
        is_ok[lookup.find(rows_with(rows, ["ok"]))[0]] = True
    return is_known & ~is_ok


def crash_status(clip: pd.DataFrame, directory: Path, family: str = parts.BASE) -> str:
    """Return the status of a clip, a table of one row, that has crashed now: whether it had done so in a build before.

    Parameters
    ----------
    clip : pd.DataFrame
        Columns ``clip_id`` and ``stamp``.
    directory : Path
        The store.
    family : str
        Family of parts, see `genre.store.parts`; by default the inputs of every build.
    """
    known = read_outcomes(directory, family)
    crashed = known[known["status"].isin(["crashed", CRASHED_TWICE])]
    return CRASHED_TWICE if parts.row_keys(crashed).isin(parts.row_keys(clip)).any() else "crashed"


def require_computed(clips: pd.DataFrame, directory: Path, name: str) -> None:
    """Refuse clips of which an input could not be computed.

    Parameters
    ----------
    clips : pd.DataFrame
        Clips table.
    directory : Path
        The store, after a build of the input's family.
    name : str
        Name of the input.

    Raises
    ------
    DataError
        If there is such a clip, with the reason of the first.
    """
    known = read_outcomes(directory, parts.family_of(name))
    known = known[parts.row_keys(known).isin(parts.row_keys(clips))]
    is_ok = known["status"] == "ok"
    failed = known[~parts.row_keys(known).isin(parts.row_keys(known[is_ok]))].drop_duplicates("clip_id")
    if len(failed):
        clip_id, reason = failed[["clip_id", "reason"]].iloc[0]
        raise DataError(
            f"{name} could not be computed for {len(failed)} of {len(clips)} clips; the first is {clip_id!r}: "
            f"{reason}; see that their files are there and run the same command again, or leave out the models that "
            f"take {name}"
        )


@begin_anew_if_compacted
def with_outcomes(clips: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Return `clips` with the status and reason that the store recorded for them.

    Of several outcomes of a clip the latest counts, but for ``ok``, which no other one takes back.
    """
    columns = ["status", "reason"]
    values = {column: clips[column].to_numpy(object, copy=True) for column in columns}
    lookup = ClipLookup(clips)
    is_ok = np.zeros(len(clips), bool)
    for _, rows in iter_parts(directory, parts.BASE, parts.OUTCOME_COLUMNS):
        at, found = lookup.find(rows)
        found = found[~is_ok[at]]
        at = at[~is_ok[at]]
        for column in columns:
            values[column][at] = rows.column(column).to_pandas().to_numpy(object)[found]
        is_ok[at] = values["status"][at] == "ok"
    return clips.assign(**{column: pd.Series(values[column], clips.index, str) for column in columns})


@begin_anew_if_compacted
def column_names(directory: Path, name: str = "features") -> list[str]:
    """Return the names of the values of an input that is a vector.

    Those of the features are read from the store: the 97, or those that a source without audio brought.
    """
    usual: list[str] = get_input(name).module.column_names()
    if name == "features":
        for _, rows in iter_parts(directory, parts.BASE):
            return [column for column in rows.schema.names if column not in _INDEX_COLUMNS]
    return usual


def load_vectors(clips: pd.DataFrame, directory: Path, name: str) -> pd.DataFrame:
    """Load an input that is a vector: float32 columns as `column_names` has them, indexed by ``clip_id``.

    Parameters
    ----------
    clips : pd.DataFrame
        Clips in the order wanted; columns ``clip_id`` and ``stamp``.
    directory : Path
        The store.
    name : str
        Name of the input.

    Raises
    ------
    DataError
        If a clip is not in the store, or a part is damaged.
    """
    names = column_names(directory, name)
    if parts.family_of(name) != parts.BASE:
        values = InputReader(clips, directory, name)[:]
        return pd.DataFrame(values, pd.Index(clips["clip_id"]), names)
    values = _read_vectors(clips, directory, names, name).T
    return pd.DataFrame(values, pd.Index(clips["clip_id"]), names, copy=False)


def load_table(clips: pd.DataFrame, directory: Path, names: Sequence[str]) -> pd.DataFrame:
    """Load inputs that are vectors, side by side; `clips`, `directory` and the result as for `load_vectors`.

    Raises
    ------
    DataError
        If a clip is not in the store, or a part is damaged.
    """
    return pd.concat([load_vectors(clips, directory, name) for name in names], axis=1)


def load_features(clips: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Load the features of `clips`, see `load_vectors`.

    Raises
    ------
    DataError
        If a clip is not in the store, or a part is damaged.
    """
    return load_vectors(clips, directory, "features")


class InputReader:
    """An input of some clips, read from the file beside the store's parts as it is asked for.

    It goes on when the store is compacted meanwhile.

    Parameters
    ----------
    clips : pd.DataFrame
        Clips in the order wanted; columns ``clip_id`` and ``stamp``.
    directory : Path
        The store.
    name : str
        Name of the input, by default the spectrograms.

    Raises
    ------
    DataError
        If a clip is not in the store, or a part is damaged.
    """

    def __init__(self, clips: pd.DataFrame, directory: Path, name: str = "spectrograms") -> None:
        self._clips = clips[["clip_id", "stamp"]]
        self._directory = directory
        self._name = name
        self._locate_rows()
        first = parts.open_arrays(self._paths[self._part[0]])
        self.shape = (len(clips), *first.shape[1:])
        self.dtype = first.dtype

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, at: int | slice | np.ndarray) -> np.ndarray:
        """Return a copy of the values at these positions, shape ``(n, ...)``."""
        try:
            return self._read_rows(at)
        except FileNotFoundError:  # compacted since: the same bytes are in another part
            self._locate_rows()
        try:
            return self._read_rows(at)
        except FileNotFoundError as error:
            raise DataError(parts.damage_message(Path(error.filename), "it is missing")) from error

    def _locate_rows(self) -> None:
        """Look up the part of each clip, and its row there."""
        self._part, self._row, indices = _locate_rows(self._clips, self._directory, self._name)
        self._paths = [path.with_suffix(".npy") for path in indices]
        self._offset = parts.open_arrays(self._paths[self._part[0]]).offset

    def _read_rows(self, at: int | slice | np.ndarray) -> np.ndarray:
        rows = np.atleast_1d(self._row[at])
        part_of = np.atleast_1d(self._part[at])
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for values, row, part in zip(out, rows, part_of, strict=True):
            # Read, not mapped: a map costs a page fault for every 4 kB, and a thousand parts cannot all stay mapped.
            with self._paths[part].open("rb", buffering=0) as file:
                file.seek(self._offset + int(row) * values.nbytes)
                if file.readinto(values) != values.nbytes:
                    raise DataError(parts.damage_message(self._paths[part], "it is cut short"))
        return out[0] if np.isscalar(at) else out


def load_input(clips: pd.DataFrame, directory: Path, *names: str) -> np.ndarray | InputReader:
    """Load inputs of some clips as models take them: vectors whole, side by side; an array to be read when asked for.

    Parameters
    ----------
    clips, directory
        As for `load_vectors`.
    *names : str
        Inputs: one, or several that are vectors.

    Returns
    -------
    np.ndarray [shape=(n, d), dtype=float32] or InputReader
        One row per clip, in the order of `clips`.

    Raises
    ------
    DataError
        If a clip is not in the store, or a part is damaged.
    """
    if is_vector(names[0]):
        return load_table(clips, directory, names).to_numpy()
    return InputReader(clips, directory, *names)


def _all_parts(directory: Path) -> list[Path]:
    """Return the indices of the parts of all families."""
    return [path for family in parts.list_families(directory) for path in parts.list_parts(directory, family)]


@begin_anew_if_compacted
def _read_vectors(clips: pd.DataFrame, directory: Path, names: list[str], name: str) -> np.ndarray:
    """Read columns of the base family's vectors, float32 (len(names), n), which is how pandas holds a table."""
    values = np.empty((len(names), len(clips)), np.float32)
    lookup = ClipLookup(clips)
    is_absent = np.ones(len(clips), bool)
    for _, rows in iter_parts(directory, parts.BASE, ["clip_id", "stamp", "status", *names]):
        ok = rows_with(rows, ["ok"])
        at, found = lookup.find(ok)
        is_absent[at] = False
        for row, column in zip(values, names, strict=True):
            row[at] = ok.column(column).to_numpy(zero_copy_only=False)[found]
    _require_stored(clips, is_absent, directory, name)
    return values


@begin_anew_if_compacted
def _locate_rows(clips: pd.DataFrame, directory: Path, name: str) -> tuple[np.ndarray, np.ndarray, list[Path]]:
    """Return the part of each clip, as a position in the list of paths returned last, and the clip's row there."""
    part = np.full(len(clips), -1, np.int32)
    row = np.empty(len(clips), np.int32)
    lookup = ClipLookup(clips)
    paths: list[Path] = []
    for path, index in iter_parts(directory, parts.family_of(name), ["clip_id", "stamp", "row"]):
        rows = index.filter(pc.greater_equal(index.column("row"), 0))
        at, found = lookup.find(rows)
        if at.size and (not paths or paths[-1] != path):
            paths.append(path)
        part[at] = len(paths) - 1
        row[at] = rows.column("row").to_numpy()[found]
    _require_stored(clips, part < 0, directory, name)
    return part, row, paths


def _require_stored(clips: pd.DataFrame, is_absent: np.ndarray, directory: Path, name: str) -> None:
    """Refuse clips that are absent from the store."""
    if is_absent.any():
        first = clips["clip_id"].iloc[is_absent.argmax()]
        is_built = parts.family_of(name) == parts.BASE
        raise DataError(
            f"{is_absent.sum()} clips are not in the store {directory}, {first!r} the first ({name}); "
            + (BUILD_FIRST if is_built else f"train a model that takes {name} first")
        )
