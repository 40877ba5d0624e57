"""Genres in files of chunks: WAV, AIFF, DSDIFF and DSF, in an ID3v2 chunk and in LIST/INFO."""

from collections.abc import Sequence
from typing import BinaryIO

from genre.errors import DataError
from genre.tags.chunks import dsf, info
from genre.tags.chunks.structure import Chunk, Form, append_chunk, read_form, resize_chunk, resize_form
from genre.tags.id3 import editing, tag
from genre.tags.splices import Splice

#: Names of chunks with an ID3v2 tag; the first is written in WAV, the second in AIFF and DSDIFF.
_ID3_NAMES = {b"id3 ", b"ID3 "}


def read_genres(file: BinaryIO) -> list[str]:
    """Read the genres of a file of chunks: those in ID3v2, then those in LIST/INFO. A file may be cut short.

    Raises
    ------
    DataError
        If it is no file of chunks, or a tag in it is broken.
    """
    if dsf.is_dsf(file):
        return dsf.read_genres(file)
    form = _read_form(file)
    genres = [genre for _, found in _read_tags(file, form) for genre in tag.read_genres(found)]
    return genres + [genre for _, items in _read_infos(file, form) for genre in info.read_genres(items)]


def plan_genres(file: BinaryIO, genres: Sequence[str]) -> list[Splice]:
    """Plan the genres of a file of chunks.

    They go into the first ID3v2 chunk and into the first LIST/INFO, since many players read one of the two (FFmpeg 5 no
    ID3v2 beside LIST/INFO). A new ID3v2 chunk is made unless LIST/INFO describes the music: it would hide the other
    fields from players. Any further place that has a genre is changed too.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.
    genres : sequence of str
        At least one.

    Raises
    ------
    DataError
        If it is no file of chunks, its sizes are wrong, or a tag in it cannot be changed safely.
    """
    if dsf.is_dsf(file):
        return dsf.plan_genres(file, genres)
    form = _read_form(file)
    if form.defect:
        raise DataError(form.defect)
    tags = _read_tags(file, form)
    infos = _read_infos(file, form)
    splices: list[Splice] = []
    for chunk, found in tags:
        if found.has_genre or chunk is tags[0][0]:
            splices += resize_chunk(form, chunk, editing.plan_genres(found, genres))
    for chunk, items in infos:
        if info.has_genre(items) or chunk is infos[0][0]:
            splices += resize_chunk(form, chunk, info.plan_genres(chunk, items, genres, form.layout))
    if not tags and not any(info.describes_music(items) for _, items in infos):
        splices = append_chunk(form, editing.create_tag(genres), splices)
    return resize_form(form, splices)


def _read_form(file: BinaryIO) -> Form:
    """Return the chunks of a file."""
    form = read_form(file)
    if form is None:
        raise DataError("it is no WAV, AIFF, DSDIFF or DSF file")
    return form


def _read_tags(file: BinaryIO, form: Form) -> list[tuple[Chunk, tag.Tag]]:
    """Return the ID3v2 tags of a file, with their chunks."""
    tags = []
    for chunk in form.chunks:
        if chunk.name in _ID3_NAMES:
            found = tag.read_tag(file, chunk.start)
            if found is None or found.end > chunk.end:
                raise DataError(f"there is no whole ID3v2 tag in its chunk {chunk.name.decode()!r}")
            tags.append((chunk, found))
    return tags


def _read_infos(file: BinaryIO, form: Form) -> list[tuple[Chunk, list[info.Item]]]:
    """Return the items of the LIST/INFO chunks of a file, with the chunks."""
    return [(c, info.read_items(file, c, form.layout)) for c in form.chunks if info.is_info(file, c)]
