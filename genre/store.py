"""Features and spectrograms on disk: parts, each written whole, keyed by clip.

A part is ``part-<digest>.npy``, the spectrograms of a batch, and ``part-<digest>.parquet``, its index: one row per
clip with what became of it and its features. The index is written last and makes the part exist.
"""

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from genre import audio, features, spectrogram
from genre.config import AudioConfig
from genre.errors import AudioError, DataError, UsageError
from genre.workspace import BUILD_FIRST, write_atomically, write_table

#: Clips in a part: seconds of work, so that a kill loses little, and few enough files at a million clips.
BATCH_CLIPS = 32

#: Columns of a part's index beside the features.
_BOOKKEEPING = {"clip_id", "stamp", "status", "reason", "row"}


def build(clips: pd.DataFrame, config: AudioConfig, directory: Path, *, n_jobs: int = -1) -> int:
    """Compute what the store lacks of `clips`, in a process pool.

    Parameters
    ----------
    clips : pd.DataFrame
        Clips table. Rows whose status is neither ``pending`` nor ``ok`` are passed over.
    config : AudioConfig
        How to compute.
    directory : Path
        The store of that configuration.
    n_jobs : int
        Processes, -1 for one per core.

    Returns
    -------
    int
        Number of clips computed now; the others were there.

    Raises
    ------
    UsageError
        If `n_jobs` is 0.
    """
    if n_jobs == 0:
        raise UsageError("n_jobs must be a number of processes, or -1 for one per core; got 0")
    todo = clips[clips["status"].isin(["pending", "ok"])]
    known = outcomes(directory)
    todo = todo[~_key(todo).isin(_key(known))] if len(known) else todo
    if todo.empty:
        return 0
    directory.mkdir(parents=True, exist_ok=True)
    features.warm_up(config)
    batches = [todo.iloc[i : i + BATCH_CLIPS] for i in range(0, len(todo), BATCH_CLIPS)]
    done = Parallel(n_jobs=n_jobs, return_as="generator_unordered")(
        delayed(write_part)(batch, config, directory) for batch in batches
    )
    with tqdm(total=len(todo), desc="features and spectrograms", unit="clip") as bar:
        for n in done:
            bar.update(n)
    return len(todo)


def read_clip(clip: Any, config: AudioConfig) -> np.ndarray:
    """Audio of one row of the clips table, mono float32 at ``config.sr``, as features and spectrogram take it.

    Raises
    ------
    AudioError
        If it cannot be decoded, or is too short, not finite or silent.
    """
    y = audio.decode(
        str(clip.path),
        sr=config.sr,
        start_s=clip.start_s,
        duration_s=clip.end_s - clip.start_s,
        resampler=config.resampler,
    )
    return audio.clip(y, config)


@threadpool_limits.wrap(limits=1)
def write_part(batch: pd.DataFrame, config: AudioConfig, directory: Path) -> int:
    """Compute the clips of one batch and write them as one part; returns their number."""
    digest = hashlib.sha256("\n".join(_key(batch)).encode()).hexdigest()[:16]
    rows, images = [], list[np.ndarray]()
    for clip in batch.itertuples():
        row = {"clip_id": clip.clip_id, "stamp": clip.stamp, "status": "ok", "reason": "", "row": -1}
        try:
            y = read_clip(clip, config)
            row |= dict(zip(features.FEATURE_NAMES, features.extract(y, config), strict=True)) | {"row": len(images)}
            images.append(spectrogram.log_mel(y, config))
        except AudioError as error:
            row |= {"status": error.status, "reason": error.reason}
        except Exception as error:  # one file must not stop the other million
            row |= {"status": "undecodable", "reason": f"{clip.path}: {type(error).__name__}: {error}"}
        rows.append(row)
    stacked = np.stack(images) if images else np.empty((0, config.n_mels, config.n_frames), np.uint8)
    write_atomically(directory / f"part-{digest}.npy", lambda p: _save(p, stacked))
    index = pd.DataFrame(rows).reindex(columns=[*rows[0], *features.FEATURE_NAMES] if not images else None)
    write_table(directory / f"part-{digest}.parquet", index)
    return len(batch)


