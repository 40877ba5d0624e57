"""FLAC: the numbers in the headers of frames, which go through from zero to the length."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from genre.audio.scans.content import Content, find_all, find_size, join_spans, read_at
from genre.audio.scans.parts import find_parts

#: Positions between beginning and end at which frames are looked at.
_N_PROBES = 8

#: Largest distance from the end at which the last frame is looked for, in probes: tags with a cover may follow it.
_MAX_TAIL = 32

#: Block sizes by their code, RFC 9639 section 9.1.1; the codes 6 and 7 stand for one or two bytes that follow.
_BLOCK_SIZES = {1: 192} | {n: 144 << n for n in range(2, 6)} | {n: 1 << n for n in range(8, 16)}

#: Sampling rates by their code, section 9.1.2; 0 is that of STREAMINFO, 12 to 14 follow as kHz, Hz and tens of Hz.
_SAMPLING_RATES = dict(enumerate((88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000), 1))

#: Size of a frame's header at most, section 9.1.
_MAX_HEADER = 16

#: Start of a stream: the magic, and a STREAMINFO block of 34 bytes, the last metadata block or not.
_STARTS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")

_SYNC = re.compile(rb"\xff(?=[\xf8\xf9])")


class Frame(NamedTuple):
    """First sample and number of samples of a frame, by its header, and the position of that."""

    first: int
    size: int
    position: int

    @property
    def end(self) -> int:
        """First sample after the frame."""
        return self.first + self.size


@dataclass(frozen=True)
class StreamInfo:
    """Properties that the frames of a stream share, and the position of the first, by its metadata."""

    block_size: int
    probe_size: int
    sr: int
    channels: int
    first_frame: int


def scan_flac(file: BinaryIO, start: int) -> Content:
    """Check that the frames of a FLAC file are numbered from zero to its end.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.
    start : int
        Position of the magic ``fLaC``, behind the ID3v2 tags.

    Returns
    -------
    Content
        Its length is that of the last frame's number. Several spans, where files were joined.
    """
    info = _read_info(file, start)
    if not info.sr:
        return Content()
    size = find_size(file)
    step = max(1, (size - info.first_frame) // _N_PROBES)
    frames = [next(_find_frames(file, info.first_frame + n * step, info), None) for n in range(_N_PROBES)]
    frames.append(_find_last_frame(file, size, info))
    ends = [frame.end for frame in frames if frame]
    if frames[0] and frames[0].first == 0 and len(ends) == len(frames) and ends == sorted(ends):
        # what follows the last frame is a tag at most
        spans = find_parts(file, start, frames[-1].position + _MAX_HEADER) if frames[-1] else ()
        return Content(spans=spans) if spans else Content(ends[-1] / info.sr)
    spans = join_spans(file, _find_starts(file, start)) or find_parts(file, start, info.first_frame)
    return Content(spans=spans, is_changing=True)


def _find_starts(file: BinaryIO, start: int) -> list[int]:
    """Return where a file and others that follow it begin."""
    return sorted(at for pattern in _STARTS for at in find_all(file, pattern) if at >= start)


def _read_info(file: BinaryIO, start: int) -> StreamInfo:
    """Read STREAMINFO and find the first frame, RFC 9639 section 8."""
    head = read_at(file, start + 8, 34)
    fields = int.from_bytes(head[10:18], "big")
    channels = (fields >> 41 & 7) + 1
    block_size = int.from_bytes(head[2:4], "big")
    # The largest frame by the header, or where that is not known one that was not compressed.
    largest = int.from_bytes(head[7:10], "big") or block_size * channels * 4
    at = start + 4
    while len(block := read_at(file, at, 4)) == 4:
        at += 4 + int.from_bytes(block[1:], "big")
        if block[0] & 0x80:
            break
    return StreamInfo(block_size, 3 * largest + _MAX_HEADER, fields >> 44, channels, at)


def _find_last_frame(file: BinaryIO, size: int, info: StreamInfo) -> Frame | None:
    """Return the last frame of the file that follows another one; None if another file follows that one."""
    for n in range(1, _MAX_TAIL + 1):
        at = max(info.first_frame, size - n * info.probe_size)
        if any(start in read_at(file, at, info.probe_size + _MAX_HEADER) for start in _STARTS):
            return None
        frames = list(_find_frames(file, at, info))
        if frames or at == info.first_frame:
            return frames[-1] if frames else None
    return None


def _find_frames(file: BinaryIO, start: int, info: StreamInfo) -> Iterator[Frame]:
    """Yield the frames after a position that are followed by the next one, and the last of these too.

    One header alone may be chance: compressed audio holds any bytes.
    """
    data = read_at(file, start, info.probe_size)
    previous = None
    for match in _SYNC.finditer(data):
        at = match.start()
        frame = _read_frame(data[at : at + _MAX_HEADER], info, start + at)
        if frame is None:
            continue
        if previous and frame.first == previous.end:
            yield previous
            yield frame
        previous = frame


def _read_frame(header: bytes, info: StreamInfo, position: int) -> Frame | None:
    """Parse the header of a frame, RFC 9639 section 9.1; None if it is none of this stream."""
    if len(header) < 6 or header[3] & 1:
        return None
    code = header[2] >> 4
    number, at = _read_number(header)
    n_size = {6: 1, 7: 2}.get(code, 0)
    size = int.from_bytes(header[at : at + n_size], "big") + 1 if n_size else _BLOCK_SIZES.get(code, 0)
    rate_code = header[2] & 15
    n_rate = {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    end = at + n_size + n_rate
    is_alike = n_rate or _SAMPLING_RATES.get(rate_code, info.sr) == info.sr
    if number < 0 or not size or not is_alike or end >= len(header) or _crc8(header[:end]) != header[end]:
        return None
    is_variable = header[1] & 1
    return Frame(number if is_variable else number * info.block_size, size, position)


def _read_number(header: bytes) -> tuple[int, int]:
    """Read the number that begins at the fifth byte, coded as UTF-8 is; return it, or -1, and where it ends."""
    first = header[4]
    n_ones = 8 - (first ^ 0xFF).bit_length()
    if n_ones == 0:
        return first, 5
    end = 4 + n_ones
    if n_ones == 1 or n_ones == 8 or len(header) < end:
        return -1, 5
    number = first & (0x7F >> n_ones)
    for byte in header[5:end]:
        number = number << 6 | byte & 0x3F
    return number, end


def _crc8(data: bytes) -> int:
    """Compute the checksum of a frame's header: the polynomial x^8 + x^2 + x + 1, section 9.1.8."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x107 if crc & 0x80 else 0)) & 0x1FF
    return crc
