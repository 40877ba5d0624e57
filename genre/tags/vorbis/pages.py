"""Pages of an Ogg file.

Layout: RFC 3533, section 6. A packet is cut into segments of 255 bytes, the last of them shorter; the lacing of a page
holds the sizes of its segments. Numbers are little-endian.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from genre.errors import DataError
from genre.tags.reading import file_size, read_exactly

#: Flags of a page: its first packet began on an earlier page; the first page of a stream; the last one.
CONTINUED = 1
FIRST = 2
LAST = 4

#: Most segments of a page, and the size of all segments of a packet but the last, bytes.
MAX_SEGMENTS = 255
SEGMENT = 255

#: Granule position of a page on which no packet ends.
NO_GRANULE = b"\xff" * 8

#: Header before the lacing: ``OggS``, version, flags, granule position, serial and sequence number, checksum, number of
#: segments.
_HEADER = struct.Struct("<4sBB8sIIIB")

#: Where the sequence number and the checksum stand in a page.
NUMBERS = slice(18, 26)

#: The start of a page: ``OggS`` and the only version there is.
_CAPTURE = b"OggS\0"

#: Bytes that are searched at once.
_BLOCK = 1 << 16

#: Every byte with its bits in reverse order.
_REVERSED = bytes(int(f"{n:08b}"[::-1], 2) for n in range(256))


@dataclass(frozen=True)
class Page:
    """Header of a page, and where it lies.

    Attributes
    ----------
    start : int
        Offset in the file, bytes.
    flags : int
        Sum of `CONTINUED`, `FIRST` and `LAST`.
    granule : bytes
        Granule position, as in the file.
    serial, sequence : int
        Number of the logical stream, and of the page in it.
    lacing : bytes
        Sizes of the segments.
    """

    start: int
    flags: int
    granule: bytes
    serial: int
    sequence: int
    lacing: bytes

    @property
    def body_start(self) -> int:
        """Return where the segments begin."""
        return self.start + _HEADER.size + len(self.lacing)

    @property
    def end(self) -> int:
        """Return where the page ends."""
        return self.body_start + sum(self.lacing)

    @property
    def is_continued(self) -> bool:
        """Return whether the page begins within a packet."""
        return bool(self.flags & CONTINUED)

    @property
    def ends_packet(self) -> bool:
        """Return whether a packet ends on the page."""
        return any(size < SEGMENT for size in self.lacing)

    def encode_header(self, body: bytes) -> bytes:
        """Return the header and the lacing, with the checksum that belongs to a body."""
        fields = (b"OggS", 0, self.flags, self.granule, self.serial, self.sequence)
        header = _HEADER.pack(*fields, 0, len(self.lacing)) + self.lacing
        return _HEADER.pack(*fields, _checksum(header + body), len(self.lacing)) + self.lacing


def read_logical_streams(file: BinaryIO) -> list[list[Page]]:
    """Read the page headers of every logical stream, in the order of their first pages.

    Streams that follow one another (chained) or run beside each other (multiplexed) are streams of their own. Pages of
    streams whose first page is missing are left out.
    """
    streams: list[list[Page]] = []
    running: dict[int, list[Page]] = {}
    for page in _iterate_pages(file):
        if page.flags & FIRST:
            running[page.serial] = []
            streams.append(running[page.serial])
        if page.serial in running:
            running[page.serial].append(page)
    return streams


def read_body(file: BinaryIO, page: Page) -> bytes:
    """Read the segments of a page, whatever its checksum.

    Raises
    ------
    DataError
        If the file ends before.
    """
    return read_exactly(file, page.body_start, page.end - page.body_start)


def check_page(file: BinaryIO, page: Page) -> None:
    """Check that a page may be written anew, which would hide that it is damaged.

    Raises
    ------
    DataError
        If its checksum does not match.
    """
    header = read_exactly(file, page.start, page.body_start - page.start)
    if page.encode_header(read_body(file, page)) != header:
        raise DataError(f"the Ogg page at byte {page.start} is damaged: its checksum does not match")


def _iterate_pages(file: BinaryIO) -> Iterator[Page]:
    """Iterate over the pages; bytes between them are skipped, and one that the file's end cuts short, as players do."""
    position, size = 0, file_size(file)
    while position + _HEADER.size <= size:
        file.seek(position)
        head = file.read(_HEADER.size + MAX_SEGMENTS)
        if not head.startswith(_CAPTURE):
            position = _find_page(file, position + 1)
            continue
        _, _, flags, granule, serial, sequence, _, n_segments = _HEADER.unpack_from(head)
        page = Page(position, flags, granule, serial, sequence, head[_HEADER.size : _HEADER.size + n_segments])
        if len(page.lacing) < n_segments or page.end > size:
            return
        yield page
        position = page.end


def _find_page(file: BinaryIO, start: int) -> int:
    """Find the next place where a page begins; the end of the file if there is none."""
    while True:
        file.seek(start)
        block = file.read(_BLOCK)
        if (found := block.find(_CAPTURE)) >= 0 or len(block) < _BLOCK:
            return start + (found if found >= 0 else len(block))
        start += len(block) - len(_CAPTURE) + 1


def _checksum(content: bytes) -> int:
    """Compute the checksum of a page: CRC-32 with the bits of zlib's in reverse order, begun with and XORed by 0."""
    reverse = ~zlib.crc32(content.translate(_REVERSED), 0xFFFFFFFF) & 0xFFFFFFFF
    return int.from_bytes(reverse.to_bytes(4, "little").translate(_REVERSED), "big")
