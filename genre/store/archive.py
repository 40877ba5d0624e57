"""A store as fewer files: many small parts as a few large ones, or all of it as one Parquet file to hand on."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from genre.config import AudioConfig
from genre.errors import DataError
from genre.files import read_json, write_atomically, write_json
from genre.inputs.features import FEATURE_NAMES
from genre.store import parts, reference_clip

#: Clips in a large part, 170 MB of spectrograms: few files at a million clips, and one fits in memory easily.
MAX_PART_CLIPS = 4096

#: Level of zstd; higher ones make a spectrogram no smaller.
_ZSTD_LEVEL = 3

_METADATA_KEY = b"genre"

#: What the file says of each clip besides what the store does.
_CLIP_COLUMNS = ["genre", "recording", "dataset", "start_s", "end_s"]


def compact_parts(directory: Path) -> tuple[int, int]:
    """Merge small parts into large ones; whoever is reading goes on reading.

    A merged part is written before those it is made of are removed, so that at every moment each clip is there. Parts
    that different versions of the libraries computed stay apart. Nothing else may be writing.

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
    before = parts.list_parts(directory)
    for group in _group_parts(before):
        merged = _merge_group(group, directory)
        for path in group:
            if path != merged:
                parts.remove_part(path)
    return len(before), len(parts.list_parts(directory))


def export_store(clips: pd.DataFrame, config: AudioConfig, directory: Path, path: Path) -> int:
    """Write what the store has of `clips` as one Parquet file that any reader of Parquet understands.

    Parameters
    ----------
    clips : pd.DataFrame
        Clips table.
    config : AudioConfig
        The store's.
    directory : Path
        The store.
    path : Path
        The file. One row a usable clip: ``clip_id``, ``stamp`` (its file's size and time), ``genre``, ``recording``,
        ``dataset``, ``start_s``, ``end_s``, the features, and ``spectrogram``, bytes of uint8 (n_mels, n_frames): each
        frame less the one before, modulo 256, so that ``np.cumsum(steps, axis=1, dtype=np.uint8)`` is the spectrogram;
        null where the source brought features only. Compressed with zstd. Configuration, versions and probe are in
        the schema's metadata under ``genre``, as JSON. No path of this disk is in it.

    Returns
    -------
    int
        Number of clips.

    Raises
    ------
    DataError
        If there is nothing to write, or a part is damaged.
    """
    told = clips[["clip_id", "stamp", *_CLIP_COLUMNS]].astype({"genre": str})
    if not reference_clip.reference_path(directory).exists():
        reference_clip.check_reference(config, directory)
    about = {
        "config": config.to_dict(),
        "fingerprint": config.fingerprint,
        "probe": read_json(reference_clip.reference_path(directory)),
    }
    schema = _schema(config).with_metadata({_METADATA_KEY: json.dumps(about)})
    n, seen = 0, set[str]()

    def fill(temporary: Path) -> None:
        nonlocal n
        with pq.ParquetWriter(
            temporary, schema, compression="zstd", compression_level=_ZSTD_LEVEL, use_dictionary=False
        ) as file:
            for index in parts.list_parts(directory):
                table = parts.read_part_index(index).merge(told, on=["clip_id", "stamp"])
                table = table[(table["status"] == "ok") & ~parts.row_keys(table).isin(seen)]
                seen.update(parts.row_keys(table))
                n += len(table)
                file.write_table(_with_spectrograms(table, index, schema))
        if not n:
            raise DataError(f"there is no usable clip in the store {directory}; build first")

    write_atomically(path, fill)
    return n


