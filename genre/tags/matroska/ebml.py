"""Elements of EBML, the structure of Matroska and WebM: RFC 8794."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from genre.errors import DataError
from genre.tags.reading import read_exactly

#: Elements that may stand anywhere: nothing, and a checksum of all that follows it in its parent (section 11.3).
VOID = b"\xec"
CRC = b"\xbf"

#: Most bytes of an identifier and of a size.
_MAX_ID = 4
_MAX_SIZE = 8

#: Smallest empty element, bytes.
MIN_VOID = 2


@dataclass(frozen=True)
class Element:
    """One element.

    Attributes
    ----------
    kind : bytes
        Its identifier.
    start, content_start, end : int
        Where it, its content and the next element begin, bytes of the file.
    is_open : bool
        Whether its size is unknown; `end` is then that of what it lies in.
    """

    kind: bytes
    start: int
    content_start: int
    end: int
    is_open: bool = False

    @property
    def size_start(self) -> int:
        """Return where its size stands."""
        return self.start + len(self.kind)

    @property
    def size_width(self) -> int:
        """Return how many bytes its size takes."""
        return self.content_start - self.size_start


def iterate_elements(file: BinaryIO, start: int, end: int) -> Iterator[Element]:
    """Iterate over the elements of a stretch.

    Those within an element of unknown size follow it, since only they tell where it ends.

    Raises
    ------
    DataError
        If they are broken.
    """
    while start < end:
        element = read_element(file, start, end)
        yield element
        start = element.content_start if element.is_open else element.end


def read_element(file: BinaryIO, start: int, end: int, *, may_be_cut: bool = False) -> Element:
    """Read the head of the element at `start`, which has to end at `end` or before, or may be cut off there.

    Raises
    ------
    DataError
        If there is none.
    """
    head = read_exactly(file, start, min(_MAX_ID + _MAX_SIZE, end - start))
    id_width = _read_width(head, start)
    size_width = _read_width(head[id_width:], start)
    content_start = start + id_width + size_width
    size = int.from_bytes(head[id_width : id_width + size_width], "big") & ((1 << 7 * size_width) - 1)
    is_open = size == (1 << 7 * size_width) - 1
    element_end = end if is_open else content_start + size
    if id_width > _MAX_ID or content_start > end or (element_end > end and not may_be_cut):
        raise DataError(f"the element at byte {start} does not end where the one that it lies in does, or before")
    return Element(head[:id_width], start, content_start, min(element_end, end), is_open)


def read_content(file: BinaryIO, element: Element) -> bytes:
    """Read what follows the size of an element."""
    return read_exactly(file, element.content_start, element.end - element.content_start)


def make_element(kind: bytes, content: bytes, width: int = 1) -> bytes:
    """Return the bytes of an element, its size in `width` bytes or, if they do not hold it, in as few as do."""
    return kind + encode_size(len(content), max(width, -(-(len(content) + 2).bit_length() // 7))) + content


def encode_size(size: int, width: int) -> bytes:
    """Encode a size.

    Raises
    ------
    DataError
        If `width` bytes do not hold it.
    """
    # The largest number of a width means that the size is unknown.
    if size >= (1 << 7 * width) - 1 or width > _MAX_SIZE:
        raise DataError(f"an element would be larger than the {width} bytes of its size can say")
    return (size | 1 << 7 * width).to_bytes(width, "big")


def widen_size(element: bytes) -> bytes:
    """Return an element with one byte more for its size; nothing if that has as many as it can."""
    id_width = _read_width(element, 0)
    size_width = _read_width(element[id_width:], 0)
    content = element[id_width + size_width :]
    return make_element(element[:id_width], content, size_width + 1) if size_width < _MAX_SIZE else b""


def make_void(size: int) -> bytes:
    """Return an element of `size` bytes, at least `MIN_VOID`, without content."""
    width = 1 if size < 1 << 7 else _MAX_SIZE
    return VOID + encode_size(size - 1 - width, width) + bytes(size - 1 - width)


def replace_children(file: BinaryIO, parent: Element, children: Sequence[bytes]) -> bytes:
    """Return the bytes of an element with other children, whose checksum, if it has one, is that of the new ones.

    Parameters
    ----------
    file : file
        Open, binary.
    parent : Element
        The element.
    children : sequence of bytes
        All children but the checksum.

    Raises
    ------
    DataError
        If it is damaged, by its checksum.
    """
    content = b"".join(children)
    old = read_content(file, parent)
    if old.startswith(CRC):
        start = read_element(file, parent.content_start, parent.end).end - parent.content_start
        if old[:start] != _make_checksum(old[start:]):
            raise DataError(f"the element at byte {parent.start} is damaged: its checksum does not match")
        content = _make_checksum(content) + content
    return make_element(parent.kind, content, parent.size_width)


def _make_checksum(content: bytes) -> bytes:
    """Return the element with the checksum of all that follows it."""
    return make_element(CRC, zlib.crc32(content).to_bytes(4, "little"))


def _read_width(head: bytes, start: int) -> int:
    """Return the number of bytes of an identifier or a size: one more than the zeros that it begins with."""
    if not head or not head[0]:
        raise DataError(f"there is no element at byte {start}, where one has to begin")
    return 9 - head[0].bit_length()
