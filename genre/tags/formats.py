"""Formats of music files, recognised by their content, and the modules that know where genres are in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO
from uuid import UUID

import mutagen
from mutagen.aac import AAC
from mutagen.mp3 import MP3

from genre.errors import DataError
from genre.tags import asf, chunks, edges, matroska, mp4
from genre.tags.mp4.layout import Layout, read_layout
from genre.tags.splices import Splice
from genre.tags.vorbis import flac, ogg

#: Formats whose tags are read and written, for messages.
SUPPORTED = "mp3, mp2, aac, flac, ogg, opus, m4a, wav, aiff, dsf, ape, wv, mpc, tta, wma, mka, webm"

#: Bytes by which a format is recognised.
_HEAD_BYTES = 16


@dataclass(frozen=True)
class Format:
    """Reader and planner of the genres in a format.

    Attributes
    ----------
    read_genres : callable
        Returns the genres in an open file, from every place; raises DataError on a broken structure.
    plan_genres : callable
        Returns the splices that make some genres the only ones of an open file; raises DataError where that cannot be
        done without changing anything else.
    read_layout : callable
        Returns where the media of an open file lies, in formats that look it up in tables; None if that is unknown.
    """

    read_genres: Callable[[BinaryIO], list[str]]
    plan_genres: Callable[[BinaryIO, Sequence[str]], list[Splice]]
    read_layout: Callable[[BinaryIO], Layout | None] = lambda file: None


def recognise_format(file: BinaryIO) -> Format | None:
    """Recognise the format of an open file by its content; None if it is not one of `SUPPORTED`.

    Raises
    ------
    DataError
        If a tag at one of its ends is broken, or stands before a format that has to begin the file.
    """
    head = _read_head(file, 0)
    for form, is_form in _CONTAINERS:
        if is_form(head):
            return form
    start, end = edges.audio_span(file)
    head = _read_head(file, start)[: end - start]
    if start and any(is_form(head) for _, is_form in _CONTAINERS):
        raise DataError("a foreign tag stands before it, which hides what it is; remove that with a tag editor")
    for signatures, form in _STREAMS:
        if head.startswith(signatures):
            return form
    return _ID3_STREAM if _is_mpeg(file, head) else None


def _read_head(file: BinaryIO, start: int) -> bytes:
    """Read the first bytes from a position on."""
    file.seek(start)
    return file.read(_HEAD_BYTES)


def _is_mpeg(file: BinaryIO, head: bytes) -> bool:
    """Return whether a stream is MP3, MP2 or ADTS; the first frame may follow other bytes, such as zeros."""
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:  # the sync word of all three
        return True
    file.seek(0)
    try:
        return isinstance(mutagen.File(file), MP3 | AAC)
    except Exception:  # mutagen raises many kinds on broken files
        return False


def _read_flac(file: BinaryIO) -> list[str]:
    """Read the genres of a FLAC file: its own, then those in foreign tags around it."""
    return flac.read_genres(file, edges.audio_span(file)[0]) + edges.read_genres(file)


def _plan_flac(file: BinaryIO, genres: Sequence[str]) -> list[Splice]:
    """Plan the genres of a FLAC file and of the foreign tags around it that have any."""
    own = flac.plan_genres(file, genres, edges.audio_span(file)[0])
    return own + edges.plan_genres(file, genres, main="")


_ID3_STREAM = Format(edges.read_genres, partial(edges.plan_genres, main="id3"))
_APE_STREAM = Format(edges.read_genres, partial(edges.plan_genres, main="ape"))
_FLAC = Format(_read_flac, _plan_flac)
_CHUNKS = Format(chunks.read_genres, chunks.plan_genres)
_OGG = Format(ogg.read_genres, ogg.plan_genres)
_MP4 = Format(mp4.read_genres, mp4.plan_genres, read_layout)
_ASF = Format(asf.read_genres, asf.plan_genres)
_MATROSKA = Format(matroska.read_genres, matroska.plan_genres)

#: Atoms that begin a file: those of MP4, and of QuickTime, which need not have the first.
_FIRST_ATOMS = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")

#: Identifier of the header object of ASF.
_ASF_HEADER = UUID("75b22630-668e-11cf-a6d9-00aa0062ce6c").bytes_le

#: Formats that begin the file, and the tests of their first bytes.
_CONTAINERS: tuple[tuple[Format, Callable[[bytes], bool]], ...] = (
    (_CHUNKS, lambda head: head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE"),
    (_CHUNKS, lambda head: head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC")),
    (_CHUNKS, lambda head: head[:4] in (b"DSD ", b"FRM8")),
    (_OGG, lambda head: head[:4] == b"OggS"),
    (_MP4, lambda head: head[4:8] in _FIRST_ATOMS),
    (_ASF, lambda head: head == _ASF_HEADER),
    (_MATROSKA, lambda head: head[:4] == b"\x1aE\xdf\xa3"),
)

#: Beginnings of streams that may have foreign tags around them.
_STREAMS = (
    ((b"fLaC",), _FLAC),
    ((b"MAC ", b"wvpk", b"MPCK", b"MP+", b"tBaK"), _APE_STREAM),
    ((b"TTA1", b"TTA2"), _ID3_STREAM),
)
