"""Readers of audio files by soundfile and by PyAV, and their limits."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NoReturn

import numpy as np
import soundfile

from genre.errors import AudioError

#: Samples decoded at a time, of all channels together.
_BLOCK_SAMPLES = 1 << 22

#: Maximum number of channels of a file that is read in windows: beyond any microphone array, below what makes a small
#: file a large one in memory.
MAX_CHANNELS = 64

#: Seconds that PyAV decodes before a window and throws away: an AAC or Opus frame depends on those before it
#: (RFC 7845 asks for 80 ms), and some containers seek to whole seconds only.
_PREROLL_S = 1.0

#: Maximum number of channels of a frame that PyAV may read as planar samples. With more, reading a planar frame crashes
#: the process; packed samples are read safely, whatever their number.
_MAX_PLANES = 7

#: FFmpeg's demuxers that PyAV may use. Playlists (hls, dash, concat) are left out: they open the files and URLs they
#: name, and the bytes may come from an untrusted client.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,aac,asf,ogg,mp3,flac,wav,w64,aiff,au,caf,avi,flv,mpegts,amr,ape,wv"


def read_duration_by_soundfile(file: BinaryIO) -> float:
    """Return the length of an open file, seconds, as its header or, failing that, its content has it."""
    with _open_soundfile(file) as sound:
        n = sound.frames
        sr = sound.samplerate
        if not _has_audio_at(sound, max(0, n - sr)):
            sound.seek(0)
            n = sum(len(block) for block in _read_blocks(sound, n))
        return n / sr


def decode_by_soundfile(file: BinaryIO, start_s: float, duration_s: float | None) -> tuple[np.ndarray, int]:
    """Decode a window of an open file.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.
    start_s : float
        Start of the window, seconds.
    duration_s : float or None
        Length of the window, seconds; None for all that follows.

    Returns
    -------
    (np.ndarray [shape=(n,), dtype=float32], int)
        Mono samples, none where the file ends before the window, and their sampling rate.

    Raises
    ------
    SoundFileRuntimeError
        If there should be frames in the window and none can be decoded.
    """
    with _open_soundfile(file) as sound:
        sr = sound.samplerate
        first = min(round(start_s * sr), sound.frames)
        n_wanted = sound.frames - first if duration_s is None else round(duration_s * sr)
        sound.seek(first)
        parts = list(_read_blocks(sound, n_wanted))
        if not parts and first < sound.frames:
            raise soundfile.SoundFileRuntimeError(f"none of {sound.frames} frames decoded")
    # Most files are one block: copying it would take longer than reading it did.
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.float32), *parts]), sr


def read_windows_by_soundfile(file: BinaryIO, clip_s: float, max_s: float) -> Iterator[tuple[np.ndarray, int]]:
    """Decode consecutive windows of an open file, one at a time.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.
    clip_s : float
        Length of a window, seconds.
    max_s : float
        Longest file accepted, seconds. Only lengths of more than a window above it are refused here.

    Yields
    ------
    (np.ndarray [shape=(n,), dtype=float32], int)
        Mono samples and their sampling rate; the last window may be shorter.

    Raises
    ------
    AudioError
        ``undecodable`` with more than `MAX_CHANNELS` channels, ``too_long`` beyond `max_s`.
    SoundFileRuntimeError
        If the header promises frames and none can be decoded.
    """
    n_read = 0
    with _open_soundfile(file) as sound:
        sr = sound.samplerate
        _check_channels(sound.channels)
        if sound.frames > (max_s + clip_s) * sr:
            if _has_audio_at(sound, round((max_s + clip_s) * sr)):
                refuse_length(max_s)
            sound.seek(0)
        while parts := list(_read_blocks(sound, round(clip_s * sr))):
            y = parts[0] if len(parts) == 1 else np.concatenate(parts)
            n_read += y.size
            yield y, sr
        if not n_read and sound.frames:
            raise soundfile.SoundFileRuntimeError(f"none of {sound.frames} frames decoded")


def _open_soundfile(file: BinaryIO) -> soundfile.SoundFile:
    """Open a file with soundfile; a file on disk by its descriptor, which lets other threads run during a read."""
    if isinstance(file, io.FileIO):
        return soundfile.SoundFile(file.fileno(), closefd=False)
    return soundfile.SoundFile(file)


def _has_audio_at(sound: soundfile.SoundFile, frame: int) -> bool:
    """Check that at least one frame can be decoded at a position."""
    try:
        sound.seek(frame)
        return len(sound.read(1)) > 0
    except soundfile.SoundFileError:
        return False


def _read_blocks(sound: soundfile.SoundFile, n: int) -> Iterator[np.ndarray]:
    """Read the next n frames, or as many as there are, as mono float32.

    In blocks, so that memory depends on the frames in the file, not on the number that its header promises.
    """
    # Equal to reading float32, in a fraction of the time: 2**15 is a power of two, so the product is exact.
    dtype, scale = ("int16", 2.0**-15) if sound.subtype == "PCM_16" else ("float32", 1.0)
    # A product with these weights is the mean of the channels, twenty times faster than `mean` on so short an axis.
    weights = np.full(sound.channels, scale / sound.channels, np.float32)
    size = max(1, _BLOCK_SAMPLES // sound.channels)
    while n > 0 and len(block := sound.read(min(n, size), dtype=dtype, always_2d=True)):
        yield block[:, 0] * weights[0] if sound.channels == 1 else block.astype(np.float32, copy=False) @ weights
        n -= len(block)


def read_duration_by_pyav(file: BinaryIO) -> float:
    """Return the length of an open file, seconds, as its header or, failing that, its packets have it."""
    with _open_pyav_stream(file) as stream:
        if stream.duration:
            claimed_s = float(stream.duration * stream.time_base)
        else:
            claimed_s = (stream.container.duration or 0) / 1e6
        last_s = _last_packet_end_s(stream, claimed_s - 2)
        # A recording that was never closed has no length in its header, and one that was cut short a wrong one.
        return claimed_s if claimed_s and last_s > claimed_s - 1 else _last_packet_end_s(stream, 0.0)


def decode_by_pyav(file: BinaryIO, start_s: float, duration_s: float | None) -> tuple[np.ndarray, int]:
    """Decode a window of an open file.

    Parameters
    ----------
    file, start_s, duration_s
        As in `decode_by_soundfile`.

    Returns
    -------
    (np.ndarray [shape=(n,), dtype=float32], int)
        Mono samples, none where the file ends before the window, and their sampling rate.
    """
    parts = [np.empty(0, np.float32)]
    n = 0
    sr = 0
    with _open_pyav_stream(file) as stream:
        for block, sr in _pyav_blocks(stream, start_s):
            parts.append(block)
            n += block.size
            if duration_s is not None and n >= round(duration_s * sr):
                break
    return np.concatenate(parts)[: None if duration_s is None else round(duration_s * sr)], sr


def read_windows_by_pyav(file: BinaryIO, clip_s: float, max_s: float) -> Iterator[tuple[np.ndarray, int]]:
    """Decode consecutive windows of an open file, one at a time.

    Parameters
    ----------
    file, clip_s, max_s
        As in `read_windows_by_soundfile`.

    Yields
    ------
    (np.ndarray [shape=(n,), dtype=float32], int)
        Mono samples and their sampling rate; the last window may be shorter.

    Raises
    ------
    AudioError
        ``undecodable`` with more than `MAX_CHANNELS` channels, ``too_long`` beyond `max_s`.
    """
    parts = [np.empty(0, np.float32)]
    n = 0
    with _open_pyav_stream(file) as stream:
        _check_channels(stream.channels)
        claimed_s = (stream.container.duration or 0) / 1e6
        if claimed_s > max_s + clip_s:
            if _last_packet_end_s(stream, max_s) > max_s + clip_s:
                refuse_length(max_s)
            stream.container.seek(0)
        for block, sr in _pyav_blocks(stream):
            parts.append(block)
            n += block.size
            while n >= (n_window := max(1, round(clip_s * sr))):
                y = np.concatenate(parts)
                yield y[:n_window], sr
                parts = [y[n_window:]]
                n -= n_window
        if n:
            yield np.concatenate(parts), sr


@contextmanager
def _open_pyav_stream(file: BinaryIO) -> Iterator[Any]:
    """Open the first audio stream of an open file."""
    import av

    with av.open(file, metadata_errors="ignore", options={"format_whitelist": CONTAINERS}) as container:
        if not container.streams.audio:
            raise ValueError("no audio stream")
        if container.streams.audio[0].codec_context is None:
            raise ValueError("codec unknown to FFmpeg")
        yield container.streams.audio[0]


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


def _pyav_blocks(stream: Any, start_s: float = 0.0) -> Iterator[tuple[np.ndarray, int]]:
    """Decode a stream from a time on; yield mono samples of each frame with their sampling rate."""
    import av

    resamplers = {name: av.AudioResampler(format=name) for name in ("fltp", "flt")}
    position_s = 0.0
    # A cut from YouTube may begin later than zero; what lies before the stream's start is the codec's priming.
    origin_s = max(0.0, float((stream.start_time or 0) * stream.time_base))
    if start_s > _PREROLL_S:
        stream.container.seek(int((origin_s + start_s - _PREROLL_S) / stream.time_base), stream=stream)
    for frame in _pyav_frames(stream):
        sr = frame.sample_rate
        position_s = position_s if frame.time is None else frame.time - origin_s
        n_early = max(0, round((start_s - position_s) * sr))
        position_s += frame.samples / sr
        n_channels = frame.layout.nb_channels  # may change within a damaged file
        for part in resamplers[_sample_format(n_channels)].resample(frame):
            yield _average_channels(part, n_channels)[n_early:], sr


def _sample_format(n_channels: int) -> str:
    """Return FFmpeg's name of the format in which frames of so many channels are read: planar or packed float."""
    # Planar costs AAC nothing, packed takes two thirds longer.
    return "fltp" if n_channels <= _MAX_PLANES else "flt"


