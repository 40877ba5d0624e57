"""Audio of any file or bytes: decoded, mono, resampled, and cut into clips."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import soxr

from genre.audio.readers.by_pyav import decode_by_pyav, read_duration_by_pyav, read_windows_by_pyav
from genre.audio.readers.by_soundfile import (
    decode_by_soundfile,
    read_duration_by_soundfile,
    read_windows_by_soundfile,
)
from genre.audio.readers.fallback import AudioSource, iterate_with_fallback, name_source, read_with_fallback
from genre.audio.readers.limits import refuse_length
from genre.config import AudioConfig
from genre.errors import AudioError, UsageError


class Length(NamedTuple):
    """Length of a file, and how it is read.

    Attributes
    ----------
    seconds : float
        Length.
    is_ordered : bool
        Whether all its packets are decoded in order, because its header, or that of its first part, misleads.
    """

    seconds: float
    is_ordered: bool


def read_length(source: AudioSource) -> Length:
    """Return the length of an audio file, from its header where the content confirms it, and how it is read.

    Parameters
    ----------
    source : str, Path, bytes or file
        A file that soundfile (wav, flac, mp3, ogg, opus, aiff, au) or else PyAV (m4a, aac, webm, wma) opens.

    Returns
    -------
    Length
        Where nothing can be decoded just before the end that the header promises (a file cut short, for example), the
        content is counted. See `decode_audio` for the files whose packets are decoded in order.

    Raises
    ------
    AudioError
        ``undecodable`` if neither library opens the file or finds audio in it.
    OSError, MemoryError
        What the system reports of its own state: see `genre.errors.is_system_error`.
    """
    return read_with_fallback(
        source,
        lambda file, content: Length(read_duration_by_soundfile(file, content), False),
        lambda file, content, is_ordered: Length(read_duration_by_pyav(file, content, is_ordered), is_ordered),
    )


def read_duration_s(source: AudioSource) -> float:
    """Return the length of an audio file in seconds.

    Parameters
    ----------
    source : str, Path, bytes or file
        As for `read_length`.

    Raises
    ------
    AudioError, OSError, MemoryError
        As from `read_length`.
    """
    return read_length(source).seconds


def decode_audio(
    source: AudioSource, *, sr: int, start_s: float = 0.0, duration_s: float | None = None, resampler: str = "soxr_hq"
) -> np.ndarray:
    """Decode a file, or a window of it, to mono audio at a given sampling rate.

    Only the window is decoded and resampled, so the result does not depend on the audio around it. The result equals
    that of ``librosa.load`` wherever soundfile reads the format. Channels are averaged; where they cancel each other
    out, the loudest is taken instead, see `genre.audio.readers.mixing`. Of several audio streams the one that is marked
    as default is decoded, or else the first, as players do.

    Some headers mislead: they count a second more or less than there is, or describe only the first of several parts
    (joined or chained files, rates or channels that change). Such files are decoded by FFmpeg from their first packet
    on, however late the window, and their samples are counted; parts of different rates keep their time. All of a file
    is decoded so, or it is refused.

    A window that begins later than a second is decoded from a second before it. AAC that substitutes noise (the encoder
    says "noise like this" instead of sending it) begins its noise anew there: such a window differs from the same
    stretch of the whole by 30 to 60 dB below the music, and up to 11 of the 97 features by more than 1 %.
    `decode_windows`, which reads a file through, differs as much. Other codecs have no such noise. Where a container
    has coarse time stamps, such a window begins a little beside the same stretch of the whole: up to 0.5 ms in Matroska
    and FLV, 0.09 s in WMA.

    Parameters
    ----------
    source : str, Path, bytes or file
        The path of a file, its content, or a file that is open, binary and can seek.
    sr : int
        Sampling rate of the result, Hz.
    start_s : float, default 0
        Start of the window, seconds.
    duration_s : float, optional
        Length of the window, seconds; no more than this is decoded. By default all that follows.
    resampler : str, default "soxr_hq"
        soxr's name of the quality; see `AudioConfig.resampler`.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=float32]
        At least one sample, nominally within ±1; shorter than the window where the file ends within it. Not checked
        for silence or finiteness: see `prepare_clip`.

    Raises
    ------
    AudioError
        ``undecodable`` if neither soundfile nor PyAV gets audio out of it, whatever they raise, or if its samples are
        a bit stream of DTS or AC-3 that FFmpeg does not decode; ``too_short`` if it ends before `start_s`.
    OSError, MemoryError
        As from `read_length`.
    UsageError
        If `start_s` is negative or `duration_s` is not positive.
    """
    if not start_s >= 0 or (duration_s is not None and not duration_s > 0):
        raise UsageError(f"window of {duration_s} s at {start_s} s; pass a start >= 0 and a duration > 0")
    y, sr_native = _decode_native(source, start_s, duration_s)
    return _resample(y, sr_native, sr, resampler)


class NativeWindow(NamedTuple):
    """Clip of a track as it was decoded, before it is resampled.

    Attributes
    ----------
    start_s : float
        Start, seconds.
    y : np.ndarray [shape=(n,), dtype=float32]
        Mono samples.
    sr : int
        Their sampling rate, Hz.
    """

    start_s: float
    y: np.ndarray
    sr: int

    def resample(self, config: AudioConfig) -> np.ndarray:
        """Return the samples at ``config.sr``."""
        return _resample(self.y, self.sr, config.sr, config.resampler)


def decode_windows(
    source: AudioSource, config: AudioConfig, *, max_s: float = math.inf, notes: set[str] | None = None
) -> Iterator[tuple[float, np.ndarray]]:
    """Decode the consecutive clips of a track in one pass over the file, and resample them.

    Each clip equals what `decode_audio` returns for that window, but for the noise of AAC and coarse time stamps.

    Parameters
    ----------
    source, config, max_s, notes
        As for `decode_native_windows`.

    Yields
    ------
    (float, np.ndarray [shape=(n,), dtype=float32])
        Start, seconds, and samples of each window, as from `decode_native_windows`, at ``config.sr``.

    Raises
    ------
    AudioError, OSError, MemoryError
        As from `decode_native_windows`.
    """
    for window in decode_native_windows(source, config, max_s=max_s, notes=notes):
        yield window.start_s, window.resample(config)


def decode_native_windows(
    source: AudioSource, config: AudioConfig, *, max_s: float = math.inf, notes: set[str] | None = None
) -> Iterator[NativeWindow]:
    """Decode the consecutive clips of a track in one pass over the file, each to be resampled by itself.

    The track is cut before it is resampled, as the clips were that models are trained on. Cut afterwards, each clip
    would contain some of its neighbours through the resampling filter, which moves a feature of the quiet top band by
    several per cent.

    Parameters
    ----------
    source : str, Path or bytes
        The path of a file, or its content.
    config : AudioConfig
        Its ``clip_s`` is used.
    max_s : float
        Longest track accepted, seconds; by default any.
    notes : set of str, optional
        Sentences about how the track was heard are added to it, such as `CANCELLED_NOTE` of
        `genre.audio.readers.mixing`.

    Yields
    ------
    NativeWindow
        By the rule of `window_starts`. Pass each, resampled, to `prepare_clip`: a single window may be silent where the
        track is not. Windows are decoded on demand and only one is kept in memory, since a file of a few kilobytes may
        last for hours.

    Raises
    ------
    AudioError
        ``undecodable`` if neither soundfile nor PyAV gets audio out of it, or it has more than `MAX_CHANNELS`;
        ``empty`` if it has no audio; ``too_long`` beyond `max_s`, before anything is decoded where the header gives
        the length and the content confirms it.
    OSError, MemoryError
        As from `read_length`.
    """
    found = set() if notes is None else notes
    n = 0
    for y, sr in iterate_with_fallback(
        source,
        lambda file, content: read_windows_by_soundfile(file, content, config.clip_s, max_s, found),
        lambda file, content, is_ordered: read_windows_by_pyav(file, content, is_ordered, config.clip_s, max_s, found),
    ):
        start_s = n * config.clip_s
        if n and 2 * y.size < round(config.clip_s * sr):
            return
        if start_s >= max_s:
            refuse_length(max_s)
        yield NativeWindow(start_s, y, sr)
        n += 1
    if not n:
        raise AudioError("empty", f"{name_source(source)}: no audio in it; give a file with sound")


def _decode_native(source: AudioSource, start_s: float, duration_s: float | None) -> tuple[np.ndarray, int]:
    """Decode a window of a source to mono; return at least one sample, and the source's own sampling rate."""
    y, sr = read_with_fallback(
        source,
        lambda file, content: decode_by_soundfile(file, content, start_s, duration_s),
        lambda file, content, is_ordered: decode_by_pyav(file, content, is_ordered, start_s, duration_s),
    )
    if y.size == 0:
        raise AudioError("too_short", f"{name_source(source)}: ends before {start_s:g} s, the start of the clip")
    return y, sr


def _resample(y: np.ndarray, sr_native: int, sr: int, resampler: str) -> np.ndarray:
    """Resample as `librosa.resample` does, which however refuses NaN, so that `prepare_clip` could not report it."""
    if sr_native == sr:
        return y
    n = math.ceil(y.size * (sr / sr_native))
    y = soxr.resample(y, sr_native, sr, quality=resampler)
    return y[:n] if y.size >= n else np.pad(y, (0, n - y.size))
