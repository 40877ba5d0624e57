"""Compiled loops over the spectra of a clip, sixteen frames at a time.

In every array of a block the sixteen frames lie side by side, in the last axis: what is done to a bin is done to
sixteen numbers in a row, which a compiler turns into vector instructions of any width, and no sum over bins depends on
that width. Arrays are flat, for with a constant distance between rows it need not check that they do not overlap.

What one of these functions calls is in this file too: numba's cache notices a change of the file only.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numba
import numpy as np

#: Frames side by side: one vector of AVX-512 in single precision, two or four of older instructions.
LANES = 16

#: Samples in a frame: the loops are compiled for this length only.
FRAME = 2048

#: Complex numbers in a transform: a real frame is half as many, its even samples real and its odd ones imaginary.
HALF = FRAME // 2

#: Most peaks, or valleys, in an octave.
MAX_EXTREMES = 9

#: Numbers from one bin, of a complex spectrum, to the next.
_STEP = 2 * LANES

# Threads of a server analyse different clips at once: none of the loops touches a Python object.
_compiled = numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")

# Called by those: as code of its own, such a loop may be vectorised in one way by the process that compiles it and in
# another by those that find its caller on disk, and they would differ in the last digit.
_inlined = numba.njit(fastmath=True, error_model="numpy", forceinline=True)


class FeatureRows(NamedTuple):
    """Series of all frames that the features need, a row per bin, band or column, float32."""

    power: np.ndarray
    mel: np.ndarray
    spectral_shape: np.ndarray
    extremes: np.ndarray


class FeatureRules(NamedTuple):
    """What the features are computed with, see `genre.inputs.compiled.CompiledAnalysis`."""

    hz: np.ndarray
    offset: float
    last_bandwidth: int
    mel_bank: tuple[np.ndarray, np.ndarray, np.ndarray]
    octaves: np.ndarray


@cache
def roots_of_unity() -> np.ndarray:
    """Return the powers of exp(-2 pi i / FRAME), complex128 (FRAME,)."""
    return np.exp(-2j * np.pi * np.arange(FRAME) / FRAME)


@_compiled
def analyse_frames(samples, n_frames, roots, with_features, rules, rows, with_emphasis, response, bank, emphasised):  # type: ignore[no-untyped-def]
    """Compute series of frames, whose number is a multiple of LANES, in one pass; `samples` as `_take_frames` has it."""
    x = np.empty((HALF + 1) * _STEP)
    y = np.empty((HALF + 1) * _STEP)
    magnitude = np.empty((HALF + 1) * LANES, np.float32)
    power = np.zeros((HALF + 4) * LANES, np.float32)  # bands are of whole groups of four bins
    for first in range(0, n_frames, LANES):
        _take_frames(samples, first, x)
        _transform(x, y, roots)
        _separate(y, x, roots)
        if with_features:
            _hann_power(x, magnitude, power, rows.power, first)
            _sum_bands(power, rules.mel_bank, rows.mel, first)
            _find_extremes(power, rules.octaves, rows.extremes, first)
            if rules.offset:
                _add_offset(x, rules.offset, magnitude)
            _locate(magnitude, rules, rows.spectral_shape, first)
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
def _hann_power(F, magnitude, power, rows, first):  # type: ignore[no-untyped-def]
    """Magnitudes and powers under a periodic Hann window: each bin less half of its neighbours' mean, halved."""
    last = HALF * _STEP
    for lane in range(LANES):  # at both ends the spectrum is real, and symmetric about them
        low = np.float32(0.5 * (F[lane] - F[_STEP + lane]))
        high = np.float32(0.5 * (F[last + lane] - F[last - _STEP + lane]))
        magnitude[lane] = abs(low)
        magnitude[HALF * LANES + lane] = abs(high)
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
            magnitude[k * LANES + re] = np.sqrt(square)
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
def _add_offset(F, offset, magnitude):  # type: ignore[no-untyped-def]
    """Put in the magnitudes of the signal plus a constant: under the window it is in bins 0 and 1 alone."""
    for re in range(LANES):
        im = re + LANES
        magnitude[re] = abs(0.5 * (F[re] - F[_STEP + re]) + offset * HALF)
        real = 0.5 * F[_STEP + re] - 0.25 * (F[re] + F[2 * _STEP + re]) - offset * HALF / 2
        imaginary = 0.5 * F[_STEP + im] - 0.25 * (F[im] + F[2 * _STEP + im])
        magnitude[LANES + re] = np.sqrt(real * real + imaginary * imaginary)


