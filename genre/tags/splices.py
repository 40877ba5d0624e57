"""Edits of a file as stretches that are replaced, so that every other byte stays as it is."""

from collections.abc import Iterable, Iterator, Sequence
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
    """Count the bytes by which splices make a file longer; negative if they make it shorter."""
    return sum(len(splice.content) - (splice.end - splice.start) for splice in splices)


def iter_spliced(source: BinaryIO, splices: Iterable[Splice]) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over a file piece by piece, as it is and as it becomes.

    Parameters
    ----------
    source : file
        The original, open, binary, able to seek; may be read elsewhere while the pieces are used.
    splices : iterable of Splice
        In order; they must not overlap.

    Yields
    ------
    (bytes, bytes)
        What is in the file, and what takes its place; the same object where nothing changes.
    """
    position = 0
    for splice in splices:
        assert position <= splice.start <= splice.end
        yield from _copied_pieces(source, position, splice.start)
        source.seek(splice.start)
        yield source.read(splice.end - splice.start), splice.content
        position = splice.end
    yield from _copied_pieces(source, position, source.seek(0, 2))


def _copied_pieces(source: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over a stretch of a file that does not change."""
    for position in range(start, end, _BLOCK):
        source.seek(position)
        piece = source.read(min(_BLOCK, end - position))
        yield piece, piece


def shift_splices(splices: Sequence[Splice], offset: int) -> list[Splice]:
    """Return splices of a part of a file as splices of the file, in which the part begins at `offset`."""
    return [Splice(splice.start + offset, splice.end + offset, splice.content) for splice in splices]
