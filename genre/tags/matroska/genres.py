"""Genres in an element of Matroska's tags.

Layout: RFC 9559, section 5.1.8; the names of tags: https://www.matroska.org/technical/tagging.html. Several genres are
several tags of the same name.
"""

from collections.abc import Sequence
from typing import BinaryIO

from genre.tags.matroska.ebml import CRC, Element, iterate_elements, make_element, read_content, replace_children
from genre.tags.reading import read_exactly

#: Elements.
TAGS = b"\x12\x54\xc3\x67"
_TAG = b"\x73\x73"
_TARGETS = b"\x63\xc0"
_SIMPLE_TAG = b"\x67\xc8"
_NAME = b"\x45\xa3"
_STRING = b"\x44\x87"

#: Targets: a track; and what is but a part of the file, a chapter, an edition, an attachment, whose genres are not the
#: file's.
_TRACK = b"\x63\xc5"
_PARTS = (b"\x63\xc4", b"\x63\xc9", b"\x63\xc6")

_GENRE = "GENRE"


def find_genres(file: BinaryIO, tags: Element) -> list[str]:
    """Find the genres of the file or of a track of it.

    Raises
    ------
    DataError
        If an element is broken.
    """
    items = [item for tag in _tags_of_file(file, tags) for item in children_of(file, tag) if _is_genre(file, item)]
    return [_read_text(file, item, _STRING) for item in items]


def edit_tags(file: BinaryIO, tags: Element, genres: Sequence[str]) -> bytes:
    """Return the bytes of an element of tags in which `genres` are the only ones.

    They take the place of the first one, or else follow the tags of the whole file.

    Raises
    ------
    DataError
        If an element is broken.
    """
    candidates = _tags_of_file(file, tags)
    with_genre = [tag for tag in candidates if any(_is_genre(file, item) for item in children_of(file, tag))]
    homes = with_genre + [tag for tag in candidates if not _is_target(file, tag, (_TRACK,))]
    items = b"".join(_make_item(genre) for genre in genres)
    children = []
    for child in children_of(file, tags):
        is_edited = child in with_genre or child in homes[:1]
        new = items if child in homes[:1] else b""
        children.append(_edit_tag(file, child, new) if is_edited else _read_whole(file, child))
    if items and not homes:
        children.append(_make_tag(items))
    return replace_children(file, tags, children)


def new_tags(genres: Sequence[str]) -> bytes:
    """Return an element of tags with nothing but genres."""
    return make_element(TAGS, _make_tag(b"".join(_make_item(genre) for genre in genres)))


def children_of(file: BinaryIO, parent: Element) -> list[Element]:
    """Return the elements in another, but its checksum.

    Raises
    ------
    DataError
        If they are broken.
    """
    elements = iterate_elements(file, parent.content_start, parent.end)
    return [element for element in elements if element.kind != CRC]


def _tags_of_file(file: BinaryIO, tags: Element) -> list[Element]:
    """Return the tags that are not of a part of the file."""
    found = [child for child in children_of(file, tags) if child.kind == _TAG]
    return [tag for tag in found if not _is_target(file, tag, _PARTS)]


def _is_target(file: BinaryIO, tag: Element, kinds: Sequence[bytes]) -> bool:
    """Return whether a tag is of something of some kinds; the number 0 stands for all of them."""
    targets = [child for child in children_of(file, tag) if child.kind == _TARGETS]
    return any(
        any(read_content(file, item)) for target in targets for item in children_of(file, target) if item.kind in kinds
    )


def _is_genre(file: BinaryIO, item: Element) -> bool:
    """Return whether an element is a genre."""
    return item.kind == _SIMPLE_TAG and _read_text(file, item, _NAME).upper() == _GENRE


def _read_text(file: BinaryIO, parent: Element, kind: bytes) -> str:
    """Read a text in an element; empty if there is none. Zeros may follow it."""
    texts = [read_content(file, child) for child in children_of(file, parent) if child.kind == kind]
    return b"".join(texts[:1]).rstrip(b"\0").decode(errors="replace")


def _edit_tag(file: BinaryIO, tag: Element, items: bytes) -> bytes:
    """Return the bytes of a tag with other genres: in the place of the first one, or at its end."""
    children = []
    for child in children_of(file, tag):
        if _is_genre(file, child):
            children.append(items)
            items = b""
        else:
            children.append(_read_whole(file, child))
    return replace_children(file, tag, [*children, items])


def _make_item(genre: str) -> bytes:
    """Return the bytes of one genre."""
    return make_element(_SIMPLE_TAG, make_element(_NAME, _GENRE.encode()) + make_element(_STRING, genre.encode()))


def _make_tag(items: bytes) -> bytes:
    """Return the bytes of a tag of the whole file."""
    return make_element(_TAG, make_element(_TARGETS, b"") + items)


def _read_whole(file: BinaryIO, element: Element) -> bytes:
    """Read an element with its head."""
    return read_exactly(file, element.start, element.end - element.start)
