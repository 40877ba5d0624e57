"""WAV and AIFF: the size of the chunk of samples against that of the file."""

from __future__ import annotations

from typing import BinaryIO, Literal, NamedTuple

from genre.audio.scans.content import Content, find_all, find_size, join_spans, read_at
from genre.audio.scans.parts import find_parts
from genre.errors import AudioError

#: Formats of the samples of a WAV whose bytes tell their time: integers, floats, and either with a longer header.
_PCM_FORMATS = {1, 3, 0xFFFE}

#: Seconds after the samples that are not accounted for and yet ignored.
_MAX_REST_S = 1.0

#: Beginnings of other files whose next bytes may pass for the length of a chunk.
_FILES = (b"fLaC", b"OggS", b"wvpk", b"TTA1", b".snd", b"caff", b"riff", b"RIFF", b"RF64", b"FORM")

#: Beginnings of tags that some writers append without a chunk.
_TAGS = (b"ID3", b"TAG", b"APE")


class Kind(NamedTuple):
    """Magic and form of a container of chunks, the order of bytes in its sizes, and the names of two chunks."""

    magic: bytes
    form: bytes
    order: Literal["little", "big"]
    format: bytes
    samples: bytes


_KINDS = {
    b"RIFF": Kind(b"RIFF", b"WAV", "little", b"fmt ", b"data"),
    b"FORM": Kind(b"FORM", b"AIF", "big", b"COMM", b"SSND"),
}


def scan_chunks(file: BinaryIO, start: int) -> Content:
    """Check that what follows the samples of a WAV or AIFF file are further chunks.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.
    start : int
        Position of the magic.

    Returns
    -------
    Content
        Several spans, where files were joined; changing, where the size of the samples was never filled in.

    Raises
    ------
    AudioError
        ``undecodable``, where more than a second follows the samples that the header counts, and is no chunk.
    """
    kind = _KINDS[read_at(file, start, 4)]
    size = find_size(file)
    bytes_per_s = 0.0
    at = start + 12
    while len(header := read_at(file, at, 8)) == 8 and header[:4] != kind.samples:
        if header[:4] == kind.format:
            bytes_per_s = _bytes_per_s(read_at(file, at + 8, 24), kind)
        at += 8 + _length(header, kind) + _length(header, kind) % 2
    end = at + 8 + _length(header, kind)
    if len(header) < 8 or end >= size:
        return Content()
    # Some writers leave out the byte that makes a length even.
    rest = max(_skip_chunks(file, end + odd, size, kind) for odd in (0, end % 2))
    if spans := join_spans(file, [start, *_joined_starts(file, rest, kind)]):
        return Content(spans=spans)
    if end == at + 8 and rest < size:
        return Content(is_changing=True)
    if rest < size and (spans := find_parts(file, start, end)):
        return Content(spans=spans)
    if bytes_per_s and size - rest > _MAX_REST_S * bytes_per_s and read_at(file, rest, 3) not in _TAGS:
        raise AudioError(
            "undecodable",
            f"the header counts {end - at - 8} bytes of samples and {size - rest} more follow; "
            "open the file in an audio editor and save it again",
        )
    return Content()


def _bytes_per_s(fields: bytes, kind: Kind) -> float:
    """Return the bytes of a second of samples by the chunk of their format; 0 of a WAV where they are compressed."""
    if kind.order == "little":
        is_pcm = int.from_bytes(fields[:2], "little") in _PCM_FORMATS
        return float(int.from_bytes(fields[4:8], "little") * int.from_bytes(fields[12:14], "little")) if is_pcm else 0.0
    # The rate is a float of 80 bits: 15 of exponent, then the mantissa with its leading one.
    exponent = (int.from_bytes(fields[8:10], "big") & 0x7FFF) - 16383
    rate = int.from_bytes(fields[10:18], "big") * 2.0 ** max(-999, min(exponent, 64) - 63)
    return rate * int.from_bytes(fields[:2], "big") * (int.from_bytes(fields[6:8], "big") // 8)


def _length(header: bytes, kind: Kind) -> int:
    """Return the length of a chunk's content, by its header."""
    return int.from_bytes(header[4:8], kind.order)


def _skip_chunks(file: BinaryIO, start: int, size: int, kind: Kind) -> int:
    """Return where the chunks that begin at a position end."""
    at = start
    while len(header := read_at(file, at, 8)) == 8:
        end = at + 8 + _length(header, kind)
        if (
            header[:4] in _FILES
            or not header[:4].isascii()
            or not header[:4].decode("ascii").isprintable()
            or end > size
        ):
            break
        at = end + end % 2
    return min(at, size)


def _joined_starts(file: BinaryIO, start: int, kind: Kind) -> list[int]:
    """Return where further files begin, if one begins at a position."""
    if read_at(file, start, 4) != kind.magic:
        return []
    return [at for at in find_all(file, kind.magic) if at >= start and read_at(file, at + 8, 3) == kind.form]
