"""Genres in the LIST/INFO chunk of a WAV (Multimedia Programming Interface and Data Specifications 1.0, chapter 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from genre.errors import DataError
from genre.tags.chunks.structure import Chunk, Layout
from genre.tags.id3.text import join_genres, split_genres
from genre.tags.splices import Splice

_GENRE = b"IGNR"

#: Item that programs write into every file: the program.
_SOFTWARE = b"ISFT"


@dataclass(frozen=True)
class Item:
    """An item: its name, its value, and the stretch of the file that it fills, header and pad byte included."""

    name: bytes
    value: bytes
    start: int
    end: int


def is_info(file: BinaryIO, chunk: Chunk) -> bool:
    """Return True if a chunk is a LIST/INFO chunk."""
    file.seek(chunk.start)
    return chunk.name == b"LIST" and chunk.end - chunk.start >= 4 and file.read(4) == b"INFO"


def read_items(file: BinaryIO, chunk: Chunk, layout: Layout) -> list[Item]:
    """Read the items of a LIST/INFO chunk, up to one that runs past it."""
    file.seek(chunk.start)
    data = file.read(chunk.end - chunk.start)
    items = []
    position = 4
    while position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], layout.order)
        start = position + 8
        end = min(start + size + size % 2, len(data))
        if start + size > len(data):
            break
        items.append(
            Item(data[position : position + 4], data[start : start + size], chunk.start + position, chunk.start + end)
        )
        position = end
    return items


def read_genres(items: Sequence[Item]) -> list[str]:
    """Return the genres in the items of a LIST/INFO chunk; a semicolon divides several."""
    values = [item.value.partition(b"\0")[0] for item in items if item.name == _GENRE]
    return [part for value in values for part in split_genres(_decode_text(value))]


def describes_music(items: Sequence[Item]) -> bool:
    """Return True if items say more than which program wrote the file."""
    return any(item.name != _SOFTWARE for item in items)


def has_genre(items: Sequence[Item]) -> bool:
    """Return True if there is a genre among some items, even an empty one."""
    return any(item.name == _GENRE for item in items)


def _decode_text(value: bytes) -> str:
    """Decode a value: UTF-8, or as Windows programs write it."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("cp1252", errors="replace")


def plan_genres(chunk: Chunk, items: Sequence[Item], genres: Sequence[str], layout: Layout) -> list[Splice]:
    """Plan the genres of a LIST/INFO chunk, in the place of its genre or as its last item.

    Raises
    ------
    DataError
        If the items do not fill the chunk, or a genre contains a semicolon.
    """
    end = items[-1].end if items else chunk.start + 4
    if end != chunk.end:
        raise DataError("the items of its LIST/INFO chunk do not fill it")
    text = join_genres(genres).encode() + b"\0"
    item = _GENRE + len(text).to_bytes(4, layout.order) + text + bytes(len(text) % 2)
    old = [(item.start, item.end) for item in items if item.name == _GENRE]
    if not old:
        missing_pad = bytes((chunk.end - chunk.start) % 2)
        return [Splice(chunk.end, chunk.end, missing_pad + item)]
    return [Splice(*old[0], item), *(Splice(*other, b"") for other in old[1:])]
