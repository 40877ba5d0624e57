"""Files that are replaced by a changed copy, so that they are old or new if the process is killed, never half.

Runs of several workspaces may meet in one folder: a file is locked while it is changed, and so is its copy, whose name
is its own. The locks are the system's and end with the process; where a file system has none, a file that another run
has replaced is left alone all the same.
"""

import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from genre.errors import DataError, GenreError, is_outage
from genre.files import sync_to_disk

#: Prefix of the name of a copy: hidden, and short, since a hash is added instead of the file's own, maybe long name.
COPY_PREFIX = ".genre-tagging-"

#: Copies that this process has open.
_open_copies: set[Path] = set()


def state_stamp(state: os.stat_result) -> str:
    """Return size and modification time of a file, by which its predictions are kept."""
    return f"{state.st_size}-{state.st_mtime_ns}"


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Let no other run write tags in a folder meanwhile, whatever its workspace.

    Raises
    ------
    GenreError
        If another run does.
    """
    with _lock(folder, GenreError(f"another run is writing tags in {folder}; wait for it, then run again")):
        yield


def check_replaceable(path: Path, stamp: str = "") -> os.stat_result:
    """Check that a file may be replaced by a changed copy, and return its state.

    Parameters
    ----------
    path : Path
        The file.
    stamp : str
        Stamp that it must have, from `state_stamp`; by default any.

    Raises
    ------
    DataError
        If it is missing, is read-only, has several hard links, or has another stamp.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"cannot change {path}: {error.strerror}") from None
    if not state.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        raise DataError(f"{path} is read-only; make it writable to have its tags changed")
    if state.st_nlink > 1:
        raise DataError(f"{path} has {state.st_nlink} hard links; skipped, because rewriting it would break them")
    if stamp and state_stamp(state) != stamp:
        raise DataError(f"{path} has changed since its genre was predicted; run again to have it predicted anew")
    return state


def remove_own_copies() -> None:
    """Remove the copies that this process has open, before it exits without leaving `temporary_copy`."""
    for copy in list(_open_copies):
        with suppress(OSError):
            copy.unlink(missing_ok=True)


@contextmanager
def temporary_copy(path: Path) -> Iterator[Path]:
    """Lock a file, make an empty one beside it for its copy, and remove that at the end.

    Raises
    ------
    DataError
        If the copy cannot be made, changed or put in the file's place, or another run is changing the file.
    GenreError
        If that is no fault of the file: the disk is full or away, for example.
    """
    prefix = f"{COPY_PREFIX}{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}"
    copy = path.with_name(f"{prefix}-{uuid4().hex[:8]}")
    try:
        with _lock(path, DataError(f"another run is changing {path}; left unchanged")):
            for leftover in path.parent.glob(f"{prefix}*"):  # of a process that was killed, since the file is locked
                leftover.unlink(missing_ok=True)
            _open_copies.add(copy)
            with copy.open("xb") as file:
                _take_lock(file.fileno())  # which keeps `remove_copies` off
                yield copy
    except OSError as error:
        reason = f"cannot replace {path} by a changed copy: {error.strerror or error}"
        if is_outage(error):
            raise GenreError(f"{reason}; the file is as it was; see to the disk, then run again") from error
        raise DataError(reason) from error
    finally:
        with suppress(OSError):  # in a folder without write permission nothing can be removed either
            copy.unlink(missing_ok=True)
        _open_copies.discard(copy)


def check_unmodified(path: Path, before: os.stat_result) -> None:
    """Check that no other program has modified a file since its state `before`.

    Raises
    ------
    DataError
        If one has.
    """
    now = path.stat()
    if (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
        raise DataError(f"{path} was modified by another program during tagging; left unchanged")


def copy_attributes(path: Path, before: os.stat_result, copy: Path) -> None:
    """Give a copy the times, mode, owner and extended attributes of the file.

    Parameters
    ----------
    path : Path
        The file.
    before : os.stat_result
        State of the file from `check_replaceable`.
    copy : Path
        The copy.
    """
    shutil.copystat(path, copy)
    state = copy.stat()
    if (state.st_uid, state.st_gid) != (before.st_uid, before.st_gid):
        os.chown(copy, before.st_uid, before.st_gid)


def replace_file(copy: Path, path: Path, before: os.stat_result) -> None:
    """Replace a file by its copy, which is on the disk, and wait until that is on the disk too.

    Parameters
    ----------
    copy, path : Path
        The copy and the file, in one folder.
    before : os.stat_result
        State of the file from `check_replaceable`.

    Raises
    ------
    DataError
        If another program has modified the file in the meantime.
    """
    check_unmodified(path, before)
    copy.replace(path)
    sync_to_disk(path.parent)


def remove_copies(folder: Path) -> None:
    """Remove the copies below a folder that killed processes left behind, and no other process is writing."""
    for copy in folder.rglob(f"{COPY_PREFIX}*"):
        with suppress(_InUseError, OSError), _lock(copy, _InUseError()):
            copy.unlink(missing_ok=True)


class _InUseError(Exception):
    """A copy is being written by another process."""


@contextmanager
def _lock(path: Path, refusal: Exception) -> Iterator[None]:
    """Lock a file or a folder, or raise `refusal` if another process has it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if not _take_lock(descriptor):
            raise refusal
        yield
    finally:
        os.close(descriptor)


def _take_lock(descriptor: int) -> bool:
    """Lock what is open until it is closed; return False if another process has locked it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # of a file system without locks
        return True
    return True
