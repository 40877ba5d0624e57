"""Files that are replaced by a changed copy, so that they are old or new if the process is killed, never half."""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from genre.errors import DataError, GenreError, is_system_error

#: Prefix of the name of a copy: hidden, and short, since a hash is added instead of the file's own, maybe long name.
COPY_PREFIX = ".genre-tagging-"


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
def temporary_copy(path: Path) -> Iterator[Path]:
    """Name a new file beside another for its copy, and remove it at the end.

    Raises
    ------
    DataError
        If the copy cannot be made, changed or put in the file's place.
    GenreError
        If that is no fault of the file: the disk is full or away, for example.
    """
    copy = path.with_name(COPY_PREFIX + hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16])
    try:
        copy.unlink(missing_ok=True)  # left by a process that was killed
        yield copy
    except OSError as error:
        reason = f"cannot replace {path} by a changed copy: {error.strerror or error}"
        if is_system_error(error):
            raise GenreError(f"{reason}; the file is as it was; see to the disk, then run again") from error
        raise DataError(reason) from error
    finally:
        with suppress(OSError):  # in a folder without write permission nothing can be removed either
            copy.unlink(missing_ok=True)


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


def sync_to_disk(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_copies(folder: Path) -> None:
    """Remove the copies below a folder that killed processes left behind."""
    for copy in folder.rglob(f"{COPY_PREFIX}*"):
        copy.unlink(missing_ok=True)
