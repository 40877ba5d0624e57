"""Genres as ID3 writes them: names, numbers of ID3v1, several in one frame."""

import re
from collections.abc import Iterable, Sequence

from mutagen.id3 import TCON

from genre.errors import DataError
from genre.tags.names import fold_name

#: Text encodings of ID3v2 by the first byte of a text frame (ID3v2.4.0-structure, section 4).
_ENCODINGS = {0: "latin-1", 1: "utf-16", 2: "utf-16-be", 3: "utf-8"}

#: Division of several genres in one text. ID3v2.4 divides texts by null characters; before it a text frame is one text,
#: and players write this.
SEPARATOR = "; "

#: The genres of ID3v1 by number, those that Winamp added included.
_NUMBERED = {fold_name(name): number for number, name in reversed(list(enumerate(TCON.GENRES)))}


def genre_name(number: int) -> str:
    """Return the genre with a number of ID3v1; empty if there is none."""
    return TCON.GENRES[number] if number < len(TCON.GENRES) else ""


def genre_number(genre: str) -> int | None:
    """Return the number of a genre in ID3v1; None if it has none."""
    return _NUMBERED.get(fold_name(genre))


def split_genres(text: str) -> list[str]:
    """Divide a text at its semicolons."""
    return [part.strip() for part in text.split(SEPARATOR.strip()) if part.strip()]


def join_genres(genres: Sequence[str]) -> str:
    """Write several genres as one text.

    Raises
    ------
    DataError
        If a genre contains a semicolon, and would be read as two.
    """
    for genre in genres:
        if ";" in genre:
            raise DataError(f"this kind of tag divides genres by semicolons, and {genre!r} contains one")
    return SEPARATOR.join(genres)


def decode_genres(content: bytes, version: int) -> list[str]:
    """Read the genres in the content of a genre frame.

    Parameters
    ----------
    content : bytes
        Encoding, then text.
    version : int
        2, 3 or 4. Before 4, a semicolon divides genres as a null character does.

    Returns
    -------
    list of str
        Names; numbers of ID3v1 are resolved, one without a name is "Unknown". Empty if the encoding is unknown.
    """
    encoding = _ENCODINGS.get(content[0]) if content else None
    if encoding is None:
        return []
    if content[0] == 1 and content[1:3] not in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16-le"  # without a byte order mark, as Windows programs write it
    texts = content[1:].decode(encoding, errors="replace").replace("\ufeff", "").split("\0")
    if version < 4:
        texts = [part for text in texts for part in split_genres(text)]
    return resolve_genres(texts)


def resolve_genres(texts: Iterable[str]) -> list[str]:
    """Return the names of genres that may be numbers: "17", "(17)", "(17)(RX)Refinement"."""
    return [str(genre) for genre in TCON(encoding=3, text=[text.strip() for text in texts]).genres]


def encode_genres(genres: Sequence[str], version: int) -> bytes:
    """Write the content of a genre frame.

    Parameters
    ----------
    genres : sequence of str
        Names, at least one.
    version : int
        2, 3 or 4. In 4 a null character divides several genres, before it a semicolon and a space.

    Raises
    ------
    DataError
        If a genre contains the character that divides genres.
    """
    if version == 4:
        text = "\0".join(genres)
        if text.count("\0") != len(genres) - 1:
            raise DataError("a genre contains a null character")
        return b"\0" + text.encode() if text.isascii() else b"\3" + text.encode()
    # In ID3v2.3 (section 4.2.1, TCON) a parenthesis begins a number, and two of them stand for one.
    text = join_genres([re.sub(r"^\(", "((", genre) for genre in genres])
    return b"\0" + text.encode() if text.isascii() else b"\1" + ("\ufeff" + text).encode("utf-16-le")
