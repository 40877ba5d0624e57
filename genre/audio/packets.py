"""Packets of two files compared: whether a change of a file's tags has left its sound as it was.

Packets are read and not decoded, some hundred times faster than the music plays.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, BinaryIO

import av

from genre.audio.readers import CONTAINERS
from genre.errors import DataError

#: Demuxers for which the packets follow from the bytes alone, in order. Others look up where a packet lies in a table.
_READ_IN_ORDER = ("aac", "flac", "mp3", "ogg")

#: Packets compared where the bytes of all are the same.
_N_FIRST = 64

#: Bytes compared at once.
_BLOCK = 1 << 20

#: Codecs whose setup holds three packets of Xiph, the second of them comments: what a change of tags may change.
_XIPH_CODECS = ("vorbis", "theora")


@dataclass(frozen=True)
class Stretch:
    """Part of an open file, as a file of its own.

    Attributes
    ----------
    file : file
        Open, binary, able to seek.
    start, end : int
        The part, bytes.
    """

    file: BinaryIO
    start: int
    end: int

    def read(self, n: int) -> bytes:
        """Read at most n bytes."""
        return self.file.read(min(n, max(0, self.end - self.file.tell())))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position, and return it."""
        position = (self.end if whence == os.SEEK_END else self.start) + offset
        return self.file.seek(max(self.start, position)) - self.start

    def tell(self) -> int:
        """Return the position."""
        return self.file.tell() - self.start


def find_difference(original: Stretch, copy: Stretch, media: Sequence[tuple[int, int, int]] = ()) -> str:
    """Find the first difference between the sound, or any other stream, of two files.

    Compared are the streams with their codecs and the data that sets these up, and of each packet its bytes and times.

    Parameters
    ----------
    original, copy : Stretch
        The sound of each file, between tags at its ends. Those in front are read over as players do; those behind are
        left out, since FFmpeg takes them for a part of the last packet where a stream has no length.
    media : sequence of (int, int, int)
        Start in the original, start in the copy and length of the stretches that hold all packets, bytes, if each is
        known to lie at the same place within them; by default unknown.

    Returns
    -------
    str
        What differs, for people, such as "packet 17 differs"; empty if nothing does.

    Raises
    ------
    DataError
        If FFmpeg finds no packet in the original, or a stream that begins in the middle of a file.
    """
    with ExitStack() as opened:
        try:
            # Asked of the sound alone, FFmpeg need not look through a cover of megabytes for signs of each format.
            expected = opened.enter_context(_open(original))
            demuxer = expected.format.name.split(",")[0]
            if original.start:
                expected = opened.enter_context(_open(replace(original, start=0), demuxer))
        except av.FFmpegError as error:
            raise DataError(f"its packets cannot be read ({error.strerror})") from None
        try:
            found = opened.enter_context(_open(replace(copy, start=0), demuxer))
        except av.FFmpegError as error:
            return f"its packets cannot be read any more ({error.strerror})"
        if [_describe(stream) for stream in expected.streams] != [_describe(stream) for stream in found.streams]:
            return "a stream differs"
        is_proved = bool(media) and all(_are_same(original, a, copy, b, n) for a, b, n in media)
        return _find_different_packet(expected, found, original, copy, is_proved=is_proved)


def _open(part: Stretch, demuxer: str | None = None) -> Any:
    """Open a part of a file with FFmpeg, which looks at no more of it than its header: all packets are read anyway."""
    part.seek(0)
    options = {"format_whitelist": CONTAINERS, "probesize": "32"}
    return av.open(part, format=demuxer, metadata_errors="ignore", options=options)


def _describe(stream: Any) -> tuple[Any, ...]:
    """Return what decoding a stream depends on beside its packets."""
    codec = stream.codec_context
    if codec is None:
        return stream.type, stream.time_base
    setup = codec.extradata or b""
    if codec.name in _XIPH_CODECS and setup[:1] == b"\2":
        setup = _drop_comments(setup)
    rate = (codec.sample_rate, codec.layout.name) if stream.type == "audio" else ()
    return stream.type, stream.time_base, stream.start_time, codec.name, *rate, setup


def _drop_comments(setup: bytes) -> bytes:
    """Remove the second of three packets with lengths in the lacing of Xiph (RFC 9559, section 5.1.4.1.28.11)."""
    sizes = []
    at = 1
    for _ in range(2):
        sizes.append(0)
        while setup[at] == 255:
            sizes[-1] += 255
            at += 1
        sizes[-1] += setup[at]
        at += 1
    return setup[at : at + sizes[0]] + setup[at + sum(sizes) :]


def _find_different_packet(expected: Any, found: Any, original: Stretch, copy: Stretch, *, is_proved: bool) -> str:
    """Compare the packets of two open files; return what differs, or raise DataError if there is none.

    All of them, unless it is proved that the bytes of all are the same: then the first ones, which show that both files
    are read in step.
    """
    n = 0
    for n, (a, b) in enumerate(zip_longest(_packets(expected), _packets(found)), start=1):
        if a is None or b is None or a[1:] != b[1:]:
            return f"packet {n} differs"
        if n == 1 and not is_proved and None not in (a[0], b[0]) and _are_read_in_order(expected, found):
            n_left = original.end - a[0]
            is_proved = n_left == copy.end - b[0] and _are_same(original, a[0], copy, b[0], n_left)
        if is_proved and n == _N_FIRST:
            break
    if n <= 1:  # the last one that FFmpeg returns is always empty
        raise DataError("FFmpeg finds no sound in it")
    return ""


def _are_read_in_order(expected: Any, found: Any) -> bool:
    """Return whether the packets of two open files of the same length follow from their bytes."""
    lengths = [[stream.duration for stream in container.streams] for container in (expected, found)]
    return expected.format.name in _READ_IN_ORDER and lengths[0] == lengths[1]


def _are_same(original: Stretch, start: int, copy: Stretch, copy_start: int, n: int) -> bool:
    """Return whether two files have the same n bytes from a position in each."""
    blocks = zip(_read_blocks(original, start, n), _read_blocks(copy, copy_start, n), strict=True)
    return all(a == b for a, b in blocks)


def _read_blocks(part: Stretch, start: int, n: int) -> Iterator[bytes]:
    """Read n bytes from a position, and return to where the file was."""
    for position in range(start, start + n, _BLOCK):
        before = part.file.tell()
        part.file.seek(position)
        block = part.file.read(min(_BLOCK, start + n - position))
        part.file.seek(before)
        yield block


def _packets(container: Any) -> Iterator[tuple[Any, ...]]:
    """Iterate over what each packet is, after its position; after an error, which ends the file, over its text."""
    try:
        for packet in container.demux():
            yield packet.pos, packet.stream_index, packet.pts, packet.dts, packet.duration, bytes(packet)
    except av.FFmpegError as error:
        yield None, error.strerror
    except IndexError:  # what PyAV raises on a packet of a stream that was not there when it opened the file
        raise DataError("another stream begins in the middle of it, such as a cover in a joined Ogg file") from None
