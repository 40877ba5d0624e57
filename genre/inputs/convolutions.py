"""Convolutions of a spectrogram of which only the maximum over all frequencies is wanted, as musicnn's front end.

Each value is the one that the plain sum gives, to the last digits of single precision, at a third of the arithmetic.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Frames for which the spectra of all filters are computed at once: they are to stay in the core's own cache of 1 MB.
#: Of 11, 17 and 34, all divisors of musicnn's 187 frames, 17 is the fastest.
BLOCK_FRAMES = 17

#: Bands for which the vertical filters are computed by one product.
BLOCK_BANDS = 4


class TimbralFilters(NamedTuple):
    """Filters over a few frames and many bands, transformed along frequency by `transform_timbral`.

    Attributes
    ----------
    n_frames : int
        Frames that a filter spans.
    weights : np.ndarray [shape=(2, n_bands // 2, 2 * n_frames, n_filters), dtype=float32]
        For the real and the imaginary part of each product's spectrum: what the real parts of a spectrogram's spectrum
        are multiplied by, frame after frame, and then the imaginary ones.
    inverse : np.ndarray [shape=(2, n_places, n_bands // 2), dtype=float32]
        Cosines and sines that turn a product's spectrum into its even and its odd half about the middle place.
    """

    n_frames: int
    weights: np.ndarray
    inverse: np.ndarray


def transform_timbral(kernel: np.ndarray, n_bands: int) -> TimbralFilters:
    """Transform filters for `timbral_maximum`.

    Parameters
    ----------
    kernel : np.ndarray [shape=(n_frames, m, n_filters)]
        Filters of odd `n_frames` and of `m` bands, at most `n_bands`.
    n_bands : int
        Bands of the spectrogram, even.

    Returns
    -------
    TimbralFilters
        The filters' spectra.
    """
    n_frames, m, _ = kernel.shape
    middle = (n_bands - m) / 2
    angles = _angles(n_bands)
    turns = np.exp(1j * np.outer(angles, np.arange(m) + middle)) * (2 / n_bands)
    G = np.tensordot(turns, kernel.astype(np.float64), (1, 1))  # (bins, n_frames, n_filters)
    weights = np.stack([np.concatenate([G.real, -G.imag], axis=1), np.concatenate([G.imag, G.real], axis=1)])
    places = np.arange(middle % 1, middle + 1)  # from the middle one upwards
    turned = np.outer(places, angles)
    return TimbralFilters(n_frames, weights.astype(np.float32), np.stack([np.cos(turned), np.sin(turned)]).astype("f"))


def timbral_maximum(S: np.ndarray, filters: TimbralFilters) -> np.ndarray:
    """Convolve a spectrogram with filters over time and frequency, and take the maximum over frequency.

    A product of spectra along frequency is a convolution: 1,372 multiplications a frame and filter for all places of a
    filter of 7 frames by 38 of 96 bands, where the sum itself takes 15,694, and 2,832 to come back from the spectrum.
    These are few because places that lie equally far above and below the middle one share the even half of the sum and
    differ in the sign of the odd one: the greater of ``even + odd`` and ``even - odd`` is ``even + abs(odd)``.

    Parameters
    ----------
    S : np.ndarray [shape=(t, n_bands), dtype=float32]
        Spectrogram; zeros lie beyond its first and last frame, and the filters stay within its bands.
    filters : TimbralFilters
        From `transform_timbral`.

    Returns
    -------
    np.ndarray [shape=(t, n_filters), dtype=float32]
        Of each filter the maximum, centred on each frame.
    """
    spectra = _windowed_spectra(S, filters.n_frames)
    n_bins = len(spectra)
    n_filters = filters.weights.shape[-1]
    n_places = filters.inverse.shape[1]
    maximum = np.empty((len(S), n_filters), np.float32)
    for start in range(0, len(S), BLOCK_FRAMES):
        block = spectra[:, start : start + BLOCK_FRAMES]
        halves = np.empty((2, n_places, block.shape[1] * n_filters), np.float32)
        for half, weights, inverse in zip(halves, filters.weights, filters.inverse, strict=True):
            np.matmul(inverse, np.matmul(block, weights).reshape(n_bins, -1), out=half)
        even, odd = halves
        np.add(even, np.abs(odd, out=odd), out=even)
        even.max(axis=0, out=maximum[start : start + BLOCK_FRAMES].reshape(-1))
    return maximum


def temporal_maximum(S: np.ndarray, kernels: list[np.ndarray]) -> np.ndarray:
    """Convolve each band of a spectrogram with filters over time, and take the maximum over the bands.

    Parameters
    ----------
    S : np.ndarray [shape=(t, n_bands), dtype=float32]
        Spectrogram; zeros lie beyond its first and last frame.
    kernels : list of np.ndarray [shape=(n_filters, n_frames), dtype=float32]
        Filters of even length, the longest first. Those of 128 frames begin 63 before the frame they are centred on,
        as TensorFlow's padding ``same`` places them.

    Returns
    -------
    np.ndarray [shape=(t, n), dtype=float32]
        Of each filter of the first kernel, and of the next ones, the maximum.
    """
    t, n_bands = S.shape
    longest = kernels[0].shape[1]
    before = [(longest - kernel.shape[1]) // 2 for kernel in kernels]
    padded = np.zeros((n_bands, t + longest - 1), np.float32)
    padded[:, longest // 2 - 1 : longest // 2 - 1 + t] = S.T
    windows = np.lib.stride_tricks.sliding_window_view(padded, t, axis=1)  # (n_bands, longest, t)
    maxima = [np.full((len(kernel), BLOCK_BANDS, t), -np.inf, np.float32) for kernel in kernels]
    for start in range(0, n_bands, BLOCK_BANDS):
        block = np.ascontiguousarray(windows[start : start + BLOCK_BANDS].transpose(1, 0, 2))
        for kernel, first, maximum in zip(kernels, before, maxima, strict=True):
            products = kernel @ block[first : first + kernel.shape[1]].reshape(kernel.shape[1], -1)
            taken = maximum[:, : block.shape[1]]
            np.maximum(taken, products.reshape(taken.shape), out=taken)
    return np.concatenate([maximum.max(axis=1) for maximum in maxima]).T


def _angles(n_bands: int) -> np.ndarray:
    """Return the frequencies of a transform of real numbers without a constant, half a bin up, in radians a band."""
    return 2 * np.pi * (np.arange(n_bands // 2) + 0.5) / n_bands


def _windowed_spectra(S: np.ndarray, n_frames: int) -> np.ndarray:
    """Return the spectrum along frequency of each frame and its neighbours, shape (n_bands // 2, t, 2 * n_frames)."""
    t, n_bands = S.shape
    reach = n_frames // 2
    turns = np.outer(np.arange(n_bands), _angles(n_bands))
    padded = np.zeros((2, t + 2 * reach, n_bands // 2), np.float32)
    np.matmul(S, np.stack([np.cos(turns), -np.sin(turns)]).astype(np.float32), out=padded[:, reach : reach + t])
    windows = np.lib.stride_tricks.sliding_window_view(padded, n_frames, axis=1)  # (2, t, bins, n_frames)
    return windows.transpose(2, 1, 0, 3).reshape(n_bands // 2, t, 2 * n_frames)
