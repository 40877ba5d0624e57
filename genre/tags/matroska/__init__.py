"""Genres in Matroska and WebM files.

Layout: RFC 9559. Everything in a file is found by its distance from the start of the segment's content, so nothing
moves: where tags need more room than there is, they are written to the end of the segment, and the table of what is
where (``SeekHead``, section 5.1.1) points there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from genre.errors import DataError
from genre.tags.matroska.ebml import (
    CRC,
    MIN_VOID,
    VOID,
    Element,
    encode_size,
    iterate_elements,
    make_element,
    make_void,
    read_content,
    read_element,
    replace_children,
    widen_size,
)
from genre.tags.matroska.genres import TAGS, children_of, edit_tags, find_genres, new_tags
from genre.tags.reading import file_size, read_exactly
from genre.tags.splices import Splice

#: Elements.
_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_SEEK_HEAD = b"\x11\x4d\x9b\x74"
_SEEK = b"\x4d\xbb"
_SEEK_ID = b"\x53\xab"
_SEEK_POSITION = b"\x53\xac"


@dataclass(frozen=True)
class _Segment:
    """The segment of a file, and the elements in it."""

    whole: Element
    elements: list[Element]

    @property
    def tags(self) -> list[Element]:
        return [element for element in self.elements if element.kind == TAGS]


def read_genres(file: BinaryIO) -> list[str]:
    """Read the genres of a Matroska file, of whatever track, but not those of chapters.

    Raises
    ------
    DataError
        If its elements are broken.
    """
    return [genre for tags in _read_segment(file, complete=False).tags for genre in find_genres(file, tags)]


def plan_genres(file: BinaryIO, genres: Sequence[str]) -> list[Splice]:
    """Plan the splices that make `genres` the only genres of a Matroska file.

    Raises
    ------
    DataError
        If its elements are broken, or there is no room for the tags or for their place.
    """
    segment = _read_segment(file, complete=True)
    if segment.elements and segment.elements[0].kind == CRC:
        raise DataError("its segment has a checksum, which would be wrong")
    if not segment.tags:
        return _append(file, segment, new_tags(genres), None)
    first, *others = segment.tags
    new = edit_tags(file, first, genres)
    splices = _fit(segment, first, new) or _append(file, segment, new, first)
    for tags in others:
        rest = _fit(segment, tags, edit_tags(file, tags, ()))
        # The size of the segment, a second splice, has changed already.
        if len(rest) != 1:
            raise DataError(f"there is no room for the tags at byte {tags.start}")
        splices += rest
    return splices


def _read_segment(file: BinaryIO, *, complete: bool) -> _Segment:
    """Read the heads of the elements in the segment; unless it has to be complete, its end may be cut off."""
    size = file_size(file)
    head = read_element(file, 0, size)
    if head.kind != _EBML:
        raise DataError("it does not begin with the header of a Matroska file")
    whole = read_element(file, head.end, size, may_be_cut=not complete)
    if whole.kind != _SEGMENT:
        raise DataError(f"there is no Matroska segment at byte {head.end}")
    elements: list[Element] = []
    try:
        for element in iterate_elements(file, whole.content_start, whole.end):
            elements.append(element)
    except DataError:
        if complete:
            raise
    return _Segment(whole, elements)


def _fit(segment: _Segment, old: Element, new: bytes) -> list[Splice]:
    """Plan an element in the place of another and of what is void behind it; nothing if there is no room."""
    behind = segment.elements[segment.elements.index(old) + 1 :]
    end = behind[0].end if behind and behind[0].kind == VOID else old.end
    gap = end - old.start - len(new)
    if gap == 0 or gap >= MIN_VOID:
        return [Splice(old.start, end, new + (make_void(gap) if gap else b""))]
    if gap == 1 and (wider := widen_size(new)):
        return [Splice(old.start, end, wider)]
    return [Splice(old.start, end, new), *_grow(segment, -gap)] if end == segment.whole.end else []


def _append(file: BinaryIO, segment: _Segment, new: bytes, old: Element | None) -> list[Splice]:
    """Plan an element at the end of the segment, and nothing where it was."""
    end = segment.whole.end
    splices = [Splice(end, end, new), *_grow(segment, len(new))]
    if old:
        splices.append(Splice(old.start, old.end, make_void(old.end - old.start)))
    place = old.start - segment.whole.content_start if old else -1
    return splices + _point_to(file, segment, place, end - segment.whole.content_start)


def _point_to(file: BinaryIO, segment: _Segment, old: int, new: int) -> list[Splice]:
    """Plan the table of what is where when tags move from `old`, or are new, to `new`."""
    if not segment.elements or segment.elements[0].kind != _SEEK_HEAD:
        raise DataError("there is no room for more tags, and no table at its start that could say where they are")
    head = segment.elements[0]
    seeks = [seek for seek in children_of(file, head) if not _is_seek(file, seek, old)]
    kept = [read_exactly(file, seek.start, seek.end - seek.start) for seek in seeks]
    place = make_element(_SEEK_POSITION, new.to_bytes(max(1, -(-new.bit_length() // 8)), "big"))
    table = replace_children(file, head, [*kept, make_element(_SEEK, make_element(_SEEK_ID, TAGS) + place)])
    splices = _fit(segment, head, table)
    if not splices:
        raise DataError("there is no room for more tags, and none in the table at its start to say where they are")
    return splices


def _is_seek(file: BinaryIO, seek: Element, position: int) -> bool:
    """Return whether an entry of the table is of tags at a position."""
    values = {child.kind: read_content(file, child) for child in children_of(file, seek)}
    return values.get(_SEEK_ID) == TAGS and int.from_bytes(values.get(_SEEK_POSITION, b""), "big") == position


def _grow(segment: _Segment, growth: int) -> list[Splice]:
    """Plan the splice of the segment's size, in as many bytes as it has; none if it is unknown."""
    whole = segment.whole
    if whole.is_open:
        return []
    size = encode_size(whole.end - whole.content_start + growth, whole.size_width)
    return [Splice(whole.size_start, whole.content_start, size)]
