"""Bare streams of MPEG audio (MP1, MP2, MP3) and of AAC (ADTS), counted by the headers of their frames."""

from __future__ import annotations

from typing import BinaryIO

from genre.audio.scans.ac3 import is_chain
from genre.audio.scans.content import CHUNK, Content, find_size, read_at
from genre.audio.scans.mpeg_frames import AacFrames, Frames, find_frames
from genre.audio.scans.parts import find_parts

#: Bytes at the beginning of a file in which its first frame is looked for.
_LEAD = 1 << 16

#: Bytes in which frames are looked for at all, where the file does not begin with some.
_MAX_SEARCHED = 1 << 22

#: Bytes behind the frames in which no other file is looked for: as many hold no second of sound, but an ID3v1 tag.
_MIN_REST = 1 << 12

#: Longest frame, bytes: ISO 11172-3 with 160 kbit/s at 8,000 Hz.
_MAX_FRAME = 2881

#: Interruptions after which no frames of another kind are looked for.
_MAX_STRETCHES = 1000


def scan_mpeg(file: BinaryIO, start: int) -> Content:
    """Count the frames of a bare stream of MPEG audio or AAC.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.
    start : int
        Position behind the ID3v2 tags.

    Returns
    -------
    Content
        Changing, if the frames are interrupted, or go on with another sampling rate or number of channels; several
        spans, where a file of another format follows.
    """
    size = find_size(file)
    found = find_frames(read_at(file, start, _LEAD))
    if not found:
        is_ac3 = is_chain(read_at(file, start, _LEAD), 3)
        if spans := find_parts(file, start, start + (_LEAD if is_ac3 else 4), with_frames=is_ac3, with_ac3=False):
            return Content(spans=spans)
        # libsndfile gives up where so much precedes the first frame
        return Content(is_changing=_find_next(file, start + _LEAD, min(size, start + _MAX_SEARCHED)) is not None)
    at, frames = found
    n, end = _count_frames(file, start + at, frames)
    end = _skip_ape(file, end)
    if spans := _find_others(file, start, end, frames):
        return Content(spans=spans)
    if start > _LEAD and isinstance(frames, AacFrames):
        # FFmpeg knows no AAC behind so long a tag, unless by the name of the file
        return Content(spans=((start, size),))
    is_changing = _find_next(file, end, size) is not None
    return Content(None if is_changing else n * frames.seconds, is_changing=is_changing)


def _skip_ape(file: BinaryIO, start: int) -> int:
    """Return the position behind an APE tag, which may hold a cover of megabytes; that given where there is none."""
    header = read_at(file, start, 32)
    return start + len(header) + int.from_bytes(header[12:16], "little") if header[:8] == b"APETAGEX" else start


def _find_others(file: BinaryIO, start: int, end: int, frames: Frames) -> tuple[tuple[int, int], ...]:
    """Return the spans of a stream and of what follows it, where that has another decoder; none where it has not."""
    size = find_size(file)
    if size - end < _MIN_REST:
        return ()
    # the last frame may be cut short, so that the other file begins within its length
    if spans := find_parts(file, start, max(start + 1, end - _MAX_FRAME), with_frames=False):
        return spans
    for _ in range(_MAX_STRETCHES):
        found = _find_next(file, end, size)
        if found is None:
            break
        at, others = found
        if type(others) is not type(frames):
            return (start, at), (at, size)
        end = _count_frames(file, at, others)[1]
    return ()


def _count_frames(file: BinaryIO, start: int, frames: Frames) -> tuple[int, int]:
    """Return how many frames follow each other from a position on, and where they end."""
    n = 0
    length_of = frames.length
    while True:
        data = read_at(file, start, CHUNK)
        last = len(data) - 6
        at = 0
        while at <= last and (length := length_of(data, at)):
            at += length
            n += 1
        if at <= last or len(data) < CHUNK:
            return n, start + at
        start += at


def _find_next(file: BinaryIO, start: int, end: int) -> tuple[int, Frames] | None:
    """Return the position and kind of the first frames between two positions, of whatever kind; None without any."""
    at = start
    step = _LEAD
    while at < end:
        if found := find_frames(read_at(file, at, step + _LEAD)):
            return at + found[0], found[1]
        at += step
        step = CHUNK
    return None