def adopt(clips: pd.DataFrame, table: pd.DataFrame, directory: Path) -> None:
    """Write features that the source brought, for all of `clips`, as one part without spectrograms."""
    index = clips[["clip_id", "stamp", "status", "reason"]].assign(row=-1).set_index("clip_id").join(table)
    digest = hashlib.sha256("\n".join(_key(clips)).encode()).hexdigest()[:16]
    write_table(directory / f"part-{digest}.parquet", index.reset_index())


def outcomes(directory: Path) -> pd.DataFrame:
    """What became of every clip in the store: ``clip_id``, ``stamp``, ``status``, ``reason``."""
    return _index(directory, ["clip_id", "stamp", "status", "reason"])


def with_outcomes(clips: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """`clips` with the status and reason that the store recorded for them."""
    known = outcomes(directory)
    known = known.set_index(_key(known))[["status", "reason"]]
    known = known[~known.index.duplicated(keep="last")]
    at = _key(clips)
    built = at.isin(known.index)
    clips = clips.copy()
    for column in ("status", "reason"):
        clips.loc[built, column] = known.loc[at[built], column].to_numpy()
    return clips


def feature_names(directory: Path) -> list[str]:
    """Names of the features in a store: the 97, or those that a source without audio brought."""
    own = next((pq.read_schema(path).names for path in _parts(directory)), features.FEATURE_NAMES)
    return [name for name in own if name not in _BOOKKEEPING]


def load_features(clips: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Features of `clips`, in their order: float32 columns as `feature_names` has them, indexed by ``clip_id``.

    Raises
    ------
    DataError
        If a clip is not in the store.
    """
    names = feature_names(directory)
    table = _rows(clips, _index(directory, ["clip_id", "stamp", *names]), directory)
    return table[names].astype("float32")


class Spectrograms:
    """Spectrograms of some clips, read from the store's memory-mapped parts as they are asked for.

    Parameters
    ----------
    clips : pd.DataFrame
        Clips in the order wanted; columns ``clip_id`` and ``stamp``.
    directory : Path
        The store.

    Raises
    ------
    DataError
        If a clip is not in the store.
    """

    def __init__(self, clips: pd.DataFrame, directory: Path) -> None:
        table = _rows(clips, _index(directory, ["clip_id", "stamp", "row"], with_part=True), directory)
        self._row = table["row"].to_numpy()
        self._part, paths = pd.factorize(table["part"])
        self._paths = [Path(path).with_suffix(".npy") for path in paths]
        # each map holds a file open, and systems allow a thousand or so
        self._open = lru_cache(maxsize=256)(lambda part: np.load(self._paths[part], mmap_mode="r"))
        self.shape = (len(table), *self._open(0).shape[1:])
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, at: int | slice | np.ndarray) -> np.ndarray:
        """Copy of the spectrograms at these positions, uint8 ``(n, n_mels, n_frames)``."""
        rows, parts = np.atleast_1d(self._row[at]), np.atleast_1d(self._part[at])
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for part in np.unique(parts):
            here = parts == part
            out[here] = self._open(part)[rows[here]]
        return out[0] if np.isscalar(at) else out


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array)


def _key(table: pd.DataFrame) -> pd.Series:
    """What a stored row answers for: the clip, as its file was."""
    return table["clip_id"].astype(str) + "\t" + table["stamp"].astype(str)


def _parts(directory: Path) -> Iterator[Path]:
    yield from sorted(directory.glob("part-*.parquet"), key=lambda p: (p.stat().st_mtime_ns, p.name))


def _index(directory: Path, columns: list[str], *, with_part: bool = False) -> pd.DataFrame:
    tables = []
    for path in _parts(directory):
        table = pd.read_parquet(path, columns=columns)
        tables.append(table.assign(part=str(path)) if with_part else table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _rows(clips: pd.DataFrame, index: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Rows of `index` for `clips`, in their order, indexed by ``clip_id``."""
    index = index.set_index(_key(index))
    index = index[~index.index.duplicated(keep="last")]
    missing = ~_key(clips).isin(index.index)
    if missing.any():
        raise DataError(
            f"{missing.sum()} clips are not in the store {directory}, {clips['clip_id'][missing].iloc[0]!r} the first; "
            f"{BUILD_FIRST}"
        )
    return index.loc[_key(clips)].set_index("clip_id")
