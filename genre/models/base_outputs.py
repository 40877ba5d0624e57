"""Outputs of a network that is not trained, kept per clip, so that each is computed once for all trainings.

Loads Keras and its backend.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from genre.errors import TrainingError
from genre.files import write_atomically

#: Files per folder; the least recently used are removed first. A training writes at most two, of its new training and
#: validation clips. One clip of VGG-16 takes 37 kB.
MAX_FILES = 24


class BaseOutputs:
    """The outputs of some clips, memory-mapped, read on access.

    Parameters
    ----------
    stored : list of np.ndarray [shape=(m, ...), dtype=float16]
        Outputs in files.
    file, row : np.ndarray [shape=(n,), dtype=int]
        Position of each clip's output: the array in `stored`, and its row.
    output_shape : tuple of int
        Shape of one output.
    """

    def __init__(
        self, stored: list[np.ndarray], file: np.ndarray, row: np.ndarray, output_shape: tuple[int, ...]
    ) -> None:
        self.stored = stored
        self.file = file
        self.row = row
        self.shape = (len(row), *output_shape)

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, at: slice | np.ndarray) -> np.ndarray:
        """Return the outputs at these positions, dtype float16."""
        file, row = self.file[at], self.row[at]
        outputs = np.empty((len(row), *self.shape[1:]), np.float16)
        for number in np.unique(file):
            outputs[file == number] = self.stored[number][row[file == number]]
        return outputs


def load_base_outputs(
    body: keras.Model, X: Any, directory: Path, settings: list[str], *, batch_size: int
) -> BaseOutputs:
    """Load the outputs of a network that is not trained; those of clips that are new are computed first.

    Parameters
    ----------
    body : keras.Model
        Network on spectrograms.
    X : array-like [shape=(n, n_mels, n_frames), dtype=uint8]
        Spectrograms.
    directory : Path
        Folder of the files, of which at most `MAX_FILES` are kept.
    settings : list of str
        Everything else that the outputs depend on, including the weights.
    batch_size : int
        Clips computed at once.

    Returns
    -------
    BaseOutputs
        In half precision: VGG-16's outputs reach a few hundred, and half precision ends at 65504.

    Raises
    ------
    TrainingError
        If an output is not finite.
    """
    network = hashlib.sha256(repr((settings, body.output.shape)).encode()).hexdigest()[:16]
    keys = [_hash_clip(clip) for batch in _batches(X, batch_size) for clip in batch]
    files = _open_files(directory, network)
    places = _locate_clips(files)
    missing = {key: position for position, key in enumerate(keys) if key not in places}
    if missing:
        name = hashlib.sha256(b"".join(missing)).hexdigest()[:16]
        write_atomically(
            directory / f"outputs-{network}-{name}.npy",
            lambda path: _write_outputs(path, body, X, missing, batch_size),
        )
        files = _open_files(directory, network)
        places = _locate_clips(files)
    file, row = np.array([places[key] for key in keys], dtype=int).reshape(-1, 2).T
    for number in np.unique(file):
        list(files)[number].touch()
    _remove_old_files(directory)
    return BaseOutputs([rows["output"] for rows in files.values()], file, row, body.output.shape[1:])


def _hash_clip(clip: np.ndarray) -> bytes:
    """Return 16 bytes that identify a spectrogram."""
    return hashlib.blake2b(clip.tobytes(), digest_size=16).digest()


def _open_files(directory: Path, network: str) -> dict[Path, np.ndarray]:
    """Map the rows of each file of a network; a row has the fields ``clip`` and ``output``."""
    return {path: np.load(path, mmap_mode="r") for path in sorted(directory.glob(f"outputs-{network}-*.npy"))}


def _locate_clips(files: dict[Path, np.ndarray]) -> dict[bytes, tuple[int, int]]:
    """Return file and row of each clip."""
    rows = enumerate(files.values())
    return {key.tobytes(): (number, row) for number, file in rows for row, key in enumerate(file["clip"])}


def _write_outputs(path: Path, body: keras.Model, X: Any, positions: dict[bytes, int], batch_size: int) -> None:
    """Compute the outputs of the clips at these positions batch by batch, and write them with their hashes."""
    body.compile()
    fields = np.dtype([("clip", "V16"), ("output", np.float16, body.output.shape[1:])])
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=fields, shape=(len(positions),))
    rows["clip"] = [np.void(key) for key in positions]
    start = 0
    for chosen in _batches(np.array(list(positions.values())), batch_size):
        values = np.asarray(body.predict_on_batch(np.asarray(X[chosen])), dtype=np.float16)
        if not np.isfinite(values).all():
            raise TrainingError("the base has outputs that are not finite in half precision; check its weights")
        rows["output"][start : start + len(chosen)] = values
        start += len(chosen)
    rows.flush()


def _remove_old_files(directory: Path) -> None:
    """Remove the least recently used files beyond `MAX_FILES`; arrays mapped from them stay readable."""
    for path in sorted(directory.glob("outputs-*.npy"), key=lambda path: path.stat().st_mtime_ns)[:-MAX_FILES]:
        path.unlink()


def _batches(X: Any, size: int) -> Iterator[np.ndarray]:
    """Iterate over the clips in batches."""
    return (np.asarray(X[start : start + size]) for start in range(0, len(X), size))
