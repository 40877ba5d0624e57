"""Attributes in an object of an ASF header, among them genres.

Sections are those of the ASF specification: 3.11 for the Extended Content Description, 4.7 and 4.8 for the Metadata and
the Metadata Library. The former has a layout of its own.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from genre.errors import DataError
from genre.tags.splices import Splice

#: Names of attributes: a genre, and a number of it, such as "(17)".
_GENRE = "WM/Genre"
_NAMES = {_GENRE.casefold(), "wm/genreid"}

#: Type of a value that is a text.
_TEXT = 0

#: Bytes of the number of attributes, at the start of an object of them.
_COUNT = 2

#: Head of an attribute of the two Metadata objects: language, stream, size of the name, type, size of the value.
_ENTRY = struct.Struct("<HHHHI")

#: Largest value of an attribute of the description, bytes.
_MAX_SIZE = (1 << 16) - 1


@dataclass(frozen=True)
class Attribute:
    """An attribute of an object.

    Attributes
    ----------
    start, end : int
        Where it lies in the content of the object.
    name : str
        Its name.
    text : str
        Its value; empty if that is no text.
    """

    start: int
    end: int
    name: str
    text: str

    @property
    def is_genre(self) -> bool:
        """Return whether it is a genre or the number of one."""
        return self.name.casefold() in _NAMES


def parse_attributes(content: bytes, *, is_metadata: bool) -> list[Attribute]:
    """Find the attributes in the content of an object.

    Parameters
    ----------
    content : bytes
        What follows the size of the object.
    is_metadata : bool
        Whether it is one of the two Metadata objects.

    Raises
    ------
    DataError
        If a size points outside the object.
    """
    parse = _parse_entry if is_metadata else _parse_value
    attributes: list[Attribute] = []
    try:
        for _ in range(int.from_bytes(content[:_COUNT], "little")):
            attributes.append(parse(content, attributes[-1].end if attributes else _COUNT))
    except struct.error:
        raise DataError("the attributes in its header break off") from None
    return attributes


def plan_attributes(content: bytes, genres: Sequence[str], *, is_metadata: bool) -> list[Splice]:
    """Plan the splices of an object's content that make `genres` its only genres; they may be none.

    The first one is replaced where it stands, and further ones go. An object without any gets them at its end.

    Raises
    ------
    DataError
        If a size points outside the object, or a genre or their number is too large.
    """
    attributes = parse_attributes(content, is_metadata=is_metadata)
    old = [attribute for attribute in attributes if attribute.is_genre]
    end = attributes[-1].end if attributes else _COUNT
    new = b"".join(_encode_attribute(genre, is_metadata=is_metadata) for genre in genres)
    splices = [Splice(attribute.start, attribute.end, b"") for attribute in old[1:]]
    splices.append(Splice(old[0].start, old[0].end, new) if old else Splice(end, end, new))
    count = len(attributes) - len(old) + len(genres)
    return [*splices, Splice(0, _COUNT, _encode_count(count))] if len(old) != len(genres) else splices


def new_attributes(genres: Sequence[str], *, is_metadata: bool) -> bytes:
    """Return the content of an object with nothing but genres.

    Raises
    ------
    DataError
        If a genre or their number is too large.
    """
    attributes = b"".join(_encode_attribute(genre, is_metadata=is_metadata) for genre in genres)
    return _encode_count(len(genres)) + attributes


def _encode_count(count: int) -> bytes:
    """Encode the number of attributes."""
    if count >= 1 << 8 * _COUNT:
        raise DataError("an object of its header would have more attributes than it can count")
    return count.to_bytes(_COUNT, "little")


def _parse_value(content: bytes, start: int) -> Attribute:
    """Read an attribute of the description: its name and its value, each with a size before it."""
    name_size, name_start = int.from_bytes(content[start : start + 2], "little"), start + 2
    name, kind, value_size = struct.unpack_from(f"<{name_size}sHH", content, name_start)
    value_start = name_start + name_size + 4
    (value,) = struct.unpack_from(f"{value_size}s", content, value_start)
    return Attribute(start, value_start + value_size, _decode_text(name), _decode_text(value) if kind == _TEXT else "")


def _parse_entry(content: bytes, start: int) -> Attribute:
    """Read an attribute of the library: all sizes, then its name and its value."""
    _, _, name_size, kind, value_size = _ENTRY.unpack_from(content, start)
    name, value = struct.unpack_from(f"{name_size}s{value_size}s", content, start + _ENTRY.size)
    end = start + _ENTRY.size + name_size + value_size
    return Attribute(start, end, _decode_text(name), _decode_text(value) if kind == _TEXT else "")


def _encode_attribute(genre: str, *, is_metadata: bool) -> bytes:
    """Return the bytes of an attribute."""
    name, value = _encode_text(_GENRE), _encode_text(genre)
    if len(value) > _MAX_SIZE:
        raise DataError(f"the genre would take {len(value)} bytes; an attribute of ASF holds at most {_MAX_SIZE}")
    if is_metadata:
        return _ENTRY.pack(0, 0, len(name), _TEXT, len(value)) + name + value
    return struct.pack("<H", len(name)) + name + struct.pack("<HH", _TEXT, len(value)) + value


def _encode_text(text: str) -> bytes:
    """Encode a text with the zero at its end."""
    return text.encode("utf-16-le") + bytes(2)


def _decode_text(text: bytes) -> str:
    """Decode a text up to its zero, if it has one."""
    return text.decode("utf-16-le", "replace").partition("\0")[0]
