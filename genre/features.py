"""The 97 hand-crafted features of the paper, registered one by one, from one STFT."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import librosa
import numpy as np
import scipy.stats

from genre.audio import checked
from genre.config import AudioConfig, Variant


class _Rules(NamedTuple):
    """Where the published code and its correction differ."""

    spectral_offset: float  # added to the signal before centroid, bandwidth and rolloff
    level_offset: float  # added to the signal before zero crossings and RMS
    last_bandwidth: int  # exponent behind the columns named spectral_bandwidth_4
    chroma_stride: int  # chroma's hop in hops of the STFT
    decimals: int | None


# The published script, in its own values (Bahuleyan 2018, repository's feature notebook), and what it should have been.
_RULES: dict[Variant, _Rules] = {
    "corrected": _Rules(spectral_offset=0.0, level_offset=0.0, last_bandwidth=4, chroma_stride=1, decimals=None),
    "paper": _Rules(spectral_offset=0.01, level_offset=0.0001, last_bandwidth=3, chroma_stride=2, decimals=3),
}


class Analysis:
    """One clip as the features see it: each transform computed once, when first asked for.

    Attributes
    ----------
    y : np.ndarray [shape=(n,)]
        Mono audio at ``config.sr``.
    config : AudioConfig
        Frame, hop and sampling rate.
    rules : _Rules
        What ``config.variant`` stands for.
    """

    def __init__(self, y: np.ndarray, config: AudioConfig) -> None:
        self.y = y
        self.config = config
        self.rules = _RULES[config.variant]

    @cached_property
    def magnitude(self) -> np.ndarray:
        """Magnitude STFT, shape (1 + n_fft // 2, t)."""
        return self._stft(0.0)

    @cached_property
    def offset_magnitude(self) -> np.ndarray:
        """Magnitude STFT of the signal with the published offset: the same as `magnitude` when corrected."""
        offset = self.rules.spectral_offset
        return self._stft(offset) if offset else self.magnitude

    @cached_property
    def power(self) -> np.ndarray:
        """Power STFT, shape (1 + n_fft // 2, t)."""
        return self.magnitude**2

    @cached_property
    def mel_db(self) -> np.ndarray:
        """Log-mel spectrogram of 128 bands (librosa's default), dB, shared by MFCCs and tempo."""
        return librosa.power_to_db(librosa.feature.melspectrogram(S=self.power, sr=self.config.sr))

    @cached_property
    def centroid(self) -> np.ndarray:
        """Spectral centroid, Hz, shape (1, t), shared by the bandwidths."""
        return librosa.feature.spectral_centroid(S=self.offset_magnitude, sr=self.config.sr)

    @property
    def level_y(self) -> np.ndarray:
        """The signal of which level and zero crossings are taken."""
        return self.y + self.rules.level_offset

    def _stft(self, offset: float) -> np.ndarray:
        """Magnitude STFT of the signal plus a constant."""
        return np.abs(librosa.stft(self.y + offset, n_fft=self.config.n_fft, hop_length=self.config.hop_length))


class Feature(NamedTuple):
    """A group of columns that one function computes.

    Attributes
    ----------
    family : str
        What it is a feature of; several groups may share one.
    columns : tuple of str
        Names of the values, in their order.
    values : callable
        From an `Analysis` to an array of ``len(columns)`` numbers.
    """

    family: str
    columns: tuple[str, ...]
    values: Callable[[Analysis], np.ndarray]


def _by_frame(family: str, series: Callable[[Analysis], np.ndarray], *names: str) -> Feature:
    """Means, then standard deviations, over the frames of one row per name."""

    def values(a: Analysis) -> np.ndarray:
        rows = series(a)
        return np.concatenate([rows.mean(axis=1, dtype=np.float64), rows.std(axis=1, dtype=np.float64)])

    columns = tuple(f"{name}_{statistic}" for statistic in ("mean", "std") for name in names or (family,))
    return Feature(family, columns, values)


def _signal(a: Analysis) -> np.ndarray:
    """Moments of the waveform: mean and skewness, as published, of its absolute value."""
    y = a.y.astype(np.float64)
    loudness = abs(y)
    # A constant has no shape: 0 rather than scipy's NaN.
    skew = scipy.stats.skew(loudness) if np.ptp(loudness) else 0.0
    kurtosis = scipy.stats.kurtosis(y) if np.ptp(y) else 0.0
    return np.array([loudness.mean(), y.std(), skew, kurtosis])


def _zcr(a: Analysis) -> np.ndarray:
    """Share of samples at which the sign changes."""
    c = a.config
    return librosa.feature.zero_crossing_rate(a.level_y, frame_length=c.n_fft, hop_length=c.hop_length)


def _rms(a: Analysis) -> np.ndarray:
    """Root mean square of each frame."""
    c = a.config
    return librosa.feature.rms(y=a.level_y, frame_length=c.n_fft, hop_length=c.hop_length, dtype=a.y.dtype)


def _tempo(a: Analysis) -> np.ndarray:
    """Beats per minute, from the autocorrelation of the onset strength."""
    c = a.config
    onsets = librosa.onset.onset_strength(S=a.mel_db, sr=c.sr, n_fft=c.n_fft, hop_length=c.hop_length)
    return librosa.feature.tempo(onset_envelope=onsets, sr=c.sr, hop_length=c.hop_length)


def _bandwidth(a: Analysis, p: int) -> np.ndarray:
    """Spread of the spectrum about its centroid, Hz: the p-th root of its p-th moment."""
    return librosa.feature.spectral_bandwidth(S=a.offset_magnitude, sr=a.config.sr, centroid=a.centroid, p=p)


def _contrast(a: Analysis) -> np.ndarray:
    """Peaks above valleys, dB, in six octaves from 200 Hz and what lies below them."""
    return librosa.feature.spectral_contrast(S=a.magnitude, sr=a.config.sr, n_bands=6, fmin=200.0)


def _rolloff(a: Analysis) -> np.ndarray:
    """Frequency below which 85 % of the magnitude lies, Hz."""
    return librosa.feature.spectral_rolloff(S=a.offset_magnitude, sr=a.config.sr, roll_percent=0.85)


def _mfccs(a: Analysis) -> np.ndarray:
    """Twenty cepstral coefficients."""
    return librosa.feature.mfcc(S=a.mel_db, n_mfcc=20)


def _chroma(a: Analysis) -> np.ndarray:
    """Strength of the twelve pitch classes, relative to the frame's strongest."""
    return librosa.feature.chroma_stft(S=a.power[:, :: a.rules.chroma_stride], sr=a.config.sr)


def _numbered(name: str, n: int) -> list[str]:
    """Names with 1 to n behind them, as the published table has them."""
    return [f"{name}_{i}" for i in range(1, n + 1)]


#: Every feature, in the published order. A new one is a function and a line at the end.
FEATURES: tuple[Feature, ...] = (
    Feature("signal", ("signal_mean", "signal_std", "signal_skew", "signal_kurtosis"), _signal),
    _by_frame("zcr", _zcr),
    _by_frame("rmse", _rms),
    Feature("tempo", ("tempo",), _tempo),
    _by_frame("spectral_centroid", lambda a: a.centroid),
    _by_frame("spectral_bandwidth", lambda a: _bandwidth(a, 2), "spectral_bandwidth_2"),
    _by_frame("spectral_bandwidth", lambda a: _bandwidth(a, 3), "spectral_bandwidth_3"),
    _by_frame("spectral_bandwidth", lambda a: _bandwidth(a, a.rules.last_bandwidth), "spectral_bandwidth_4"),
    _by_frame("spectral_contrast", _contrast, *_numbered("spectral_contrast", 7)),
    _by_frame("spectral_rolloff", _rolloff),
    _by_frame("mfccs", _mfccs, *_numbered("mfccs", 20)),
    _by_frame("chroma_stft", _chroma, *_numbered("chroma_stft", 12)),
)

#: Columns of the feature table, in the published order.
FEATURE_NAMES: tuple[str, ...] = tuple(column for feature in FEATURES for column in feature.columns)

#: Family of each column.
FAMILIES: dict[str, str] = {column: feature.family for feature in FEATURES for column in feature.columns}


def extract(y: np.ndarray, config: AudioConfig) -> np.ndarray:
    """The features of one clip.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
        Mono audio at ``config.sr``, finite, of any length and level; `audio.clip` says what is worth a row.
    config : AudioConfig
        ``variant="corrected"`` (the default) takes the signal as it is; ``"paper"`` gives the published script's
        numbers on today's librosa: a constant added before some features, chroma at twice the hop, the third
        bandwidth once more in place of the fourth, three decimals (Bahuleyan 2018, section 4).

    Returns
    -------
    np.ndarray [shape=(97,), dtype=float32]
        In the order of `FEATURE_NAMES`, finite: what a signal leaves undefined (skewness and kurtosis of a
        constant) is 0.

    Raises
    ------
    AudioError
        ``too_short`` without a sample, ``not_finite`` with NaN or infinity.
    UsageError
        If `y` is not one-dimensional.
    """
    analysis = Analysis(checked(y), config)
    values = np.concatenate([feature.values(analysis) for feature in FEATURES])
    if analysis.rules.decimals is not None:
        values = np.round(values, analysis.rules.decimals)
    return np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def warm_up(config: AudioConfig) -> None:
    """Have librosa compile, or load, all that it compiles, in this process alone.

    Call it before several processes use `extract` for the first time on a machine: when two write numba's cache on disk
    at once, it can end up such that every later process dies of it.

    Parameters
    ----------
    config : AudioConfig
        As for `extract`.
    """
    extract(np.random.default_rng(0).normal(0, 0.1, config.sr).astype(np.float32), config)
