"""Ogg: chained streams, and the length by the last page."""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

from genre.audio.scans.content import Content, find_all, find_size, join_spans, read_at
from genre.audio.scans.parts import find_parts

#: Bytes at the end of a file in which the last page is looked for: a page has at most 65,307 (RFC 3533 section 6).
_TAIL = 1 << 17

#: A page that begins a logical stream: version 0, and only that flag.
_FIRST_PAGE = b"OggS\x00\x02"

#: Rate of the positions of Opus in Hz, RFC 7845 section 4.
_OPUS_RATE = 48_000

#: Beginning of Speex, whose decoder needs seconds to settle after a leap: it is decoded from the first packet on.
_SPEEX = b"Speex   "

#: Seconds on the first page of sound beyond which it is no beginning: a page holds about one.
_MAX_FIRST_PAGE_S = 10.0


class Page(NamedTuple):
    """A page: its place in the file, its position in samples, its stream, and the beginning of its content."""

    start: int
    end: int
    position: int
    serial: bytes
    content: bytes


def scan_ogg(file: BinaryIO, start: int) -> Content:
    """Look for chained streams, and take the length of a single one from its last page.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.
    start : int
        Position of the first page.

    Returns
    -------
    Content
        Several spans, where streams are chained. The length is not known where streams are multiplexed.
    """
    heads = []
    at = start
    while (page := _read_page(file, at)) and read_at(file, at, 6) == _FIRST_PAGE:
        heads.append(page)
        at = page.end
    starts = [start, *_chain_starts(file, at)]
    if spans := join_spans(file, starts):
        return Content(spans=spans)
    if (end := _find_last_end(file)) < find_size(file) and (spans := find_parts(file, start, max(end, at))):
        return Content(spans=spans)
    if len(heads) != 1:
        return Content()
    return _scan_single(file, heads[0])


def _chain_starts(file: BinaryIO, start: int) -> list[int]:
    """Return where further groups of streams begin: at a first page that does not follow another one."""
    found = [at for at in find_all(file, _FIRST_PAGE) if at >= start]
    starts = []
    end = -1
    for at in found:
        if at != end:
            starts.append(at)
        page = _read_page(file, at)
        end = page.end if page else -1
    return starts


def _scan_single(file: BinaryIO, head: Page) -> Content:
    """Return the length of a file with one stream."""
    if head.content.startswith(_SPEEX):
        return Content(is_changing=True)
    rate, skipped = _read_head(head.content)
    last = _find_last_position(file, head.serial)
    if not rate or last is None:
        return Content()
    first = _find_first_position(file, head)
    return Content(max(0, last - skipped) / rate, is_changing=first > _MAX_FIRST_PAGE_S * rate)


def _read_head(content: bytes) -> tuple[int, int]:
    """Return the rate of the positions in Hz, 0 of an unknown codec, and the samples skipped at the beginning."""
    if content.startswith(b"OpusHead"):
        return _OPUS_RATE, int.from_bytes(content[10:12], "little")
    if content.startswith(b"\x01vorbis"):
        return int.from_bytes(content[12:16], "little"), 0
    return 0, 0


def _find_last_end(file: BinaryIO) -> int:
    """Return where the last page ends; 0 if there is none near the end of the file."""
    start = max(0, find_size(file) - _TAIL)
    at = read_at(file, start, _TAIL).rfind(b"OggS\x00")
    page = _read_page(file, start + at) if at >= 0 else None
    return page.end if page else 0


def _find_first_position(file: BinaryIO, head: Page) -> int:
    """Return the position at the end of the first page of sound."""
    page: Page | None = head
    while page and page.position <= 0:
        page = _read_page(file, page.end)
    return page.position if page else 0


def _find_last_position(file: BinaryIO, serial: bytes) -> int | None:
    """Return the position at the end of the last page of a stream; None without one at the end of the file."""
    start = max(0, find_size(file) - _TAIL)
    data = read_at(file, start, _TAIL)
    at = data.rfind(b"OggS")
    while at >= 0:
        page = _read_page(file, start + at)
        if page and page.serial == serial and page.position >= 0:
            return page.position
        at = data.rfind(b"OggS", 0, at)
    return None


def _read_page(file: BinaryIO, start: int) -> Page | None:
    """Read the page at a position, RFC 3533 section 6; None if there is none."""
    header = read_at(file, start, 27 + 255)
    if len(header) < 28 or header[:5] != b"OggS\x00":
        return None
    n_segments = header[26]
    size = sum(header[27 : 27 + n_segments])
    first = 27 + n_segments
    position = int.from_bytes(header[6:14], "little", signed=True)
    return Page(start, start + first + size, position, header[14:18], read_at(file, start + first, min(size, 64)))
