import numpy as np
import pytest

from genre.inputs.convolutions import place_timbral, temporal_maximum, timbral_maximum


def plain_maximum(S: np.ndarray, kernel: np.ndarray, before: int) -> np.ndarray:
    """One sum after another, in double precision; kernel of shape (n_frames, m, n_filters)."""
    n_frames, m, n_filters = kernel.shape
    padded = np.pad(S.astype(float), ((before, n_frames - 1 - before), (0, 0)))
    maximum = np.full((len(S), n_filters), -np.inf)
    for t in range(len(S)):
        for low in range(S.shape[1] - m + 1):
            window = padded[t : t + n_frames, low : low + m]
            maximum[t] = np.maximum(maximum[t], np.tensordot(window, kernel.astype(float), 2))
    return maximum


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("m", [1, 5, 6, 15, 16])
@pytest.mark.parametrize("t", [1, 4, 40])
def test_timbral_maximum_is_that_of_the_plain_sum(m, t):
    S = noise(t, 16)
    kernel = noise(3, m, 5, seed=1)
    found = timbral_maximum(S, place_timbral(kernel, 16))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain_maximum(S, kernel, 1), atol=1e-5)


@pytest.mark.parametrize("t", [1, 7, 40])
@pytest.mark.parametrize("n_bands", [1, 6])
def test_temporal_maximum_is_that_of_the_plain_sum(t, n_bands):
    S = noise(t, n_bands)
    kernels = [noise(3, n, seed=n) for n in (16, 8, 2)]
    plain = [plain_maximum(S, kernel.T[:, np.newaxis], kernel.shape[1] // 2 - 1) for kernel in kernels]
    found = temporal_maximum(S, kernels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.hstack(plain), atol=1e-5)


def test_the_highest_and_the_lowest_place_count():
    kernel = np.ones((1, 4, 1), np.float32)
    for band in (0, 9):
        S = np.zeros((2, 10), np.float32)
        S[1, band] = 1
        np.testing.assert_allclose(timbral_maximum(S, place_timbral(kernel, 10)), [[0], [1]], atol=1e-6)
