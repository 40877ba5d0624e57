"""Convolutions of a spectrogram followed by the maximum over frequency, as in musicnn's front end.

They are matrix products of slices and strided views of the spectrogram, which are not copied.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: Neighbouring places of a filter that one product computes: the filters of musicnn's front end are so few (23 and 14
#: that are not zero) that a product for one place takes 1.4 times as long.
PLACES = 4


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
        Filters of even length. Those of 128 frames begin 63 before the frame they are centred on, as TensorFlow's
        padding ``same`` places them.

    Returns
    -------
    np.ndarray [shape=(t, n), dtype=float32]
        Of each filter of the first kernel, and of the next ones, the maximum.
    """
    greatest = []
    for kernel in kernels:
        n = kernel.shape[1]
        padded = np.pad(S, ((n // 2 - 1, n // 2), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, n, axis=0).swapaxes(1, 2)  # (t, n, n_bands), no copy
        greatest.append((kernel @ windows).max(axis=2))
    return np.concatenate(greatest, axis=1)
