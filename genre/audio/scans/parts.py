"""A file of another format that follows in the same file: found by its first bytes behind the end of the one before."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from genre.audio.scans.ac3 import is_chain
from genre.audio.scans.content import CHUNK, find_size, read_at
from genre.audio.scans.mpeg_frames import find_frames

#: Bytes of a beginning that are looked at: two of the longest frames of AC-3, and the header of a third.
_HEAD = 1 << 13

#: Frames of AC-3 one after another that are no chance.
_CHAIN = 3

#: Bytes more than those read at a time, in which the first frames of MPEG audio may lie.
_OVERLAP = 1 << 14


class Beginning(NamedTuple):
    """Bytes that the files of a format have near their beginning, where, and what tells that it is no chance."""

    word: bytes
    offset: int
    confirm: Callable[[bytes], bool]


def _is_riff(head: bytes) -> bool:
    return head[:4] in (b"RIFF", b"RF64")


def _is_aiff(head: bytes) -> bool:
    return head[:4] == b"FORM"


def _is_box(head: bytes) -> bool:
    return 16 <= int.from_bytes(head[:4], "big") < 512 and head[8:12] not in (b"heic", b"heix", b"avif", b"mif1")


def _is_ebml(head: bytes) -> bool:
    return b"\x42\x82" in head[:64]  # the kind of document, RFC 8794 section 11.2.6


def _is_au(head: bytes) -> bool:
    return 24 <= int.from_bytes(head[4:8], "big") < CHUNK and int.from_bytes(head[12:16], "big") < 32


def _is_wavpack(head: bytes) -> bool:
    return head[9:10] == b"\x04" and head[16:20] == bytes(4)  # version 4, and the first sample of a recording


def _is_ac3(head: bytes) -> bool:
    return is_chain(head, _CHAIN)


def _is_any(_: bytes) -> bool:
    return True


_BEGINNINGS = (
    Beginning(b"fLaC\x00\x00\x00\x22", 0, _is_any),
    Beginning(b"fLaC\x80\x00\x00\x22", 0, _is_any),
    Beginning(b"OggS\x00\x02", 0, _is_any),
    Beginning(b"WAVEfmt ", 8, _is_riff),
    Beginning(b"WAVEds64", 8, _is_riff),
    Beginning(b"WAVEJUNK", 8, _is_riff),
    Beginning(b"WAVEbext", 8, _is_riff),
    Beginning(b"WAVELIST", 8, _is_riff),
    Beginning(b"AIFFCOMM", 8, _is_aiff),
    Beginning(b"AIFCFVER", 8, _is_aiff),
    Beginning(b"ftyp", 4, _is_box),
    Beginning(b"\x1aE\xdf\xa3", 0, _is_ebml),
    Beginning(b".snd\x00\x00", 0, _is_au),
    Beginning(b"wvpk", 0, _is_wavpack),
    Beginning(b"TTA1\x01\x00", 0, _is_any),
    Beginning(b"caff\x00\x01", 0, _is_any),
    Beginning(b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb", 0, _is_any),
    Beginning(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 0, _is_any),
)

_AC3 = Beginning(b"\x0b\x77", 0, _is_ac3)


def find_parts(
    file: BinaryIO, start: int, end: int, *, with_frames: bool = True, with_ac3: bool = True
) -> tuple[tuple[int, int], ...]:
    """Return the spans of a file and of the rest behind it, where that begins another; none where it does not.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.
    start, end : int
        First byte of the first file, and the position from which another is looked for.
    with_frames, with_ac3 : bool
        Whether bare frames of MPEG audio or AAC, and of AC-3, are looked for too.
    """
    size = find_size(file)
    for at in range(end, size, CHUNK):
        data = read_at(file, at, CHUNK + _OVERLAP)
        starts = _find_beginnings(data, with_ac3)
        if with_frames and (frames := find_frames(data)):
            starts.append(frames[0])
        if starts and start < at + min(starts):
            return (start, at + min(starts)), (at + min(starts), size)
    return ()


def _find_beginnings(data: bytes, with_ac3: bool) -> list[int]:
    """Return where files begin by their first bytes: the first place of each kind."""
    found = []
    for word, offset, confirm in (*_BEGINNINGS, *([_AC3] if with_ac3 else [])):
        at = data.find(word)
        while at >= 0 and not (at >= offset and confirm(data[at - offset : at - offset + _HEAD])):
            at = data.find(word, at + 1)
        if at >= 0:
            found.append(at - offset)
    return found
