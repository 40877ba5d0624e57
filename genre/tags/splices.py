"""Edits of a file as stretches that are replaced, so that every other byte stays as it is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

#: Bytes copied at once.
_BLOCK = 1 << 20


@dataclass(frozen=True, order=True)
class Splice:
    """Replacement of a stretch of a file by other bytes.

    Attributes
    ----------
    start, end : int
        Stretch of the original file that is replaced, bytes; empty to insert.
    content : bytes
        Bytes that take its place; empty to remove.
    """

    start: int
    end: int
    content: bytes


def count_growth(splices: Iterable[Splice]) -> int:
    """Return by how many bytes some splices make a file longer."""
    return sum(len(splice.content) - (splice.end - splice.start) for splice in splices)


def write_spliced(source: BinaryIO, target: BinaryIO, splices: Sequence[Splice]) -> None:
    """Copy a file with some stretches replaced.

    Parameters
    ----------
    source : file
        The original, open, binary, able to seek.
    target : file
        Where the result is written, from its present position on.
    splices : sequence of Splice
        In any order; they must not overlap.
    """
    position = 0
    for splice in sorted(splices):
        assert position <= splice.start <= splice.end
        _copy_bytes(source, target, position, splice.start)
        target.write(splice.content)
        position = splice.end
    _copy_bytes(source, target, position, source.seek(0, 2))


def _copy_bytes(source: BinaryIO, target: BinaryIO, start: int, end: int) -> None:
    """Copy a stretch of one file to another."""
    source.seek(start)
    while start < end and (block := source.read(min(_BLOCK, end - start))):
        target.write(block)
        start += len(block)


def shift_splices(splices: Sequence[Splice], offset: int) -> list[Splice]:
    """Return splices of a part of a file as splices of the file, in which the part begins at `offset`."""
    return [Splice(splice.start + offset, splice.end + offset, splice.content) for splice in splices]


def growth_of(splices: Sequence[Splice]) -> int:
    """Return how many bytes a file grows by some splices; negative if it shrinks."""
    return sum(len(splice.content) - (splice.end - splice.start) for splice in splices)
