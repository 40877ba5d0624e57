"""A store as fewer files: many small parts as a few large ones, or all of it as one Parquet file to hand on."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from genre.config import AudioConfig
from genre.errors import DataError, first_line
from genre.files import read_json, write_atomically, write_json
from genre.inputs import BASE_INPUTS, INPUTS, get_input, is_vector
from genre.store import archive_checks, contents, parts, reference_clip

_log = logging.getLogger(__name__)

#: Clips in a large part, 170 MB of spectrograms: few files at a million clips, and one fits in memory easily.
MAX_PART_CLIPS = 4096

#: Level of zstd; higher ones make a spectrogram no smaller.
_ZSTD_LEVEL = 3

_METADATA_KEY = b"genre"

#: Columns of the file that come from the clips table and not from the store.
_CLIP_COLUMNS = ["genre", "recording", "dataset", "start_s", "end_s"]

#: Columns of the file whose input has another name: it was written before there were others.
_COLUMN_NAMES = {"spectrograms": "spectrogram"}


def compact_parts(directory: Path) -> tuple[int, int]:
    """Merge small parts into large ones; readers are not disturbed.

    A merged part is written before those it is made of are removed, so that at every moment each clip is there. Parts
    of different inputs, or computed by different versions of the libraries, stay apart. Nothing else may be writing.

    Parameters
    ----------
    directory : Path
        The store.

    Returns
    -------
    n_before, n_after : int
        Number of parts.

    Raises
    ------
    DataError
        If a part is damaged.
    """
    n_before = 0
    n_after = 0
    for family in parts.list_families(directory):
        before = parts.list_parts(directory, family)
        for group in _group_parts(before):
            merged = _merge_group(group, directory, family)
            for path in group:
                if path != merged:
                    parts.remove_part(path)
        n_before += len(before)
        n_after += len(parts.list_parts(directory, family))
    return n_before, n_after


def export_store(clips: pd.DataFrame, config: AudioConfig, directory: Path, path: Path) -> int:
    """Write what the store has of `clips` as one Parquet file that any reader of Parquet understands.

    Parameters
    ----------
    clips : pd.DataFrame
        Clips table.
    config : AudioConfig
        Configuration of the store.
    directory : Path
        The store.
    path : Path
        The file. One row per usable clip: ``clip_id``, ``stamp`` (size and time of its file), ``genre``, ``recording``,
        ``dataset``, ``start_s``, ``end_s``, the features, and ``spectrogram``, bytes of uint8 (n_mels, n_frames): each
        frame less the one before, modulo 256, so that ``np.cumsum(steps, axis=1, dtype=np.uint8)`` is the spectrogram;
        null where the source brought features only. Any other input that the store has is a column of bytes under its
        own name, null where it was not computed. Compressed with zstd. Configuration, versions, reference values, and
        version, shape and type of each further input are in the schema's metadata under ``genre``, as JSON. No path of
        this disk is in it.

    Returns
    -------
    int
        Number of clips.

    Raises
    ------
    DataError
        If there is nothing to write, a part is damaged, or the features are the source's own.
    """
    if contents.column_names(directory) != parts.vector_columns(parts.BASE):
        raise DataError(
            f"cannot export the store {directory}: its features are the source's own, and an archive takes the 97 of "
            "this project; keep the source's files instead"
        )
    listed = clips[["clip_id", "stamp", *_CLIP_COLUMNS]].astype({"genre": str})
    further = _further_inputs(listed, directory)
    about: dict[str, Any] = {
        "config": config.to_dict(),
        "fingerprint": config.fingerprint,
        "probe": _reference_values(config, directory, parts.BASE),
    }
    if further:
        about["inputs"] = {stored.name: _describe_input(stored.name, config, directory) for stored in further}
    names = [stored.name for stored in further]
    schema = _schema(config, names).with_metadata({_METADATA_KEY: json.dumps(about)})
    n = 0
    seen = set[str]()

    def fill(temporary: Path) -> None:
        nonlocal n
        with pq.ParquetWriter(
            temporary, schema, compression="zstd", compression_level=_ZSTD_LEVEL, use_dictionary=False
        ) as file:
            for index in parts.list_parts(directory):
                table = parts.read_part_index(index).merge(listed, on=["clip_id", "stamp"])
                table = table[(table["status"] == "ok") & ~parts.row_keys(table).isin(seen)].reset_index(drop=True)
                seen.update(parts.row_keys(table))
                n += len(table)
                table = table.assign(
                    **_array_columns(table, index), **{stored.name: stored.pack_column(table) for stored in further}
                )
                file.write_table(pa.Table.from_pandas(table, schema, preserve_index=False))
        if not n:
            raise DataError(f"there is no usable clip in the store {directory}; build first")

    write_atomically(path, fill)
    return n


def read_further_inputs(path: Path) -> list[str]:
    """Return the inputs, beyond those of every build, that a file of `export_store` has and this code computes.

    Raises
    ------
    DataError
        If the file is not one that `export_store` wrote.
    """
    return [name for name in _open_archive(path)[1].get("inputs", {}) if name in INPUTS]


def restore_store(path: Path, config: AudioConfig, directory: Path, known: pd.DataFrame | None = None) -> int:
    """Put what `export_store` wrote into a store, which a later build then need not compute.

    An input of another version, or computed with other weights than those in the store, is left out with a warning. The
    file is checked, since it may be damaged; the reference values are written last.

    Parameters
    ----------
    path : Path
        The file.
    config : AudioConfig
        Configuration of the store.
    directory : Path
        The store; what it has already stays.
    known : pd.DataFrame, optional
        Columns ``clip_id`` and ``stamp`` of the clips of the data set; others are left out. By default all are taken.

    Returns
    -------
    int
        Number of clips that were read.

    Raises
    ------
    DataError
        If the file is not one that `export_store` wrote, is of another configuration, has values that are not finite,
        or was computed by libraries that give other numbers than those that began the store, or than this installation.
    """
    file, about = _open_archive(path)
    if about["fingerprint"] != config.fingerprint:
        raise DataError(
            f"{path} was computed with {about['config']}, not with {config.to_dict()} (or another FEATURES_VERSION); "
            "choose the variant that it has"
        )
    directory.mkdir(parents=True, exist_ok=True)
    further = _usable_inputs(about.get("inputs", {}), directory)
    if left_out := sorted(set(about.get("inputs", {})) - set(further)):
        _log.warning("%s of %s: of another version or other weights, left out", ", ".join(left_out), path)
    probes = {name: described["probe"] for name, described in further.items()} | {parts.BASE: about["probe"]}
    archive_checks.check_columns(file.schema_arrow, _schema(config, further), path)
    for family, probe in probes.items():
        archive_checks.check_probe(probe, config, directory, family, path)
    n = 0
    for table in _iter_tables(file, path, known):
        n += len(table)
        for family, probe in probes.items():
            _restore_part(table, family, config, directory, probe["versions"], path)
    for family, probe in probes.items():
        if not (reference := reference_clip.reference_path(directory, family)).exists():
            write_json(reference, probe)
    return n


def _iter_tables(file: pq.ParquetFile, path: Path, known: pd.DataFrame | None) -> Iterator[pd.DataFrame]:
    """Yield the rows of an archive, checked and without clips that are not known, as many as a large part has."""
    keys = None if known is None else parts.row_keys(known)
    try:
        for batch in file.iter_batches(batch_size=MAX_PART_CLIPS):
            table = batch.to_pandas().assign(status="ok", reason="")
            archive_checks.check_rows(table, path)
            table = table if keys is None else table[parts.row_keys(table).isin(keys)].reset_index(drop=True)
            if len(table):
                yield table
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is damaged ({first_line(error)}); what was read is kept; export it again") from None


def _open_archive(path: Path) -> tuple[pq.ParquetFile, dict[str, Any]]:
    """Open a file that `export_store` wrote, and return it with its description."""
    try:
        file = pq.ParquetFile(path)
        about = json.loads((file.schema_arrow.metadata or {})[_METADATA_KEY])
        if missing := {"fingerprint", "config", "probe"} - set(about):
            raise KeyError(f"its description lacks {', '.join(sorted(missing))}")
        return file, about
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f'{path} is no archive of a store ({error}); "-e archive -P action=export" writes one'
        ) from error


@dataclass
class _FurtherInput:
    """Input that not every build computes, of those clips that the store has it of.

    Attributes
    ----------
    name : str
        Name of the input.
    positions : pd.Series
        Key of each of these clips to its position in `values`.
    values : np.ndarray or InputReader
        As `contents.load_input` returns them.
    """

    name: str
    positions: pd.Series
    values: np.ndarray | contents.InputReader

    def pack_column(self, table: pd.DataFrame) -> pd.Series:
        """Return the bytes of the input for the rows of a table, None where a clip lacks it."""
        at = self.positions.reindex(parts.row_keys(table))
        has_values = at.notna().to_numpy()
        column = pd.Series(None, table.index, object)
        if has_values.any():
            packed = _pack(get_input(self.name).module, self.values[at[has_values].to_numpy(int)])
            column[has_values] = [row.tobytes() for row in packed]
        return column


def _further_inputs(clips: pd.DataFrame, directory: Path) -> list[_FurtherInput]:
    """Return the inputs, beyond those of every build, that a store has of any of `clips`."""
    found = []
    for name in parts.list_families(directory)[1:]:
        outcomes = contents.read_outcomes(directory, name)
        known = parts.row_keys(outcomes[outcomes["status"] == "ok"])
        present = clips[parts.row_keys(clips).isin(known)]
        if len(present):
            positions = pd.Series(np.arange(len(present)), parts.row_keys(present))
            found.append(_FurtherInput(name, positions, contents.load_input(present, directory, name)))
    return found


def _reference_values(config: AudioConfig, directory: Path, family: str) -> Any:
    """Return the reference values of a family, computed now where the store has lost them."""
    path = reference_clip.reference_path(directory, family)
    if not path.exists():
        reference_clip.check_reference(config, directory, family)
    return read_json(path)


def _describe_input(name: str, config: AudioConfig, directory: Path) -> dict[str, Any]:
    """Return what a reader of the file needs to know of an input beyond those of every build."""
    entry = get_input(name)
    probe = _reference_values(config, directory, name)
    weights = parts.stored_weights(directory, name)
    described = {"version": entry.version, "shape": entry.shape(config), "dtype": entry.dtype, "probe": probe}
    return described | ({"weights": weights} if weights else {})


def _usable_inputs(described: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Return those of a file's further inputs that this code computes in the same version, with the store's weights."""

    def is_usable(name: str, entry: Mapping[str, Any]) -> bool:
        weights = entry.get("weights", "")
        return entry["version"] == INPUTS[name].version and weights == parts.stored_weights(directory, name)

    return {name: entry for name, entry in described.items() if name in INPUTS and is_usable(name, entry)}


