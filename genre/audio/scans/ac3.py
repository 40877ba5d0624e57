"""Headers of frames of AC-3 and E-AC-3."""

from __future__ import annotations

#: Bit rates of AC-3 in kbit/s by half the size code, ETSI TS 102 366 section 4.4.1.
_RATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)

#: Least version of the syntax that is E-AC-3, and the greatest: annex E section 1.3.1.6.
_ENHANCED = (11, 16)

#: Bytes of a header that are read.
HEADER_SIZE = 6


def frame_length(header: bytes) -> int:
    """Return the length of a frame in bytes by its header; 0 if it is none.

    Parameters
    ----------
    header : bytes
        At least `HEADER_SIZE` bytes.
    """
    if len(header) < HEADER_SIZE or header[:2] != b"\x0b\x77":
        return 0
    version = header[5] >> 3
    if _ENHANCED[0] <= version <= _ENHANCED[1]:
        return 2 * ((int.from_bytes(header[2:4], "big") & 0x7FF) + 1)
    code = header[4] & 63
    if version >= _ENHANCED[0] or code >= 2 * len(_RATES):
        return 0
    rate = _RATES[code // 2]
    return 2 * (2 * rate, rate * 96_000 // 44_100 + (code & 1), 3 * rate, 0)[header[4] >> 6]


def is_chain(data: bytes, n: int) -> bool:
    """Return whether so many frames follow each other from the first byte on.

    Parameters
    ----------
    data : bytes
        Stretch of a file.
    n : int
        Number of frames.
    """
    at = 0
    for _ in range(n):
        length = frame_length(data[at : at + HEADER_SIZE])
        if not length:
            return False
        at += length
    return True
