"""Sound from any file or bytes: decoded, mono, resampled, and cut into clips."""

from __future__ import annotations

import io
import math
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import soundfile
import soxr

from genre.audio.readers import (
    _decode_by_pyav,
    _decode_by_soundfile,
    _duration_by_pyav,
    _duration_by_soundfile,
    _refuse_length,
    _windows_by_pyav,
    _windows_by_soundfile,
)
from genre.config import AudioConfig
from genre.errors import AudioError, UsageError

AudioSource = str | Path | bytes | BinaryIO
T = TypeVar("T")


def read_duration_s(path: AudioSource) -> float:
    """Length of an audio file: what its container's header says, where the file bears it out.

    Parameters
    ----------
    path : str, Path, bytes or file
        A file that soundfile (wav, flac, mp3, ogg, opus, aiff, au) or else PyAV (m4a, aac, webm, wma) opens.

    Returns
    -------
    float
        Seconds. Where there is no sound just before the end that the header promises, of a file cut short for one,
        what is there is counted. A bare AAC stream's is a guess: what `decode_audio` returns is the truth.

    Raises
    ------
    AudioError
        ``undecodable`` if neither library opens the file or finds audio in it.
    """
    return _read_with_fallback(path, _duration_by_soundfile, _duration_by_pyav)


def decode_audio(
    source: AudioSource, *, sr: int, start_s: float = 0.0, duration_s: float | None = None, resampler: str = "soxr_hq"
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
        for silence or finiteness: see `prepare_clip`.

    Raises
    ------
    AudioError
        ``undecodable`` if neither soundfile nor PyAV gets audio out of it, ``too_short`` if it ends before
        `start_s`.
    UsageError
        If `start_s` is negative or `read_duration_s` not positive.
    """
    if not start_s >= 0 or (duration_s is not None and not duration_s > 0):
        raise UsageError(f"window of {duration_s} s at {start_s} s; give a start >= 0 and a duration > 0")

    y, sr_native = _decode_native(source, start_s, duration_s)
    return _resample(y, sr_native, sr, resampler)


def decode_windows(
    source: AudioSource, config: AudioConfig, *, max_s: float = math.inf
) -> Iterator[tuple[float, np.ndarray]]:
    """Consecutive clips of a track, each as `decode_audio` gives it alone, from one pass over the file.

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
        Start, seconds, and samples of each window, by the rule of `window_starts`. Pass each to `prepare_clip`: one of
        them may be silent where the track is not. A window is decoded when it is asked for, and only one at a time is
        kept: a file of some kilobytes may last for hours.

    Raises
    ------
    AudioError
        ``undecodable`` if neither soundfile nor PyAV gets audio out of it, or it has more than `MAX_CHANNELS`;
        ``empty`` if there is none in it; ``too_long`` beyond `max_s`, at once where the file says so and it is true.
    """
    n = 0
    for y, sr in _iterate_with_fallback(
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
        raise AudioError("empty", f"{_source_name(source)}: there is no sound in it")


def _read_with_fallback(
    source: AudioSource, by_soundfile: Callable[[BinaryIO], T], by_pyav: Callable[[BinaryIO], T]
) -> T:
    """What soundfile reads, else what PyAV reads, else both their reasons."""
    return next(
        _iterate_with_fallback(source, lambda file: iter([by_soundfile(file)]), lambda file: iter([by_pyav(file)]))
    )


def _iterate_with_fallback(
    source: AudioSource, by_soundfile: Callable[[BinaryIO], Iterator[T]], by_pyav: Callable[[BinaryIO], Iterator[T]]
) -> Iterator[T]:
    """Items that soundfile reads, and from where it fails those that PyAV reads, else both their reasons."""
    n_read = 0
    try:
        with _open_source(source) as file:
            for item in by_soundfile(file):
                n_read += 1
                yield item
            return
    except (soundfile.SoundFileError, TypeError, MemoryError) as error:  # TypeError: a name that ends in .raw
        first = error
    import av

    try:
        with _open_source(source) as file:
            yield from islice(by_pyav(file), n_read, None)
    except (av.FFmpegError, OSError, ValueError, MemoryError) as second:  # OSError: a damaged index seeks anywhere
        raise AudioError(
            "undecodable",
            f"{_source_name(source)}: neither soundfile ({_error_text(first)}) nor PyAV ({_error_text(second)}) "
            "can read it; convert it to wav or flac",
        ) from second


def _decode_native(source: AudioSource, start_s: float, duration_s: float | None) -> tuple[np.ndarray, int]:
    """Window of a source, mono, at least one sample, and its own sampling rate."""
    y, sr = _read_with_fallback(
        source,
        lambda file: _decode_by_soundfile(file, start_s, duration_s),
        lambda file: _decode_by_pyav(file, start_s, duration_s),
    )
    if y.size == 0:
        raise AudioError("too_short", f"{_source_name(source)}: ends before {start_s:g} s, where the clip should begin")
    return y, sr


def _open_source(source: AudioSource) -> AbstractContextManager[BinaryIO]:
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
        raise AudioError("undecodable", f"{source}: cannot be opened: {_error_text(error)}") from error


def _source_name(source: AudioSource) -> str:
    """What error texts call the source."""
    if isinstance(source, str | Path):
        return Path(source).name
    return f"audio of {len(source)} bytes" if isinstance(source, bytes) else "audio"


def _error_text(error: BaseException) -> str:
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
