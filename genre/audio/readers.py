"""soundfile and PyAV as readers of audio files, and their limits."""

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

#: Channels of a served file at most: beyond any microphone array, below what makes a small file a large one.
MAX_CHANNELS = 64

#: Seconds that PyAV decodes before a window and throws away: an AAC or Opus frame leans on those before it
#: (RFC 7845 asks for 80 ms), and a container may seek to a whole second.
_PREROLL_S = 1.0

#: Channels of which PyAV can read a planar frame. It finds the planes by walking FFmpeg's pointers to a null one, and
#: in a frame of eight (AV_NUM_DATA_POINTERS) or more there is none: it reads beyond, and the process dies.
_MAX_PLANES = 7

#: FFmpeg's demuxers that PyAV may use. Playlists (hls, dash, concat) are out: they open the files and URLs they name,
#: and bytes may come from anybody.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,aac,asf,ogg,mp3,flac,wav,w64,aiff,au,caf,avi,flv,mpegts,amr,ape,wv"


def _open_soundfile(file: BinaryIO) -> soundfile.SoundFile:
    """An open file as soundfile reads it: one on a disk by its descriptor, so that other threads can run meanwhile."""
    if isinstance(file, io.FileIO):
        return soundfile.SoundFile(file.fileno(), closefd=False)
    return soundfile.SoundFile(file)


def _duration_by_soundfile(file: BinaryIO) -> float:
    """Length of an open file, seconds."""
    with _open_soundfile(file) as sound:
        n, sr = sound.frames, sound.samplerate
        if not _has_audio_at(sound, max(0, n - sr)):
            sound.seek(0)
            n = sum(len(block) for block in _read_blocks(sound, n))
        return n / sr


def _has_audio_at(sound: soundfile.SoundFile, frame: int) -> bool:
    """Whether there is anything at all to decode from this frame on."""
    try:
        sound.seek(frame)
        return len(sound.read(1)) > 0
    except soundfile.SoundFileError:
        return False


def _read_blocks(sound: soundfile.SoundFile, n: int) -> Iterator[np.ndarray]:
    """The next n frames, or as many as there are, mono float32 in blocks: memory follows what is really there."""
    # The same numbers as when read as float32, since 2**15 only moves the point, in a fraction of the time.
    dtype, scale = ("int16", 2.0**-15) if sound.subtype == "PCM_16" else ("float32", 1.0)
    # The mean of the channels, twenty times faster than `mean` over so short an axis.
    weights = np.full(sound.channels, scale / sound.channels, np.float32)
    size = max(1, _BLOCK_SAMPLES // sound.channels)
    while n > 0 and len(block := sound.read(min(n, size), dtype=dtype, always_2d=True)):
        yield block[:, 0] * weights[0] if sound.channels == 1 else block.astype(np.float32, copy=False) @ weights
        n -= len(block)


def _decode_by_soundfile(file: BinaryIO, start_s: float, duration_s: float | None) -> tuple[np.ndarray, int]:
    """Window of an open file, mono, and its sampling rate."""
    with _open_soundfile(file) as sound:
        sr = sound.samplerate
        first = min(round(start_s * sr), sound.frames)
        wanted = sound.frames - first if duration_s is None else round(duration_s * sr)
        sound.seek(first)
        parts = list(_read_blocks(sound, wanted))
        if not parts and first < sound.frames:
            raise soundfile.SoundFileRuntimeError(f"none of {sound.frames} frames decoded")
    # Most files are one block: a copy of it would cost more than reading it did.
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.float32), *parts]), sr


@contextmanager
def _pyav_stream(file: BinaryIO) -> Iterator[Any]:
    """First audio stream of an open file."""
    import av

    with av.open(file, metadata_errors="ignore", options={"format_whitelist": _CONTAINERS}) as container:
        if not container.streams.audio:
            raise ValueError("no audio stream")
        if container.streams.audio[0].codec_context is None:
            raise ValueError("a codec that FFmpeg does not know")
        yield container.streams.audio[0]


def _duration_by_pyav(file: BinaryIO) -> float:
    """Length of an open file, seconds."""
    with _pyav_stream(file) as stream:
        said = stream.duration * stream.time_base if stream.duration else (stream.container.duration or 0) / 1e6
        last = _last_packet_end_s(stream, float(said) - 2)
        # A recording that was never closed has its length in its packets only; so has one that was cut short.
        return float(said) if said and last > said - 1 else _last_packet_end_s(stream, 0.0)


def _last_packet_end_s(stream: Any, from_s: float) -> float:
    """When the last packet ends, looked for from a time on; 0 where there is none."""
    import av

    ends = [0.0]
    try:
        stream.container.seek(max(0, int(from_s / stream.time_base)), stream=stream)
        ends += [float((p.pts + (p.duration or 0)) * p.time_base) for p in stream.container.demux(stream) if p.pts]
    except av.FFmpegError:
        pass  # what could be read before counts
    return max(ends)


