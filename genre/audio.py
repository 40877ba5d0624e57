"""Sound from any file or bytes: decoded, mono, resampled, and cut into clips."""

from __future__ import annotations

import io
import math
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

import numpy as np
import soundfile
import soxr

from genre.config import AudioConfig
from genre.errors import AudioError, UsageError

Source = str | Path | bytes | BinaryIO
T = TypeVar("T")

#: A clip whose loudest sample lies below this is silent: -80 dBFS, under the quietest 13-bit step, and the same
#: 80 dB that a spectrogram shows below its maximum.
SILENCE_PEAK = 1e-4

#: Above this, spectra in single precision come near their end. Nothing recorded does; damaged float files do.
ABSURD_PEAK = 1e12

#: Samples decoded at a time, of all channels together.
_BLOCK = 1 << 22

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


def duration_s(path: Source) -> float:
    """Length of an audio file: what its container's header says, where the file bears it out.

    Parameters
    ----------
    path : str, Path, bytes or file
        A file that soundfile (wav, flac, mp3, ogg, opus, aiff, au) or else PyAV (m4a, aac, webm, wma) opens.

    Returns
    -------
    float
        Seconds. Where there is no sound just before the end that the header promises, of a file cut short for one,
        what is there is counted. A bare AAC stream's is a guess: what `decode` returns is the truth.

    Raises
    ------
    AudioError
        ``undecodable`` if neither library opens the file or finds audio in it.
    """
    return _first_that_reads(path, _duration_by_soundfile, _duration_by_pyav)


def decode(
    source: Source, *, sr: int, start_s: float = 0.0, duration_s: float | None = None, resampler: str = "soxr_hq"
) -> np.ndarray:
    """Mono audio of a file, or of a window of it, at the sampling rate asked for.

    Only the window is decoded and resampled, so it does not depend on what lies around it. Channels are averaged.
    The result is that of ``librosa.load`` wherever soundfile reads the format.

    Parameters
    ----------
    source : str, Path, bytes or file
        The path of a file, the contents of one, or one that is open, binary and can seek.
    sr : int
        Sampling rate of the result, Hz.
    start_s : float, default 0
        Where the window begins, seconds.
    duration_s : float, optional
        Length of the window, seconds, and the bound on how much is decoded; by default all that follows.
    resampler : str, default "soxr_hq"
        Quality by soxr's name; `AudioConfig.resampler`.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=float32]
        At least one sample, nominally within ±1, shorter than the window where the file ends in it. Not checked
        for silence or finiteness: see `clip`.

    Raises
    ------
    AudioError
        ``undecodable`` if neither soundfile nor PyAV gets audio out of it, ``too_short`` if it ends before
        `start_s`.
    UsageError
        If `start_s` is negative or `duration_s` not positive.
    """
    if not start_s >= 0 or (duration_s is not None and not duration_s > 0):
        raise UsageError(f"window of {duration_s} s at {start_s} s; give a start >= 0 and a duration > 0")

    y, sr_native = _decode_native(source, start_s, duration_s)
    return _resample(y, sr_native, sr, resampler)


def decode_windows(
    source: Source, config: AudioConfig, *, max_s: float = math.inf
) -> Iterator[tuple[float, np.ndarray]]:
    """Consecutive clips of a track, each as `decode` gives it alone, from one pass over the file.

    Cutting before resampling is what makes them the clips that models are trained on: cut afterwards, the filter has
    heard the neighbours, and a feature of the quiet top band moves by several per cent.

    Parameters
    ----------
    source : str, Path or bytes
        The path of a file, or the contents of one.
    config : AudioConfig
        Its ``sr``, ``clip_s`` and ``resampler`` are used.
    max_s : float
        Longest track accepted, seconds; by default any.

    Yields
    ------
    (float, np.ndarray [shape=(n,), dtype=float32])
        Start, seconds, and samples of each window, by the rule of `window_starts`. Pass each to `clip`: one of them
        may be silent where the track is not. A window is decoded when it is asked for, and only one at a time is kept:
        a file of some kilobytes may last for hours.

    Raises
    ------
    AudioError
        ``undecodable`` if neither soundfile nor PyAV gets audio out of it, or it has more than `MAX_CHANNELS`;
        ``empty`` if there is none in it; ``too_long`` beyond `max_s`, at once where the file says so and it is true.
    """
    n = 0
    for y, sr in _all_that_one_reads(
        source,
        lambda file: _windows_by_soundfile(file, config.clip_s, max_s),
        lambda file: _windows_by_pyav(file, config.clip_s, max_s),
    ):
        start_s = n * config.clip_s
        if n and 2 * y.size < round(config.clip_s * sr):
            return
        if start_s >= max_s:
            _refuse_length(max_s)
        yield start_s, _resample(y, sr, config.sr, config.resampler)
        n += 1
    if not n:
        raise AudioError("empty", f"{_name(source)}: there is no sound in it")


