"""MP4, Matroska and AU: a file that is followed by another."""

from __future__ import annotations

import io
from typing import BinaryIO

from genre.audio.scans.content import Content, find_all, find_size, join_spans, read_at
from genre.audio.scans.parts import find_parts

_EBML = b"\x1aE\xdf\xa3"
_AU = b".snd"

#: Identifier of the element that names the kind of an EBML file, RFC 8794 section 11.2.6, and where it is looked for.
_DOC_TYPE = b"\x42\x82"
_MAX_HEAD = 64


def scan_mp4(file: BinaryIO, start: int) -> Content:
    """Look for a second ``ftyp`` box: players and FFmpeg read the first file only.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.
    start : int
        Position of the first box.
    """
    if not _is_local(file):
        return Content(is_indexed=True)  # each of a thousand fragments would be a request to the server
    starts = []
    size = find_size(file)
    at = start
    while len(header := read_at(file, at, 16)) >= 8:
        if header[4:8] == b"ftyp":
            starts.append(at)
        length = int.from_bytes(header[:4], "big")
        if length == 1:  # the length follows, in 64 bits
            length = int.from_bytes(header[8:], "big")
        if length and (length < 8 or (at + length > size and header[4:8] != b"mdat")):
            return Content(spans=join_spans(file, starts) or find_parts(file, start, at), is_indexed=True)
        if not length:  # up to the end
            break
        at += length
    return Content(spans=join_spans(file, starts), is_indexed=True)


def scan_matroska(file: BinaryIO, start: int) -> Content:
    """Look for a second EBML header, as where two recordings were joined: their times begin anew.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.
    start : int
        Position of the first header.
    """
    if not _is_local(file):
        return Content(is_indexed=True)
    segment = start + _head_size(file, start)
    end = segment + _head_size(file, segment)
    if end > segment and end >= find_size(file):
        return Content(is_indexed=True)
    starts = [at for at in find_all(file, _EBML) if at >= start and _DOC_TYPE in read_at(file, at, _MAX_HEAD)]
    spans = join_spans(file, starts) or (find_parts(file, start, end) if end > segment else ())
    return Content(spans=spans, is_indexed=True)


def scan_au(file: BinaryIO, start: int) -> Content:
    """Look for a second file behind the samples of an AU file.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.
    start : int
        Position of the magic.
    """
    starts = []
    at = start
    while (header := read_at(file, at, 12))[:4] == _AU:
        starts.append(at)
        at += int.from_bytes(header[4:8], "big") + int.from_bytes(header[8:12], "big")
    is_followed = start < at < find_size(file)
    return Content(spans=join_spans(file, starts) or (find_parts(file, start, at) if is_followed else ()))


def _is_local(file: BinaryIO) -> bool:
    """Return whether a file lies on disk or in memory; others may ask a server for each part."""
    return isinstance(getattr(file, "raw", file), io.FileIO | io.BytesIO)


def _head_size(file: BinaryIO, start: int) -> int:
    """Return the length of an EBML element with its identifier of four bytes, RFC 8794 section 6; 0 if not known."""
    header = read_at(file, start + 4, 8)
    if not header or not header[0]:
        return 0
    n = 9 - header[0].bit_length()
    mask = (1 << 7 * n) - 1
    size = int.from_bytes(header[:n], "big") & mask
    return 0 if size == mask else 4 + n + size
