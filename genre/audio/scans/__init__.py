"""Length and unity of a file by its packets, found in a fraction of the time of decoding."""

from __future__ import annotations

from typing import BinaryIO

from genre.audio.scans.chunks import scan_chunks
from genre.audio.scans.content import Content, read_at
from genre.audio.scans.flac import scan_flac
from genre.audio.scans.joined import scan_au, scan_matroska, scan_mp4
from genre.audio.scans.memory import Memory
from genre.audio.scans.mpeg import scan_mpeg
from genre.audio.scans.ogg import scan_ogg

#: Scans by the first bytes of a file.
_SCANS = {
    b"fLaC": scan_flac,
    b"OggS": scan_ogg,
    b"RIFF": scan_chunks,
    b"FORM": scan_chunks,
    b"\x1aE\xdf\xa3": scan_matroska,
    b".snd": scan_au,
}

#: First bytes of files that are none of these, and no bare stream of MPEG audio or AAC either.
_OTHERS = (b"\x30\x26\xb2\x75", b"RF64", b"riff", b"caff", b"wvpk", b"MAC ", b"TTA1", b"FLV\1")

_memory = Memory[Content]()


def scan_content(file: BinaryIO) -> Content:
    """Find the length and unity of a file by its packets, without decoding it.

    A file on disk is scanned once by a process, as long as it does not change, so that all its windows are read alike.

    Parameters
    ----------
    file : file
        Open, binary, able to seek. Its position is moved.

    Returns
    -------
    Content
        Nothing is known of containers that are not scanned: ASF and others.

    Raises
    ------
    AudioError
        ``undecodable``, where the header is known not to count all of the sound, and no decoder reads on.
    """
    return _memory.recall(file, lambda: _scan(file))


def _scan(file: BinaryIO) -> Content:
    start = _skip_id3(file)
    magic = read_at(file, start, 12)
    if scan := _SCANS.get(magic[:4]):
        return scan(file, start)
    if magic[4:8] == b"ftyp":
        return scan_mp4(file, start)
    return Content() if magic[:4] in _OTHERS else scan_mpeg(file, start)


def _skip_id3(file: BinaryIO) -> int:
    """Return the position behind the ID3v2 tags at the beginning."""
    at = 0
    while (header := read_at(file, at, 10))[:3] == b"ID3" and len(header) == 10:
        has_footer = header[5] >> 4 & 1
        size = sum((byte & 0x7F) << shift for byte, shift in zip(header[6:], (21, 14, 7, 0), strict=True))
        at += 10 + size + 10 * has_footer
    return at
