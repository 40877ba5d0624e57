"""A clip in frames and their spectra, in blocks small enough for a core's own cache, for features and spectrogram."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property, reduce
from typing import NamedTuple

import numpy as np
import scipy.fft
import scipy.signal

from genre import filters
from genre.config import AudioConfig, Variant

#: Frames analysed at once: spectra of a whole clip take twice as long, most of it the kernel handing out memory.
BLOCK_FRAMES = 48


class Rules(NamedTuple):
    """Where the published code and its correction differ."""

    spectral_offset: float  # added to the signal before centroid, bandwidth and rolloff
    level_offset: float  # added to the signal before zero crossings and RMS
    last_bandwidth: int  # exponent behind the columns named spectral_bandwidth_4
    chroma_stride: int  # chroma's hop in hops of the STFT
    decimals: int | None


# The published script, in its own values (Bahuleyan 2018, repository's feature notebook), and what it should have been.
_RULES: dict[Variant, Rules] = {
    "corrected": Rules(spectral_offset=0.0, level_offset=0.0, last_bandwidth=4, chroma_stride=1, decimals=None),
    "paper": Rules(spectral_offset=0.01, level_offset=0.0001, last_bandwidth=3, chroma_stride=2, decimals=3),
}


class Shape(NamedTuple):
    """Where the spectrum of each of n frames lies, Hz."""

    centroid: np.ndarray  # shape (n,)
    bandwidth: dict[int, np.ndarray]  # by exponent 2, 3 and 4, shape (n,)
    rolloff: np.ndarray  # shape (n,)


class Frames:
    """Some consecutive frames of a clip: each transform computed once, when first asked for.

    This is the reference, in numpy and scipy. `genre.kernels` has the costly steps compiled.

    Parameters
    ----------
    clip : Analysis
        The clip.
    block : slice
        Which of its frames.

    Attributes
    ----------
    config : AudioConfig
        Frame, hop and sampling rate.
    rules : Rules
        What ``config.variant`` stands for.
    """

    def __init__(self, clip: Analysis, block: slice) -> None:
        self._clip = clip
        self._block = block
        self.config = clip.config
        self.rules = clip.rules

    def __len__(self) -> int:
        return self._block.stop - self._block.start

    @property
    def frames(self) -> np.ndarray:
        """Samples of the signal, zeros beyond the clip's ends, shape (n, n_fft), float64."""
        return self._clip.frames[self._block]

    @property
    def emphasised(self) -> np.ndarray:
        """The same after pre-emphasis, float32."""
        return self._clip.emphasised[self._block]

    @property
    def offset(self) -> np.ndarray:
        """The same with the published offset."""
        return self._clip.offset[self._block]

    @property
    def beyond(self) -> np.ndarray:
        """Which frames reach beyond the clip's ends, shape (n,)."""
        return self._clip.beyond[self._block]

    @cached_property
    def spectrum(self) -> np.ndarray:
        """STFT, shape (n, 1 + n_fft // 2), complex64.

        Transformed in double precision and then rounded, as librosa does: in single, the valleys of the highest octave,
        which lie in the resampler's stop band, would move by up to a quarter.
        """
        return np.fft.rfft(self.frames * hann(self.config.n_fft)).astype(np.complex64)

    @cached_property
    def magnitude(self) -> np.ndarray:
        """Magnitude STFT, shape (n, 1 + n_fft // 2), float32."""
        return abs(self.spectrum)

    @cached_property
    def emphasised_power(self) -> np.ndarray:
        """Power STFT of the emphasised signal, shape (n, 1 + n_fft // 2), float32."""
        return power_spectrum(self.emphasised)

    @cached_property
    def power(self) -> np.ndarray:
        """Power STFT, shape (n, 1 + n_fft // 2), float32."""
        return np.square(self.magnitude)

    @cached_property
    def mel(self) -> np.ndarray:
        """Power in 128 mel bands, librosa's default, shape (n, 128), float32."""
        return self.in_mel_bands(self.power, 128)

    def in_mel_bands(self, power: np.ndarray, n_mels: int) -> np.ndarray:
        """Powers, shape (n, 1 + n_fft // 2), summed into mel bands, shape (n, n_mels)."""
        return power @ filters.mel(self.config.sr, self.config.n_fft, n_mels)

    @cached_property
    def offset_magnitude(self) -> np.ndarray:
        """Magnitude STFT of the signal with the published offset: the same as `magnitude` when corrected."""
        offset, n_fft = self.rules.spectral_offset, self.config.n_fft
        if not offset:
            return self.magnitude
        magnitude = self.magnitude.copy()
        # Under a periodic Hann window a constant is in bins 0 and 1 alone, but for frames that reach beyond the clip.
        magnitude[:, :2] = abs(self.spectrum[:, :2] + np.array([offset * n_fft / 2, -offset * n_fft / 4]))
        magnitude[self.beyond] = abs(np.fft.rfft(self.offset[self.beyond] * hann(n_fft)))
        return magnitude

    @cached_property
    def hz(self) -> np.ndarray:
        """Frequency of each bin, shape (1 + n_fft // 2,)."""
        return np.fft.rfftfreq(self.config.n_fft, 1 / self.config.sr).astype(np.float32)

    @cached_property
    def shape(self) -> Shape:
        """Centroid, bandwidths and rolloff of the magnitude with the published offset."""
        total = self.offset_magnitude.sum(axis=1, keepdims=True)
        share = self.offset_magnitude / or_one(total)
        centroid = share @ self.hz
        deviation = abs(self.hz - centroid[:, np.newaxis])
        moments = {p: np.einsum("tf,tf->t", share, reduce(np.multiply, [deviation] * p)) for p in (2, 3, 4)}
        running = np.cumsum(self.offset_magnitude, axis=1)
        n_below = np.count_nonzero(running < np.float32(ROLL_PERCENT) * running[:, -1:], axis=1)
        return Shape(centroid, {p: moment ** (1 / p) for p, moment in moments.items()}, self.hz[n_below])


