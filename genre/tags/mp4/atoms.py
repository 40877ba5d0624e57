"""Atoms of an MP4, M4A, 3GP or QuickTime file: where they lie, and their sizes.

Layout: ISO/IEC 14496-12, section 4.2 (there called boxes). Numbers are big-endian.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from genre.errors import DataError
from genre.tags.reading import file_size, read_exactly
from genre.tags.splices import Splice

#: Smallest atom: its size and its kind, bytes.
HEADER = 8

#: Version and flags of a "full" atom, bytes.
VERSION = 4


@dataclass(frozen=True)
class Atom:
    """One atom.

    Attributes
    ----------
    kind : bytes
        Its name, four bytes.
    start, content_start, end : int
        Where its header, what follows the header, and the next atom begin, bytes of the file.
    is_open : bool
        Whether the size is given as "to the end of the file".
    """

    kind: bytes
    start: int
    content_start: int
    end: int
    is_open: bool = False

    @property
    def size(self) -> int:
        """Return its size with the header, bytes."""
        return self.end - self.start

    def resize(self, growth: int) -> list[Splice]:
        """Plan the splice of the size field for an atom that grows.

        Raises
        ------
        DataError
            If 32 bits do not hold the size.
        """
        if not growth or self.is_open:
            return []
        width, start = (4, self.start) if self.content_start == self.start + HEADER else (8, self.start + HEADER)
        size = self.size + growth
        if size >= 1 << 8 * width:
            raise DataError(f"its atom {format_kind(self.kind)} would be larger than its size field can say")
        return [Splice(start, start + width, size.to_bytes(width, "big"))]


def format_kind(kind: bytes) -> str:
    """Return the name of an atom for a message; its digits if it is no text."""
    text = kind.decode("latin-1")
    return text if text.isprintable() else kind.hex()


def make_atom(kind: bytes, content: bytes) -> bytes:
    """Return the bytes of an atom."""
    return (HEADER + len(content)).to_bytes(4, "big") + kind + content


def read_file_atoms(file: BinaryIO, *, complete: bool) -> list[Atom]:
    """Read the outermost atoms.

    Parameters
    ----------
    file : file
        Open, binary.
    complete : bool
        Whether every atom has to end where the file does or before. Otherwise the last one may be cut short.

    Raises
    ------
    DataError
        If they are broken.
    """
    size = file_size(file)
    atoms: list[Atom] = []
    while (position := atoms[-1].end if atoms else 0) < size:
        try:
            atoms.append(_read_atom(file, position, size, is_outermost=True))
        except DataError:
            if complete or not atoms:
                raise
            break
    return atoms


def read_children(file: BinaryIO, parent: Atom) -> list[Atom]:
    """Read the atoms within an atom.

    Zeros may follow the last one, as in the user data of QuickTime.

    Raises
    ------
    DataError
        If they are broken.
    """
    return list(_iterate_atoms(file, children_start(file, parent), parent.end))


def read_list(file: BinaryIO, parent: Atom) -> list[Atom]:
    """Read the atoms within an atom that has a version, and their number, before them.

    Raises
    ------
    DataError
        If they are broken.
    """
    return list(_iterate_atoms(file, parent.content_start + VERSION + 4, parent.end))


def read_content(file: BinaryIO, atom: Atom) -> bytes:
    """Read what follows the header of an atom."""
    return read_exactly(file, atom.content_start, atom.end - atom.content_start)


def children_start(file: BinaryIO, parent: Atom) -> int:
    """Return where the first child of an atom begins.

    ``meta`` has a version before it in MP4, and none in QuickTime.

    Raises
    ------
    DataError
        If the file ends before.
    """
    begin = read_exactly(file, parent.content_start, min(HEADER, parent.end - parent.content_start))
    is_full = parent.kind == b"meta" and len(begin) >= VERSION and begin[4:] != b"hdlr"
    return parent.content_start + (VERSION if is_full else 0)


def find_chains(file: BinaryIO, atoms: Sequence[Atom], *kinds: bytes) -> list[tuple[Atom, ...]]:
    """Find the atoms on a path, each with the atoms it lies in, the outermost first.

    Raises
    ------
    DataError
        If an atom on the way is broken.
    """
    chains: list[tuple[Atom, ...]] = [(atom,) for atom in atoms if atom.kind == kinds[0]]
    for kind in kinds[1:]:
        chains = [(*chain, child) for chain in chains for child in read_children(file, chain[-1]) if child.kind == kind]
    return chains


def _iterate_atoms(file: BinaryIO, start: int, end: int) -> Iterator[Atom]:
    """Iterate over the atoms of a stretch."""
    while start < end:
        if end - start < HEADER or read_exactly(file, start, 4) == bytes(4):
            if any(read_exactly(file, start, end - start)):
                raise DataError(f"there is no atom at byte {start}, where one has to begin")
            return
        atom = _read_atom(file, start, end)
        yield atom
        start = atom.end


def _read_atom(file: BinaryIO, start: int, end: int, *, is_outermost: bool = False) -> Atom:
    """Read the header of an atom that has to end at `end` or before."""
    header = read_exactly(file, start, HEADER)
    size, kind = int.from_bytes(header[:4], "big"), header[4:]
    content_start = start + HEADER
    is_open = size == 0 and is_outermost
    if size == 1:
        size, content_start = int.from_bytes(read_exactly(file, start + HEADER, 8), "big"), start + 2 * HEADER
    elif is_open:
        size = end - start
    if not content_start <= start + size <= end:
        raise DataError(f"the atom {format_kind(kind)} at byte {start} has {size} bytes, and {end - start} are left")
    return Atom(kind, start, content_start, start + size, is_open)
