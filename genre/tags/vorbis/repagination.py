"""Changes of the packet that begins some Ogg pages, while all other pages stay as they are if at all possible."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from genre.errors import DataError
from genre.tags.splices import Splice
from genre.tags.vorbis.pages import (
    CONTINUED,
    LAST,
    MAX_SEGMENTS,
    NO_GRANULE,
    NUMBERS,
    SEGMENT,
    Page,
    check_page,
    read_body,
)


@dataclass(frozen=True)
class _Piece:
    """Bytes for the new pages, and where they lie in the original file; -1 if they are new."""

    content: bytes
    origin: int

    @property
    def end(self) -> int:
        return self.origin + len(self.content)


def first_packet_size(pages: Sequence[Page]) -> int:
    """Return the size of the packet that begins the first of some pages, bytes."""
    lacing = b"".join(page.lacing for page in pages)
    return sum(lacing[: _count_segments(lacing)])


def plan_pages(pages: Sequence[Page], bodies: Sequence[bytes], edits: Sequence[Splice]) -> tuple[list[Splice], int]:
    """Plan pages on which the first packet is changed.

    Every page keeps its number of segments except the last, which takes what there is more or less. If it cannot, all
    are filled anew, and pages may be added.

    Parameters
    ----------
    pages : sequence of Page
        Those that the packet lies on, no more.
    bodies : sequence of bytes
        Their segments.
    edits : sequence of Splice
        Changes, relative to the packet.

    Returns
    -------
    list of Splice
        Splices of the file.
    int
        Number of pages added.

    Raises
    ------
    DataError
        If the packet cannot be laid on these pages.
    """
    pieces = _apply_edits([_Piece(body, page.body_start) for page, body in zip(pages, bodies, strict=True)], edits)
    lacing = _new_lacing(pages, sum(len(piece.content) for piece in pieces))
    contents: list[list[_Piece]] = [[] for _ in pages]
    counts = _share_segments(pages, len(lacing))
    is_continued = False
    for n, count in enumerate(counts):
        page = _new_page(pages, n, lacing[:count], is_continued)
        body = _take(pieces, sum(page.lacing))
        header = page.encode_header(b"".join(piece.content for piece in body))
        contents[min(n, len(pages) - 1)] += [_Piece(header, -1), *body]
        is_continued = page.lacing[-1] == SEGMENT
        lacing = lacing[count:]
    splices = [splice for page, content in zip(pages, contents, strict=True) for splice in _replace_page(page, content)]
    return splices, len(counts) - len(pages)


def renumber_pages(file: BinaryIO, pages: Sequence[Page], n_added: int) -> list[Splice]:
    """Plan the splices that raise the sequence numbers of pages by `n_added`.

    Raises
    ------
    DataError
        If a page is damaged.
    """
    splices = []
    for page in pages:
        check_page(file, page)
        header = replace(page, sequence=page.sequence + n_added).encode_header(read_body(file, page))
        splices.append(Splice(page.start + NUMBERS.start, page.start + NUMBERS.stop, header[NUMBERS]))
    return splices


def _count_segments(lacing: bytes) -> int:
    """Count the segments of the first packet."""
    return next(n for n, size in enumerate(lacing, 1) if size < SEGMENT)


def _apply_edits(pieces: Sequence[_Piece], edits: Sequence[Splice]) -> deque[_Piece]:
    """Replace stretches of the pieces."""
    rest = deque(pieces)
    edited: deque[_Piece] = deque()
    position = 0
    for edit in sorted(edits):
        edited += _take(rest, edit.start - position)
        _take(rest, edit.end - edit.start)
        edited.append(_Piece(edit.content, -1))
        position = edit.end
    return edited + rest


def _take(pieces: deque[_Piece], count: int) -> list[_Piece]:
    """Remove `count` bytes from the front of the pieces, and return them."""
    taken = []
    while count:
        piece = pieces.popleft()
        if len(piece.content) > count:
            rest_origin = piece.origin + count if piece.origin >= 0 else -1
            pieces.appendleft(_Piece(piece.content[count:], rest_origin))
            piece = _Piece(piece.content[:count], piece.origin)
        taken.append(piece)
        count -= len(piece.content)
    return taken


def _new_lacing(pages: Sequence[Page], size: int) -> bytes:
    """Return the lacing of pages with `size` bytes of segments, when only the first packet has another size."""
    old = b"".join(page.lacing for page in pages)
    others = old[_count_segments(old) :]
    full, rest = divmod(size - sum(others), SEGMENT)
    return bytes([SEGMENT]) * full + bytes([rest]) + others


def _share_segments(pages: Sequence[Page], total: int) -> list[int]:
    """Return how many of `total` segments each page holds."""
    counts = [len(page.lacing) for page in pages[:-1]]
    counts.append(total - sum(counts))
    if 1 <= counts[-1] <= MAX_SEGMENTS:
        return counts
    n_pages = max(len(pages), -(-total // MAX_SEGMENTS))
    if total < n_pages:
        raise DataError("its comments lie on more Ogg pages than they have segments")
    counts = []
    for left in reversed(range(n_pages)):
        counts.append(min(MAX_SEGMENTS, total - sum(counts) - left))
    return counts


def _new_page(pages: Sequence[Page], n: int, lacing: bytes, is_continued: bool) -> Page:
    """Return the header of the new page number `n`, after the old page in its place or, if there is none, the last."""
    last = pages[-1]
    if n >= len(pages) and last.flags & LAST:
        raise DataError("an Ogg stream has nothing but comments")
    old = pages[n] if n < len(pages) else replace(last, flags=0, sequence=last.sequence + n + 1 - len(pages))
    new = replace(old, flags=old.flags & ~CONTINUED | CONTINUED * is_continued, lacing=lacing)
    # A packet may now end on another page than before.
    if new.ends_packet != old.ends_packet:
        new = replace(new, granule=last.granule if new.ends_packet else NO_GRANULE)
    return new


def _replace_page(page: Page, pieces: Sequence[_Piece]) -> list[Splice]:
    """Plan the splices that put some pieces in the place of a page, and leave what is there already."""
    splices = []
    position, content = page.start, b""
    for piece in pieces:
        if position <= piece.origin and piece.end <= page.end:
            splices.append(Splice(position, piece.origin, content))
            position, content = piece.end, b""
        else:
            content += piece.content
    return [
        splice
        for splice in (*splices, Splice(position, page.end, content))
        if splice.end > splice.start or splice.content
    ]