def clip(y: np.ndarray, config: AudioConfig) -> np.ndarray:
    """One clip, cut to its full length and found fit for features.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
        Mono audio at ``config.sr``.
    config : AudioConfig
        Its ``n_samples`` is the full length, its ``min_s`` the shortest accepted.

    Returns
    -------
    np.ndarray [shape=(m,), dtype=float32]
        The first samples, at most ``config.n_samples``; finite, not silent.

    Raises
    ------
    AudioError
        In this order: ``too_short`` below ``config.min_s``, ``not_finite`` with NaN or infinity in it, ``silent``
        with a peak below `SILENCE_PEAK`.
    """
    if y.size < config.min_s * config.sr:
        raise AudioError("too_short", f"{y.size / config.sr:.2f} s of audio; a clip needs at least {config.min_s:g} s")
    y = checked(y[: config.n_samples])
    peak = _peak(y)
    if peak < SILENCE_PEAK:
        raise AudioError("silent", f"loudest sample {peak:.1e} of full scale; a clip needs at least {SILENCE_PEAK:g}")
    return y


def checked(y: np.ndarray) -> np.ndarray:
    """Audio that can be analysed at all, silent or not.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
        Mono audio.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=float32]
        The same, contiguous.

    Raises
    ------
    AudioError
        ``too_short`` without a sample, ``not_finite`` with NaN, infinity or samples above `ABSURD_PEAK`.
    UsageError
        If `y` is not one-dimensional.
    """
    y = np.asarray(y)
    if y.ndim != 1:
        raise UsageError(f"audio of shape {y.shape}; give one channel, shape (n,)")
    if y.size == 0:
        raise AudioError("too_short", "no samples; give at least one")
    if not _peak(y) <= ABSURD_PEAK:  # nor is NaN
        raise AudioError(
            "not_finite",
            f"some samples are NaN, infinite or beyond {ABSURD_PEAK:g}; export the audio again as integer PCM",
        )
    return np.ascontiguousarray(y, dtype=np.float32)


def _peak(y: np.ndarray) -> float:
    """Largest magnitude of any sample, NaN if one is."""
    return float(max(np.max(y), -np.min(y)))


