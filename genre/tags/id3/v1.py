"""ID3v1 tags: 128 bytes at the very end of a file, whose last byte is the number of a genre.

An extended tag, "TAG+", may stand before it, with a genre as a text (https://en.wikipedia.org/wiki/ID3#Extended_tag).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from genre.tags.id3.text import genre_name, genre_number
from genre.tags.names import fold_name
from genre.tags.splices import Splice

#: Bytes of the tag and of the extended one before it.
_BYTES = 128
_EXTENDED_BYTES = 227

#: Stretch of the genre in an extended tag: after name, three texts of 60 bytes, and the speed.
_TEXT_START = 4 + 3 * 60 + 1
_TEXT_BYTES = 30

#: Number of a genre that is none.
NO_GENRE = 255


@dataclass(frozen=True)
class Tag:
    """An ID3v1 tag in a file.

    Attributes
    ----------
    start : int
        Offset of its first byte, that of the extended tag if there is one.
    block : bytes
        The 128 bytes.
    extended : bytes
        The 227 bytes of the extended tag; empty if there is none.
    """

    start: int
    block: bytes
    extended: bytes

    @property
    def is_blank(self) -> bool:
        """True if no field but the genre has a value."""
        return not (self.block[3:-1] + self.extended[4:_TEXT_START]).strip(b"\0 ")

    @property
    def numbered_genre(self) -> str:
        """Genre by number; empty if there is none. Number 0 in a blank tag is no genre: nothing was filled in."""
        number = self.block[-1]
        return "" if self.is_blank and not number else genre_name(number)

    @property
    def free_genre(self) -> str:
        """Genre of the extended tag; empty if there is none."""
        text = self.extended[_TEXT_START : _TEXT_START + _TEXT_BYTES].partition(b"\0")[0]
        return text.decode("latin-1").strip()


def read_tag(file: BinaryIO, end: int) -> Tag | None:
    """Read the ID3v1 tag that ends at an offset; None if there is none."""
    start = max(0, end - _BYTES - _EXTENDED_BYTES)
    file.seek(start)
    block = file.read(end - start)
    # Where an APE tag lies there, its name "APETAGEX" may be cut into what looks like a tag of this kind.
    if block[-_BYTES:][:3] != b"TAG" or len(block) < _BYTES or block[-_BYTES - 3 :].startswith(b"APETAGEX"):
        return None
    extended = block[-_BYTES - _EXTENDED_BYTES : -_BYTES]
    if len(extended) < _EXTENDED_BYTES or not extended.startswith(b"TAG+"):
        extended = b""
    return Tag(end - _BYTES - len(extended), block[-_BYTES:], extended)


def read_genres(tag: Tag) -> list[str]:
    """Return the genres in an ID3v1 tag, that of the extended one first."""
    return [genre for genre in (tag.free_genre, tag.numbered_genre) if genre]


def plan_genre(tag: Tag, genres: Sequence[str]) -> list[Splice]:
    """Plan a tag's genre to be the first of some genres, or none where the tag cannot name it."""
    end = tag.start + len(tag.extended) + _BYTES
    splices = []
    if fold_name(tag.numbered_genre) != fold_name(genres[0]):
        number = genre_number(genres[0])
        splices.append(Splice(end - 1, end, bytes([NO_GENRE if number is None else number])))
    if tag.free_genre:
        text = genres[0].encode("latin-1", errors="replace")
        fits = len(text) <= _TEXT_BYTES and genres[0] == text.decode("latin-1")
        start = tag.start + _TEXT_START
        splices.append(Splice(start, start + _TEXT_BYTES, (text if fits else b"").ljust(_TEXT_BYTES, b"\0")))
    return splices


def plan_correction(tag: Tag, genres: Sequence[str]) -> list[Splice]:
    """Plan a tag that has a genre to name the first of some genres, or none; a tag without one stays as it is."""
    return plan_genre(tag, genres) if read_genres(tag) else []
