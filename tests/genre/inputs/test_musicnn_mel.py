import numpy as np
import pytest
import soxr

from genre.config import AudioConfig
from genre.inputs import musicnn_mel
from genre.inputs.musicnn import cut_patches, forward, log_mel
from genre.inputs.stft import Analysis
from tests.support.sounds import tone

CONFIG = AudioConfig()


def compute(y: np.ndarray, config: AudioConfig = CONFIG) -> np.ndarray:
    return musicnn_mel.compute(Analysis(y.astype(np.float32), config), {})


def test_values_are_the_spectrogram_of_the_network_in_half_precision():
    y = tone(10, hz=300)
    S = log_mel(soxr.resample(y, CONFIG.sr, 16000))
    values = compute(y)
    assert values.shape == S.shape == (626, 96) and values.dtype == np.float16
    np.testing.assert_allclose(values.astype(np.float32), S, rtol=2**-11, atol=1e-6)


@pytest.mark.parametrize("seconds", [0.01, 1, 3.3])
def test_a_short_clip_is_repeated(seconds):
    y = tone(seconds, hz=300)
    n = len(log_mel(soxr.resample(y, CONFIG.sr, 16000)))
    values = compute(y)
    assert values.shape == (626, 96) and values[:n].any()
    np.testing.assert_array_equal(values[n:], values[:-n])


def test_clips_that_are_shorter_than_a_patch_are_as_long_as_one():
    config = AudioConfig(clip_s=2.0)
    assert compute(tone(2, hz=300), config).shape == musicnn_mel.shape(config) == (187, 96)


def test_half_precision_hardly_moves_the_tags(shared, musicnn_weights):
    reference = np.load(shared / "musicnn" / "reference.npz")
    patches = np.concatenate([cut_patches(S) for S in reference["log_mel"]])
    exact = forward(patches, musicnn_weights)
    rounded = forward(patches.astype(np.float16).astype(np.float32), musicnn_weights)
    assert 0 < abs(rounded.tags - exact.tags).max() < 1e-3
