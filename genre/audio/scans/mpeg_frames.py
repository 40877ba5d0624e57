"""Headers of frames of MPEG audio (MP1, MP2, MP3) and of bare AAC (ADTS)."""

from __future__ import annotations

import re
from typing import Protocol

#: Bit rates in kbit/s by index, ISO 11172-3 table 2.4.2.3 (version 1) and ISO 13818-3 (2 and 2.5), by layer.
_RATES_1 = {
    1: (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_LOW_RATES = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES_2 = {1: (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256), 2: _LOW_RATES, 3: _LOW_RATES}

#: Sampling rates in Hz by index, by the two bits of the version (3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5).
_SAMPLING_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}

#: Sampling rates in Hz by index, ISO 14496-3 table 1.18.
_AAC_SAMPLING_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)

#: Frames one after another that are taken for MPEG audio: less may be chance.
_CHAIN = 3

_SYNC = re.compile(rb"\xff(?=[\xe0-\xff])")


class Frames(Protocol):
    """Headers of frames that belong to one stream."""

    seconds: float

    def length(self, data: bytes, at: int) -> int:
        """Return the length in bytes of the frame whose header is at a position; 0 where there is none like it."""


class MpegFrames(dict[bytes, int]):
    """Length by header of all frames with the version, layer, sampling rate and mono or not of a first one.

    Parameters
    ----------
    header : bytes
        The four bytes of the first header.
    """

    def __init__(self, header: bytes) -> None:
        super().__init__()
        fields = int.from_bytes(header[:4], "big")
        self._version = fields >> 19 & 3
        self._layer = 4 - (fields >> 17 & 3)
        rates = _SAMPLING_RATES.get(self._version, ())
        index = fields >> 10 & 3
        self._sr = rates[index] if index < len(rates) else 0
        self._kind = self._kind_of(fields)
        self.seconds = self._samples() / self._sr if self._sr else 0.0

    def __missing__(self, header: bytes) -> int:
        """Compute the length of a frame from its header; 0 if it is not of this stream."""
        fields = int.from_bytes(header, "big")
        is_alike = len(header) == 4 and self._sr and self._layer < 4 and self._kind_of(fields) == self._kind
        length = self[header] = self._length(fields) if is_alike else 0
        return length

    def length(self, data: bytes, at: int) -> int:
        """Return the length in bytes of the frame whose header is at a position; 0 where there is none like it."""
        return self[data[at : at + 4]]

    def _kind_of(self, fields: int) -> tuple[int, bool]:
        """Return what the frames of one stream share: sync, version, layer and rate; and whether it is mono."""
        return fields & 0xFFFE0C00, fields >> 6 & 3 == 3

    def _samples(self) -> int:
        if self._layer == 1:
            return 384
        return 1152 if self._layer == 2 or self._version == 3 else 576

    def _length(self, fields: int) -> int:
        index = fields >> 12 & 15
        table = (_RATES_1 if self._version == 3 else _RATES_2)[self._layer]
        if not 0 < index < len(table) or fields >> 21 != 0x7FF:
            return 0
        unit = 4 if self._layer == 1 else 1
        n_units = self._samples() // 8 // unit * 1000 * table[index] // self._sr + (fields >> 9 & 1)
        return n_units * unit


class AacFrames:
    """Length by header of all ADTS frames with the profile, sampling rate and channels of a first one.

    Parameters
    ----------
    header : bytes
        At least the first four bytes of the first header.
    """

    def __init__(self, header: bytes) -> None:
        self._start = header[:3]
        self._channels = header[3] & 0xC0 if len(header) > 3 else 0
        index = header[2] >> 2 & 15 if len(header) > 2 else 15
        is_aac = header[:1] == b"\xff" and header[1] & 0xF6 == 0xF0 and index < len(_AAC_SAMPLING_RATES)
        self.seconds = 1024 / _AAC_SAMPLING_RATES[index] if is_aac else 0.0

    def length(self, data: bytes, at: int) -> int:
        """Return the length in bytes of the frame whose header is at a position; 0 where there is none like it."""
        header = data[at : at + 6]
        if len(header) < 6 or header[:3] != self._start or header[3] & 0xC0 != self._channels:
            return 0
        length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
        return length if length > 7 else 0


def find_frames(data: bytes) -> tuple[int, Frames] | None:
    """Return the position of the first frame that others follow, and the kind of these frames; None without one.

    Parameters
    ----------
    data : bytes
        Stretch of a file.
    """
    for match in _SYNC.finditer(data):
        at = match.start()
        header = data[at : at + 4]
        frames = (AacFrames if header[1] & 6 == 0 else MpegFrames)(header)
        if frames.seconds and _is_chain(data, at, frames):
            return at, frames
    return None


def _is_chain(data: bytes, at: int, frames: Frames) -> bool:
    """Return whether several frames follow each other, or the data ends with one."""
    for n in range(_CHAIN):
        length = frames.length(data, at)
        if not length:
            return False
        at += length
        if n and at >= len(data):
            return True
    return True