@_inlined
def _sum_bands(power, bank, bands, first):  # type: ignore[no-untyped-def]
    """Compute the weighted sum over the bins of each band, four at a time."""
    starts, ends, weights = bank
    total = np.empty(LANES, np.float32)
    for j in range(len(starts)):
        total[:] = 0
        w = weights[ends[j] : ends[j + 1]]
        bins = power[starts[j] * LANES :]
        for group in range(len(w) // 4):
            i = 4 * group
            at = i * LANES
            w0 = w[i]
            w1 = w[i + 1]
            w2 = w[i + 2]
            w3 = w[i + 3]
            for lane in range(LANES):
                low = w0 * bins[at + lane] + w1 * bins[at + LANES + lane]
                high = w2 * bins[at + 2 * LANES + lane] + w3 * bins[at + 3 * LANES + lane]
                total[lane] += low + high
        for lane in range(LANES):
            bands[j, first + lane] = total[lane]


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
def _locate(magnitude, rules, shape, first):  # type: ignore[no-untyped-def]
    """Compute centroid, bandwidths and rolloff of each frame, 0 for a frame of zeros."""
    total = np.zeros(LANES)
    weighted = np.zeros(LANES)
    for k in range(HALF + 1):
        for lane in range(LANES):
            m = magnitude[k * LANES + lane]
            total[lane] += m
            weighted[lane] += m * np.float64(rules.hz[k])
    centroid = weighted / np.maximum(total, np.finfo(np.float32).tiny)
    second = np.zeros(LANES)
    third = np.zeros(LANES)
    fourth = np.zeros(LANES)
    running = np.zeros(LANES)
    n_below = np.zeros(LANES)
    for k in range(HALF + 1):
        for lane in range(LANES):
            m = np.float64(magnitude[k * LANES + lane])
            deviation = abs(rules.hz[k] - centroid[lane])
            moment = m * deviation * deviation
            second[lane] += moment
            third[lane] += moment * deviation
            fourth[lane] += moment * deviation * deviation
            running[lane] += m
            n_below[lane] += 1.0 if running[lane] < 0.85 * total[lane] else 0.0
    for lane in range(LANES):
        t = first + lane
        if total[lane] < np.finfo(np.float32).tiny:
            shape[:, t] = 0
        else:
            shape[0, t] = centroid[lane]
            shape[1, t] = (second[lane] / total[lane]) ** (1 / 2)
            shape[2, t] = (third[lane] / total[lane]) ** (1 / 3)
            shape[3, t] = (fourth[lane] / total[lane]) ** (1 / 4)
            shape[3, t] = shape[rules.last_bandwidth, t]
            shape[4, t] = rules.hz[int(min(n_below[lane], HALF))]


@_compiled
def sum_window_spectra(x, window, roots):  # type: ignore[no-untyped-def]
    """Sum the power spectra, at HALF points, of all windows of a signal, each relative to its own energy.

    Two windows are transformed at once, one as real and one as imaginary numbers. Only the part of the sum that is
    symmetric is that of the windows.
    """
    a = np.empty(HALF * _STEP)
    b = np.empty(HALF * _STEP)
    power = np.zeros(HALF)
    n_windows = len(x) - len(window) + 1
    scale = _window_scales(x, window)
    for first in range(0, n_windows, _STEP):
        a[:] = 0
        for n in range(len(window)):
            for lane in range(min(_STEP, n_windows - first)):
                a[n * _STEP + lane] = x[first + lane + n] * window[n] * scale[first + lane]
        _transform(a, b, roots)
        for k in range(HALF):
            total = 0.0
            for lane in range(_STEP):
                total += b[k * _STEP + lane] * b[k * _STEP + lane]
            power[k] += total
    return power


@_inlined
def _window_scales(x, window):  # type: ignore[no-untyped-def]
    """Return the factor that gives each window of a signal an energy of 1, or 1 where it has none."""
    scale = np.ones(len(x) - len(window) + 1)
    for t in range(len(scale)):
        energy = 0.0
        for n in range(len(window)):
            energy += x[t + n] * window[n] * (x[t + n] * window[n])
        if energy >= np.finfo(np.float64).tiny:
            scale[t] = 1 / np.sqrt(energy)
    return scale
