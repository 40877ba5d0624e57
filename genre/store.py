"""Features and spectrograms on disk: parts, each written whole, keyed by clip.

A part is ``part-<digest>.npy``, the spectrograms of a batch, and ``part-<digest>.parquet``, its index: one row per
clip with what became of it and its features, and the versions of the libraries that computed them. The index is
written last and makes the part exist. What fills a store with a process each core is `genre.building`.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genre import audio, features, spectrogram
from genre.config import AudioConfig, versions
from genre.errors import AudioError, DataError
from genre.workspace import BUILD_FIRST, write_atomically, write_table

#: What a part says of every clip, before its features.
OUTCOME = ["clip_id", "stamp", "status", "reason"]

_log = logging.getLogger(__name__)


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


def computed(y: np.ndarray, config: AudioConfig) -> tuple[np.ndarray, np.ndarray]:
    """Features and spectrogram of the audio of one clip, as `features.extract` and `spectrogram.log_mel` give them."""
    return features.extract(y, config), spectrogram.log_mel(y, config)


def write_part(
    batch: pd.DataFrame, config: AudioConfig, directory: Path, on_clip: Callable[[int], object] = lambda position: None
) -> int:
    """Compute the clips of one batch and write them as one part.

    Parameters
    ----------
    batch : pd.DataFrame
        Rows of the clips table.
    config : AudioConfig
        How to compute.
    directory : Path
        The store of that configuration.
    on_clip : callable, optional
        Told the position of each clip before it is begun.

    Returns
    -------
    int
        Number of clips.
    """
    rows, images = [], list[np.ndarray]()
    for position, clip in enumerate(batch.itertuples()):
        on_clip(position)
        row = {"clip_id": clip.clip_id, "stamp": clip.stamp, "status": "ok", "reason": "", "row": -1}
        try:
            values, image = computed(read_clip(clip, config), config)
            row |= dict(zip(features.FEATURE_NAMES, values, strict=True)) | {"row": len(images)}
            images.append(image)
        except AudioError as error:
            row |= {"status": error.status, "reason": error.reason}
        except Exception as error:  # one file must not stop the other million
            row |= {"status": "undecodable", "reason": f"{clip.path}: {type(error).__name__}: {error}"}
        rows.append(row)
    stacked = np.stack(images) if images else np.empty((0, config.n_mels, config.n_frames), np.uint8)
    _write(directory, pd.DataFrame(rows), stacked)
    return len(batch)


def write_crashed(clip: pd.DataFrame, config: AudioConfig, directory: Path, reason: str) -> None:
    """Write the part of a clip, a table of one row, that no process has survived."""
    row = clip[["clip_id", "stamp"]].assign(status="crashed", reason=f"{clip['path'].iloc[0]}: {reason}", row=-1)
    _write(directory, row, np.empty((0, config.n_mels, config.n_frames), np.uint8))


def adopt(clips: pd.DataFrame, table: pd.DataFrame, directory: Path) -> None:
    """Write features that the source brought, for all of `clips`, as one part without spectrograms."""
    index = clips[OUTCOME].assign(row=-1).set_index("clip_id").join(table)
    write_table(_part_path(directory, clips), index.reset_index())


def outcomes(directory: Path) -> pd.DataFrame:
    """What became of every clip in the store: ``clip_id``, ``stamp``, ``status``, ``reason``.

    Raises
    ------
    DataError
        If a part is damaged.
    """
    return _index(directory, OUTCOME)


def repair(directory: Path) -> None:
    """Take away what a crash or a full disk has damaged, so that the next build computes it anew.

    That is a part whose index cannot be read or whose spectrograms are missing or cut short, and spectrograms whose
    index was never written. Nothing else may be writing.
    """
    for path in _parts(directory):
        try:
            rows = _read(path, ["row"])["row"]
            if rows.max() >= 0:
                _pictures(path.with_suffix(".npy"), int(rows.max()) + 1)
        except DataError as error:
            _log.warning("%s", error)
            path.unlink(missing_ok=True)
    for pictures in directory.glob("part-*.npy"):
        if not pictures.with_suffix(".parquet").exists():
            pictures.unlink(missing_ok=True)


def missing(clips: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Those of `clips` that can be computed (status ``pending`` or ``ok``) and that the store lacks."""
    todo = clips[clips["status"].isin(["pending", "ok"])]
    known = outcomes(directory)
    return todo[~key(todo).isin(key(known))] if len(known) else todo


