"""Genres in an ASF file (WMA, WMV): in the attributes ``WM/Genre`` of its header.

Layout: Microsoft, "Advanced Systems Format (ASF) Specification", revision 01.20.05. Numbers are little-endian, texts
UTF-16. As other taggers do, the first genre is written into the Extended Content Description, where each attribute
stands once, and further ones into the Metadata Library.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO
from uuid import UUID

from mutagen.id3 import TCON

from genre.errors import DataError
from genre.tags.asf.attributes import new_attributes, parse_attributes, plan_attributes
from genre.tags.reading import file_size, read_exactly
from genre.tags.splices import Splice, count_growth, shift_splices

#: Objects, section 10.
_HEADER = UUID("75B22630-668E-11CF-A6D9-00AA0062CE6C").bytes_le
_FILE_PROPERTIES = UUID("8CABDCA1-A947-11CF-8EE4-00C00C205365").bytes_le
_HEADER_EXTENSION = UUID("5FBF03B5-A92E-11CF-8EE3-00C00C205365").bytes_le
_DESCRIPTION = UUID("D2D0A440-E307-11D2-97F0-00A0C95EA850").bytes_le
_METADATA = UUID("C5F8CBEA-5BAF-4877-8467-AA8C44FA4CCA").bytes_le
_LIBRARY = UUID("44231C94-9498-49D1-A141-1D134E457054").bytes_le
_SIGNATURE = UUID("2211B3FC-BD23-11D2-B4B7-00A0C955FC6E").bytes_le

#: GUID and size of an object, and where the size stands.
_OBJECT = struct.Struct("<16sQ")
_SIZE = 16

#: Where the objects in the header and in its extension begin.
_HEADER_START = 30
_EXTENSION_START = 46

#: Where the number of objects stands in the header, the size of what follows in the extension, and the size of the file
#: in the file properties.
_HEADER_COUNT = 24
_EXTENSION_SIZE = 42
_FILE_SIZE = 40


@dataclass(frozen=True)
class _Object:
    """An object of the file, by its GUID and where it lies."""

    guid: bytes
    start: int
    end: int

    @property
    def content_start(self) -> int:
        return self.start + _OBJECT.size

    @property
    def is_metadata(self) -> bool:
        return self.guid != _DESCRIPTION


def read_genres(file: BinaryIO) -> list[str]:
    """Read the genres of an ASF file; a number of ID3v1 is the name it stands for.

    Raises
    ------
    DataError
        If its header is broken.
    """
    _, objects, extension = _read_header(file)
    places = [o for o in objects if o.guid == _DESCRIPTION]
    places += [o for kind in (_LIBRARY, _METADATA) for o in extension if o.guid == kind]
    attributes = [a for o in places for a in parse_attributes(_read_content(file, o), is_metadata=o.is_metadata)]
    texts = [attribute.text for attribute in attributes if attribute.is_genre and attribute.text]
    return [name for text in texts for name in TCON(encoding=3, text=[text]).genres]


def plan_genres(file: BinaryIO, genres: Sequence[str]) -> list[Splice]:
    """Plan the splices that make `genres` the only genres of an ASF file.

    Raises
    ------
    DataError
        If its header is broken or signed, or a genre is too long.
    """
    header, objects, extension = _read_header(file)
    if any(item.guid == _SIGNATURE for item in objects):
        raise DataError("its header is signed, and the signature would be wrong")
    parents = [item for item in objects if item.guid == _HEADER_EXTENSION]
    if len(parents) != 1:
        raise DataError(f"its header has {len(parents)} extensions instead of one")
    # Behind the extension if it can be, since FFmpeg takes the genre that it reads last; never at the extension's end,
    # where a new object of the extension goes.
    end = header.end if header.end > parents[0].end else parents[0].start
    outer, n_created = _edit_objects(file, objects, _DESCRIPTION, genres[:1], end)
    inner, _ = _edit_objects(file, extension, _LIBRARY, genres[1:], parents[0].end)
    inner += _edit_objects(file, extension, _METADATA, (), parents[0].end)[0]
    inner += _grow(file, parents[0].start + _SIZE, 8, count_growth(inner))
    inner += _grow(file, parents[0].start + _EXTENSION_SIZE, 4, count_growth(inner))
    growth = count_growth(outer + inner)
    sizes = _grow(file, header.start + _SIZE, 8, growth) + _grow(file, _HEADER_COUNT, 4, n_created)
    return outer + inner + sizes + _grow_file(file, objects, growth)


def _read_header(file: BinaryIO) -> tuple[_Object, list[_Object], list[_Object]]:
    """Read the header, the objects in it, and those in its extension."""
    header = _read_object(file, 0, file_size(file))
    if header.guid != _HEADER:
        raise DataError("it does not begin with an ASF header")
    objects = list(_iterate_objects(file, header.start + _HEADER_START, header.end))
    extensions = [item for item in objects if item.guid == _HEADER_EXTENSION]
    inner = [o for item in extensions for o in _iterate_objects(file, item.start + _EXTENSION_START, item.end)]
    return header, objects, inner


def _iterate_objects(file: BinaryIO, start: int, end: int) -> Iterator[_Object]:
    """Iterate over the objects of a stretch."""
    while start < end:
        item = _read_object(file, start, end)
        yield item
        start = item.end


def _read_object(file: BinaryIO, start: int, end: int) -> _Object:
    """Read the head of an object that has to end at `end` or before."""
    guid, size = _OBJECT.unpack(read_exactly(file, start, _OBJECT.size))
    if not _OBJECT.size <= size <= end - start:
        raise DataError(f"the ASF object at byte {start} has {size} bytes, and {end - start} are left")
    return _Object(guid, start, start + size)


def _read_content(file: BinaryIO, item: _Object) -> bytes:
    """Read what follows the size of an object."""
    return read_exactly(file, item.content_start, item.end - item.content_start)


def _edit_objects(
    file: BinaryIO, objects: Sequence[_Object], guid: bytes, genres: Sequence[str], end: int
) -> tuple[list[Splice], int]:
    """Plan the genres in all objects of a kind: in the first one, or in a new one at `end`.

    Returns
    -------
    list of Splice
        Splices of the file.
    int
        Number of objects that are new: 0 or 1.
    """
    splices: list[Splice] = []
    found = [item for item in objects if item.guid == guid]
    for item in found:
        new = genres if item is found[0] else ()
        edits = plan_attributes(_read_content(file, item), new, is_metadata=item.is_metadata)
        splices += shift_splices(edits, item.content_start) + _grow(file, item.start + _SIZE, 8, count_growth(edits))
    if found or not genres:
        return splices, 0
    content = new_attributes(genres, is_metadata=guid != _DESCRIPTION)
    return [Splice(end, end, _OBJECT.pack(guid, _OBJECT.size + len(content)) + content)], 1


def _grow(file: BinaryIO, place: int, width: int, growth: int) -> list[Splice]:
    """Plan the splice of a number that grows."""
    if not growth:
        return []
    number = int.from_bytes(read_exactly(file, place, width), "little") + growth
    if not 0 <= number < 1 << 8 * width:
        raise DataError(f"the size at byte {place} of its header is wrong")
    return [Splice(place, place + width, number.to_bytes(width, "little"))]


def _grow_file(file: BinaryIO, objects: Sequence[_Object], growth: int) -> list[Splice]:
    """Plan the splices of the size of the file, where it is right: a stream that was recorded has none."""
    splices = []
    for item in objects:
        if item.guid == _FILE_PROPERTIES:
            place = item.start + _FILE_SIZE
            if int.from_bytes(read_exactly(file, place, 8), "little") == file_size(file):
                splices += _grow(file, place, 8, growth)
    return splices
