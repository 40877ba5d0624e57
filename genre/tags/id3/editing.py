"""Bytes of an ID3v2 tag whose change gives it other genres and nothing else."""

from collections.abc import Sequence

from genre.errors import DataError
from genre.tags.id3.tag import FRAME_FLAGS, HEADER_BYTES, Tag
from genre.tags.id3.text import encode_genres
from genre.tags.id3.unsynchronisation import unsynchronise
from genre.tags.splices import Splice, count_growth

#: Largest size of a tag: four bytes of seven bits.
_MAX_SIZE = (1 << 28) - 1


def plan_genres(tag: Tag, genres: Sequence[str]) -> list[Splice]:
    """Plan a tag's genres, in the place of the first genre frame or before all frames.

    Behind the others some players would not find it: they stop at a frame that they do not understand.

    Padding takes up the difference or gives it, so that nothing behind the tag moves; otherwise the tag grows by as
    much as it needs.

    Raises
    ------
    DataError
        If the tag cannot be changed safely.
    """
    old = tag.genre_frames
    if reason := tag.defect or _find_protection(tag):
        raise DataError(reason)
    frame = _encode_frame(genres, tag.version, old[0].flags if old else 0, plain=tag.plain_sizes)
    if tag.is_unsynchronised:
        frame = unsynchronise(frame)
    first = (old[0].start, old[0].end) if old else (tag.frames_start, tag.frames_start)
    splices = [Splice(*first, frame), *(Splice(other.start, other.end, b"") for other in old[1:])]
    return splices + _resize(tag, count_growth(splices))


def _find_protection(tag: Tag) -> str:
    """Return the reason for which the genre frames of a tag must stay; empty if there is none."""
    is_set = FRAME_FLAGS[tag.version]
    flags = [frame.flags for frame in tag.genre_frames]
    kinds = {"read-only": is_set.read_only, "encrypted": is_set.encrypted, "part of a group": is_set.grouped}
    return next((f"its genre frame is {kind}" for kind, bit in kinds.items() if any(f & bit for f in flags)), "")


def _encode_frame(genres: Sequence[str], version: int, flags: int, *, plain: bool) -> bytes:
    """Write a genre frame; of the flags of the old one, those of its status stay."""
    content = encode_genres(genres, version)
    if version == 2:
        return b"TCO" + len(content).to_bytes(3, "big") + content
    size = _encode_size(len(content)) if version == 4 and not plain else len(content).to_bytes(4, "big")
    return b"TCON" + size + (flags & 0xFF00).to_bytes(2, "big") + content


def _resize(tag: Tag, growth: int) -> list[Splice]:
    """Plan padding and size of a tag whose frames grow by some bytes."""
    taken = min(growth, tag.body_end - tag.frames_end) if tag.can_be_padded else 0
    splices = [Splice(tag.body_end - max(taken, 0), tag.body_end, bytes(max(-taken, 0)))] if taken else []
    if growth != taken:
        size = _encode_size(tag.body_end - tag.start - HEADER_BYTES + growth - taken)
        splices.append(Splice(tag.start + 6, tag.start + 10, size))
        if tag.has_footer:
            splices.append(Splice(tag.end - 4, tag.end, size))
    return splices


def create_tag(genres: Sequence[str]) -> bytes:
    """Return a tag of version 2.3, which every player reads, with genres and nothing else."""
    frame = _encode_frame(genres, 3, 0, plain=False)
    return b"ID3\3\0\0" + _encode_size(len(frame)) + frame


def _encode_size(number: int) -> bytes:
    """Write a number in four bytes of seven bits."""
    if number > _MAX_SIZE:
        raise DataError("its ID3v2 tag would be larger than 256 MB")
    return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))
