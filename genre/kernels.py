"""The costly steps of `genre.analysis` as plain loops, compiled by numba and kept on disk.

Each loop does what the method of the same name says in numpy there, which stays the reference. They are compiled
once on a machine, in two seconds, beside this file or, where that cannot be written, in the user's cache.
"""

from functools import cached_property

import numba
import numpy as np

from genre import filters
from genre.analysis import ROLL_PERCENT, Analysis, Frames, Shape, power_spectrum


class CompiledFrames(Frames):
    """`Frames` with both spectra from one transform, and the shape of the spectrum from one loop."""

    @cached_property
    def transform(self) -> np.ndarray:
        """Spectra of the frames without a window, shape (n, 1 + n_fft // 2), complex128."""
        return np.fft.rfft(self.frames)

    def in_mel_bands(self, power: np.ndarray, n_mels: int) -> np.ndarray:
        """Powers summed into mel bands."""
        return _in_bands(power, *filters.sparse_mel(self.config.sr, self.config.n_fft, n_mels))

    @cached_property
    def spectrum(self) -> np.ndarray:
        """STFT, complex64."""
        return _hann(self.transform)

    @cached_property
    def emphasised_power(self) -> np.ndarray:
        """Power STFT of the emphasised signal."""
        power = _emphasised_power(self.transform, self.config.pre_emphasis)
        # The filter's last output lies beyond the clip, where the emphasised signal is 0.
        if self.beyond.any():
            power[self.beyond] = power_spectrum(self.emphasised[self.beyond])
        return power

    @cached_property
    def shape(self) -> Shape:
        """Centroid, bandwidths and rolloff."""
        centroid, second, third, fourth, rolloff = _shape(self.offset_magnitude, self.hz, ROLL_PERCENT)
        return Shape(centroid, {2: second, 3: third, 4: fourth}, rolloff)


class CompiledAnalysis(Analysis):
    """`Analysis` of compiled frames, and with the moments of a signal from two loops."""

    kind = CompiledFrames

    def central_moments(self, x: np.ndarray) -> np.ndarray:
        """Mean, and second to fourth central moments."""
        return _central_moments(x)


# Threads of a server hear different clips at once: none of the loops touches a Python object.
_compiled = numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")


@_compiled
def _hann(F):  # type: ignore[no-untyped-def]
    """Spectra under a periodic Hann window, from those without: each bin less half of its neighbours' mean, halved."""
    n, n_bins = F.shape
    X = np.empty((n, n_bins), np.complex64)
    for t in range(n):
        X[t, 0] = 0.5 * (F[t, 0] - F[t, 1].real)
        for k in range(1, n_bins - 1):
            X[t, k] = 0.5 * F[t, k] - 0.25 * (F[t, k - 1] + F[t, k + 1])
        X[t, -1] = 0.5 * (F[t, -1] - F[t, -2].real)
    return X


@_compiled
def _emphasised_power(F, pre_emphasis):  # type: ignore[no-untyped-def]
    """Powers after the filter y[n] - a y[n - 1], under the same window: its first weight, 0, hides what wraps round."""
    n, n_bins = F.shape
    response = 1 - pre_emphasis * np.exp(-1j * np.pi * np.arange(n_bins) / (n_bins - 1))
    E = np.empty(n_bins, np.complex128)
    power = np.empty((n, n_bins), np.float32)
    for t in range(n):
        for k in range(n_bins):
            E[k] = F[t, k] * response[k]
        power[t, 0] = (0.5 * (E[0].real - E[1].real)) ** 2
        for k in range(1, n_bins - 1):
            x = 0.5 * E[k] - 0.25 * (E[k - 1] + E[k + 1])
            power[t, k] = x.real**2 + x.imag**2
        power[t, -1] = (0.5 * (E[-1].real - E[-2].real)) ** 2
    return power


@_compiled
def _shape(magnitude, hz, roll_percent):  # type: ignore[no-untyped-def]
    """Centroid, bandwidths of exponent 2, 3 and 4, and rolloff of each frame, shape (5, n); 0 for a frame of zeros."""
    n, n_bins = magnitude.shape
    shape = np.zeros((5, n), np.float32)
    for t in range(n):
        row = magnitude[t]
        total, weighted = np.float32(0), np.float32(0)
        for k in range(n_bins):
            total += row[k]
            weighted += row[k] * hz[k]
        if total < np.finfo(np.float32).tiny:
            continue
        centroid = weighted / total
        second, third, fourth = np.float32(0), np.float32(0), np.float32(0)
        for k in range(n_bins):
            deviation = abs(hz[k] - centroid)
            moment = row[k] * deviation * deviation
            second += moment
            third += moment * deviation
            fourth += moment * deviation * deviation
        shape[0, t] = centroid
        shape[1, t] = (second / total) ** (1 / 2)
        shape[2, t] = (third / total) ** (1 / 3)
        shape[3, t] = (fourth / total) ** (1 / 4)
        running, k = row[0], 0
        while running < roll_percent * total and k < n_bins - 1:
            k += 1
            running += row[k]
        shape[4, t] = hz[k]
    return shape


@_compiled
def _in_bands(power, first, ends, weights):  # type: ignore[no-untyped-def]
    """Weighted sums over the bins of each band, shape (n, n_bands)."""
    n, n_bands = len(power), len(first)
    bands = np.empty((n, n_bands), np.float32)
    for t in range(n):
        for j in range(n_bands):
            total = np.float32(0)
            for i in range(ends[j], ends[j + 1]):
                total += weights[i] * power[t, first[j] + i - ends[j]]
            bands[t, j] = total
    return bands


@_compiled
def _central_moments(x):  # type: ignore[no-untyped-def]
    """Mean, and second to fourth central moments, in double precision."""
    mean = 0.0
    for i in range(x.size):
        mean += x[i]
    mean /= x.size
    second, third, fourth = 0.0, 0.0, 0.0
    for i in range(x.size):
        deviation = x[i] - mean
        square = deviation * deviation
        second += square
        third += square * deviation
        fourth += square * square
    return np.array([mean, second / x.size, third / x.size, fourth / x.size])