def _decode_by_pyav(file: BinaryIO, start_s: float, duration_s: float | None) -> tuple[np.ndarray, int]:
    """Window of an open file, mono, and its sampling rate."""
    parts, n, sr = [np.empty(0, np.float32)], 0, 0
    with _pyav_stream(file) as stream:
        for block, sr in _pyav_blocks(stream, start_s):
            parts.append(block)
            n += block.size
            if duration_s is not None and n >= round(duration_s * sr):
                break
    return np.concatenate(parts)[: None if duration_s is None else round(duration_s * sr)], sr


def _pyav_blocks(stream: Any, start_s: float = 0.0) -> Iterator[tuple[np.ndarray, int]]:
    """What is decoded from a time on, mono, and its sampling rate."""
    import av

    planar, packed, position_s = av.AudioResampler(format="fltp"), av.AudioResampler(format="flt"), 0.0
    # What YouTube cuts may not begin at zero; what begins before it is the codec's priming.
    origin_s = max(0.0, float((stream.start_time or 0) * stream.time_base))
    if start_s > _PREROLL_S:
        stream.container.seek(int((origin_s + start_s - _PREROLL_S) / stream.time_base), stream=stream)
    for frame in _pyav_frames(stream):
        sr = frame.sample_rate
        position_s = position_s if frame.time is None else frame.time - origin_s
        early = max(0, round((start_s - position_s) * sr))
        position_s += frame.samples / sr
        n_channels = frame.layout.nb_channels  # a damaged file's may change on the way
        # Planar costs AAC nothing, packed two thirds more.
        for part in (planar if n_channels <= _MAX_PLANES else packed).resample(frame):
            y = part.to_ndarray()
            yield (y if part.format.is_planar else y.reshape(-1, n_channels).T).mean(axis=0)[early:], sr


def _windows_by_soundfile(file: BinaryIO, clip_s: float, max_s: float) -> Iterator[tuple[np.ndarray, int]]:
    """Consecutive stretches of an open file, mono, the last one shorter, and the sampling rate."""
    with _open_soundfile(file) as sound:
        sr, n_read = sound.samplerate, 0
        _check_channels(sound.channels)
        if sound.frames > (max_s + clip_s) * sr:
            if _has_audio_at(sound, round((max_s + clip_s) * sr)):
                _refuse_length(max_s)
            sound.seek(0)
        while parts := list(_read_blocks(sound, round(clip_s * sr))):
            y = parts[0] if len(parts) == 1 else np.concatenate(parts)
            n_read += y.size
            yield y, sr
        if not n_read and sound.frames:
            raise soundfile.SoundFileRuntimeError(f"none of {sound.frames} frames decoded")


def _windows_by_pyav(file: BinaryIO, clip_s: float, max_s: float) -> Iterator[tuple[np.ndarray, int]]:
    """The same by PyAV."""
    parts, n, sr = [np.empty(0, np.float32)], 0, 0
    with _pyav_stream(file) as stream:
        _check_channels(stream.channels)
        claimed_s = (stream.container.duration or 0) / 1e6
        if claimed_s > max_s + clip_s:
            if _last_packet_end_s(stream, max_s) > max_s + clip_s:
                _refuse_length(max_s)
            stream.container.seek(0)
        for block, sr in _pyav_blocks(stream):
            parts.append(block)
            n += block.size
            while n >= (wanted := max(1, round(clip_s * sr))):
                y = np.concatenate(parts)
                yield y[:wanted], sr
                parts, n = [y[wanted:]], n - wanted
        if n:
            yield np.concatenate(parts), sr


def _check_channels(n: int) -> None:
    """Refuse a file whose mono sum would take more memory than it could be worth."""
    if n > MAX_CHANNELS:
        raise AudioError("undecodable", f"the file has {n} channels; at most {MAX_CHANNELS} are accepted")


def _refuse_length(max_s: float) -> NoReturn:
    """Refuse a file that lasts too long."""
    raise AudioError(
        "too_long", f"the file is longer than {max_s / 60:g} minutes, the most that is accepted; send it in parts"
    )


def _pyav_frames(stream: Any) -> Iterator[Any]:
    """Decoded frames; damaged packets are stepped over, as every player does, unless most are."""
    import av

    n_good = n_damaged = 0
    for packet in stream.container.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError:  # the decoders' reasons are many: a bare -1 arrives as "operation not permitted"
            n_damaged += 1
            continue
        n_good += len(frames)
        yield from frames
    if n_damaged >= n_good:
        raise ValueError(f"{n_damaged} damaged packets, {n_good} good ones")
