"""Offsets that an MP4 file gives from its start, for when media moves.

Only the tables that are known to hold such offsets are corrected; a file with any atom that may hold others is refused.
Sections are those of ISO/IEC 14496-12:2022.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from genre.errors import DataError
from genre.tags.mp4.atoms import VERSION, Atom, find_chains, format_kind, read_content, read_list
from genre.tags.splices import Splice

#: Outermost atoms that hold no offset from the start of the file, or whose offsets are corrected here.
_KNOWN = {
    *(b"ftyp", b"styp", b"pdin", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"mfra", b"sidx", b"ssix"),
    *(b"prft", b"emsg", b"uuid", b"meta"),
}

#: Paths of atoms whose offsets are not corrected: items of pictures, auxiliary data of encrypted samples, and a movie
#: header that is compressed.
_REFUSED = (
    (b"meta", b"iloc"),
    (b"moov", b"meta", b"iloc"),
    (b"moov", b"udta", b"meta", b"iloc"),
    (b"moov", b"trak", b"meta", b"iloc"),
    (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"saio"),
    (b"moof", b"traf", b"saio"),
    (b"moov", b"cmov"),
)


#: Flag of an entry of ``dref`` (8.7.2): the media lie in this file.
_SELF_CONTAINED = 1

#: Version and flags, and the number after it, of any table, bytes.
_MIN_TABLE = 8

#: Paths of the tables of offsets: of samples (8.7.5), of the media of a fragment (8.8.7), of fragments (8.8.10).
_TABLES = (
    (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stco"),
    (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"co64"),
    (b"moof", b"traf", b"tfhd"),
    (b"mfra", b"tfra"),
)


@dataclass(frozen=True)
class _Layout:
    """Layout of the offsets in a table: number, size of each, place of the first, distance between them, bytes."""

    count: int
    width: int
    start: int
    stride: int


def correct_offsets(file: BinaryIO, atoms: Sequence[Atom], boundary: int, growth: int) -> list[Splice]:
    """Plan the splices of all offsets that point to media behind a change.

    Parameters
    ----------
    file : file
        Open, binary.
    atoms : sequence of Atom
        The outermost atoms.
    boundary : int
        End of what changes; everything behind it moves.
    growth : int
        Number of bytes that it moves by.

    Raises
    ------
    DataError
        If an offset would not fit, a table is broken, or an atom is not known.
    """
    _check_known(file, atoms, boundary)
    tables = [chain[-1] for path in _TABLES for chain in find_chains(file, atoms, *path)]
    return [splice for table in tables for splice in _correct_table(file, table, boundary, growth)]


def _check_known(file: BinaryIO, atoms: Sequence[Atom], boundary: int) -> None:
    """Check that no atom has offsets that are not corrected."""
    unknown = set()
    if any(atom.start >= boundary for atom in atoms):
        unknown = {format_kind(atom.kind) for atom in atoms if atom.kind not in _KNOWN}
    unknown |= {format_kind(path[-1]) for path in _REFUSED if find_chains(file, atoms, *path)}
    if unknown:
        raise DataError(
            f"what lies behind its tags would move, and its atoms {', '.join(sorted(unknown))} may hold their offsets"
        )
    # An index (8.16.3) gives offsets from its own end, which is right as long as both move.
    if any(atom.kind == b"sidx" and atom.start < boundary for atom in atoms):
        raise DataError("its media would move, and its index sidx stands before the tags")
    for *_, table in find_chains(file, atoms, b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        flags = [int.from_bytes(read_content(file, entry)[:VERSION], "big") for entry in read_list(file, table)]
        if not all(flag & _SELF_CONTAINED for flag in flags):
            raise DataError("its media would move, and some of it lies in another file")


def _correct_table(file: BinaryIO, table: Atom, boundary: int, growth: int) -> list[Splice]:
    """Plan the splice of one table."""
    content = bytearray(read_content(file, table))
    if len(content) < _MIN_TABLE:
        raise DataError(f"its atom {format_kind(table.kind)} at byte {table.start} breaks off")
    layout = _LAYOUTS[table.kind](bytes(content))
    if layout.start + layout.count * layout.stride > len(content) + layout.stride - layout.width:
        raise DataError(f"its atom {format_kind(table.kind)} at byte {table.start} breaks off")
    offsets: np.ndarray = np.ndarray(layout.count, f">u{layout.width}", content, layout.start, (layout.stride,))
    moved = offsets >= boundary
    if not moved.any():
        return []
    if int(offsets.max()) + growth >= 1 << 8 * layout.width:
        raise DataError(f"its media would move beyond what its atom {format_kind(table.kind)} can say")
    offsets[moved] = offsets[moved].astype(np.int64) + growth
    return [Splice(table.content_start, table.end, bytes(content))]


def _lay_out_samples(content: bytes, width: int) -> _Layout:
    """Return the layout of ``stco`` and ``co64``: version, number, offsets."""
    return _Layout(int.from_bytes(content[4:8], "big"), width, 8, width)


def _lay_out_fragment(content: bytes) -> _Layout:
    """Return the layout of ``tfhd``: version and flags, track, and an offset if the flag of the lowest bit is set."""
    return _Layout(content[3] & 1, 8, 8, 8)


def _lay_out_fragments(content: bytes) -> _Layout:
    """Return the layout of ``tfra``: version, track, sizes, number, and for each the time, the offset and numbers."""
    width = 8 if content[0] == 1 else 4
    sizes = int.from_bytes(content[8:12], "big")
    stride = 2 * width + sum((sizes >> shift & 3) + 1 for shift in (0, 2, 4))
    return _Layout(int.from_bytes(content[12:16], "big"), width, 16 + width, stride)


_LAYOUTS: dict[bytes, Callable[[bytes], _Layout]] = {
    b"stco": lambda content: _lay_out_samples(content, 4),
    b"co64": lambda content: _lay_out_samples(content, 8),
    b"tfhd": _lay_out_fragment,
    b"tfra": _lay_out_fragments,
}