#: Share of the magnitude that lies below the rolloff: librosa's default, which the published script took.
ROLL_PERCENT = 0.85

#: What is taken of each frame: from n frames to n rows.
Series = Callable[[Frames], np.ndarray]


class Analysis:
    """One clip, for what is taken of its waveform and of its frames.

    Parameters
    ----------
    y : np.ndarray [shape=(n,), dtype=float32]
        Mono audio at ``config.sr``, at least one sample, finite.
    config : AudioConfig
        Frame, hop, pre-emphasis and variant.

    Attributes
    ----------
    rules : Rules
        What ``config.variant`` stands for.
    """

    kind: type[Frames] = Frames

    def __init__(self, y: np.ndarray, config: AudioConfig) -> None:
        self.y = y
        self.config = config
        self.rules = _RULES[config.variant]

    def framed(self, y: np.ndarray) -> np.ndarray:
        """Frames of a signal, the first centred on its first sample, zeros beyond its ends; a view."""
        padded = np.pad(y, self.config.n_fft // 2)
        return np.lib.stride_tricks.sliding_window_view(padded, self.config.n_fft)[:: self.config.hop_length]

    @cached_property
    def frames(self) -> np.ndarray:
        """The signal, shape (t, n_fft), float64."""
        return self.framed(self.y.astype(np.float64))

    def shifted(self, offset: float) -> np.ndarray:
        """The signal plus a constant, shape (t, n_fft)."""
        return self.framed(self.y + np.float32(offset)) if offset else self.frames

    @cached_property
    def offset(self) -> np.ndarray:
        """The signal with the published offset of the spectra, shape (t, n_fft)."""
        return self.shifted(self.rules.spectral_offset)

    @cached_property
    def emphasised(self) -> np.ndarray:
        """The signal less ``config.pre_emphasis`` of the sample before, shape (t, n_fft), float32."""
        return self.framed(np.append(self.y[:1], self.y[1:] - np.float32(self.config.pre_emphasis) * self.y[:-1]))

    @cached_property
    def beyond(self) -> np.ndarray:
        """Frames that reach beyond the clip's ends, shape (t,)."""
        centre, reach = np.arange(0, len(self.y) + 1, self.config.hop_length), self.config.n_fft // 2
        return (centre < reach) | (centre + reach > len(self.y))

    def central_moments(self, x: np.ndarray) -> np.ndarray:
        """Mean, and second to fourth central moments, of a signal."""
        mean = x.mean(dtype=np.float64)
        sums = np.zeros(3)
        for i in range(0, x.size, 8192):
            deviation = x[i : i + 8192] - mean
            square = deviation * deviation
            sums += square.sum(), square @ deviation, square @ square
        return np.array([mean, *sums / x.size])

    def by_frame(self, series: Iterable[Series]) -> dict[Series, np.ndarray]:
        """What each of `series` takes of all frames.

        Parameters
        ----------
        series : iterable of callable
            From `Frames` to an array of as many rows.

        Returns
        -------
        dict of callable to np.ndarray [shape=(t, ...)]
            Its rows, for each.
        """
        rows: dict[Series, np.ndarray] = {}
        wanted = set(series)
        n_frames = 1 + len(self.y) // self.config.hop_length
        for block in blocks(n_frames):
            frames = self.kind(self, block)
            for function in wanted:
                taken = function(frames)
                if function not in rows:
                    rows[function] = np.empty((n_frames, *taken.shape[1:]), taken.dtype)
                rows[function][block] = taken
        return rows


def blocks(n_frames: int) -> Iterator[slice]:
    """Slices of at most `BLOCK_FRAMES` frames, one after the other."""
    return (slice(i, min(i + BLOCK_FRAMES, n_frames)) for i in range(0, n_frames, BLOCK_FRAMES))


def power_spectrum(frames: np.ndarray) -> np.ndarray:
    """Powers of some frames, shape (n, 1 + n_fft // 2), float32: for a picture, single precision is enough."""
    return np.square(abs(scipy.fft.rfft(frames * hann(frames.shape[1]).astype(np.float32))))


def power_to_db(S: np.ndarray, *, top_db: float = 80.0) -> np.ndarray:
    """Decibels of powers, none below 1e-10 or more than `top_db` under the greatest, as librosa has them.

    Parameters
    ----------
    S : np.ndarray
        Powers, at least one.
    top_db : float
        Range kept, dB.

    Returns
    -------
    np.ndarray
        Of the shape and precision of `S`.
    """
    S_db = 10 * np.log10(np.maximum(S, 1e-10))
    return np.maximum(S_db, S_db.max() - top_db)


def or_one(x: np.ndarray) -> np.ndarray:
    """`x` to divide by: 1 where it is 0, or too small to divide by."""
    return np.where(abs(x) < np.finfo(x.dtype).tiny, 1, x)


@cache
def hann(n: int) -> np.ndarray:
    """Periodic Hann window of `n` samples."""
    window: np.ndarray = scipy.signal.get_window("hann", n)
    return window


def analyse(y: np.ndarray, config: AudioConfig) -> Analysis:
    """Analysis of a clip: compiled, or plain where numba is missing, has no place for its cache, or is not wanted.

    ``GENRE_KERNELS=plain`` in the environment asks for the plain one.

    Parameters
    ----------
    y, config
        As for `Analysis`.

    Returns
    -------
    Analysis
        Both kinds give the same to about 1e-6.
    """
    return _kind(os.environ.get("GENRE_KERNELS", "compiled"))(y, config)


@cache
def _kind(kernels: str) -> type[Analysis]:
    """The class that `analyse` makes; the compiled one is compiled here, or loaded from numba's cache."""
    if kernels == "plain":
        return Analysis
    try:
        from genre.kernels import CompiledAnalysis

        CompiledAnalysis(np.ones(1, np.float32), AudioConfig()).by_frame(
            [lambda frames: frames.in_mel_bands(frames.emphasised_power, 96)]
        )
    except Exception as error:  # numba fails in many ways: no compiler for the machine, no place for its cache
        warnings.warn(f"features take half as long again, for numba does not work here: {error}", stacklevel=3)
        return Analysis
    return CompiledAnalysis
