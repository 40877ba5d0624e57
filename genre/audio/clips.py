"""Clips: cut from a track and checked for what can be analysed."""

from __future__ import annotations

import math

import numpy as np

from genre.config import AudioConfig
from genre.errors import AudioError, UsageError

#: A clip whose loudest sample lies below this is silent: -80 dBFS, under the quietest 13-bit step, and the same
#: 80 dB that a spectrogram shows below its maximum.
SILENCE_PEAK = 1e-4

#: Largest magnitude accepted: beyond it, spectra in single precision may overflow. No recording comes near; samples
#: of damaged float files do.
MAX_PEAK = 1e12


def prepare_clip(y: np.ndarray, config: AudioConfig) -> np.ndarray:
    """Cut audio to the length of a clip, and check that features can be computed from it.

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
    y = validate_audio(y[: config.n_samples])
    peak = _peak(y)
    if peak < SILENCE_PEAK:
        raise AudioError("silent", f"loudest sample {peak:.1e} of full scale; a clip needs at least {SILENCE_PEAK:g}")
    return y


def validate_audio(y: np.ndarray) -> np.ndarray:
    """Check that audio can be analysed at all, silent or not.

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
        ``too_short`` without a sample, ``not_finite`` with NaN, infinity or samples above `MAX_PEAK`.
    UsageError
        If `y` is not one-dimensional.
    """
    y = np.asarray(y)
    if y.ndim != 1:
        raise UsageError(f"audio of shape {y.shape}; pass one channel, shape (n,)")
    if y.size == 0:
        raise AudioError("too_short", "no samples; at least one is needed")
    if not _peak(y) <= MAX_PEAK:  # written so that a peak of NaN is refused as well
        raise AudioError(
            "not_finite",
            f"some samples are NaN, infinite or beyond {MAX_PEAK:g}; export the audio again as integer PCM",
        )
    return np.ascontiguousarray(y, dtype=np.float32)


def _peak(y: np.ndarray) -> float:
    """Return the largest magnitude of any sample; NaN if a sample is NaN."""
    return float(max(np.max(y), -np.min(y)))


def window_starts(duration_s: float, config: AudioConfig, max_windows: int | None = None) -> list[float]:
    """Return the start times of the consecutive clips of a track.

    Parameters
    ----------
    duration_s : float
        Length of the track, seconds.
    config : AudioConfig
        Its ``clip_s`` is the length of a window.
    max_windows : int, optional
        Maximum number of windows, by default no limit. Where a track has more, it is divided into as many equal parts
        and the middle window of each is taken.

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
        raise UsageError(f"max_windows is {max_windows}; pass at least 1, or None for no limit")
    # Half a clip left over rounds up to one more window.
    n = max(1, math.floor(duration_s / config.clip_s + 0.5))
    n_kept = n if max_windows is None else min(n, max_windows)
    # The middle of part i is at (i + 1/2) n / n_kept windows, in whole numbers.
    return [(2 * i + 1) * n // (2 * n_kept) * config.clip_s for i in range(n_kept)]
