"""Findings of a scan, and reading at positions."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO

#: Bytes read at a time where a file is gone through.
CHUNK = 1 << 20


@dataclass(frozen=True)
class Content:
    """Length and unity of a file by its packets, whatever its header claims.

    Attributes
    ----------
    seconds : float or None
        Length of the sound by its packets; None where the scan does not count them.
    spans : tuple of (int, int)
        First byte and end of each of several files that were written one after another; empty for a single one.
    is_changing : bool
        Whether what the first packets promise does not hold for all: they are interrupted, or change rate or channels.
    is_indexed : bool
        Whether the container is one whose index gives each packet its time.
    """

    seconds: float | None = None
    spans: tuple[tuple[int, int], ...] = ()
    is_changing: bool = False
    is_indexed: bool = False

    @property
    def is_irregular(self) -> bool:
        """True if only a reader that decodes all packets in their order gets all of the sound, at its time."""
        return self.is_changing or bool(self.spans)


def read_at(file: BinaryIO, start: int, n: int) -> bytes:
    """Read bytes at a position; fewer where the file ends.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.
    start : int
        Position of the first byte.
    n : int
        Number of bytes.
    """
    file.seek(start)
    data = file.read(n)
    while len(data) < n and (more := file.read(n - len(data))):  # an unbuffered file may return less than is there
        data += more
    return data


def find_size(file: BinaryIO) -> int:
    """Return the number of bytes of an open file."""
    return file.seek(0, io.SEEK_END)


def find_all(file: BinaryIO, pattern: bytes) -> list[int]:
    """Return the positions of a byte pattern in a file, ascending.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.
    pattern : bytes
        What to look for.
    """
    found = []
    start = 0
    overlap = len(pattern) - 1
    while len(data := read_at(file, start, CHUNK + overlap)) > overlap:
        at = data.find(pattern)
        while at >= 0:
            found.append(start + at)
            at = data.find(pattern, at + 1)
        start += CHUNK
    return found


def join_spans(file: BinaryIO, starts: list[int]) -> tuple[tuple[int, int], ...]:
    """Return the spans of several files in one; none of a single one.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.
    starts : list of int
        Where each begins, ascending.
    """
    return tuple(zip(starts, [*starts[1:], find_size(file)], strict=True)) if len(starts) > 1 else ()


class Span(io.RawIOBase):
    """A stretch of an open file, read as a file of its own.

    Parameters
    ----------
    file : file
        Open, binary, able to seek; read at the position of the stretch, whatever its own.
    start, end : int
        First byte, and the byte after the last.
    """

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        super().__init__()
        self._file = file
        self._start = start
        self._size = end - start
        self._at = 0

    @property
    def raw(self) -> object:
        """The file on disk or in memory."""
        return getattr(self._file, "raw", self._file)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move within the stretch; return the new position."""
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        """Return the position within the stretch."""
        return self._at

    def readinto(self, buffer: object) -> int:
        """Read into a buffer; return the number of bytes."""
        view = memoryview(buffer)  # type: ignore[arg-type]  # any writable buffer
        data = read_at(self._file, self._start + self._at, max(0, min(len(view), self._size - self._at)))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
