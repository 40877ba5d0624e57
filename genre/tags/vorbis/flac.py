"""Genres in a FLAC file: in the Vorbis comments among its blocks of metadata.

Layout: RFC 9639, section 8. A block has a header of four bytes: a flag of the last block, its type, and its size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from genre.errors import DataError
from genre.tags.reading import file_size, read_exactly
from genre.tags.splices import Splice, count_growth, shift_splices
from genre.tags.vorbis.comments import new_comments, parse_comments, plan_comments

#: Types of blocks.
_STREAMINFO = 0
_PADDING = 1
_COMMENTS = 4
_INVALID = 127

#: Flag of the last block, in the first byte of its header.
_LAST = 0x80

#: Largest size of a block, bytes: 24 bits.
_MAX_SIZE = (1 << 24) - 1


@dataclass(frozen=True)
class _Block:
    """Block of metadata, by the place of its header and the size of its content."""

    start: int
    kind: int
    is_last: bool
    size: int

    @property
    def content_start(self) -> int:
        return self.start + 4

    @property
    def end(self) -> int:
        return self.start + 4 + self.size


def read_genres(file: BinaryIO, start: int = 0) -> list[str]:
    """Read the genres of a FLAC file.

    Parameters
    ----------
    file : file
        Open, binary.
    start : int
        Where its ``fLaC`` stands, behind any foreign tag.

    Raises
    ------
    DataError
        If its blocks are broken.
    """
    genres: list[str] = []
    try:
        for block in _iterate_blocks(file, start):
            if block.kind == _COMMENTS:
                genres += parse_comments(_read_content(file, block)).genres
    except DataError:
        # Behind the comments there may be a picture of more than 16 MB, whose size is wrong; players do not mind.
        if not genres:
            raise
    return genres


def plan_genres(file: BinaryIO, genres: Sequence[str], start: int = 0) -> list[Splice]:
    """Plan the splices that make `genres` the only genres of a FLAC file.

    A block of padding takes up or gives the difference if it can, so that the audio stays where it is. Comments that
    are missing follow the first block.

    Parameters
    ----------
    file : file
        Open, binary.
    genres : sequence of str
        At least one.
    start : int
        Where its ``fLaC`` stands, behind any foreign tag.

    Raises
    ------
    DataError
        If its blocks are broken, or would become too large.
    """
    blocks = list(_iterate_blocks(file, start))
    _check_frame_follows(file, blocks[-1].end)
    comments = [block for block in blocks if block.kind == _COMMENTS]
    splices = _edit_comments(file, comments[0], genres) if comments else _insert_comments(blocks[0], genres)
    for block in comments[1:]:
        splices += _edit_comments(file, block, ())
    return splices + _adjust_padding(blocks, count_growth(splices))


def _iterate_blocks(file: BinaryIO, start: int) -> Iterator[_Block]:
    """Iterate over the headers of all blocks."""
    if read_exactly(file, start, 4) != b"fLaC":
        raise DataError(f"no FLAC stream begins at byte {start}")
    position, is_last = start + 4, False
    while not is_last:
        header = read_exactly(file, position, 4)
        kind, is_last = header[0] & ~_LAST, bool(header[0] & _LAST)
        if kind == _INVALID or (kind == _STREAMINFO) != (position == start + 4):
            raise DataError(f"the FLAC metadata has no valid block at byte {position}")
        block = _Block(position, kind, is_last, int.from_bytes(header[1:], "big"))
        yield block
        position = block.end


def _check_frame_follows(file: BinaryIO, end: int) -> None:
    """Check that audio follows the last block: a picture of more than 16 MB has a size that does not say so."""
    if file_size(file) == end:
        return
    sync = read_exactly(file, end, 2)
    if sync[0] != 0xFF or sync[1] & 0xFE != 0xF8:
        raise DataError(f"no audio follows the FLAC metadata at byte {end}; a block's size may be wrong")


def _read_content(file: BinaryIO, block: _Block) -> bytes:
    """Read the content of a block."""
    return read_exactly(file, block.content_start, block.size)


def _edit_comments(file: BinaryIO, block: _Block, genres: Sequence[str]) -> list[Splice]:
    """Plan the splices of a block of comments."""
    splices = shift_splices(plan_comments(_read_content(file, block), genres), block.content_start)
    return splices + _resize(block, count_growth(splices))


def _insert_comments(first: _Block, genres: Sequence[str]) -> list[Splice]:
    """Plan a block of comments behind the first block."""
    comments = new_comments(genres)
    header = bytes([_COMMENTS | _LAST * first.is_last]) + _encode_size(len(comments))
    return [Splice(first.start, first.start + 1, bytes([first.kind])), Splice(first.end, first.end, header + comments)]


def _adjust_padding(blocks: list[_Block], growth: int) -> list[Splice]:
    """Plan the splices of a block of padding that make up for a growth of others; none if no padding can."""
    for block in blocks:
        if growth and block.kind == _PADDING and 0 <= block.size - growth <= _MAX_SIZE:
            change = Splice(block.end - max(growth, 0), block.end, bytes(max(-growth, 0)))
            return [*_resize(block, -growth), change]
    return []


def _resize(block: _Block, growth: int) -> list[Splice]:
    """Plan the splice of a block's size."""
    return [Splice(block.start + 1, block.start + 4, _encode_size(block.size + growth))] if growth else []


def _encode_size(size: int) -> bytes:
    """Encode the size of a block."""
    if size > _MAX_SIZE:
        raise DataError(f"its comments would take {size} bytes; a block of FLAC metadata holds at most {_MAX_SIZE}")
    return size.to_bytes(3, "big")