def with_outcomes(clips: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """`clips` with the status and reason that the store recorded for them."""
    known = outcomes(directory)
    known = known.set_index(key(known))[["status", "reason"]]
    known = known[~known.index.duplicated(keep="last")]
    at = key(clips)
    built = at.isin(known.index)
    clips = clips.copy()
    for column in ("status", "reason"):
        clips.loc[built, column] = known.loc[at[built], column].to_numpy()
    return clips


def load_features(clips: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Features of `clips`, in their order: 97 float32 columns indexed by ``clip_id``.

    Raises
    ------
    DataError
        If a clip is not in the store, or a part is damaged.
    """
    table = _rows(clips, _index(directory, ["clip_id", "stamp", *features.FEATURE_NAMES]), directory)
    return table[list(features.FEATURE_NAMES)].astype("float32")


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
        first = _pictures(self._paths[0])
        self._offset = first.offset
        self.shape = (len(clips), *first.shape[1:])
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, at: int | slice | np.ndarray) -> np.ndarray:
        """Copy of the spectrograms at these positions, uint8 ``(n, n_mels, n_frames)``."""
        try:
            return self._copy(at)
        except FileNotFoundError:  # compacted since: the same bytes are in another part
            self._find()
            return self._copy(at)

    def _find(self) -> None:
        """Look up which part has each clip, and where."""
        index = _index(self._directory, ["clip_id", "stamp", "row"], with_part=True)
        table = _rows(self._clips, index, self._directory)
        self._row = table["row"].to_numpy()
        self._part, paths = pd.factorize(table["part"])
        self._paths = [Path(path).with_suffix(".npy") for path in paths]

    def _copy(self, at: int | slice | np.ndarray) -> np.ndarray:
        rows, parts = np.atleast_1d(self._row[at]), np.atleast_1d(self._part[at])
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for one, row, part in zip(out, rows, parts, strict=True):
            # Read, not mapped: a map costs a page fault for every 4 kB, and a thousand parts cannot all stay mapped.
            with self._paths[part].open("rb", buffering=0) as file:
                file.seek(self._offset + int(row) * one.nbytes)
                if file.readinto(one) != one.nbytes:
                    raise DataError(_damaged(self._paths[part], "it is cut short"))
        return out[0] if np.isscalar(at) else out


def key(table: pd.DataFrame) -> pd.Series:
    """What a stored row answers for: the clip, as its file was."""
    return table["clip_id"].astype(str) + "\t" + table["stamp"].astype(str)


def _part_path(directory: Path, clips: pd.DataFrame) -> Path:
    """Where the index of a part of these clips lies: wherever they are computed, the name is the same."""
    digest = hashlib.sha256("\n".join(key(clips)).encode()).hexdigest()[:16]
    return directory / f"part-{digest}.parquet"


def _write(directory: Path, index: pd.DataFrame, pictures: np.ndarray) -> None:
    """Write one part."""
    path = _part_path(directory, index)
    index = index.reindex(columns=[*OUTCOME, "row", *features.FEATURE_NAMES])
    index = index.astype(dict.fromkeys(features.FEATURE_NAMES, np.float32))
    index.attrs["versions"] = versions()
    write_atomically(path.with_suffix(".npy"), lambda p: _save(p, pictures))
    write_table(path, index)


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array)


def _damaged(path: Path, why: str) -> str:
    return f'{path} is damaged: {why}; "mlflow run . -e build" with the same -P dataset= and -P source= repairs it'


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    """Columns of a part's index."""
    try:
        return pd.read_parquet(path, columns=columns)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(_damaged(path, str(error).splitlines()[0])) from error


def _pictures(path: Path, n: int = 0) -> np.memmap:
    """A part's spectrograms, at least n of them, mapped."""
    try:
        found = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(_damaged(path, "it is missing" if not path.exists() else "it is cut short")) from error
    if len(found) < n:
        raise DataError(_damaged(path, f"it has {len(found)} spectrograms of {n}"))
    return found


def _parts(directory: Path) -> Iterator[Path]:
    yield from sorted(directory.glob("part-*.parquet"), key=lambda p: (p.stat().st_mtime_ns, p.name))


def _index(directory: Path, columns: list[str], *, with_part: bool = False) -> pd.DataFrame:
    """Rows of all parts; listed again when one is compacted away meanwhile."""
    for _ in range(10):
        try:
            tables = [_read(path, columns).assign(part=str(path)) for path in _parts(directory)]
        except FileNotFoundError:
            continue
        table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*columns, "part"])
        return table if with_part else table[columns]
    raise DataError(f"the parts of {directory} keep changing; wait for the build that is writing them")


def _rows(clips: pd.DataFrame, index: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Rows of `index` for `clips`, in their order, indexed by ``clip_id``."""
    index = index.set_index(key(index))
    index = index[~index.index.duplicated(keep="last")]
    absent = ~key(clips).isin(index.index)
    if absent.any():
        raise DataError(
            f"{absent.sum()} clips are not in the store {directory}, {clips['clip_id'][absent].iloc[0]!r} the first; "
            f"{BUILD_FIRST}"
        )
    return index.loc[key(clips)].set_index("clip_id")
