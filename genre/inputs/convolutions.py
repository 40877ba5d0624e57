"""Convolutions of a spectrogram followed by the maximum over frequency, as in musicnn's front end, as matrix products.

The maximum is taken from product to product, and all sums of a filter are never in memory at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Neighbouring places of a filter that one product computes: the filters of musicnn's front end are so few (23 and 14
#: that are not zero) that a product for one place takes 1.4 times as long.
PLACES = 4

#: Bands for which one product computes the filters over time.
BLOCK_BANDS = 4


class TimbralFilters(NamedTuple):
    """Filters over some frames and many bands, repeated at neighbouring places by `place_timbral`.

    Attributes
    ----------
    n_frames, n_filters : int
        Frames that a filter spans, and number of filters.
    first_bands : list of int
        First band of each product.
    weights : np.ndarray [shape=(m * n_frames, n_places * n_filters), dtype=float32]
        The filters at each place, within the `m` bands that all places span.
    """

    n_frames: int
    n_filters: int
    first_bands: list[int]
    weights: np.ndarray


def place_timbral(kernel: np.ndarray, n_bands: int) -> TimbralFilters:
    """Prepare filters for `timbral_maximum`.

    Parameters
    ----------
    kernel : np.ndarray [shape=(n_frames, m, n_filters), dtype=float32]
        Filters of odd `n_frames` and of `m` bands, at most `n_bands`.
    n_bands : int
        Bands of the spectrogram.

    Returns
    -------
    TimbralFilters
        The same filters at several places.
    """
    n_frames, m, n_filters = kernel.shape
    n = n_bands - m + 1
    n_places = min(PLACES, n)
    weights = np.zeros((m + n_places - 1, n_frames, n_places, n_filters), np.float32)
    for place in range(n_places):
        weights[place : place + m, :, place] = kernel.transpose(1, 0, 2)
    first_bands = [min(first, n - n_places) for first in range(0, n, n_places)]  # the last ones may overlap
    return TimbralFilters(n_frames, n_filters, first_bands, weights.reshape(-1, n_places * n_filters))


def timbral_maximum(S: np.ndarray, filters: TimbralFilters) -> np.ndarray:
    """Convolve a spectrogram with filters over time and frequency, and take the maximum over frequency.

    Parameters
    ----------
    S : np.ndarray [shape=(t, n_bands), dtype=float32]
        Spectrogram; zeros lie beyond its first and last frame, and the filters stay within its bands.
    filters : TimbralFilters
        From `place_timbral`.

    Returns
    -------
    np.ndarray [shape=(t, n_filters), dtype=float32]
        Of each filter the maximum, centred on each frame.
    """
    t = len(S)
    n_frames = filters.n_frames
    padded = np.pad(S, ((n_frames // 2, n_frames // 2), (0, 0)))
    # Band after band, the frames about each frame: what a product takes is a slice, which is not copied.
    windows = np.lib.stride_tricks.sliding_window_view(padded, n_frames, axis=0).reshape(t, -1)
    maximum = np.full((t, filters.weights.shape[1]), -np.inf, np.float32)
    product = np.empty_like(maximum)
    for first in filters.first_bands:
        start = first * n_frames
        np.matmul(windows[:, start : start + len(filters.weights)], filters.weights, out=product)
        np.maximum(maximum, product, out=maximum)
    greatest: np.ndarray = maximum.reshape(t, -1, filters.n_filters).max(axis=1)
    return greatest


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