def _average_channels(frame: Any, n_channels: int) -> np.ndarray:
    """Average the channels of a frame of planar or packed samples."""
    y = frame.to_ndarray()
    return (y if frame.format.is_planar else y.reshape(-1, n_channels).T).mean(axis=0)


def _pyav_frames(stream: Any) -> Iterator[Any]:
    """Decode frames; damaged packets are skipped, as players do, unless they are the majority."""
    import av

    n_good = n_damaged = 0
    for packet in stream.container.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError:  # any of them: decoders report damage in many ways, some as a bare -1
            n_damaged += 1
            continue
        n_good += len(frames)
        yield from frames
    if n_damaged >= n_good:
        raise ValueError(f"{n_damaged} damaged packets, {n_good} good ones")


def _check_channels(n: int) -> None:
    """Refuse a file with so many channels that decoding it would take too much memory."""
    if n > MAX_CHANNELS:
        raise AudioError("undecodable", f"the file has {n} channels; at most {MAX_CHANNELS} are accepted")


def refuse_length(max_s: float) -> NoReturn:
    """Refuse a file that lasts too long.

    Raises
    ------
    AudioError
        ``too_long``, always.
    """
    raise AudioError(
        "too_long", f"the file is longer than {max_s / 60:g} minutes, the most that is accepted; send it in parts"
    )
