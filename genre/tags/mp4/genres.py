"""Genres in the atoms of an MP4 file: iTunes' list, and the user data of QuickTime and 3GPP."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from mutagen.id3 import TCON

from genre.tags.mp4.atoms import VERSION, Atom, find_chains, make_atom, read_children, read_content, read_list
from genre.tags.splices import Splice

#: Atoms of a list of items: a text, a number of ID3v1 plus one, and a text with a name of its own ("freeform").
TEXT = b"\xa9gen"
_NUMBER = b"gnre"
_NAMED = b"----"
_ITEMS = (TEXT, _NUMBER, _NAMED)

#: Types of a value: QuickTime File Format, "Well-known types".
_UTF8 = 1
_UTF16 = 2

#: Beginning of Apple's names of keys.
_APPLE_KEY = b"com.apple.quicktime."

#: Where lists of items are.
_ITUNES_LIST = (b"moov", b"udta", b"meta", b"ilst")
_QUICKTIME_LIST = (b"moov", b"meta", b"ilst")


@dataclass(frozen=True)
class GenreAtom:
    """Atom that is a genre, and no more.

    Attributes
    ----------
    parents : tuple of Atom
        Atoms that it lies in, the outermost first.
    atom : Atom
        The atom.
    genres : list of str
        Genres in it; empty for a number that means none.
    is_keyed : bool
        Whether its kind is a number in a table of keys.
    """

    parents: tuple[Atom, ...]
    atom: Atom
    genres: list[str]
    is_keyed: bool = False

    @property
    def is_main(self) -> bool:
        """Return whether it is an item of the list in the user data, where a genre is written."""
        return self.rank < len(_ITEMS)

    @property
    def rank(self) -> int:
        """Return its place in the order of precedence: that list's by key, its others by kind, then all others."""
        if tuple(parent.kind for parent in self.parents) != _ITUNES_LIST:
            return len(_ITEMS)
        return -1 if self.is_keyed else _ITEMS.index(self.atom.kind)

    @property
    def new_kind(self) -> bytes:
        """Return the kind of the item that takes its place."""
        return self.atom.kind if self.is_keyed else TEXT


def find_genres(file: BinaryIO, atoms: list[Atom]) -> list[GenreAtom]:
    """Find all genres, those that count most first.

    Raises
    ------
    DataError
        If an atom on the way is broken.
    """
    found = []
    for path in (_ITUNES_LIST, _QUICKTIME_LIST):
        for chain in find_chains(file, atoms, *path):
            named = _genre_keys(file, chain[-2])
            items = [(item, _read_item(file, item, named)) for item in read_children(file, chain[-1])]
            found += [
                GenreAtom(chain, item, genres, item.kind in named) for item, genres in items if genres is not None
            ]
    for kind in (TEXT, _NUMBER):
        for *parents, atom in find_chains(file, atoms, b"moov", b"udta", kind):
            read = _read_quicktime_text if kind == TEXT else _read_3gpp_text
            found.append(GenreAtom(tuple(parents), atom, [read(read_content(file, atom))]))
    return sorted(found, key=lambda genre: genre.rank)


def make_item(genres: Sequence[str], kind: bytes = TEXT) -> bytes:
    """Return the bytes of an item with one value for each genre."""
    values = [_UTF8.to_bytes(4, "big") + bytes(4) + genre.encode() for genre in genres]
    return make_atom(kind, b"".join(make_atom(b"data", value) for value in values))


def plan_key(file: BinaryIO, keys: Atom) -> tuple[list[Splice], bytes]:
    """Plan one more key, of the genre, in a table of keys; return the kind of its items too.

    Raises
    ------
    DataError
        If the table is broken.
    """
    names = _read_keys(file, keys)
    prefix = _APPLE_KEY if any(name.startswith(_APPLE_KEY) for name in names) else b""
    count = keys.content_start + VERSION
    kind = (len(names) + 1).to_bytes(4, "big")
    return [Splice(count, count + 4, kind), Splice(keys.end, keys.end, make_atom(b"mdta", prefix + b"genre"))], kind


def _read_item(file: BinaryIO, item: Atom, named: set[bytes]) -> list[str] | None:
    """Read the genres of an item; None if it is something else."""
    if item.kind == TEXT or item.kind in named:
        return [_decode_value(value) for value in _read_values(file, item)]
    if item.kind == _NUMBER:
        return [name for value in _read_values(file, item) for name in _name_number(value[8:])]
    if item.kind == _NAMED and _read_name(file, item).upper() == b"GENRE":
        return [_decode_value(value) for value in _read_values(file, item)]
    return None


def _read_values(file: BinaryIO, item: Atom) -> list[bytes]:
    """Read the values of an item, each with its type and locale of four bytes each."""
    return [read_content(file, child) for child in read_children(file, item) if child.kind == b"data"]


def _read_name(file: BinaryIO, item: Atom) -> bytes:
    """Read the name of a freeform item, whatever its domain."""
    names = [read_content(file, child)[VERSION:] for child in read_children(file, item) if child.kind == b"name"]
    return b"".join(names[:1])


def _genre_keys(file: BinaryIO, meta: Atom) -> set[bytes]:
    """Find the kinds of items that a table of keys calls a genre: QuickTime File Format, "Metadata item keys atom"."""
    names = [name for child in read_children(file, meta) if child.kind == b"keys" for name in _read_keys(file, child)]
    return {n.to_bytes(4, "big") for n, name in enumerate(names, 1) if name.lower().rpartition(b".")[2] == b"genre"}


def _read_keys(file: BinaryIO, keys: Atom) -> list[bytes]:
    """Read the names in a table of keys."""
    return [read_content(file, key) for key in read_list(file, keys)]


def _decode_value(value: bytes) -> str:
    """Decode a value by its type."""
    kind, text = int.from_bytes(value[:4], "big"), value[8:]
    return text.decode("utf-16-be", "replace") if kind == _UTF16 else _decode_text(text, "latin-1")


def _name_number(number: bytes) -> list[str]:
    """Return the genre with a number of ID3v1 plus one; none for 0 and for numbers without a name."""
    index = int.from_bytes(number, "big") - 1
    return TCON.GENRES[index : index + 1] if index >= 0 else []


def _read_quicktime_text(content: bytes) -> str:
    """Read the first text of QuickTime's user data: size and language of two bytes each, then the text."""
    return _decode_text(content[4 : 4 + int.from_bytes(content[:2], "big")], "mac_roman")


def _read_3gpp_text(content: bytes) -> str:
    """Read a text of 3GPP TS 26.244, section 8: version, language of two bytes, and a text that ends with a zero."""
    text = content[VERSION + 2 :]
    if text.startswith((b"\xfe\xff", b"\xff\xfe")):
        return text.decode("utf-16", "replace").partition("\0")[0]
    return _decode_text(text.partition(b"\0")[0], "latin-1")


def _decode_text(text: bytes, fallback: str) -> str:
    """Decode UTF-8, or else another encoding."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode(fallback)
