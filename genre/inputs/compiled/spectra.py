"""Compiled loops over the spectra of a clip, sixteen frames at a time.

In every array of a block the sixteen frames lie side by side, in the last axis: what is done to a bin is done to
sixteen numbers in a row, which a compiler turns into vector instructions of any width, and no sum over bins depends on
that width. Arrays are flat, for with a constant distance between rows it need not check that they do not overlap.

What one of these functions calls is in this file too: numba's cache notices a change of the file only.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import numba
import numpy as np

from genre.inputs.compiled.disk_cache import compile_loop
from genre.inputs.stft import ROLL_PERCENT

#: Frames side by side: one vector of AVX-512 in single precision, two or four of older instructions.
LANES = 16

#: Samples in a frame: the loops are compiled for this length only.
FRAME = 2048

#: Complex numbers in a transform: a real frame is half as many, its even samples real and its odd ones imaginary.
HALF = FRAME // 2

#: Most peaks, or valleys, in an octave.
MAX_EXTREMES = 9

#: Least sum of magnitudes that is divided by: that of a frame that is not 0 in single precision.
_TINY = float(np.finfo(np.float32).tiny)

#: Bins that are summed at once: a band is of whole groups.
GROUP = 8

#: Rows of the powers of a block: the bins, and zeros that fill the last group.
_N_ROWS = HALF + GROUP

#: Numbers from one bin, of a complex spectrum, to the next.
_STEP = 2 * LANES

# Called by those: as code of its own, such a loop may be vectorised in one way by the process that compiles it and in
# another by those that find its caller on disk, and they would differ in the last digit.
_inlined = numba.njit(fastmath=True, error_model="numpy", forceinline=True)


#: Two arrays of the spectra of a block, and roots of unity: see `ScratchArrays`.
Tools = tuple[np.ndarray, np.ndarray, np.ndarray]

#: First bins, ends and weights of bands, as from `filterbanks.sparse_mel_filterbank`, in whole groups.
Bank = tuple[np.ndarray, np.ndarray, np.ndarray]


class FeatureRows(NamedTuple):
    """Series of all frames that the features need, a row per bin, band or column, float32."""

    power: np.ndarray
    mel: np.ndarray
    spectral_shape: np.ndarray
    extremes: np.ndarray


class FeatureRules(NamedTuple):
    """Constants that the features are computed with, see `genre.inputs.compiled.CompiledAnalysis`."""

    hz: np.ndarray
    offset: float
    last_bandwidth: int
    mel_bank: tuple[np.ndarray, np.ndarray, np.ndarray]
    octaves: np.ndarray


class ScratchArrays(threading.local):
    """Arrays that a thread uses for one clip after another: as fresh memory they would cost it 0.6 ms a clip.

    Attributes
    ----------
    tools : tuple of np.ndarray
        Two arrays of the spectra of a block, and the powers of exp(-2 pi i / FRAME).
    """

    def __init__(self) -> None:
        roots = np.exp(-2j * np.pi * np.arange(FRAME) / FRAME)
        self.tools = np.empty((HALF + 1) * _STEP), np.empty((HALF + 1) * _STEP), roots
        self._samples = np.empty(0, np.float32)

    def take_samples(self, n_rows: int, n_columns: int) -> np.ndarray:
        """Return an array for samples, float32, with what was last written to it."""
        n = n_rows * n_columns
        if n > len(self._samples):
            self._samples = np.empty(n, np.float32)
        return self._samples[:n].reshape(n_rows, n_columns)


@compile_loop
def analyse_frames(
    samples: np.ndarray,
    n_frames: int,
    tools: Tools,
    with_features: bool,
    rules: FeatureRules,
    rows: FeatureRows,
    with_emphasis: bool,
    response: np.ndarray,
    bank: Bank,
    emphasised: np.ndarray,
) -> None:
    """Compute series of frames, whose number is a multiple of LANES, in one pass; `_take_frames` has the samples."""
    x, y, roots = tools
    power = np.zeros(_N_ROWS * LANES, np.float32)
    for first in range(0, n_frames, LANES):
        _take_frames(samples, first, x)
        _transform(x, y, roots)
        _separate(y, x, roots)
        if with_features:
            _hann_power(x, power, rows.power, first)
            _sum_bands(power, rules.mel_bank, rows.mel, first)
            _find_extremes(power, rules.octaves, rows.extremes, first)
            if rules.offset:
                _add_offset(x, rules.offset, power)
            _locate(power, rules, rows.spectral_shape, first)
        if with_emphasis:
            _filtered_hann_power(x, response, power)
            _sum_bands(power, bank, emphasised, first)


@_inlined
def _take_frames(samples, first, x):  # type: ignore[no-untyped-def]
    """Copy sixteen frames side by side from samples of which row n has the n-th of every hop."""
    hop = len(samples)
    for i in range(-(-FRAME // hop)):
        start = i * hop
        part = x[start * LANES : FRAME * LANES]
        for n in range(min(hop, FRAME - start)):
            for lane in range(LANES):
                part[n * LANES + lane] = samples[n, first + i + lane]


@_inlined
def _transform(x, y, roots):  # type: ignore[no-untyped-def]
    """Transform HALF complex numbers of each frame from `x` to `y`, in five stages; `x` is used up."""
    _stage(x, y, roots, 1)
    _stage(y, x, roots, 4)
    _stage(x, y, roots, 16)
    _stage(y, x, roots, 64)
    _stage(x, y, roots, 256)


@_inlined
def _stage(x, y, roots, stride):  # type: ignore[no-untyped-def]
    """One stage of Stockham's transform of radix 4, which leaves the numbers in order (Van Loan 1992, section 1.7)."""
    step = HALF // 4 * _STEP
    for p in range(HALF // 4 // stride):
        turns = roots[2 * p * stride], roots[4 * p * stride], roots[6 * p * stride]
        for q in range(stride):
            i = (p * stride + q) * _STEP
            o = (4 * p * stride + q) * _STEP
            for re in range(LANES):
                at = i + re
                a = x[at], x[at + LANES]
                b = x[at + step], x[at + step + LANES]
                c = x[at + 2 * step], x[at + 2 * step + LANES]
                d = x[at + 3 * step], x[at + 3 * step + LANES]
                _butterfly(a, b, c, d, turns, y, o + re, stride * _STEP)


@_inlined
def _butterfly(a, b, c, d, turns, y, at, step):  # type: ignore[no-untyped-def]
    """Transform four complex numbers, turn all but the first, and write them at some distance from each other."""
    even_re = a[0] + c[0]
    even_im = a[1] + c[1]
    odd_re = b[0] + d[0]
    odd_im = b[1] + d[1]
    y[at] = even_re + odd_re
    y[at + LANES] = even_im + odd_im
    _write_turned(even_re - odd_re, even_im - odd_im, turns[1], y, at + 2 * step)
    even_re = a[0] - c[0]
    even_im = a[1] - c[1]
    odd_re = b[1] - d[1]  # times -i
    odd_im = d[0] - b[0]
    _write_turned(even_re + odd_re, even_im + odd_im, turns[0], y, at + step)
    _write_turned(even_re - odd_re, even_im - odd_im, turns[2], y, at + 3 * step)


@_inlined
def _write_turned(re, im, turn, y, at):  # type: ignore[no-untyped-def]
    """Write the product of a complex number and a root of unity."""
    y[at] = re * turn.real - im * turn.imag
    y[at + LANES] = re * turn.imag + im * turn.real


@_inlined
def _separate(z, F, roots):  # type: ignore[no-untyped-def]
    """Compute the spectra of real frames from those of their even and odd samples, which are one complex spectrum."""
    for re in range(LANES):
        im = re + LANES
        F[re] = z[re] + z[im]
        F[im] = 0.0
        F[HALF * _STEP + re] = z[re] - z[im]
        F[HALF * _STEP + im] = 0.0
    for k in range(1, HALF // 2 + 1):
        i = k * _STEP
        j = (HALF - k) * _STEP
        w = 0.5 * roots[k]
        for re in range(LANES):
            im = re + LANES
            even_re = 0.5 * (z[i + re] + z[j + re])
            even_im = 0.5 * (z[i + im] - z[j + im])
            odd_re = z[i + im] + z[j + im]
            odd_im = z[j + re] - z[i + re]
            turned_re = odd_re * w.real - odd_im * w.imag
            turned_im = odd_re * w.imag + odd_im * w.real
            F[i + re] = even_re + turned_re
            F[i + im] = even_im + turned_im
            F[j + re] = even_re - turned_re
            F[j + im] = turned_im - even_im


@_inlined
def _hann_power(F, power, rows, first):  # type: ignore[no-untyped-def]
    """Powers under a periodic Hann window: each bin less half of its neighbours' mean, halved."""
    last = HALF * _STEP
    for lane in range(LANES):  # at both ends the spectrum is real, and symmetric about them
        low = np.float32(0.5 * (F[lane] - F[_STEP + lane]))
        high = np.float32(0.5 * (F[last + lane] - F[last - _STEP + lane]))
        power[lane] = low * low
        power[HALF * LANES + lane] = high * high
        rows[0, first + lane] = low * low
        rows[HALF, first + lane] = high * high
    for k in range(1, HALF):
        i = k * _STEP
        for re in range(LANES):
            im = re + LANES
            real = np.float32(0.5 * F[i + re] - 0.25 * (F[i - _STEP + re] + F[i + _STEP + re]))
            imaginary = np.float32(0.5 * F[i + im] - 0.25 * (F[i - _STEP + im] + F[i + _STEP + im]))
            square = real * real + imaginary * imaginary
            power[k * LANES + re] = square
            rows[k, first + re] = square


@_inlined
def _filtered_hann_power(F, response, power):  # type: ignore[no-untyped-def]
    """Powers under the window after a filter. Its first weight is 0, which hides what the filter wraps round."""
    last = HALF * _STEP
    w = 0.5 * response
    for re in range(LANES):
        im = re + LANES
        i = last - _STEP
        low = np.float32(F[re] * w[0].real - F[_STEP + re] * w[1].real + F[_STEP + im] * w[1].imag)
        high = np.float32(F[last + re] * w[HALF].real - F[i + re] * w[HALF - 1].real + F[i + im] * w[HALF - 1].imag)
        power[re] = low * low
        power[HALF * LANES + re] = high * high
    for k in range(1, HALF):
        i = k * _STEP
        a = 0.5 * w[k - 1]
        b = w[k]
        c = 0.5 * w[k + 1]
        for re in range(LANES):
            im = re + LANES
            real = F[i + re] * b.real - F[i + im] * b.imag
            imaginary = F[i + re] * b.imag + F[i + im] * b.real
            real -= F[i - _STEP + re] * a.real - F[i - _STEP + im] * a.imag
            imaginary -= F[i - _STEP + re] * a.imag + F[i - _STEP + im] * a.real
            real -= F[i + _STEP + re] * c.real - F[i + _STEP + im] * c.imag
            imaginary -= F[i + _STEP + re] * c.imag + F[i + _STEP + im] * c.real
            power[k * LANES + re] = np.float32(real) * np.float32(real) + np.float32(imaginary) * np.float32(imaginary)


@_inlined
def _add_offset(F, offset, power):  # type: ignore[no-untyped-def]
    """Put in the powers of the signal plus a constant: under the window it is in bins 0 and 1 alone."""
    for re in range(LANES):
        im = re + LANES
        constant = 0.5 * (F[re] - F[_STEP + re]) + offset * HALF
        power[re] = constant * constant
        real = 0.5 * F[_STEP + re] - 0.25 * (F[re] + F[2 * _STEP + re]) - offset * HALF / 2
        imaginary = 0.5 * F[_STEP + im] - 0.25 * (F[im] + F[2 * _STEP + im])
        power[LANES + re] = real * real + imaginary * imaginary


@_inlined
def _sum_bands(power, bank, bands, first):  # type: ignore[no-untyped-def]
    """Compute the weighted sum over the bins of each band, eight at a time."""
    starts, ends, weights = bank
    total = np.empty(LANES, np.float32)
    for j in range(len(starts)):
        total[:] = 0
        w = weights[ends[j] : ends[j + 1]]
        bins = power[starts[j] * LANES :]
        for group in range(len(w) // GROUP):
            k = GROUP * group
            for lane in range(LANES):  # over fewer bins it would be unrolled, and not use vector instructions
                total[lane] += _sum_four(w, bins, k, lane) + _sum_four(w, bins, k + 4, lane)
        for lane in range(LANES):
            bands[j, first + lane] = total[lane]


@_inlined
def _sum_four(weights, power, k, lane):  # type: ignore[no-untyped-def]
    """Return the weighted sum over four bins of one frame."""
    i = k * LANES + lane
    low = weights[k] * power[i] + weights[k + 1] * power[i + LANES]
    high = weights[k + 2] * power[i + 2 * LANES] + weights[k + 3] * power[i + 3 * LANES]
    return low + high


@_inlined
def _find_extremes(power, octaves, extremes, first):  # type: ignore[no-untyped-def]
    """Average the greatest, and the least, magnitudes of each octave."""
    greatest = np.empty(MAX_EXTREMES * LANES, np.float32)
    least = np.empty(MAX_EXTREMES * LANES, np.float32)
    for j in range(len(octaves)):
        greatest[:] = 0
        least[:] = np.finfo(np.float32).max
        octave = power[octaves[j, 0] * LANES : octaves[j, 1] * LANES]
        for k in range(len(octave) // LANES):
            for lane in range(LANES):
                high = octave[k * LANES + lane]
                low = high
                for i in range(MAX_EXTREMES):
                    at = i * LANES + lane
                    g = greatest[at]
                    greatest[at] = max(g, high)
                    high = min(g, high)
                    v = least[at]
                    least[at] = min(v, low)
                    low = max(v, low)
        n = octaves[j, 2]
        share = np.float32(1 / n)
        for lane in range(LANES):
            peak = np.float32(0)
            valley = np.float32(0)
            for i in range(n):
                peak += share * np.sqrt(greatest[i * LANES + lane])
                valley += share * np.sqrt(least[i * LANES + lane])
            extremes[j, first + lane] = peak
            extremes[len(octaves) + j, first + lane] = valley


@_inlined
def _locate(power, rules, shape, first):  # type: ignore[no-untyped-def]
    """Compute centroid, bandwidths and rolloff of each frame, 0 for a frame of zeros."""
    hz = rules.hz
    sums = np.zeros(8 * LANES)  # one array, or the compiler would have too many pairs of arrays to tell apart
    for group in range(_N_ROWS // 4):
        k = 4 * group
        for lane in range(LANES):
            i = k * LANES + lane
            a = np.float64(np.sqrt(power[i]))
            b = np.float64(np.sqrt(power[i + LANES]))
            c = np.float64(np.sqrt(power[i + 2 * LANES]))
            d = np.float64(np.sqrt(power[i + 3 * LANES]))
            sums[lane] += a + b + (c + d)
            sums[LANES + lane] += a * hz[k] + b * hz[k + 1] + (c * hz[k + 2] + d * hz[k + 3])
    for lane in range(LANES):
        sums[LANES + lane] /= max(sums[lane], _TINY)
    for k in range(HALF + 1):
        bin_hz = hz[k]
        for lane in range(LANES):
            m = np.float64(np.sqrt(power[k * LANES + lane]))
            deviation = abs(bin_hz - sums[LANES + lane])
            moment = m * deviation * deviation
            sums[2 * LANES + lane] += moment
            sums[3 * LANES + lane] += moment * deviation
            sums[4 * LANES + lane] += moment * deviation * deviation
            sums[5 * LANES + lane] += m
            below = sums[5 * LANES + lane] < ROLL_PERCENT * sums[lane]
            sums[6 * LANES + lane] += 1.0 if below else 0.0
    for lane in range(LANES):
        t = first + lane
        total = sums[lane]
        if total < _TINY:
            shape[:, t] = 0
            continue
        shape[0, t] = sums[LANES + lane]
        shape[1, t] = (sums[2 * LANES + lane] / total) ** (1 / 2)
        shape[2, t] = (sums[3 * LANES + lane] / total) ** (1 / 3)
        shape[3, t] = (sums[4 * LANES + lane] / total) ** (1 / 4)
        shape[3, t] = shape[rules.last_bandwidth, t]
        shape[4, t] = hz[min(int(sums[6 * LANES + lane]), HALF)]


@compile_loop
def sum_window_spectra(signal: np.ndarray, window: np.ndarray, tools: Tools) -> np.ndarray:
    """Sum the power spectra, at HALF points, of all windows of a signal, each relative to its own energy.

    Two windows are transformed at once, one as real and one as imaginary numbers. Only the part of the sum that is
    symmetric is that of the windows.
    """
    x, y, roots = tools
    n_windows = len(signal) - len(window) + 1
    scale = np.zeros(n_windows + _STEP)
    padded = np.zeros(len(signal) + _STEP)
    for t in range(len(signal)):  # to assign the slice, numba would compile the text of its error: two seconds
        padded[t] = signal[t]
    for t in range(n_windows):
        energy = 0.0
        for n in range(len(window)):
            energy += (padded[t + n] * window[n]) ** 2
        scale[t] = 1 / np.sqrt(energy) if energy > 0 else 1.0
    power = np.zeros(HALF)
    for first in range(0, n_windows, _STEP):
        x[:] = 0
        for n in range(len(window)):
            w = window[n]
            for lane in range(_STEP):
                x[n * _STEP + lane] = padded[first + n + lane] * w * scale[first + lane]
        _transform(x, y, roots)
        for k in range(HALF):
            total = 0.0
            for lane in range(_STEP):
                total += y[k * _STEP + lane] * y[k * _STEP + lane]
            power[k] += total
    return power