def _restore_part(
    table: pd.DataFrame, family: str, config: AudioConfig, directory: Path, versions: dict[str, str], path: Path
) -> None:
    """Write the part of one family that some rows of a file hold."""
    name = parts.array_input(family)
    entry = get_input(name)
    packed = table[_COLUMN_NAMES.get(name, name)]
    rows = table if family == parts.BASE else table[packed.notna()]
    if rows.empty:
        return
    arrays = np.frombuffer(b"".join(packed.dropna()), entry.dtype).reshape(-1, *entry.shape(config))
    has_array = packed[rows.index].notna()
    arrays = _unpack(entry.module, arrays)
    archive_checks.refuse_not_finite(rows.loc[has_array, "clip_id"], arrays, path)
    parts.save_part(_number_rows(rows, has_array), arrays, directory, versions, family)


def _merge_group(group: list[Path], directory: Path, family: str) -> Path:
    """Write one part of several."""
    tables = [parts.read_part_index(path).assign(part=n) for n, path in enumerate(group)]
    table = pd.concat(tables, ignore_index=True)
    # Twice where an earlier compaction was killed.
    table = table[~table.duplicated(["clip_id", "stamp"], keep="last")]
    has_array = table["row"] >= 0
    rows = [table.loc[has_array & (table["part"] == n), "row"] for n in range(len(group))]
    arrays = np.concatenate([parts.open_arrays(path)[row] for path, row in zip(group, rows, strict=True)])
    return parts.save_part(_number_rows(table, has_array), arrays, directory, parts.read_versions(group[0]), family)


