"""A clip in frames and their spectra, in blocks small enough for a core's own cache, for features and spectrogram."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, cached_property, reduce
from typing import NamedTuple

import numpy as np
import scipy.fft
import scipy.signal

from genre.config import AudioConfig, Variant
from genre.inputs import filterbanks

#: Frames analysed at once: spectra of a whole clip take twice as long, most of it the kernel handing out memory.
BLOCK_FRAMES = 48


class VariantRules(NamedTuple):
    """Differences between the published code and its correction."""

    spectral_offset: float  # added to the signal before centroid, bandwidth and rolloff
    level_offset: float  # added to the signal before zero crossings and RMS
    last_bandwidth: int  # exponent behind the columns named spectral_bandwidth_4
    chroma_stride: int  # chroma's hop in hops of the STFT
    contrast_floor: float  # least magnitude of spectral contrast, relative to the clip's greatest peak
    decimals: int | None


# Values of the published script (Bahuleyan 2018, feature notebook of the repository), and corrected ones.
_VARIANT_RULES: dict[Variant, VariantRules] = {
    "corrected": VariantRules(
        spectral_offset=0.0,
        level_offset=0.0,
        last_bandwidth=4,
        chroma_stride=1,
        contrast_floor=1e-4,  # 80 dB
        decimals=None,
    ),
    "paper": VariantRules(
        spectral_offset=0.01,
        level_offset=0.0001,
        last_bandwidth=3,
        chroma_stride=2,
        contrast_floor=0.0,
        decimals=3,
    ),
}


class FrameBlock:
    """Consecutive frames of a clip: each transform is computed once, when first used.

    This is the reference, in numpy and scipy. `genre.inputs.compiled` has the costly steps compiled.

    Parameters
    ----------
    clip : Analysis
        The clip.
    block : slice
        Positions of the frames.

    Attributes
    ----------
    config : AudioConfig
        Frame, hop and sampling rate.
    rules : VariantRules
        Rules of ``config.variant``.
    """

    def __init__(self, clip: Analysis, block: slice) -> None:
        self._clip = clip
        self._block = block
        self.config = clip.config
        self.rules = clip.rules

    @cached_property
    def spectrum(self) -> np.ndarray:
        """STFT, shape (n, 1 + n_fft // 2), complex64.

        Transformed in double precision and then rounded, as librosa does: in single, the valleys of the highest octave,
        which lie in the resampler's stop band, would move by up to a quarter.
        """
        return np.fft.rfft(self._clip.frames[self._block] * hann_window(self.config.n_fft)).astype(np.complex64)

    @cached_property
    def magnitude(self) -> np.ndarray:
        """Magnitude STFT, shape (n, 1 + n_fft // 2), float32."""
        return abs(self.spectrum)

    @cached_property
    def power(self) -> np.ndarray:
        """Power STFT, shape (n, 1 + n_fft // 2), float32."""
        return np.square(self.magnitude)

    @cached_property
    def mel(self) -> np.ndarray:
        """Power in 128 mel bands, librosa's default, shape (n, 128), float32."""
        return self._clip.in_mel_bands(self.power, FEATURE_MELS)

    @cached_property
    def octave_extremes(self) -> np.ndarray:
        """Means of the greatest, and of the least, magnitudes in each octave of the contrast, shape (n, 2, 7), float32.

        The octaves, and how many magnitudes of each are averaged, are those of `filterbanks.octave_bands`.
        """
        extremes = []
        for band, n in filterbanks.octave_bands(self.config.sr, self.config.n_fft):
            ordered = np.sqrt(np.sort(self.power[:, band], axis=1))
            mean = np.full(n, 1 / n, np.float32)  # a product is many times as fast as a mean over so short an axis
            extremes.append(np.stack([ordered[:, -n:] @ mean, ordered[:, :n] @ mean], axis=1))
        return np.stack(extremes, axis=2)

    @cached_property
    def emphasised_mel(self) -> np.ndarray:
        """Power of the emphasised signal in ``config.n_mels`` bands, shape (n, n_mels), float32."""
        return self._clip.in_mel_bands(power_spectrum(self._clip.emphasised_frames[self._block]), self.config.n_mels)

    @cached_property
    def spectral_shape(self) -> np.ndarray:
        """Location of the spectrum with the published offset, Hz, shape (n, 5), float32: see `SHAPE_COLUMNS`."""
        return self._clip.compute_shape(self.offset_magnitude)

    @cached_property
    def offset_magnitude(self) -> np.ndarray:
        """Magnitude STFT of the signal with the published offset: the same as `magnitude` when corrected."""
        offset = self.rules.spectral_offset
        n_fft = self.config.n_fft
        if not offset:
            return self.magnitude
        magnitude = self.magnitude.copy()
        # Under a periodic Hann window a constant is in bins 0 and 1 alone, but for frames that reach beyond the clip.
        magnitude[:, :2] = abs(self.spectrum[:, :2] + np.array([offset * n_fft / 2, -offset * n_fft / 4]))
        beyond = self._clip.edge_frames[self._block]
        magnitude[beyond] = self._clip.compute_magnitude(self._clip.offset_frames[self._block][beyond])
        return magnitude


#: Columns of `FrameBlock.spectral_shape`. The fourth bandwidth is that of `VariantRules.last_bandwidth`.
SHAPE_COLUMNS = (
    "spectral_centroid",
    "spectral_bandwidth_2",
    "spectral_bandwidth_3",
    "spectral_bandwidth_4",
    "spectral_rolloff",
)

#: Share of the magnitude that lies below the rolloff: librosa's default, which the published script took.
ROLL_PERCENT = 0.85

#: Mel bands of the features, for tempo and MFCCs: librosa's default. The spectrogram has ``config.n_mels``.
FEATURE_MELS = 128


class Analysis:
    """One clip, its waveform and its frames.

    Parameters
    ----------
    y : np.ndarray [shape=(n,), dtype=float32]
        Mono audio at ``config.sr``, at least one sample, finite.
    config : AudioConfig
        Frame, hop, pre-emphasis and variant.

    Attributes
    ----------
    rules : VariantRules
        Rules of ``config.variant``.
    """

    def __init__(self, y: np.ndarray, config: AudioConfig) -> None:
        self.y = y
        self.config = config
        self.rules = _VARIANT_RULES[config.variant]

    @classmethod
    def supports(cls, config: AudioConfig) -> bool:
        """Return whether clips of a configuration can be analysed in this way: always, by the reference."""
        return True

    def frame_signal(self, y: np.ndarray) -> np.ndarray:
        """Return the frames of a signal, a view: the first centred on its first sample, zeros beyond its ends."""
        reach = self.config.n_fft // 2
        padded = np.zeros(len(y) + 2 * reach, y.dtype)  # many times as fast as `pad`
        padded[reach:-reach] = y
        return np.lib.stride_tricks.sliding_window_view(padded, self.config.n_fft)[:: self.config.hop_length]

    @cached_property
    def frames(self) -> np.ndarray:
        """The signal, shape (t, n_fft), float64."""
        return self.frame_signal(self.y.astype(np.float64))

    def frames_with_offset(self, offset: float) -> np.ndarray:
        """Return the frames of the signal plus a constant, shape (t, n_fft)."""
        return self.frame_signal(self.y + np.float32(offset)) if offset else self.frames

    @cached_property
    def offset_frames(self) -> np.ndarray:
        """The signal with the published offset of the spectra, shape (t, n_fft)."""
        return self.frames_with_offset(self.rules.spectral_offset)

    @cached_property
    def emphasised_frames(self) -> np.ndarray:
        """The signal less ``config.pre_emphasis`` of the sample before, shape (t, n_fft), float32."""
        emphasised = self.y.copy()
        emphasised[1:] -= np.float32(self.config.pre_emphasis) * self.y[:-1]
        return self.frame_signal(emphasised)

    @cached_property
    def edge_frames(self) -> np.ndarray:
        """Frames that reach beyond the clip's ends, shape (t,)."""
        centre = np.arange(0, len(self.y) + 1, self.config.hop_length)
        reach = self.config.n_fft // 2
        return (centre < reach) | (centre + reach > len(self.y))

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return 1 + len(self.y) // self.config.hop_length

    @property
    def bin_hz(self) -> np.ndarray:
        """Frequency of each bin, shape (1 + n_fft // 2,), float32."""
        return np.fft.rfftfreq(self.config.n_fft, 1 / self.config.sr).astype(np.float32)

    def compute_magnitude(self, frames: np.ndarray) -> np.ndarray:
        """Compute the magnitudes of frames, shape (n, 1 + n_fft // 2)."""
        return abs(np.fft.rfft(frames * hann_window(self.config.n_fft)))

    def in_mel_bands(self, power: np.ndarray, n_mels: int) -> np.ndarray:
        """Sum powers, shape (n, 1 + n_fft // 2), into mel bands, shape (n, n_mels)."""
        return power @ filterbanks.mel_filterbank(self.config.sr, self.config.n_fft, n_mels)

    def compute_shape(self, magnitude: np.ndarray) -> np.ndarray:
        """Locate spectra, Hz, from magnitudes of shape (n, 1 + n_fft // 2), as (n, 5): see `SHAPE_COLUMNS`."""
        total = magnitude.sum(axis=1, keepdims=True)
        share = magnitude / safe_divisor(total)
        centroid = share @ self.bin_hz
        deviation = abs(self.bin_hz - centroid[:, np.newaxis])
        bandwidths = [
            np.einsum("tf,tf->t", share, reduce(np.multiply, [deviation] * p)) ** (1 / p)
            for p in (2, 3, self.rules.last_bandwidth)
        ]
        running = np.cumsum(magnitude, axis=1)
        n_below = np.count_nonzero(running < np.float32(ROLL_PERCENT) * running[:, -1:], axis=1)
        return np.stack([centroid, *bandwidths, self.bin_hz[n_below]], axis=1).astype(np.float32)

    def find_peaks(self, S: np.ndarray, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        """Find spectral peaks of at least a tenth of their frame's maximum, placed by parabolic interpolation.

        Parameters
        ----------
        S : np.ndarray [shape=(n, 1 + n_fft // 2)]
            Powers of frames.
        low, high : int
            First bin, and the bin after the last one.

        Returns
        -------
        np.ndarray [shape=(m,)]
            Place of each peak, in bins.
        np.ndarray [shape=(m,)]
            Height of each peak.
        """
        left = S[:, low - 1 : high - 1]
        middle = S[:, low:high]
        right = S[:, low + 1 : high + 1]
        at = np.nonzero((middle > 0.1 * S.max(axis=1, keepdims=True)) & (middle > left) & (middle >= right))
        left = left[at]
        middle = middle[at]
        right = right[at]
        slope = (right - left) / 2
        curvature = left + right - 2 * middle
        shift = np.where(abs(slope) < abs(curvature), -slope / safe_divisor(curvature), 0)
        return low + at[1] + shift, middle + slope * shift / 2

    def count_sign_changes(self) -> np.ndarray:
        """Count the changes of sign in each frame of the signal with the published offset of the level, shape (t,).

        A sample within 1e-10 of 0, librosa's threshold, is positive.
        """
        n_fft = self.config.n_fft
        negative = np.pad(self.y + np.float32(self.rules.level_offset) < -1e-10, n_fft // 2, mode="edge")
        changes = np.flatnonzero(negative[1:] != negative[:-1])
        first = np.arange(0, len(self.y) + 1, self.config.hop_length)
        return np.searchsorted(changes, first + n_fft - 1) - np.searchsorted(changes, first)

    def mean_squares(self) -> np.ndarray:
        """Compute the mean square of each frame, shape (t,), with the published offset of the level."""
        frames = self.frames_with_offset(self.rules.level_offset)
        return np.einsum("tn,tn->t", frames, frames) / self.config.n_fft

    def autocorrelate(self, x: np.ndarray, window: np.ndarray) -> np.ndarray:
        """Average the autocorrelations of all windows of a signal, each relative to the window's energy.

        They are averaged as spectra and then transformed to lags: one inverse transform instead of one per window.

        Parameters
        ----------
        x : np.ndarray [shape=(n,)]
            The signal.
        window : np.ndarray [shape=(n_lags,), dtype=float64]
            Weights of a window.

        Returns
        -------
        np.ndarray [shape=(n_lags,)]
            From lag 0.
        """
        n_lags = len(window)
        stretches = np.lib.stride_tricks.sliding_window_view(x, n_lags)
        n = scipy.fft.next_fast_len(2 * n_lags - 1, real=True)
        power = np.zeros(1 + n // 2)
        for block in frame_blocks(len(stretches), BLOCK_FRAMES):
            weighted = stretches[block] * window
            weighted /= np.sqrt(safe_divisor(np.einsum("tn,tn->t", weighted, weighted)))[:, np.newaxis]
            parts = scipy.fft.rfft(weighted, n).view(np.float64)
            power += np.einsum("tf,tf->f", parts, parts).reshape(-1, 2).sum(axis=1)
        return np.fft.irfft(power / len(stretches), n)[:n_lags]

    def mean_and_std(self, rows: np.ndarray) -> np.ndarray:
        """Compute the means, then the standard deviations, of numbers of each frame, shape (t,) or (t, m), over t."""
        return np.hstack([rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)])

    def central_moments(self, x: np.ndarray) -> np.ndarray:
        """Compute the mean, and the second to fourth central moments, of a signal."""
        mean = x.mean(dtype=np.float64)
        sums = np.zeros(3)
        for i in range(0, x.size, 8192):
            deviation = x[i : i + 8192] - mean
            square = deviation * deviation
            sums += square.sum(), square @ deviation, square @ square
        return np.array([mean, *sums / x.size])

    def by_frame(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Compute attributes of `FrameBlock` for all frames.

        Parameters
        ----------
        names : iterable of str
            Such as ``mel``.

        Returns
        -------
        dict of str to np.ndarray [shape=(n_frames, ...)]
            Attribute to its values, one row per frame.
        """
        rows: dict[str, np.ndarray] = {}
        wanted = set(names)
        for block in frame_blocks(self.n_frames, BLOCK_FRAMES):
            frames = FrameBlock(self, block)
            for name in wanted:
                taken = getattr(frames, name)
                if name not in rows:
                    rows[name] = np.empty((self.n_frames, *taken.shape[1:]), taken.dtype)
                rows[name][block] = taken
        return rows


def frame_blocks(n_frames: int, size: int) -> Iterator[slice]:
    """Return consecutive slices of at most `size` frames."""
    return (slice(i, min(i + size, n_frames)) for i in range(0, n_frames, size))


def power_spectrum(frames: np.ndarray) -> np.ndarray:
    """Compute the powers of frames, shape (n, 1 + n_fft // 2), in float32, which is enough for a spectrogram."""
    return np.square(abs(scipy.fft.rfft(frames * hann_window(frames.shape[1]).astype(np.float32))))


def power_to_db(S: np.ndarray, *, top_db: float = 80.0) -> np.ndarray:
    """Convert powers to decibels, none below 1e-10 or more than `top_db` under the greatest, as librosa does.

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


def safe_divisor(x: np.ndarray) -> np.ndarray:
    """Return `x` as a divisor: 1 where it is 0, or too small to divide by."""
    return np.where(abs(x) < np.finfo(x.dtype).tiny, 1, x)


@cache
def hann_window(n: int) -> np.ndarray:
    """Return the periodic Hann window of `n` samples."""
    window: np.ndarray = scipy.signal.get_window("hann", n)
    return window
