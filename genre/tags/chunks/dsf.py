"""Genres in DSF files: an ID3v2 tag at the end, to which the header points (DSF File Format Specification 1.01)."""

import struct
from collections.abc import Sequence
from typing import BinaryIO

from genre.errors import DataError
from genre.tags.id3 import editing, tag
from genre.tags.splices import Splice, count_growth

#: Header: name, its own bytes, bytes of the file, offset of the tag or 0.
_HEADER = struct.Struct("<4sQQQ")
_NAME = b"DSD "


def is_dsf(file: BinaryIO) -> bool:
    """Return True if a file is a DSF file."""
    file.seek(0)
    head = file.read(_HEADER.size)
    return len(head) == _HEADER.size and head.startswith(_NAME + _HEADER.size.to_bytes(8, "little"))


def read_genres(file: BinaryIO) -> list[str]:
    """Read the genres of a DSF file.

    Raises
    ------
    DataError
        If its tag is broken.
    """
    found = _read_tag(file)
    return tag.read_genres(found) if found else []


def _read_tag(file: BinaryIO) -> tag.Tag | None:
    """Return the tag of a DSF file; None if it has none."""
    file.seek(0)
    pointer = _HEADER.unpack(file.read(_HEADER.size))[3]
    found = tag.read_tag(file, pointer) if 0 < pointer < file.seek(0, 2) else None
    if pointer and found is None:
        raise DataError("there is no ID3v2 tag where its header says")
    return found


def plan_genres(file: BinaryIO, genres: Sequence[str]) -> list[Splice]:
    """Plan the genres of a DSF file, in the tag that it has or in a new one.

    Raises
    ------
    DataError
        If the file is not as long as in its header, or the tag cannot be changed safely.
    """
    found = _read_tag(file)
    file_bytes = file.seek(0, 2)
    file.seek(0)
    _, header_bytes, declared, pointer = _HEADER.unpack(file.read(_HEADER.size))
    if declared != file_bytes:
        raise DataError(f"its header counts {declared} bytes, and the file has {file_bytes}")
    if found and found.end != file_bytes:
        raise DataError("something follows its ID3v2 tag, which should be last")
    end = Splice(file_bytes, file_bytes, editing.create_tag(genres))
    splices = editing.plan_genres(found, genres) if found else [end]
    header = _HEADER.pack(_NAME, header_bytes, declared + count_growth(splices), pointer or file_bytes)
    return [*splices, Splice(12, _HEADER.size, header[12:])]
