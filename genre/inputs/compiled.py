"""The costly steps of `genre.inputs.stft` as plain loops, compiled by numba and kept on disk.

Each loop does what numpy does there, which stays the reference, one frame at a time: a spectrum is used up while it
lies in the core's own cache. They are compiled once on a machine, in a few seconds, beside this file or, where that
cannot be written, in the user's cache.
"""

from collections.abc import Callable, Iterable

import numba
import numpy as np

from genre.inputs import filterbanks
from genre.inputs.stft import FEATURE_MELS, ROLL_PERCENT, SHAPE_COLUMNS, Analysis, frame_blocks, power_spectrum

#: Frames transformed at once: their spectra, in double precision, are to stay in the core's own cache.
BLOCK_FRAMES = 32


class CompiledAnalysis(Analysis):
    """`Analysis` whose frames are gone through once, by one loop, and whose other loops are compiled too."""

    def by_frame(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Compute attributes of `FrameBlock` for all frames; the digits do not depend on what else is computed."""
        wanted = set(names)
        rows = self._compute_in_one_pass(wanted)
        return rows | super().by_frame(wanted - set(rows))

    def _compute_in_one_pass(self, wanted: set[str]) -> dict[str, np.ndarray]:
        """Compute those of the wanted attributes that one pass over the frames yields."""
        config = self.config
        n = self.n_frames
        n_bins = 1 + self.config.n_fft // 2
        rows = dict[str, np.ndarray]()
        passes = list[Callable[[np.ndarray, slice], None]]()
        if wanted & {"power", "mel", "spectral_shape"}:
            taken = [np.empty((n, size), np.float32) for size in (n_bins, FEATURE_MELS, len(SHAPE_COLUMNS))]
            rows |= zip(("power", "mel", "spectral_shape"), taken, strict=True)
            how = (
                self.bin_hz,
                self.rules.spectral_offset,
                self._last_bandwidth_column,
                filterbanks.sparse_mel_filterbank(config.sr, config.n_fft, FEATURE_MELS),
            )
            passes.append(lambda F, block: _analyse_frames(F, *how, *(array[block] for array in taken)))
        if "emphasised_mel" in wanted:
            bands = rows["emphasised_mel"] = np.empty((n, config.n_mels), np.float32)
            response = 1 - config.pre_emphasis * np.exp(-1j * np.pi * np.arange(n_bins) / (n_bins - 1))
            bank = filterbanks.sparse_mel_filterbank(config.sr, config.n_fft, config.n_mels)
            passes.append(lambda F, block: _emphasised_mel(F, response, bank, bands[block]))
        spectra = np.empty((BLOCK_FRAMES, n_bins), np.complex128)
        for block in frame_blocks(n, BLOCK_FRAMES):
            F = np.fft.rfft(self.frames[block], out=spectra[: block.stop - block.start])
            for fill in passes:
                fill(F, block)
        # Where a frame reaches beyond the clip neither filter nor offset is what it is within.
        if "emphasised_mel" in rows:
            power = power_spectrum(self.emphasised_frames[self.edge_frames])
            rows["emphasised_mel"][self.edge_frames] = self.in_mel_bands(power, config.n_mels)
        if "spectral_shape" in rows and self.rules.spectral_offset:
            rows["spectral_shape"][self.edge_frames] = self.compute_shape(
                self.compute_magnitude(self.offset_frames[self.edge_frames]).astype(np.float32)
            )
        return {name: rows[name] for name in wanted & set(rows)}

    @property
    def _last_bandwidth_column(self) -> int:
        """Column of `_frame_shape` that is named the fourth bandwidth."""
        return self.rules.last_bandwidth - 1

    def in_mel_bands(self, power: np.ndarray, n_mels: int) -> np.ndarray:
        """Sum powers into mel bands."""
        return _sum_bands_of_frames(
            power, *filterbanks.sparse_mel_filterbank(self.config.sr, self.config.n_fft, n_mels)
        )

    def compute_shape(self, magnitude: np.ndarray) -> np.ndarray:
        """Locate spectra, see `Analysis.compute_shape`."""
        return _shape_of_frames(magnitude, self.bin_hz, self._last_bandwidth_column)

    def find_peaks(self, S: np.ndarray, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        """Find spectral peaks, and their heights."""
        return _find_peaks(S, np.float32(0.1) * S.max(axis=1), low, high)

    def central_moments(self, x: np.ndarray) -> np.ndarray:
        """Compute the mean, and the second to fourth central moments."""
        return _central_moments(x)


# Threads of a server analyse different clips at once: none of the loops touches a Python object.
_compiled = numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")

# Called by those: as code of its own, such a loop may be vectorised in one way by the process that compiles it and in
# another by those that find its caller on disk, and they would differ in the last digit.
_inlined = numba.njit(fastmath=True, error_model="numpy", forceinline=True)


@_compiled
def _analyse_frames(F, hz, offset, last, bank, power, mel, shape):  # type: ignore[no-untyped-def]
    """Powers, mel bands and shape of some frames from their spectra without a window."""
    n, n_bins = F.shape
    n_fft = 2 * (n_bins - 1)
    magnitude = np.empty(n_bins, np.float32)
    for t in range(n):
        _hann_power(F[t], power[t], magnitude)
        _sum_bands(power[t], bank, mel[t])
        if offset:
            magnitude[0] = abs(0.5 * (F[t, 0].real - F[t, 1].real) + offset * n_fft / 2)
            magnitude[1] = abs(0.5 * F[t, 1] - 0.25 * (F[t, 0] + F[t, 2]) - offset * n_fft / 4)
        _frame_shape(magnitude, hz, last, shape[t])


@_compiled
def _emphasised_mel(F, response, bank, emphasised_mel):  # type: ignore[no-untyped-def]
    """Mel bands of the same frames after a filter, of which the response at each bin is given."""
    n, n_bins = F.shape
    filtered = np.empty(n_bins, np.complex128)
    magnitude = np.empty(n_bins, np.float32)
    power = np.empty(n_bins, np.float32)
    for t in range(n):
        for k in range(n_bins):
            filtered[k] = F[t, k] * response[k]
        _hann_power(filtered, power, magnitude)
        _sum_bands(power, bank, emphasised_mel[t])


@_inlined
def _hann_power(F, power, magnitude):  # type: ignore[no-untyped-def]
    """Powers and magnitudes under a periodic Hann window: each bin less half of its neighbours' mean, halved.

    Its first weight is 0, which hides what a filter in the frequency domain wraps round.
    """
    last = len(F) - 1
    magnitude[0] = abs(0.5 * (F[0].real - F[1].real))
    magnitude[last] = abs(0.5 * (F[last].real - F[last - 1].real))
    for k in range(1, last):
        real = np.float32(0.5 * F[k].real - 0.25 * (F[k - 1].real + F[k + 1].real))
        imaginary = np.float32(0.5 * F[k].imag - 0.25 * (F[k - 1].imag + F[k + 1].imag))
        magnitude[k] = np.sqrt(real * real + imaginary * imaginary)
    for k in range(last + 1):
        power[k] = magnitude[k] * magnitude[k]


@_inlined
def _sum_bands(power, bank, bands):  # type: ignore[no-untyped-def]
    """Compute the weighted sum over the bins of each band."""
    first, ends, weights = bank
    for j in range(len(first)):
        total = np.float32(0)
        shift = first[j] - ends[j]
        for i in range(ends[j], ends[j + 1]):
            total += weights[i] * power[shift + i]
        bands[j] = total


@_compiled
def _sum_bands_of_frames(power, first, ends, weights):  # type: ignore[no-untyped-def]
    """Sum the bins of each band of every frame, shape (n, n_bands)."""
    bands = np.empty((len(power), len(first)), np.float32)
    for t in range(len(power)):
        _sum_bands(power[t], (first, ends, weights), bands[t])
    return bands


@_inlined
def _frame_shape(magnitude, hz, last, shape):  # type: ignore[no-untyped-def]
    """Compute centroid, bandwidths and rolloff of one frame, 0 for a frame of zeros."""
    n_bins = len(magnitude)
    total = np.float32(0)
    weighted = np.float32(0)
    for k in range(n_bins):
        total += magnitude[k]
        weighted += magnitude[k] * hz[k]
    if total < np.finfo(np.float32).tiny:
        shape[:] = 0
        return
    centroid = weighted / total
    second = np.float32(0)
    third = np.float32(0)
    fourth = np.float32(0)
    for k in range(n_bins):
        deviation = abs(hz[k] - centroid)
        moment = magnitude[k] * deviation * deviation
        second += moment
        third += moment * deviation
        fourth += moment * deviation * deviation
    shape[0] = centroid
    shape[1] = (second / total) ** (1 / 2)
    shape[2] = (third / total) ** (1 / 3)
    shape[3] = (fourth / total) ** (1 / 4)
    shape[3] = shape[last]
    running = magnitude[0]
    k = 0
    while running < ROLL_PERCENT * total and k < n_bins - 1:
        k += 1
        running += magnitude[k]
    shape[4] = hz[k]


@_compiled
def _shape_of_frames(magnitude, hz, last):  # type: ignore[no-untyped-def]
    """Compute centroid, bandwidths and rolloff of every frame, shape (n, 5)."""
    shape = np.empty((len(magnitude), 5), np.float32)
    for t in range(len(magnitude)):
        _frame_shape(magnitude[t], hz, last, shape[t])
    return shape


@_compiled
def _find_peaks(S, least, low, high):  # type: ignore[no-untyped-def]
    """Find the peaks of each frame: place in bins, and height, at least that of its frame in `least`."""
    most = len(S) * (1 + (high - low) // 2)
    at = np.empty(most)
    height = np.empty(most, np.float32)
    n = 0
    peak = np.empty(high - low, np.bool_)
    for t in range(len(S)):
        row = S[t]
        for k in range(low, high):  # a separate loop, so that the compiler vectorises it
            peak[k - low] = (row[k] > least[t]) & (row[k] > row[k - 1]) & (row[k] >= row[k + 1])
        for k in range(low, high):
            if peak[k - low]:
                slope = (row[k + 1] - row[k - 1]) / 2
                curvature = row[k - 1] + row[k + 1] - 2 * row[k]
                shift = -slope / curvature if abs(slope) < abs(curvature) else np.float32(0)
                at[n] = k + shift
                height[n] = row[k] + slope * shift / 2
                n += 1
    return at[:n], height[:n]


@_compiled
def _central_moments(x):  # type: ignore[no-untyped-def]
    """Compute the mean, and the second to fourth central moments, in double precision."""
    mean = 0.0
    for i in range(x.size):
        mean += x[i]
    mean /= x.size
    second = 0.0
    third = 0.0
    fourth = 0.0
    for i in range(x.size):
        deviation = x[i] - mean
        square = deviation * deviation
        second += square
        third += square * deviation
        fourth += square * square
    return np.array([mean, second / x.size, third / x.size, fourth / x.size])
