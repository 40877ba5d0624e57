"""Genres in APE tags of version 2 and 1, https://wiki.hydrogenaud.io/index.php?title=APEv2_specification."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from genre.errors import DataError
from genre.tags.splices import Splice, count_growth

#: Header and footer: name, version, bytes of items and footer, items, flags, eight bytes of zero.
_FRAME = struct.Struct("<8sIIII8x")
_NAME = b"APETAGEX"

#: Flags of a tag: it has a header; this is the header.
_HAS_HEADER = 1 << 31
_IS_HEADER = 1 << 29

#: Flags of a tag and of an item: read-only; of an item: not text.
_READ_ONLY = 1
_NO_TEXT = 0b110

_KEY = "genre"

#: Beginnings of the keys, in small letters, of the items that mp3gain writes into files without other tags.
_LOUDNESS_KEYS = ("replaygain_", "mp3gain_")


@dataclass(frozen=True)
class Item:
    """An item of an APE tag: stretch of the file, flags, key and value."""

    start: int
    end: int
    flags: int
    key: str
    value: bytes


@dataclass(frozen=True)
class Tag:
    """An APE tag in a file.

    Attributes
    ----------
    start, end : int
        Stretch of the file, header and footer included.
    version : int
        2000 or 1000.
    flags : int
        Of its footer, or of its header if that is all there is.
    items : tuple of Item
        Its items.
    has_header, has_footer : bool
        Which of the two it has.
    """

    start: int
    end: int
    version: int
    flags: int
    items: tuple[Item, ...]
    has_header: bool
    has_footer: bool

    @property
    def items_end(self) -> int:
        """Offset in the file where the last item ends."""
        return self.end - _FRAME.size * self.has_footer

    @property
    def describes_music(self) -> bool:
        """True if an item is about more than loudness."""
        return not all(item.key.startswith(_LOUDNESS_KEYS) for item in self.items)

    @property
    def has_genre(self) -> bool:
        """True if there is a place for genres, even one that holds none."""
        return bool(self.genre_items)

    @property
    def genre_items(self) -> list[Item]:
        """Items that hold genres; there should be one."""
        return [item for item in self.items if item.key == _KEY]


def read_tag_before(file: BinaryIO, end: int) -> Tag | None:
    """Read the APE tag that ends at an offset of a file; None if there is none.

    Raises
    ------
    DataError
        If the tag is broken.
    """
    frame = _read_frame(file, end - _FRAME.size)
    if frame is None or frame[3] & _IS_HEADER:
        return None
    version, size, n_items, flags = frame
    has_header = bool(flags & _HAS_HEADER)
    start = end - size - _FRAME.size * has_header
    if size < _FRAME.size or start < 0 or (has_header and _read_frame(file, start) is None):
        raise DataError("the APE tag begins elsewhere than its footer says")
    first = start + _FRAME.size * has_header
    items = _read_items(file, first, end - _FRAME.size, n_items)
    return Tag(start, end, version, flags, items, has_header, True)


def read_tag_after(file: BinaryIO, start: int) -> Tag | None:
    """Read the APE tag that begins with a header at an offset of a file; None if there is none.

    Raises
    ------
    DataError
        If the tag is broken.
    """
    frame = _read_frame(file, start)
    if frame is None or not frame[3] & _IS_HEADER:
        return None
    version, size, n_items, flags = frame
    end = start + _FRAME.size + size
    has_footer = _read_frame(file, end - _FRAME.size) is not None
    items = _read_items(file, start + _FRAME.size, end - _FRAME.size * has_footer, n_items)
    return Tag(start, end, version, flags, items, True, has_footer)


def _read_frame(file: BinaryIO, start: int) -> tuple[int, int, int, int] | None:
    """Return version, size, number of items and flags of the header or footer at an offset; None if there is none."""
    file.seek(max(start, 0))
    data = file.read(_FRAME.size)
    if start < 0 or len(data) < _FRAME.size or not data.startswith(_NAME):
        return None
    return _FRAME.unpack(data)[1:]


def _read_items(file: BinaryIO, start: int, end: int, n_items: int) -> tuple[Item, ...]:
    """Return the items in a stretch of a file."""
    file.seek(start)
    data = file.read(end - start)
    items = []
    position = 0
    while position + 8 < len(data):
        size, flags = struct.unpack_from("<II", data, position)
        key_end = data.find(b"\0", position + 8)
        item_end = key_end + 1 + size
        if key_end < 0 or item_end > len(data):
            break
        key = data[position + 8 : key_end].decode("latin-1").lower()
        items.append(Item(start + position, start + item_end, flags, key, data[key_end + 1 : item_end]))
        position = item_end
    if position != len(data) or len(items) != n_items or start + len(data) != end:
        raise DataError("the items of the APE tag do not fill it")
    return tuple(items)


def read_genres(tag: Tag) -> list[str]:
    """Return the genres in a tag."""
    texts = [item.value for item in tag.genre_items if not item.flags & _NO_TEXT]
    return [part.strip() for text in texts for part in _decode_text(text).split("\0") if part.strip()]


def _decode_text(value: bytes) -> str:
    """Decode a value: UTF-8, or Latin-1 as in tags of version 1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def plan_genres(tag: Tag, genres: Sequence[str]) -> list[Splice]:
    """Plan a tag's genres, in the place of its genre or as its last item.

    Raises
    ------
    DataError
        If the tag or its genre is read-only, or the tag is of version 1 and cannot hold the genres.
    """
    old = tag.genre_items
    if any(flags & _READ_ONLY for flags in (tag.flags, *(item.flags for item in old))):
        raise DataError("its APE tag is read-only")
    item = _encode_item(genres, tag.version)
    first = (old[0].start, old[0].end) if old else (tag.items_end, tag.items_end)
    splices = [Splice(*first, item), *(Splice(other.start, other.end, b"") for other in old[1:])]
    size = tag.end - tag.start - _FRAME.size * tag.has_header + count_growth(splices)
    sums = struct.pack("<II", size, len(tag.items) + 1 - len(old))
    frames = [tag.start] * tag.has_header + [tag.end - _FRAME.size] * tag.has_footer
    return splices + [Splice(frame + 12, frame + 20, sums) for frame in frames]


def _encode_item(genres: Sequence[str], version: int) -> bytes:
    """Write a genre item; a null character divides several genres."""
    text = "\0".join(genres)
    if text.count("\0") != len(genres) - 1:
        raise DataError("a genre contains a null character")
    if version < 2000 and not (text.isascii() and len(genres) == 1):
        raise DataError("its APE tag of version 1 holds a single genre in ASCII; convert it to APEv2 with a tag editor")
    value = text.encode()
    return struct.pack("<II", len(value), 0) + b"Genre\0" + value


def create_tag(genres: Sequence[str]) -> bytes:
    """Return a tag of version 2 with genres and nothing else."""
    item = _encode_item(genres, 2000)
    frames = (_FRAME.pack(_NAME, 2000, len(item) + _FRAME.size, 1, _HAS_HEADER | flag) for flag in (_IS_HEADER, 0))
    return item.join(frames)
