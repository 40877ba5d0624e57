"""Changes to files that can be undone to the byte, and that lose nothing when the process is killed at any moment.

A file is copied beside itself, the copy is changed, and the record that undoes the change is written to an undo file;
once the record is on the disk, the copy replaces the file. An undo file has one JSON object per line: path, old and new
state (SHA-256, bytes), and a delta. A tag writer moves most bytes without changing them, and may renumber pages
throughout the file. A delta therefore holds, for each block of the old file, a flag for its position in the new file
(same distance from the start, or from the end) and the bytes that differ there.
"""

import base64
import hashlib
import json
import os
import shutil
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from genre.errors import DataError, GenreError

#: Prefix of the name of a copy: hidden, and short, since a hash is added instead of the file's own, maybe long name.
COPY_PREFIX = ".genre-tagging-"

#: Bytes compared at once.
_BLOCK = 1 << 16


class UndoFile:
    """Undo file that is being written; made with the first record.

    Parameters
    ----------
    path : Path
        New file, or one to be continued.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_records = 0

    def append(self, record: dict[str, Any]) -> None:
        """Write a record, and wait until it is on the disk.

        Raises
        ------
        GenreError
            If it cannot be written; no file may then be changed.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(json.dumps(record).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            if not self.n_records:
                _sync_to_disk(self.path.parent)
        except OSError as error:
            raise GenreError(
                f"cannot write the undo file {self.path} ({error.strerror}); no further file is changed"
            ) from None
        self.n_records += 1


def change_file(path: Path, write: Callable[[Path], object], undo: UndoFile) -> None:
    """Change a file so that it can be restored, and is either old or new if the process is killed.

    Mode, owner and extended attributes are kept; the modification time is now.

    Parameters
    ----------
    path : Path
        The file, not a link.
    write : callable
        Changes the copy whose path it receives.
    undo : UndoFile
        Receives the record that undoes the change, before `path` is touched.

    Raises
    ------
    DataError
        If the file is read-only, has several hard links, belongs to another user, cannot be copied, or is modified by
        another program in the meantime.
    GenreError
        If the undo file cannot be written.
    """
    before = check_replaceable(path)
    with _temporary_copy(path, before) as copy:
        write(copy)
        os.utime(copy)
        old = _read_bytes(path)
        new = _read_bytes(copy)
        record = {
            "path": str(path),
            "old": _fingerprint(old),
            "new": _fingerprint(new),
            "mtime_ns": before.st_mtime_ns,
            "delta": base64.b64encode(compute_delta(old, new)).decode(),
        }
        _check_unmodified(path, before)
        undo.append(record)
        _replace_file(copy, path, before)


def restore_file(record: dict[str, Any]) -> bool:
    """Undo one change, restoring the file's bytes and modification time.

    Parameters
    ----------
    record : dict
        Record from `read_records`.

    Returns
    -------
    bool
        False if the file already is as it was before the change.

    Raises
    ------
    DataError
        If the file is missing, has been modified since, or cannot be written.
    """
    path = Path(record["path"])
    before = check_replaceable(path)
    new = _read_bytes(path)
    fingerprint = _fingerprint(new)
    if fingerprint == record["old"]:
        return False
    if fingerprint != record["new"]:
        raise DataError(f"{path} was modified after it was tagged; left unchanged")
    old = apply_delta(base64.b64decode(record["delta"]), new, record["old"]["bytes"])
    if _fingerprint(old) != record["old"]:
        raise DataError(f"cannot restore {path}: the undo file is damaged; left unchanged")
    with _temporary_copy(path, before) as copy:
        old.tofile(copy)
        os.utime(copy, ns=(before.st_atime_ns, record["mtime_ns"]))
        _replace_file(copy, path, before)
    return True


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Iterate over the records of an undo file, the last change first.

    A last line that a kill cut short is left out: its file was not changed yet.

    Raises
    ------
    DataError
        If the file cannot be read, or is not an undo file.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
        records = [json.loads(line) for line in lines]
        is_complete = all({"path", "old", "new", "mtime_ns", "delta"} <= record.keys() for record in records)
    except OSError as error:
        raise DataError(f"cannot read the undo file {path}: {error.strerror}") from None
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path} is not an undo file: {error}") from None
    if not is_complete:
        raise DataError(f"{path} is not an undo file: a record lacks one of path, old, new, mtime_ns, delta")
    return reversed(records)


