"""Findings on files on disk, remembered by a process as long as the files do not change."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import BinaryIO, Generic, TypeVar

T = TypeVar("T")

#: Largest number of files of which something is remembered; all clips of a file are decoded one after another.
_MAX_FILES = 256


class Memory(Generic[T]):
    """One finding per file on disk, so that all its windows are read alike and the file is examined once."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, ...], T] = {}

    def recall(self, file: BinaryIO, find: Callable[[], T]) -> T:
        """Return what was found of a file before or, of one that is new, has changed or lies in memory, find it.

        Parameters
        ----------
        file : file
            Open.
        find : callable
            Returns the finding.
        """
        if not isinstance(file, io.FileIO):
            return find()
        stat = os.fstat(file.fileno())
        key = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        if key in (found := self._found):
            return found[key]
        if len(found) >= _MAX_FILES:
            self._found = {}  # a new one, because other threads may be reading the old one
        finding = self._found[key] = find()
        return finding
