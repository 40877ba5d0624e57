"""Reading of audio files by PyAV, FFmpeg's libraries."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from genre.audio.readers.frames import decode_all, decode_frames, open_stream
from genre.audio.readers.limits import check_channels, refuse_length
from genre.audio.readers.stretches import Block, BlockReader, cut_stretches, join_rates, mix_stretch, sum_seconds
from genre.audio.scans.content import Content
from genre.audio.scans.memory import Memory

#: Seconds that are decoded before a window and thrown away: an AAC or Opus frame depends on those before it (RFC 7845
#: asks for 80 ms), and some containers seek to whole seconds only.
_PREROLL_S = 1.0

#: Seconds that are decoded before their channels are mixed, where no window is shorter.
_STRETCH_S = 30.0

#: Largest difference between a container's claim and its packets, seconds, at which the claim is taken.
_MAX_DIFFERENCE_S = 1.0

#: FFmpeg's names of bare streams, in which times are guessed.
_BARE = ("ac3", "eac3", "dts", "amr")

_interruptions = Memory[bool]()


def read_duration_by_pyav(file: BinaryIO, content: Content, is_ordered: bool) -> float:
    """Return the length of an open file, seconds, as its header or, failing that, its packets or its sound has it.

    Parameters
    ----------
    file, content, is_ordered
        As in `decode_by_pyav`.
    """
    if is_ordered:
        return sum_seconds((frame.samples, frame.sample_rate) for frame in decode_all(file, content))
    if content.seconds is not None:
        return content.seconds
    with open_stream(file) as stream:
        if stream.duration:
            claimed_s = float(stream.duration * stream.time_base)
        else:
            claimed_s = (stream.container.duration or 0) / 1e6
        last_s = _last_packet_end_s(stream, claimed_s - 2)
        origin_s = _origin_s(stream)
        # A recording that was never closed has no length in its header, and one that was cut short a wrong one. Some
        # containers count the time before the first packet.
        is_right = claimed_s and min(abs(last_s - claimed_s), abs(last_s - origin_s - claimed_s)) <= _MAX_DIFFERENCE_S
        # The time before the first sound is no part of the length.
        early_s = origin_s if origin_s > _MAX_DIFFERENCE_S and abs(last_s - claimed_s) <= _MAX_DIFFERENCE_S else 0.0
        return claimed_s - early_s if is_right else _last_packet_end_s(stream, 0.0) - origin_s


def is_interrupted(file: BinaryIO, content: Content) -> bool:
    """Return whether the times of an open file's packets leap, as where recordings were joined, or are guessed.

    MP4 and Matroska are not gone through, which would take a tenth of the time of decoding six clips: their index
    gives each packet its time, and a second file in one is found by `genre.audio.scans`.

    Parameters
    ----------
    file, content
        As in `decode_by_pyav`.
    """
    if content.seconds is not None or content.is_indexed:
        return False
    return _interruptions.recall(file, lambda: _has_leap(file))


def decode_by_pyav(
    file: BinaryIO, content: Content, is_ordered: bool, start_s: float, duration_s: float | None
) -> tuple[np.ndarray, int]:
    """Decode a window of an open file.

    Parameters
    ----------
    file, content
        As in `decode_by_soundfile`.
    is_ordered : bool
        Whether to decode all packets from the first on and count their samples, instead of believing positions.
    start_s, duration_s
        As in `decode_by_soundfile`.

    Returns
    -------
    (np.ndarray [shape=(n,), dtype=float32], int)
        Mono samples, none where the file ends before the window, and their sampling rate. Where the rate changes
        within the window, the parts are resampled to the highest.
    """
    stretch_s = _STRETCH_S if duration_s is None else min(duration_s, _STRETCH_S)
    parts = []
    with _open_blocks(file, content, is_ordered, start_s) as blocks:
        for stretch in cut_stretches(blocks, stretch_s):
            parts.append(mix_stretch(stretch, set()))
            seconds = sum_seconds((y.size, sr) for y, sr in parts)
            if duration_s is not None and seconds > duration_s - 1 / parts[-1][1]:
                break
    y, sr = join_rates(parts)
    return y[: None if duration_s is None else round(duration_s * sr)], sr


def read_windows_by_pyav(
    file: BinaryIO, content: Content, is_ordered: bool, clip_s: float, max_s: float, notes: set[str]
) -> Iterator[tuple[np.ndarray, int]]:
    """Decode consecutive windows of an open file, one at a time.

    Parameters
    ----------
    file, content, is_ordered
        As in `decode_by_pyav`.
    clip_s, max_s, notes
        As in `read_windows_by_soundfile`.

    Yields
    ------
    (np.ndarray [shape=(n,), dtype=float32], int)
        Mono samples and their sampling rate; the last window may be shorter.

    Raises
    ------
    AudioError
        ``undecodable`` with more than `MAX_CHANNELS` channels, or if the samples are a bit stream of compressed sound;
        ``too_long`` beyond `max_s`.
    """
    if content.seconds is not None and content.seconds > max_s + clip_s:
        refuse_length(max_s)
    with _open_blocks(file, content, is_ordered, 0.0, max_s + clip_s) as blocks:
        for stretch in cut_stretches(blocks, clip_s):
            yield mix_stretch(stretch, notes)


def _has_leap(file: BinaryIO) -> bool:
    """Return whether a packet is more than a second from where the one before it ends."""
    with open_stream(file) as stream:
        if stream.container.format.name in _BARE:
            return True
        most = _MAX_DIFFERENCE_S / stream.time_base
        end = None
        for packet in stream.container.demux(stream):
            if packet.pts is None or not packet.duration:
                continue
            if end is not None and abs(packet.pts - end) > most:
                return True
            end = packet.pts + packet.duration
    return False


@contextmanager
def _open_blocks(
    file: BinaryIO, content: Content, is_ordered: bool, start_s: float, max_s: float = math.inf
) -> Iterator[Iterator[Block]]:
    """Open the blocks of a file from a time on; refuse one that is longer by its header, if its packets confirm it."""
    if is_ordered:
        yield _ordered_blocks(file, content, start_s)
        return
    with open_stream(file) as stream:
        check_channels(stream.channels)
        if (stream.container.duration or 0) / 1e6 > max_s:
            if _last_packet_end_s(stream, max_s) > max_s:
                refuse_length(max_s)
            stream.container.seek(0)
        yield _sought_blocks(stream, start_s)


def _last_packet_end_s(stream: Any, from_s: float) -> float:
    """Return the end of the last packet, seconds, searched from a time on; 0 where there is no packet."""
    import av

    ends_s = [0.0]
    try:
        stream.container.seek(max(0, int(from_s / stream.time_base)), stream=stream)
        ends_s += [float((p.pts + (p.duration or 0)) * p.time_base) for p in stream.container.demux(stream) if p.pts]
    except av.FFmpegError:
        pass  # the packets read before the error count
    return max(ends_s)


def _origin_s(stream: Any) -> float:
    """Return the time of the first sound, seconds.

    A cut from YouTube may begin later than zero; what lies before the stream's start is the codec's priming.
    """
    return max(0.0, float((stream.start_time or 0) * stream.time_base))


def _sought_blocks(stream: Any, start_s: float) -> Iterator[Block]:
    """Decode a stream from a time on, found by the positions in its container."""
    reader = BlockReader()
    position_s = 0.0
    origin_s = _origin_s(stream)
    if start_s > _PREROLL_S:
        stream.container.seek(int((origin_s + start_s - _PREROLL_S) / stream.time_base), stream=stream)
    for frame in decode_frames(stream):
        sr = frame.sample_rate
        position_s = position_s if frame.time is None else frame.time - origin_s
        n_early = max(0, round((start_s - position_s) * sr))
        position_s += frame.samples / sr
        if n_early < frame.samples:
            for block in reader.read(frame):
                yield block.cut(n_early)


def _ordered_blocks(file: BinaryIO, content: Content, start_s: float) -> Iterator[Block]:
    """Decode all of a file, and leave out the samples before a time."""
    reader = BlockReader()
    passed_s = 0.0  # at other rates than that of the frame
    n = 0  # at this rate
    sr = 0
    for frame in decode_all(file, content):
        if sr and frame.sample_rate != sr:
            passed_s += n / sr
            n = 0
        sr = frame.sample_rate
        n_early = max(0, round((start_s - passed_s) * sr) - n)
        n += frame.samples
        if n_early < frame.samples:
            for block in reader.read(frame):
                yield block.cut(n_early)