def remove_copies(folder: Path) -> None:
    """Remove the copies below a folder that killed processes left behind."""
    for copy in folder.rglob(f"{COPY_PREFIX}*"):
        copy.unlink(missing_ok=True)


def compute_delta(old: np.ndarray, new: np.ndarray) -> bytes:
    """Compute the delta from which `apply_delta` gets `old` out of `new`, both uint8 of any length.

    It is small if most bytes of `old` are in `new`, shifted. Each block has a byte of flags (1: compared at the same
    distance from the end instead of the start; 2: some bytes differ), and then, if any differ, the XOR of both.
    """
    compressor = zlib.compressobj()
    parts = []
    for start in range(0, old.size, _BLOCK):
        block = old[start : start + _BLOCK]
        front = block ^ _byte_window(new, start, block.size)
        end = block ^ _byte_window(new, start + new.size - old.size, block.size)
        from_end = np.count_nonzero(end) < np.count_nonzero(front)
        difference = end if from_end else front
        flags = bytes([from_end + 2 * bool(difference.any())])
        parts.append(compressor.compress(flags + (difference.tobytes() if difference.any() else b"")))
    return b"".join([*parts, compressor.flush()])


def apply_delta(delta: bytes, new: np.ndarray, size: int) -> np.ndarray:
    """Compute the old bytes, uint8 of length `size`, from the new ones and a delta of `compute_delta`."""
    stream = BytesIO(zlib.decompress(delta))
    old = np.empty(size, np.uint8)
    for start in range(0, size, _BLOCK):
        n = min(_BLOCK, size - start)
        flags = stream.read(1)[0]
        old[start : start + n] = _byte_window(new, start + (new.size - size) * (flags & 1), n)
        if flags & 2:
            old[start : start + n] ^= np.frombuffer(stream.read(n), np.uint8)
    return old


def _byte_window(y: np.ndarray, start: int, n: int) -> np.ndarray:
    """Return the bytes from start to start + n, zero outside the array."""
    window = np.zeros(n, np.uint8)
    first = max(start, 0)
    last = min(start + n, y.size)
    if first < last:
        window[first - start : last - start] = y[first:last]
    return window


def _read_bytes(path: Path) -> np.ndarray:
    """Read a file as uint8."""
    # Not memory-mapped: if another program truncated the file, reading the map would kill the process.
    try:
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None


def _fingerprint(y: np.ndarray) -> dict[str, Any]:
    """Return hash and length of a file's bytes."""
    return {"sha256": hashlib.sha256(y.data).hexdigest(), "bytes": y.size}


def check_replaceable(path: Path) -> os.stat_result:
    """Check that a file may be replaced by a changed copy, and return its state.

    Raises
    ------
    DataError
        If it is missing, is read-only, or has several hard links.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"cannot change {path}: {error.strerror}") from None
    if not state.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        raise DataError(f"{path} is read-only; make it writable to have its tags changed")
    if state.st_nlink > 1:
        raise DataError(f"{path} has {state.st_nlink} hard links; skipped, because rewriting it would break them")
    return state


@contextmanager
def _temporary_copy(path: Path, before: os.stat_result) -> Iterator[Path]:
    """Make a copy of a file beside it, with its mode, owner and attributes, and remove it at the end.

    Raises
    ------
    DataError
        If the copy cannot be made, changed or put in the file's place.
    """
    copy = path.with_name(COPY_PREFIX + hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16])
    try:
        shutil.copy2(path, copy)
        state = copy.stat()
        if (state.st_uid, state.st_gid) != (before.st_uid, before.st_gid):
            os.chown(copy, before.st_uid, before.st_gid)
        yield copy
    except OSError as error:
        raise DataError(f"cannot replace {path} by a changed copy: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # in a folder without write permission nothing can be removed either
            copy.unlink(missing_ok=True)


def _check_unmodified(path: Path, before: os.stat_result) -> None:
    """Raise DataError if another program has modified a file since `before`."""
    now = path.stat()
    if (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
        raise DataError(f"{path} was modified by another program during tagging; left unchanged")


def _replace_file(copy: Path, path: Path, before: os.stat_result) -> None:
    """Replace a file by its copy, once the copy is on the disk."""
    _sync_to_disk(copy)
    _check_unmodified(path, before)
    copy.replace(path)
    _sync_to_disk(path.parent)


def _sync_to_disk(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
