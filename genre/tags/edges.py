"""Genres in the tags before and behind a bare stream: ID3v2 and APE at either end, ID3v1 at the very end.

MP3, MP2, AAC (ADTS), AC-3, TTA, Monkey's Audio, WavPack, Musepack, and FLAC where a program put such tags around it.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from genre.errors import DataError
from genre.tags import ape
from genre.tags.id3 import editing, tag, v1
from genre.tags.splices import Splice

#: End of Lyrics3 tags, http://id3.org/Lyrics3 and Lyrics3v2, their beginning, and the most bytes of version 1.
_LYRICS_END = (b"LYRICSEND", b"LYRICS200")
_LYRICS_BEGIN = b"LYRICSBEGIN"
_MAX_LYRICS = 5100 + len(_LYRICS_BEGIN) + 9


@dataclass(frozen=True)
class Edges:
    """Tags at both ends of a stream.

    Attributes
    ----------
    start, end : int
        Stretch of the file between the tags.
    id3 : tuple of tag.Tag
        ID3v2 tags, those in front first.
    ape : tuple of ape.Tag
        APE tags.
    v1 : tuple of v1.Tag
        ID3v1 tags, the last one first: it counts, and some programs append one to another.
    """

    start: int
    end: int
    id3: tuple[tag.Tag, ...]
    ape: tuple[ape.Tag, ...]
    v1: tuple[v1.Tag, ...]


def read_edges(file: BinaryIO) -> Edges:
    """Read the tags at both ends of a file.

    Raises
    ------
    DataError
        If one of them is broken.
    """
    fronts = _read_fronts(file)
    start = fronts[-1].end if fronts else 0
    size = file.seek(0, 2)
    lasts = _read_v1(file, start, size)
    backs, end = _read_backs(file, start, lasts[-1].start if lasts else size)
    sought = _follow_seek(file, fronts, {found.start for found in (*fronts, *backs)})
    tags = (*fronts, *backs, *sought)
    id3 = tuple(found for found in tags if isinstance(found, tag.Tag))
    return Edges(start, end, id3, tuple(found for found in tags if isinstance(found, ape.Tag)), lasts)


def _read_fronts(file: BinaryIO) -> list[tag.Tag | ape.Tag]:
    """Read the tags that follow each other from the beginning of a file."""
    fronts: list[tag.Tag | ape.Tag] = []
    start = 0
    while found := tag.read_tag(file, start) or ape.read_tag_after(file, start):
        fronts.append(found)
        start = found.end
    return fronts


def _read_v1(file: BinaryIO, start: int, end: int) -> tuple[v1.Tag, ...]:
    """Read the ID3v1 tags of a stretch of a file from its end."""
    lasts: list[v1.Tag] = []
    while (found := v1.read_tag(file, end)) and found.start >= start:
        lasts.append(found)
        end = found.start
    return tuple(lasts)


def _read_backs(file: BinaryIO, start: int, end: int) -> tuple[list[tag.Tag | ape.Tag], int]:
    """Read the tags of a stretch of a file from its end, and where they begin; Lyrics3 is skipped."""
    backs: list[tag.Tag | ape.Tag] = []
    while True:
        found = _read_id3_before(file, end) or ape.read_tag_before(file, end)
        before = found.start if found else _find_lyrics(file, end)
        if before is None or before < start:
            return backs, end
        backs += [found] if found else []
        end = before


def _follow_seek(file: BinaryIO, fronts: Sequence[tag.Tag | ape.Tag], known: Container[int]) -> list[tag.Tag]:
    """Return the ID3v2 tags to which a frame SEEK of those in front leads (2.4.0-frames, 4.29), but for known ones."""
    frames = [(front.end, frame) for front in fronts if isinstance(front, tag.Tag) for frame in front.frames]
    starts = [end + int.from_bytes(frame.content[:4], "big") for end, frame in frames if frame.name == b"SEEK"]
    return [found for start in starts if start not in known and (found := tag.read_tag(file, start))]


def _read_id3_before(file: BinaryIO, end: int) -> tag.Tag | None:
    """Read the ID3v2 tag whose footer ends at an offset; None if there is none."""
    file.seek(max(end - tag.HEADER_BYTES, 0))
    footer = file.read(tag.HEADER_BYTES)
    start = end - 2 * tag.HEADER_BYTES - tag.decode_size(footer[6:])
    if not footer.startswith(b"3DI\4") or start < 0:
        return None
    found = tag.read_tag(file, start)
    return found if found and found.end == end else None


def _find_lyrics(file: BinaryIO, end: int) -> int | None:
    """Return where the Lyrics3 tag that ends at an offset begins; None if there is none."""
    start = max(end - _MAX_LYRICS, 0)
    file.seek(start)
    block = file.read(end - start)
    if not block.endswith(_LYRICS_END):
        return None
    if block.endswith(_LYRICS_END[0]):
        found = block.rfind(_LYRICS_BEGIN)
        return start + found if found >= 0 else None
    size = block[-15:-9]
    begin = end - 15 - int(size) if size.isdigit() else -1
    file.seek(max(begin, 0))
    return begin if begin >= 0 and file.read(len(_LYRICS_BEGIN)) == _LYRICS_BEGIN else None


def audio_span(file: BinaryIO) -> tuple[int, int]:
    """Return where the stream between the tags of a file begins and ends.

    Raises
    ------
    DataError
        If one of the tags is broken.
    """
    edges = read_edges(file)
    return edges.start, edges.end


def read_genres(file: BinaryIO) -> list[str]:
    """Read the genres in the tags at both ends of a file: ID3v2, APE, ID3v1.

    Raises
    ------
    DataError
        If one of the tags is broken.
    """
    edges = read_edges(file)
    genres = [genre for found in edges.id3 for genre in tag.read_genres(found)]
    genres += [genre for found in edges.ape for genre in ape.read_genres(found)]
    return genres + [genre for found in edges.v1 for genre in v1.read_genres(found)]


def plan_genres(file: BinaryIO, genres: Sequence[str], *, main: str) -> list[Splice]:
    """Plan the genres in the tags at both ends of a file.

    Every tag that has a genre gets these, and so does the main one: the first ID3v2 or APE tag that exists, otherwise a
    new one. ID3v1 alone is changed alone, since a new tag would hide its other fields from players. An APE tag with
    nothing but loudness counts as none where the main tag is ID3v2.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.
    genres : sequence of str
        At least one.
    main : str
        Kind of tag that players of the format read: "id3", "ape", or "" if it is none of these, where only tags that
        have a genre are changed.

    Raises
    ------
    DataError
        If a tag is broken, or cannot hold the genres.
    """
    edges = read_edges(file)
    host = _find_host(edges, main)
    splices: list[Splice] = []
    if main and host is None:
        if edges.v1 and not edges.v1[0].is_blank:
            return _plan_v1_alone(edges.v1, genres)
        splices.append(_create_tag(edges, genres, main))
    tags: list[tag.Tag | ape.Tag] = [*edges.id3, *edges.ape]
    for found in tags:
        if found.has_genre or found is host:
            splices += _plan_tag(found, genres)
    return splices + _correct_v1(edges.v1, genres)


def _find_host(edges: Edges, main: str) -> tag.Tag | ape.Tag | None:
    """Return the tag where a genre goes if there is none; None if it goes into a new one or nowhere."""
    # Most players of MP3 look for no APE tag. But where one describes the music, ID3v2 would hide it from the others.
    describing = [found for found in edges.ape if found.describes_music]
    hosts: dict[str, list[tag.Tag | ape.Tag]] = {
        "id3": [*edges.id3, *describing],
        "ape": [*edges.ape, *edges.id3],
        "": [],
    }
    return hosts[main][0] if hosts[main] else None


def _plan_tag(found: tag.Tag | ape.Tag, genres: Sequence[str]) -> list[Splice]:
    """Plan the genres of one tag."""
    return ape.plan_genres(found, genres) if isinstance(found, ape.Tag) else editing.plan_genres(found, genres)


def _create_tag(edges: Edges, genres: Sequence[str], main: str) -> Splice:
    """Plan a new tag: ID3v2 before the stream, APE behind it, before ID3v1."""
    position = edges.end if main == "ape" else edges.start
    return Splice(position, position, ape.create_tag(genres) if main == "ape" else editing.create_tag(genres))


def _correct_v1(lasts: Sequence[v1.Tag], genres: Sequence[str]) -> list[Splice]:
    """Plan the genres of those ID3v1 tags that have one."""
    return [splice for found in lasts for splice in v1.plan_correction(found, genres)]


def _plan_v1_alone(lasts: Sequence[v1.Tag], genres: Sequence[str]) -> list[Splice]:
    """Plan the genre of a file whose only tag is ID3v1."""
    if len(genres) > 1 or v1.genre_number(genres[0]) is None:
        raise DataError(
            f"its only tag is ID3v1, which cannot hold the genre {', '.join(genres)}; convert it to ID3v2 with a tag "
            "editor"
        )
    return v1.plan_genre(lasts[0], genres) + _correct_v1(lasts[1:], genres)
