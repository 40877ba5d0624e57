import librosa
import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genre.config import AudioConfig
from genre.errors import AudioError
from genre.inputs.spectrogram import log_mel, render_rgb_image

CONFIG = AudioConfig()
STEP_DB = CONFIG.top_db / 255


def noise_and_tone(seconds: float = 10.0, gain: float = 0.1) -> np.ndarray:
    t = np.arange(round(seconds * CONFIG.sr)) / CONFIG.sr
    y = np.random.default_rng(0).normal(size=t.size) * (1.2 + np.sin(2 * np.pi * t)) + 3 * np.sin(2 * np.pi * 440 * t)
    return (gain * y).astype(np.float32)


def published_log_mel(y: np.ndarray) -> np.ndarray:
    """The calls of the published script, on today's librosa."""
    emphasised = np.append(y[0], y[1:] - 0.97 * y[:-1])
    S = librosa.feature.melspectrogram(y=emphasised, sr=22050, n_fft=2048, hop_length=512, n_mels=96, fmax=11025)
    return librosa.power_to_db(S, ref=np.max)


def test_within_half_a_step_of_librosa():
    y = noise_and_tone()
    S = log_mel(y, CONFIG)
    assert S.shape == (CONFIG.n_mels, CONFIG.n_frames) == (96, 431) and S.dtype == np.uint8
    np.testing.assert_allclose(S * STEP_DB - CONFIG.top_db, published_log_mel(y), atol=STEP_DB / 2 + 1e-3)
    assert S.max() == 255


def test_a_tone_is_where_it_should_be():
    t = np.arange(CONFIG.n_samples) / CONFIG.sr
    centres = librosa.mel_frequencies(n_mels=98, fmax=CONFIG.sr / 2)[1:-1]
    for hz in (300.0, 1000.0, 6000.0):
        loudest = log_mel(np.sin(2 * np.pi * hz * t), CONFIG).mean(axis=1).argmax()
        assert abs(centres[loudest] - hz) < 0.06 * hz


def test_pre_emphasis_lifts_the_treble():
    y = noise_and_tone()
    flat = log_mel(y, AudioConfig(pre_emphasis=0.0)).astype(int)
    assert (log_mel(y, CONFIG).astype(int) - flat)[80:].mean() > 30


def test_gain_does_not_matter():
    loud = log_mel(noise_and_tone(gain=0.3), CONFIG)
    soft = log_mel(noise_and_tone(gain=0.03), CONFIG)
    assert np.abs(loud.astype(int) - soft).max() <= 1


def test_short_clip_is_padded_with_the_floor():
    y = noise_and_tone(3.0)
    S = log_mel(y, CONFIG)
    n = 1 + y.size // CONFIG.hop_length
    assert S.shape == (96, 431)
    assert (S[:, n:] == 0).all() and (S[:, :n].max(axis=0) > 0).all()


def test_samples_after_the_clip_are_ignored():
    y = noise_and_tone(12.0)
    y[CONFIG.n_samples :] = 100.0
    np.testing.assert_array_equal(log_mel(y, CONFIG), log_mel(y[: CONFIG.n_samples], CONFIG))


@pytest.mark.filterwarnings("ignore:n_fft=2048 is too large")
@pytest.mark.parametrize("y", [np.ones(1), np.zeros(22050), np.full(3000, 1e12), np.full(3000, 1e-40)])
def test_any_finite_signal_has_one(y):
    S = log_mel(y, CONFIG)
    assert S.shape == (96, 431) and S.max() == 255


@pytest.mark.parametrize(("y", "status"), [(np.zeros(0), "too_short"), (np.array([0.0, np.nan]), "not_finite")])
def test_refuses(y, status):
    with pytest.raises(AudioError) as caught:
        log_mel(y, CONFIG)
    assert caught.value.status == status


def test_other_configuration_other_shape():
    config = AudioConfig(n_mels=40, hop_length=1024, clip_s=2.0)
    assert log_mel(noise_and_tone(), config).shape == (40, config.n_frames)


# image


def test_image_is_matplotlibs_picture():
    S = log_mel(noise_and_tone(), CONFIG)
    norm = matplotlib.colors.Normalize(S.min(), S.max())
    drawn = matplotlib.colormaps["jet"](norm(S[::-1].astype(float)))[..., :3]
    assert render_rgb_image(S).shape == (96, 431, 3)
    np.testing.assert_array_equal(render_rgb_image(S), np.floor(255 * drawn + 0.5).astype(np.uint8))


def test_image_has_the_low_band_at_the_bottom_in_red():
    S = np.zeros((96, 10), np.uint8)
    S[0] = 200
    picture = render_rgb_image(S)
    assert picture[-1, 0].tolist() == [128, 0, 0] and picture[0, 0].tolist() == [0, 0, 128]


def test_image_stretches_each_of_a_batch_by_itself():
    S = np.random.default_rng(0).integers(40, 200, (3, 2, 8, 9), dtype=np.uint8)
    S[0, 0] //= 4
    pictures = render_rgb_image(S)
    assert pictures.shape == (3, 2, 8, 9, 3)
    np.testing.assert_array_equal(pictures[0, 0], render_rgb_image(S[0, 0]))
    np.testing.assert_array_equal(pictures[2, 1], render_rgb_image(S[2, 1]))


@given(st.integers(0, 255))
def test_image_of_one_value_is_one_colour(value):
    assert (render_rgb_image(np.full((4, 5), value, np.uint8)) == [0, 0, 128]).all()
