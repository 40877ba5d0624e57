"""Changes to files that can be undone to the byte, and that lose nothing when the process is killed at any moment.

A changed copy is written beside the file, and the record that undoes the change to an undo file; once the record is on
the disk, the copy replaces the file. An undo file has one JSON object per line: path, old and new state (SHA-256,
bytes), and the changes, packed (see `genre.library.deltas`).
"""

import base64
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from genre.errors import DataError, GenreError
from genre.files import sync_to_disk
from genre.library.deltas import Changes, unpack_changes, unpack_whole_file
from genre.library.replacing import (
    check_replaceable,
    check_unmodified,
    copy_attributes,
    replace_file,
    state_stamp,
    temporary_copy,
)
from genre.tags.splices import Splice, iter_spliced

#: Keys of every record; it also has ``changes`` or, from earlier versions, ``delta``.
_RECORD_KEYS = {"path", "old", "new", "mtime_ns"}


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
            with self.path.open("a+b") as file:
                _remove_cut_record(file)
                file.write(json.dumps(record).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            if not self.n_records:
                sync_to_disk(self.path.parent)
        except OSError as error:
            raise GenreError(
                f"cannot write the undo file {self.path} ({error.strerror}); no further file is changed"
            ) from None
        self.n_records += 1


def change_file(
    path: Path, plan: Callable[[], Sequence[Splice]], check: Callable[[Path], object], undo: UndoFile, stamp: str = ""
) -> str:
    """Change a file so that it can be restored, and is either old or new if the process is killed.

    Mode, owner and extended attributes are kept; the modification time is now. If no byte changes, nothing happens.

    Parameters
    ----------
    path : Path
        The file, not a link.
    plan : callable
        Returns the splices that change it; called once it is known that the file may be replaced.
    check : callable
        Receives the path of the changed copy, and raises DataError if it must not replace the file.
    undo : UndoFile
        Receives the record that undoes the change, before `path` is touched.
    stamp : str
        Stamp that the file must have, from `genre.library.replacing.state_stamp`; by default any.

    Returns
    -------
    str
        Stamp of the changed file; empty if no byte changes.

    Raises
    ------
    DataError
        If the file is read-only, has several hard links or another stamp, belongs to another user, cannot be copied, is
        being changed by another run, or is modified by another program in the meantime.
    GenreError
        If the undo file cannot be written.
    """
    before = check_replaceable(path, stamp)
    splices = sorted(plan())
    with temporary_copy(path) as copy, ThreadPoolExecutor(1) as thread:
        changes = Changes()
        old, new = _write_changed(path, copy, splices, changes)
        if old == new:
            return ""
        copy_attributes(path, before, copy)
        os.utime(copy)
        on_disk = thread.submit(sync_to_disk, copy)  # while it is checked
        check(copy)
        check_unmodified(path, before)
        packed = base64.b64encode(changes.pack()).decode()
        undo.append({"path": str(path), "old": old, "new": new, "mtime_ns": before.st_mtime_ns, "changes": packed})
        on_disk.result()
        changed = state_stamp(copy.stat())
        replace_file(copy, path, before)
        return changed


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
    fingerprint = _read_fingerprint(path)
    if fingerprint == record["old"]:
        return False
    if fingerprint != record["new"]:
        raise DataError(f"{path} was modified after it was tagged; left unchanged")
    with temporary_copy(path) as copy:
        if _write_restored(path, copy, record) != record["old"]:
            raise DataError(f"cannot restore {path}: the undo file is damaged; left unchanged")
        copy_attributes(path, before, copy)
        os.utime(copy, ns=(before.st_atime_ns, record["mtime_ns"]))
        sync_to_disk(copy)
        replace_file(copy, path, before)
    return True


def check_undo_file(path: Path) -> None:
    """Check that a file can be read and begins as an undo file does.

    Raises
    ------
    DataError
        If it cannot be read, or is not an undo file.
    """
    with _refuse_other_files(path), path.open("rb") as file:
        line = file.readline()
        if line.endswith(b"\n"):
            _check_record(json.loads(line), path)


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Iterate over the records of an undo file, the last change first; one is in memory at a time.

    A last line that a kill cut short is left out: its file was not changed yet.

    Raises
    ------
    DataError
        If the file cannot be read, or is not an undo file.
    """
    starts = []
    position = 0
    with _refuse_other_files(path), path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                _check_record(json.loads(line), path)
                starts.append(position)
                position += len(line)
    return _iter_records(path, starts[::-1])


@contextmanager
def _refuse_other_files(path: Path) -> Iterator[None]:
    """Turn the errors of reading a file that is no undo file, or none at all, into a `DataError`."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot read the undo file {path}: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path} is not an undo file: {error}") from None


def _check_record(record: Any, path: Path) -> None:
    """Refuse a file with a line that is no record."""
    if not isinstance(record, dict) or not (record.keys() >= _RECORD_KEYS and {"changes", "delta"} & record.keys()):
        raise DataError(f"{path} is not an undo file: a record lacks one of path, old, new, mtime_ns, changes")


def _iter_records(path: Path, starts: Iterable[int]) -> Iterator[dict[str, Any]]:
    """Iterate over the records that begin at some positions of an undo file."""
    with path.open("rb") as file:
        for start in starts:
            file.seek(start)
            yield json.loads(file.readline())


def _remove_cut_record(file: BinaryIO) -> None:
    """Remove a last line that a kill cut short from an undo file, lest the next record be glued to it."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 1))
    if file.read(1) not in (b"", b"\n"):
        file.seek(0)
        file.truncate(sum(len(line) for line in file if line.endswith(b"\n")))


def _write_changed(
    path: Path, copy: Path, splices: Iterable[Splice], changes: Changes
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write a changed copy, note the changes, and return the fingerprints of file and copy."""
    old = new = hashlib.sha256()
    with path.open("rb") as source, copy.open("wb") as target:
        for before, after in iter_spliced(source, splices):
            if before is not after and old is new:
                old = new.copy()  # up to here both are the same
            if old is not new:
                old.update(before)
            new.update(after)
            changes.add(before, after)
            target.write(after)
        return _fingerprint(old, source.tell()), _fingerprint(new, target.tell())


def _write_restored(path: Path, copy: Path, record: dict[str, Any]) -> dict[str, Any] | None:
    """Write the old state of a file, and return its fingerprint; None if the record is damaged."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as source, path.open("rb") as changed, copy.open("wb") as target:
            for _, old in iter_spliced(source, _reverse_splices(record, changed)):
                digest.update(old)
                target.write(old)
            return _fingerprint(digest, target.tell())
    except (ValueError, IndexError, AssertionError, struct.error, zlib.error):
        return None


def _reverse_splices(record: dict[str, Any], changed: BinaryIO) -> Iterator[Splice]:
    """Return the splices that undo the change of a record."""
    if "changes" in record:
        return unpack_changes(base64.b64decode(record["changes"]), changed)
    return unpack_whole_file(base64.b64decode(record["delta"]), changed, record["old"]["bytes"])


def _read_fingerprint(path: Path) -> dict[str, Any]:
    """Return hash and length of a file's bytes."""
    try:
        with path.open("rb") as file:
            return _fingerprint(hashlib.file_digest(file, "sha256"), file.tell())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None


def _fingerprint(digest: Any, n_bytes: int) -> dict[str, Any]:
    """Return a file's state as records have it."""
    return {"sha256": digest.hexdigest(), "bytes": n_bytes}
