"""Containers of which only the end is looked for, to see whether another file follows."""

from __future__ import annotations

from typing import BinaryIO

from genre.audio.scans.content import Content, find_size, read_at
from genre.audio.scans.parts import find_parts

#: Samples in a frame of TTA, as a share of the sampling rate.
_TTA_FRAME = 256 / 245


def scan_end(file: BinaryIO, start: int) -> Content:
    """Look for a file of another format behind the end of a container.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.
    start : int
        Position of the magic.
    """
    end = _ENDS[read_at(file, start, 4)](file, start)
    if end <= start or end >= find_size(file):
        return Content()
    return Content(spans=find_parts(file, start, end))


def _end_of_asf(file: BinaryIO, start: int) -> int:
    """Return where the objects end: an identifier of 16 bytes, and a length of 8."""
    size = find_size(file)
    at = start
    while len(header := read_at(file, at, 24)) == 24:
        length = int.from_bytes(header[16:], "little")
        is_next = at > start and header[:4] in _ENDS
        if is_next or length < 24 or at + length > size:
            break
        at += length
    return at


def _end_of_caf(file: BinaryIO, start: int) -> int:
    """Return where the chunks end: a name of four bytes, and a length of 8, -1 where it was never filled in."""
    size = find_size(file)
    at = start + 8
    while len(header := read_at(file, at, 12)) == 12 and header[:4].isascii():
        length = int.from_bytes(header[4:], "big", signed=True)
        if length < 0 or at + 12 + length > size:
            return size if header[:4] == b"data" else at
        at += 12 + length
    return at


def _end_of_rf64(file: BinaryIO, start: int) -> int:
    """Return where a WAV with lengths of 64 bits ends, EBU Tech 3306."""
    length = int.from_bytes(read_at(file, start + 20, 8), "little")
    return start + 8 + length + length % 2 if length else find_size(file)


def _end_of_w64(file: BinaryIO, start: int) -> int:
    """Return where a Wave64 ends: its length follows the identifier of 16 bytes, and is rounded up to eight."""
    return start + (int.from_bytes(read_at(file, start + 16, 8), "little") + 7) // 8 * 8


def _end_of_tta(file: BinaryIO, start: int) -> int:
    """Return where the frames end, by the table of their lengths."""
    head = read_at(file, start, 22)
    frame = int(int.from_bytes(head[10:14], "little") * _TTA_FRAME)
    n = -(-int.from_bytes(head[14:18], "little") // frame) if frame else 0
    table = read_at(file, start + 22, min(4 * n, find_size(file)))
    lengths = (int.from_bytes(table[at : at + 4], "little") for at in range(0, len(table), 4))
    return start + 22 + 4 * n + 4 + sum(lengths)


def _end_of_wavpack(file: BinaryIO, start: int) -> int:
    """Return where the blocks end: a name of four bytes, and the length of what follows it and these four."""
    at = start
    while (header := read_at(file, at, 8))[:4] == b"wvpk" and len(header) == 8:
        at += 8 + int.from_bytes(header[4:], "little")
    return at


_ENDS = {
    b"\x30\x26\xb2\x75": _end_of_asf,
    b"RF64": _end_of_rf64,
    b"riff": _end_of_w64,
    b"caff": _end_of_caf,
    b"wvpk": _end_of_wavpack,
    b"TTA1": _end_of_tta,
}