def _number_rows(table: pd.DataFrame, has_array: pd.Series) -> pd.DataFrame:
    """Return the rows with their place among the arrays of their part."""
    return table.assign(row=np.where(has_array, has_array.cumsum() - 1, -1)).reset_index(drop=True)


def _schema(config: AudioConfig, further: Iterable[str]) -> pa.Schema:
    """Return the columns of the one file."""
    fields = [(name, pa.string()) for name in ("clip_id", "stamp", "genre", "recording", "dataset")]
    fields += [("start_s", pa.float64()), ("end_s", pa.float64())]
    fields += [(name, pa.float32()) for name in parts.vector_columns(parts.BASE)]
    for name in [*filter(lambda name: not is_vector(name), BASE_INPUTS), *further]:
        entry = get_input(name)
        n_bytes = int(np.prod(entry.shape(config))) * np.dtype(entry.dtype).itemsize
        fields.append((_COLUMN_NAMES.get(name, name), pa.binary(n_bytes)))
    return pa.schema(fields)


def _array_columns(table: pd.DataFrame, index: Path) -> dict[str, pd.Series]:
    """Return the bytes of the arrays of some rows of a part."""
    name = parts.array_input(parts.BASE)
    rows = table["row"]
    arrays = _pack(get_input(name).module, parts.open_arrays(index)) if (rows >= 0).any() else np.empty(0)
    values = [arrays[row].tobytes() if row >= 0 else None for row in rows]
    return {_COLUMN_NAMES.get(name, name): pd.Series(values, table.index, object)}


def _pack(module: ModuleType, values: np.ndarray) -> np.ndarray:
    """Return values as an input's module packs them, or as they are."""
    packed: np.ndarray = module.pack(values) if hasattr(module, "pack") else values
    return packed


def _unpack(module: ModuleType, values: np.ndarray) -> np.ndarray:
    """Return the values that `_pack` was given."""
    unpacked: np.ndarray = module.unpack(values) if hasattr(module, "unpack") else values
    return unpacked


def _group_parts(paths: list[Path]) -> Iterator[list[Path]]:
    """Yield parts to merge: of one origin, in their order, `MAX_PART_CLIPS` clips at most, never one alone."""
    rows = [(path, len(parts.read_part_index(path, ["row"])), json.dumps(parts.read_versions(path))) for path in paths]
    # Features that a source brought have no arrays beside them.
    small = [row for row in rows if row[1] < MAX_PART_CLIPS and row[0].with_suffix(".npy").exists()]
    for origin in sorted({versions for *_, versions in small}):
        group = list[Path]()
        n = 0
        for path, size, _ in (row for row in small if row[2] == origin):
            if n + size > MAX_PART_CLIPS:
                yield from [group] if len(group) > 1 else []
                group = []
                n = 0
            group.append(path)
            n += size
        yield from [group] if len(group) > 1 else []