def restore_store(path: Path, config: AudioConfig, directory: Path) -> int:
    """Put what `export_store` wrote into a store, which a later build then need not compute.

    Parameters
    ----------
    path : Path
        The file.
    config : AudioConfig
        The store's.
    directory : Path
        The store; what it has already stays.

    Returns
    -------
    int
        Number of clips in the file.

    Raises
    ------
    DataError
        If the file is not one that `export_store` wrote, is of another configuration, or was computed by libraries that
        give other numbers than those that began the store.
    """
    try:
        file = pq.ParquetFile(path)
        about = json.loads((file.schema_arrow.metadata or {})[_METADATA_KEY])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f'{path} is no archive of a store ({error}); "-e archive -P action=export" writes one'
        ) from error
    if about["fingerprint"] != config.fingerprint:
        raise DataError(
            f"{path} was computed with {about['config']}, not with {config.to_dict()} (or another FEATURES_VERSION); "
            "choose the variant that it has"
        )
    directory.mkdir(parents=True, exist_ok=True)
    if theirs := read_json(reference_clip.reference_path(directory)):
        reference_clip.require_same_values(about["probe"], theirs, directory)
    else:
        write_json(reference_clip.reference_path(directory), about["probe"])
    for batch in file.iter_batches(batch_size=MAX_PART_CLIPS):
        table = batch.to_pandas().assign(status="ok", reason="")
        one_by_one = table.pop("spectrogram")
        steps = np.frombuffer(b"".join(one_by_one.dropna()), np.uint8).reshape(-1, config.n_mels, config.n_frames)
        pictures = np.cumsum(steps, axis=2, dtype=np.uint8)
        parts.save_part(_number_rows(table, one_by_one.notna()), pictures, directory, about["probe"]["versions"])
    return file.metadata.num_rows


def _merge_group(group: list[Path], directory: Path) -> Path:
    """Write one part of several."""
    tables = [parts.read_part_index(path).assign(of=n) for n, path in enumerate(group)]
    table = pd.concat(tables, ignore_index=True)
    # Twice where an earlier compaction was killed.
    table = table[~table.duplicated(["clip_id", "stamp"], keep="last")]
    has_picture = table["row"] >= 0
    rows = [table.loc[has_picture & (table["of"] == n), "row"] for n in range(len(group))]
    pictures = np.concatenate([parts.open_spectrograms(path)[row] for path, row in zip(group, rows, strict=True)])
    return parts.save_part(_number_rows(table, has_picture), pictures, directory, parts.read_versions(group[0]))


def _number_rows(table: pd.DataFrame, has_picture: pd.Series) -> pd.DataFrame:
    """Rows that say where in their part each one's spectrogram is."""
    return table.assign(row=np.where(has_picture, has_picture.cumsum() - 1, -1)).reset_index(drop=True)


def _schema(config: AudioConfig) -> pa.Schema:
    """Columns of the one file."""
    text = [(name, pa.string()) for name in ("clip_id", "stamp", "genre", "recording", "dataset")]
    numbers = [("start_s", pa.float64()), ("end_s", pa.float64()), *((name, pa.float32()) for name in FEATURE_NAMES)]
    return pa.schema([*text, *numbers, ("spectrogram", pa.binary(config.n_mels * config.n_frames))])


def _with_spectrograms(table: pd.DataFrame, index: Path, schema: pa.Schema) -> pa.Table:
    """Rows of a part, each with the bytes of its spectrogram."""
    # Little changes from frame to frame: 31 kB a clip of real music, 40 without.
    steps = (
        np.diff(parts.open_spectrograms(index), axis=2, prepend=np.uint8(0))
        if (table["row"] >= 0).any()
        else np.empty(0)
    )
    pictures = pd.Series([steps[row].tobytes() if row >= 0 else None for row in table["row"]], table.index, object)
    return pa.Table.from_pandas(table.assign(spectrogram=pictures), schema, preserve_index=False)


def _group_parts(paths: list[Path]) -> Iterator[list[Path]]:
    """Parts to merge: of one origin, in their order, at most `MAX_PART_CLIPS` clips together, and never one alone."""
    rows = [(path, len(parts.read_part_index(path, ["row"])), json.dumps(parts.read_versions(path))) for path in paths]
    small = [row for row in rows if row[1] < MAX_PART_CLIPS and row[0].with_suffix(".npy").exists()]
    for origin in sorted({versions for *_, versions in small}):
        group, n = list[Path](), 0
        for path, size, _ in (row for row in small if row[2] == origin):
            if n + size > MAX_PART_CLIPS:
                yield from [group] if len(group) > 1 else []
                group, n = [], 0
            group.append(path)
            n += size
        yield from [group] if len(group) > 1 else []
