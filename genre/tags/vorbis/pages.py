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

    Streams that follow one another (chained) or run beside each other (multiplexed) are streams of their own.

    Raises
    ------
    DataError
        If something between the pages is no page, or a page belongs to no stream.
    """
    streams: list[list[Page]] = []
    running: dict[int, list[Page]] = {}
    for page in _iterate_pages(file):
        if page.flags & FIRST:
            running[page.serial] = []
            streams.append(running[page.serial])
        elif page.serial not in running:
            raise DataError(f"the Ogg page at byte {page.start} belongs to a stream that has not begun")
        running[page.serial].append(page)
    return streams


def read_body(file: BinaryIO, page: Page) -> bytes:
    """Read the segments of a page.

    Raises
    ------
    DataError
        If the checksum tells that the page is damaged.
    """
    content = read_exactly(file, page.start, page.end - page.start)
    body = content[page.body_start - page.start :]
    if page.encode_header(body) + body != content:
        raise DataError(f"the Ogg page at byte {page.start} is damaged: its checksum does not match")
    return body


def _iterate_pages(file: BinaryIO) -> Iterator[Page]:
    """Iterate over the pages; one that the end of the file cuts short is left out, as players do."""
    position, size = 0, file_size(file)
    while position + _HEADER.size <= size:
        file.seek(position)
        head = file.read(_HEADER.size + MAX_SEGMENTS)
        capture, version, flags, granule, serial, sequence, _, n_segments = _HEADER.unpack_from(head)
        if capture != b"OggS" or version != 0:
            raise DataError(f"there is no Ogg page at byte {position}, where one has to begin")
        page = Page(position, flags, granule, serial, sequence, head[_HEADER.size : _HEADER.size + n_segments])
        if len(page.lacing) < n_segments or page.end > size:
            return
        yield page
        position = page.end


def _checksum(content: bytes) -> int:
    """Compute the checksum of a page: CRC-32 with the bits of zlib's in reverse order, begun with and XORed by 0."""
    reverse = ~zlib.crc32(content.translate(_REVERSED), 0xFFFFFFFF) & 0xFFFFFFFF
    return int.from_bytes(reverse.to_bytes(4, "little").translate(_REVERSED), "big")