def window_starts(duration_s: float, config: AudioConfig, max_windows: int | None = None) -> list[float]:
    """Where the consecutive clips of a track begin.

    Parameters
    ----------
    duration_s : float
        Length of the track, seconds.
    config : AudioConfig
        Its ``clip_s`` is the length of a window.
    max_windows : int, optional
        At most so many, spread evenly over the track (each the middle one of its equal share) rather than its
        first ones; by default all.

    Returns
    -------
    list of float
        Seconds, multiples of ``config.clip_s``, ascending. A last window shorter than half a clip is left out,
        unless it is the only one.

    Raises
    ------
    UsageError
        If `max_windows` is below 1.
    """
    if max_windows is not None and max_windows < 1:
        raise UsageError(f"max_windows is {max_windows}; give at least 1, or nothing for all")
    # Half a clip left over rounds up to one more window.
    n = max(1, math.floor(duration_s / config.clip_s + 0.5))
    kept = n if max_windows is None else min(n, max_windows)
    return [(2 * i + 1) * n // (2 * kept) * config.clip_s for i in range(kept)]


def _first_that_reads(source: Source, by_soundfile: Callable[[BinaryIO], T], by_pyav: Callable[[BinaryIO], T]) -> T:
    """What soundfile reads, else what PyAV reads, else both their reasons."""
    return next(
        _all_that_one_reads(source, lambda file: iter([by_soundfile(file)]), lambda file: iter([by_pyav(file)]))
    )


def _all_that_one_reads(
    source: Source, by_soundfile: Callable[[BinaryIO], Iterator[T]], by_pyav: Callable[[BinaryIO], Iterator[T]]
) -> Iterator[T]:
    """Items that soundfile reads, and from where it fails those that PyAV reads, else both their reasons."""
    n_read = 0
    try:
        with _opened(source) as file:
            for item in by_soundfile(file):
                n_read += 1
                yield item
            return
    except (soundfile.SoundFileError, TypeError, MemoryError) as error:  # TypeError: a name that ends in .raw
        first = error
    import av

    try:
        with _opened(source) as file:
            yield from islice(by_pyav(file), n_read, None)
    except (av.FFmpegError, OSError, ValueError, MemoryError) as second:  # OSError: a damaged index seeks anywhere
        raise AudioError(
            "undecodable",
            f"{_name(source)}: neither soundfile ({_why(first)}) nor PyAV ({_why(second)}) can read it; "
            "convert it to wav or flac",
        ) from second


def _decode_native(source: Source, start_s: float, duration_s: float | None) -> tuple[np.ndarray, int]:
    """Window of a source, mono, at least one sample, and its own sampling rate."""
    y, sr = _first_that_reads(
        source,
        lambda file: _decode_by_soundfile(file, start_s, duration_s),
        lambda file: _decode_by_pyav(file, start_s, duration_s),
    )
    if y.size == 0:
        raise AudioError("too_short", f"{_name(source)}: ends before {start_s:g} s, where the clip should begin")
    return y, sr


def _opened(source: Source) -> AbstractContextManager[BinaryIO]:
    """The source as a file object: a name could be a URL, which PyAV would fetch."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not isinstance(source, str | Path):
        source.seek(0)
        return nullcontext(source)
    try:
        # A pipe would be waited for, and a device has no end.
        if not stat.S_ISREG(Path(source).stat().st_mode):
            raise AudioError(
                "undecodable", f"{source}: cannot be opened: it is a folder, a pipe or a device; give a file"
            )
        return Path(source).open("rb", buffering=0)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise AudioError("undecodable", f"{source}: cannot be opened: {_why(error)}") from error


def _sound(file: BinaryIO) -> soundfile.SoundFile:
    """An open file as soundfile reads it: one on a disk by its descriptor, so that other threads can run meanwhile."""
    if isinstance(file, io.FileIO):
        return soundfile.SoundFile(file.fileno(), closefd=False)
    return soundfile.SoundFile(file)


def _name(source: Source) -> str:
    """What error texts call the source."""
    if isinstance(source, str | Path):
        return Path(source).name
    return f"audio of {len(source)} bytes" if isinstance(source, bytes) else "audio"


def _why(error: BaseException) -> str:
    """A library's own words, without the reprs and numbers around them."""
    for attribute in ("error_string", "strerror"):
        if text := getattr(error, attribute, None):
            return str(text).rstrip(".")
    return str(error) or type(error).__name__


def _resample(y: np.ndarray, sr_native: int, sr: int, resampler: str) -> np.ndarray:
    """`librosa.resample`, which however refuses NaN before anybody could count it."""
    if sr_native == sr:
        return y
    n = math.ceil(y.size * (sr / sr_native))
    y = soxr.resample(y, sr_native, sr, quality=resampler)
    return y[:n] if y.size >= n else np.pad(y, (0, n - y.size))


def _duration_by_soundfile(file: BinaryIO) -> float:
    """Length of an open file, seconds."""
    with _sound(file) as sound:
        n, sr = sound.frames, sound.samplerate
        if not _sounds_at(sound, max(0, n - sr)):
            sound.seek(0)
            n = sum(len(block) for block in _blocks(sound, n))
        return n / sr


def _sounds_at(sound: soundfile.SoundFile, frame: int) -> bool:
    """Whether there is anything at all to decode from this frame on."""
    try:
        sound.seek(frame)
        return len(sound.read(1)) > 0
    except soundfile.SoundFileError:
        return False


def _blocks(sound: soundfile.SoundFile, n: int) -> Iterator[np.ndarray]:
    """The next n frames, or as many as there are, mono float32 in blocks: memory follows what is really there."""
    # The same numbers as when read as float32, since 2**15 only moves the point, in a fraction of the time.
    dtype, scale = ("int16", 2.0**-15) if sound.subtype == "PCM_16" else ("float32", 1.0)
    # The mean of the channels, twenty times faster than `mean` over so short an axis.
    weights = np.full(sound.channels, scale / sound.channels, np.float32)
    size = max(1, _BLOCK // sound.channels)
    while n > 0 and len(block := sound.read(min(n, size), dtype=dtype, always_2d=True)):
        yield block[:, 0] * weights[0] if sound.channels == 1 else block.astype(np.float32, copy=False) @ weights
        n -= len(block)


def _decode_by_soundfile(file: BinaryIO, start_s: float, duration_s: float | None) -> tuple[np.ndarray, int]:
    """Window of an open file, mono, and its sampling rate."""
    with _sound(file) as sound:
        sr = sound.samplerate
        first = min(round(start_s * sr), sound.frames)
        wanted = sound.frames - first if duration_s is None else round(duration_s * sr)
        sound.seek(first)
        parts = list(_blocks(sound, wanted))
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
        last = _last_packet_s(stream, float(said) - 2)
        # A recording that was never closed has its length in its packets only; so has one that was cut short.
        return float(said) if said and last > said - 1 else _last_packet_s(stream, 0.0)


def _last_packet_s(stream: Any, from_s: float) -> float:
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
    with _sound(file) as sound:
        sr, n_read = sound.samplerate, 0
        _check_channels(sound.channels)
        if sound.frames > (max_s + clip_s) * sr:
            if _sounds_at(sound, round((max_s + clip_s) * sr)):
                _refuse_length(max_s)
            sound.seek(0)
        while parts := list(_blocks(sound, round(clip_s * sr))):
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
            if _last_packet_s(stream, max_s) > max_s + clip_s:
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
