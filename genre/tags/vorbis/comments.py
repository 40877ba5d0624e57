"""Vorbis comments: a vendor string and fields such as ``GENRE=Rock``, the same in FLAC and in every codec of Ogg.

Layout: https://xiph.org/vorbis/doc/v-comment.html. Numbers are 32-bit little-endian. Only fields named ``GENRE`` are
genres, in any case; ``STYLE``, ``MOOD`` and the like are other things to the players that write them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from genre.errors import DataError
from genre.tags.splices import Splice


@dataclass(frozen=True)
class Field:
    """One field of a block of comments.

    Attributes
    ----------
    start, end : int
        Where it lies in the block, with the four bytes of its length.
    name : bytes
        As in the file, up to the first ``=``.
    value : str
        Latin-1 where the bytes are not UTF-8, as old rippers wrote it.
    """

    start: int
    end: int
    name: bytes
    value: str

    @property
    def is_genre(self) -> bool:
        """Return whether the field is a genre."""
        return self.name.upper() == b"GENRE"


@dataclass(frozen=True)
class CommentBlock:
    """The parts of a block of comments.

    Attributes
    ----------
    count_start : int
        Where the number of fields stands.
    fields : tuple of Field
        In the order of the file.
    end : int
        Where the fields end; framing bit, padding or binary data may follow.
    """

    count_start: int
    fields: tuple[Field, ...]
    end: int

    @property
    def genres(self) -> list[str]:
        """Return the genres, in the order of the file."""
        return [field.value for field in self.fields if field.is_genre]


def parse_comments(block: bytes) -> CommentBlock:
    """Find the fields of a block of comments, which begins with the vendor string.

    Raises
    ------
    DataError
        If a length points outside the block.
    """
    count_start = _skip_text(block, 0)
    position = count_start + 4
    fields = []
    for _ in range(_read_number(block, count_start)):
        end = _skip_text(block, position)
        name, _, value = block[position + 4 : end].partition(b"=")
        fields.append(Field(position, end, name, _decode_text(value)))
        position = end
    return CommentBlock(count_start, tuple(fields), position)


def plan_comments(block: bytes, genres: Sequence[str]) -> list[Splice]:
    """Plan the splices of a block that make `genres` its only genres.

    The first genre's field is replaced where it stands, with its spelling of the name; further ones go. A block without
    any gets them at its end. An empty `genres` removes all.

    Raises
    ------
    DataError
        If a length points outside the block.
    """
    comments = parse_comments(block)
    old = [field for field in comments.fields if field.is_genre]
    new = b"".join(_make_field(old[0].name if old else b"GENRE", genre) for genre in genres)
    splices = [Splice(field.start, field.end, b"") for field in old[1:]]
    splices.append(Splice(old[0].start, old[0].end, new) if old else Splice(comments.end, comments.end, new))
    if len(old) != len(genres):
        count = len(comments.fields) - len(old) + len(genres)
        splices.append(Splice(comments.count_start, comments.count_start + 4, count.to_bytes(4, "little")))
    return splices


def new_comments(genres: Sequence[str]) -> bytes:
    """Return a block of comments with an empty vendor string and nothing but genres."""
    fields = b"".join(_make_field(b"GENRE", genre) for genre in genres)
    return bytes(4) + len(genres).to_bytes(4, "little") + fields


def _make_field(name: bytes, genre: str) -> bytes:
    """Return a field with its length."""
    text = name + b"=" + genre.encode()
    return len(text).to_bytes(4, "little") + text


def _decode_text(value: bytes) -> str:
    """Decode UTF-8, or else Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _read_number(block: bytes, position: int) -> int:
    """Read a number of 32 bits."""
    if position + 4 > len(block):
        raise DataError(f"its Vorbis comments break off after {len(block)} bytes")
    return int.from_bytes(block[position : position + 4], "little")


def _skip_text(block: bytes, position: int) -> int:
    """Return where a text with its length before it ends."""
    end = position + 4 + _read_number(block, position)
    if end > len(block):
        raise DataError(f"a length in its Vorbis comments points {end - len(block)} bytes behind their end")
    return end
