"""Files changed so that every byte can be had back, and that being killed at any moment loses none.

A file is copied beside itself, the copy is changed, what undoes the change is written to an undo file and is on the
disk before the copy takes the file's place. An undo file has a JSON object a line: where, what the file was and is
(SHA-256, bytes), and a delta. What a tag writer does moves most bytes without changing them, and may renumber pages all
through a file; so a delta holds, for each block of the old file, whether it lies in the new one as far from the start
or as far from the end, and what differs there.
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

#: Beginning of the name of a copy that is being changed: hidden, and short, as the file's own name may be long.
COPY_PREFIX = ".genre-tagging-"

#: Bytes compared at once.
_BLOCK = 1 << 16


class UndoFile:
    """An undo file that is being written; made with the first record.

    Parameters
    ----------
    path : Path
        New, or to be continued.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_records = 0

    def append(self, record: dict[str, Any]) -> None:
        """Write a record, and wait until the disk has it.

        Raises
        ------
        GenreError
            If that fails: nothing may be changed then.
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
                f"the undo file {self.path} cannot be written ({error.strerror}); no further file is touched"
            ) from None
        self.n_records += 1


def change_file(path: Path, write: Callable[[Path], object], undo: UndoFile) -> None:
    """Change a file, so that it is the old or the new one whenever the process dies, and can be had back.

    Mode, owner and extended attributes are kept; the time of change is now.

    Parameters
    ----------
    path : Path
        The file, no link.
    write : callable
        Changes the copy it is given.
    undo : UndoFile
        Gets what undoes the change, before `path` is touched.

    Raises
    ------
    DataError
        If the file is read-only, has several names, is somebody else's, cannot be copied, or changes meanwhile.
    GenreError
        If the undo file cannot be written.
    """
    before = check_replaceable(path)
    with _temporary_copy(path, before) as copy:
        write(copy)
        os.utime(copy)
        old, new = _read_bytes(path), _read_bytes(copy)
        record = {"path": str(path), "old": _fingerprint(old), "new": _fingerprint(new), "mtime_ns": before.st_mtime_ns}
        delta = base64.b64encode(compute_delta(old, new)).decode()
        _check_unmodified(path, before)
        undo.append(record | {"delta": delta})
        _replace_file(copy, path, before)


def restore_file(record: dict[str, Any]) -> bool:
    """Undo one change: bytes and time are those of before.

    Parameters
    ----------
    record : dict
        As `read_records` gives it.

    Returns
    -------
    bool
        False if the file already is what it was.

    Raises
    ------
    DataError
        If the file is gone, was changed by somebody else since, or cannot be written.
    """
    path = Path(record["path"])
    before = check_replaceable(path)
    new = _read_bytes(path)
    now = _fingerprint(new)
    if now == record["old"]:
        return False
    if now != record["new"]:
        raise DataError(f"{path} was changed since it was tagged; it is left as it is")
    old = apply_delta(base64.b64decode(record["delta"]), new, record["old"]["bytes"])
    if _fingerprint(old) != record["old"]:
        raise DataError(f"{path} cannot be restored: the undo file is damaged; it is left as it is")
    with _temporary_copy(path, before) as copy:
        old.tofile(copy)
        os.utime(copy, ns=(before.st_atime_ns, record["mtime_ns"]))
        _replace_file(copy, path, before)
    return True


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """What an undo file holds, the last change first; a line that a kill cut short changed nothing.

    Raises
    ------
    DataError
        If it cannot be read, or is no undo file.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
        found = [json.loads(line) for line in lines]
        known = all({"path", "old", "new", "mtime_ns", "delta"} <= record.keys() for record in found)
    except OSError as error:
        raise DataError(f"the undo file {path} cannot be read: {error.strerror}") from None
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path} is no undo file: {error}") from None
    if not known:
        raise DataError(f"{path} is no undo file: it has other fields")
    return reversed(found)


def remove_copies(folder: Path) -> None:
    """Remove the copies that killed processes left below a folder."""
    for copy in folder.rglob(f"{COPY_PREFIX}*"):
        copy.unlink(missing_ok=True)


def compute_delta(old: np.ndarray, new: np.ndarray) -> bytes:
    """What makes `old` of `new`, both uint8 of any length; small where most of one lies in the other, shifted."""
    packed, parts = zlib.compressobj(), []
    for start in range(0, old.size, _BLOCK):
        block = old[start : start + _BLOCK]
        front, end = (block ^ _byte_window(new, start + shift, block.size) for shift in (0, new.size - old.size))
        from_end = np.count_nonzero(end) < np.count_nonzero(front)
        changed = end if from_end else front
        flags = bytes([from_end + 2 * bool(changed.any())])
        parts.append(packed.compress(flags + (changed.tobytes() if changed.any() else b"")))
    return b"".join([*parts, packed.flush()])


def apply_delta(delta: bytes, new: np.ndarray, size: int) -> np.ndarray:
    """The old bytes, uint8 of length `size`, from what `compute_delta` gave and the new ones."""
    stream, old = BytesIO(zlib.decompress(delta)), np.empty(size, np.uint8)
    for start in range(0, size, _BLOCK):
        n, flags = min(_BLOCK, size - start), stream.read(1)[0]
        old[start : start + n] = _byte_window(new, start + (new.size - size) * (flags & 1), n)
        if flags & 2:
            old[start : start + n] ^= np.frombuffer(stream.read(n), np.uint8)
    return old


def _byte_window(y: np.ndarray, start: int, n: int) -> np.ndarray:
    """Bytes start to start + n, zero where there are none."""
    out, first, last = np.zeros(n, np.uint8), max(start, 0), min(start + n, y.size)
    if first < last:
        out[first - start : last - start] = y[first:last]
    return out


def _read_bytes(path: Path) -> np.ndarray:
    # not mapped: a file that another program cuts short would end the process
    try:
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


def _fingerprint(y: np.ndarray) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(y.data).hexdigest(), "bytes": y.size}


def check_replaceable(path: Path) -> os.stat_result:
    """State of a file that may be replaced by another.

    Raises
    ------
    DataError
        If it is read-only, or has other names (hard links), or is not there.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be changed: {error.strerror}") from None
    if not state.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        raise DataError(f"{path} is read-only; make it writable if its tag may change")
    if state.st_nlink > 1:
        raise DataError(f"{path} has {state.st_nlink} names (hard links), of which one alone would change; not touched")
    return state


@contextmanager
def _temporary_copy(path: Path, before: os.stat_result) -> Iterator[Path]:
    """A copy of a file beside it, with its mode, owner and attributes; gone in the end. What fails is a sentence."""
    copy = path.with_name(COPY_PREFIX + hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16])
    try:
        shutil.copy2(path, copy)
        made = copy.stat()
        if (made.st_uid, made.st_gid) != (before.st_uid, before.st_gid):
            os.chown(copy, before.st_uid, before.st_gid)
        yield copy
    except OSError as error:
        raise DataError(f"{path} cannot be replaced by a changed copy: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # the folder lets nothing be made in it, nor removed
            copy.unlink(missing_ok=True)


def _check_unmodified(path: Path, before: os.stat_result) -> None:
    now = path.stat()
    if (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
        raise DataError(f"{path} was changed by another program meanwhile; it is left as that left it")


def _replace_file(copy: Path, path: Path, before: os.stat_result) -> None:
    """Put a copy in the file's place, once the disk has it."""
    _sync_to_disk(copy)
    _check_unmodified(path, before)
    copy.replace(path)
    _sync_to_disk(path.parent)


def _sync_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
