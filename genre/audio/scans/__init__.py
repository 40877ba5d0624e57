"""Length and unity of a file by its packets, found in a fraction of the time of decoding."""

from __future__ import annotations

from dataclasses import replace
from typing import BinaryIO

from genre.audio.scans.chunks import scan_chunks
from genre.audio.scans.content import Content, Span, find_size, read_at
from genre.audio.scans.ends import scan_end
from genre.audio.scans.flac import scan_flac
from genre.audio.scans.joined import scan_au, scan_matroska, scan_mp4
from genre.audio.scans.memory import Memory
from genre.audio.scans.mpeg import scan_mpeg
from genre.audio.scans.ogg import scan_ogg
from genre.audio.scans.parts import find_parts
from genre.errors import AudioError

#: Scans by the first bytes of a file.
_SCANS = {
    b"fLaC": scan_flac,
    b"OggS": scan_ogg,
    b"RIFF": scan_chunks,
    b"FORM": scan_chunks,
    b"\x1aE\xdf\xa3": scan_matroska,
    b".snd": scan_au,
    b"\x30\x26\xb2\x75": scan_end,
    b"RF64": scan_end,
    b"riff": scan_end,
    b"caff": scan_end,
    b"wvpk": scan_end,
    b"TTA1": scan_end,
}

#: First bytes of files that are none of these, and no bare stream of MPEG audio or AAC either.
_OTHERS = (b"MAC ", b"FLV\1")

#: Bytes of tags in front, beyond which FFmpeg does not know what follows them.
_MAX_TAGS = 1 << 16

#: Changes of format that are followed: each takes a search of the rest of the file.
_MAX_CHANGES = 16

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


def _scan(file: BinaryIO, n_changes: int = 0) -> Content:
    """Scan a file, and each of several that are in it."""
    if n_changes > _MAX_CHANGES:
        raise AudioError("undecodable", f"the format changes more than {_MAX_CHANGES} times; give its parts as files")
    content = _scan_first(file)
    if len(content.spans) < 2:
        return content
    spans: list[tuple[int, int]] = []
    for start, end in content.spans:
        parts = _scan(Span(file, start, end), n_changes + 1).spans  # type: ignore[arg-type]
        spans += [(start + first, start + last) for first, last in parts] or [(start, end)]
    return replace(content, spans=tuple(spans))


def _scan_first(file: BinaryIO) -> Content:
    start = _skip_id3(file)
    magic = read_at(file, start, 12)
    if scan := _SCANS.get(magic[:4]):
        content = scan(file, start)
        is_hidden = start > _MAX_TAGS and scan is scan_end and not content.spans
        return Content(spans=((start, find_size(file)),)) if is_hidden else content
    if magic[4:8] == b"ftyp":
        return scan_mp4(file, start)
    if magic[:4] in _OTHERS:
        return Content(spans=find_parts(file, start, start + 4, with_frames=False, with_ac3=False))
    return scan_mpeg(file, start)


def _skip_id3(file: BinaryIO) -> int:
    """Return the position behind the ID3v2 tags at the beginning."""
    at = 0
    while (header := read_at(file, at, 10))[:3] == b"ID3" and len(header) == 10:
        has_footer = header[5] >> 4 & 1
        size = sum((byte & 0x7F) << shift for byte, shift in zip(header[6:], (21, 14, 7, 0), strict=True))
        at += 10 + size + 10 * has_footer
    return at
