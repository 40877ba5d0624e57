import importlib.util
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.config import AudioConfig
from genre.errors import UsageError
from genre.inputs import modulations
from genre.inputs.modulations import FAMILIES, column_names, count_frames, derive
from genre.inputs.spectrogram import log_mel
from tests.support.sounds import tone

CONFIG = AudioConfig()
FRAMES_PER_S = CONFIG.sr / CONFIG.hop_length
NOTHING = np.log(np.float32(1e-3))


def smooth_noise(seed: int = 0) -> np.ndarray:
    """A spectrogram as smooth as music's, between 60 and 200."""
    noise = np.random.default_rng(seed).normal(size=(CONFIG.n_mels, CONFIG.n_frames))
    smooth = scipy.ndimage.gaussian_filter(noise, 1.0)
    return np.interp(smooth, [smooth.min(), smooth.max()], [60, 200]).round().astype(np.uint8)


def ripple(rate_hz: float, period: float, rising: bool = True) -> np.ndarray:
    """A spectrogram whose one pattern repeats so often per second, and after so many bands."""
    t = np.arange(CONFIG.n_frames) / FRAMES_PER_S
    band = np.arange(CONFIG.n_mels)[:, np.newaxis] / period
    phase = rate_hz * t - band if rising else rate_hz * t + band
    return (128 + 60 * np.cos(2 * np.pi * phase)).round().astype(np.uint8)


def sweeps(rising: bool, seconds: float = 10.0) -> np.ndarray:
    """Audio that sweeps over five octaves every second and a half."""
    t = np.arange(round(seconds * CONFIG.sr)) / CONFIG.sr % 1.5
    ends = (200.0, 6400.0) if rising else (6400.0, 200.0)
    return scipy.signal.chirp(t, ends[0], 1.5, ends[1], method="logarithmic").astype(np.float32)


def cut(S: np.ndarray, n: int) -> np.ndarray:
    """The spectrogram with 0 from frame n on, as that of a shorter clip has it."""
    return np.where(np.arange(S.shape[1]) < n, S, 0).astype(np.uint8)


def by_name(S: np.ndarray) -> dict[str, float]:
    return modulations.summarise(derive(S, CONFIG))


def strength(values: dict[str, float], *words: str) -> float:
    """Mean of the columns whose names contain all of some words."""
    chosen = [value for name, value in values.items() if all(f"_{word}_" in name for word in words)]
    assert chosen
    return float(np.mean(chosen))


def gaussian_kernel(at: np.ndarray, n: int, centre: float, least: float = 0.0) -> np.ndarray:
    """Impulse responses, about each of some places, of a filter of n samples; frequencies in cycles a sample."""
    frequency = np.fft.fftfreq(n)
    response = np.exp(-0.5 * ((frequency - centre) / (0.4 * centre)) ** 2)
    response[response <= least] = 0
    # summed over the frequencies: response * exp(2i pi frequency (at - n))
    towards = np.exp(2j * np.pi * np.outer(at, frequency))
    return (towards * response) @ np.exp(-2j * np.pi * np.outer(frequency, np.arange(n))) / n


def convolve_directly(S: np.ndarray, rate_hz: float, density: float) -> np.ndarray:
    """One pattern's value in each block, by the sum over all bands and frames, in double precision."""
    X = np.pad((S - S.mean()) * 80 / 255, ((16, 16), (0, 512 - 431)), mode="reflect")
    along_frequency = gaussian_kernel((np.arange(12) + 0.5) * 8 - 0.5 + 16, 128, density)
    along_time = gaussian_kernel(np.arange(0, 431, 8), 512, rate_hz / FRAMES_PER_S, least=5e-3)
    moduli = abs(along_frequency @ X @ along_time.T)
    return np.log(moduli.mean(axis=1).reshape(6, 2).mean(axis=1) + 1e-3)


# the numbers


def test_the_columns_are_named_once_and_readably():
    names = column_names()
    assert len(names) == len(set(names)) == 426 == modulations.shape(CONFIG)[0]
    assert all(name.isidentifier() and name.isascii() for name in names)
    assert names[0] == "modulation_0_5hz_flat_block_1" and names[-1] == "modulation_0hz_3_bands_block_6"
    assert "modulation_4hz_up_12_bands_block_3" in names
    assert list(FAMILIES) == names and set(FAMILIES.values()) == {"modulations"}


@pytest.mark.parametrize(
    ("name", "density"), [("up_12_bands", -1 / 12), ("down_48_bands", 1 / 48), ("up_3_bands", -1 / 3)]
)
def test_equal_to_a_direct_convolution(name, density):
    S = smooth_noise()
    values = by_name(S)
    ours = [values[f"modulation_4hz_{name}_block_{block}"] for block in range(1, 7)]
    np.testing.assert_allclose(ours, convolve_directly(S, 4.0, density), rtol=0, atol=1e-5)


def test_equal_to_what_was_measured_on_real_music(shared: Path):
    path = shared.parent / "tools" / "music" / "modulation.py"
    if not path.exists():
        pytest.skip(f"no {path.name} in the shared tools")
    spec = importlib.util.spec_from_file_location("modulation", path)
    assert spec and spec.loader
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    tracks = [sorted(genre.iterdir())[0] for genre in sorted((shared / "emotify_160").iterdir())]
    clips = [decoding.decode_audio(track, sr=CONFIG.sr, start_s=5, duration_s=10) for track in tracks]
    for S in [*(log_mel(prepare_clip(y, CONFIG), CONFIG) for y in clips), smooth_noise()]:
        np.testing.assert_allclose(derive(S, CONFIG), reference.modulations(S).ravel(), rtol=0, atol=1e-5)


def test_the_same_in_every_call():
    S = smooth_noise()
    np.testing.assert_array_equal(derive(S, CONFIG), derive(np.asfortranarray(S), CONFIG))


# what they tell


@pytest.mark.parametrize("level", [0, 1, 255])
def test_a_spectrogram_without_change_has_none(level):
    S = np.full((CONFIG.n_mels, CONFIG.n_frames), level, np.uint8)
    np.testing.assert_array_equal(derive(S, CONFIG), np.full(426, NOTHING))


def test_the_level_does_not_matter():
    S = smooth_noise()
    np.testing.assert_allclose(derive(S + np.uint8(50), CONFIG), derive(S, CONFIG), atol=1e-4)


@pytest.mark.parametrize("rate", ["0_5hz", "1hz", "2hz", "4hz", "8hz", "16hz"])
def test_a_pulse_peaks_at_its_rate(rate):
    hz = float(rate.removesuffix("hz").replace("_", "."))
    values = by_name(ripple(hz, np.inf))
    others = {f"{hz:g}hz".replace(".", "_") for hz in modulations.RATES_HZ} - {rate}
    assert strength(values, "flat", rate) > max(strength(values, "flat", other) for other in others)
    assert strength(values, "flat", rate) > strength(values, rate, "up", "3_bands") + 3


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("period", [3, 6, 12, 24, 48])
def test_a_ripple_peaks_at_its_direction_and_density(direction, period):
    values = by_name(ripple(4.0, period, rising=direction == "up"))
    expected = strength(values, "4hz", direction, f"{period}_bands")
    others = [
        strength(values, "4hz", way, f"{n}_bands")
        for way in ("up", "down")
        for n in modulations.PERIODS
        if (way, n) != (direction, period)
    ]
    assert expected > max(others)


@pytest.mark.parametrize("seconds", [10.0, 5.0])
def test_rising_and_falling_sweeps_are_told_apart(seconds):
    for rising, stronger, weaker in ((True, "up", "down"), (False, "down", "up")):
        values = by_name(log_mel(sweeps(rising, seconds), CONFIG))
        for rate in ("2hz", "4hz", "8hz"):
            assert strength(values, rate, stronger, "12_bands") > strength(values, rate, weaker, "12_bands") + 0.5


def test_a_spectrum_that_stands_still_shows_at_rate_0_only():
    standing = by_name(ripple(0.0, 12))
    assert strength(standing, "0hz", "12_bands") > strength(standing, "0hz", "48_bands") + 1
    assert strength(standing, "0hz", "12_bands") > strength(standing, "8hz", "up", "12_bands") + 3


# short clips


@pytest.mark.parametrize(("n", "counted"), [(431, 431), (430, 430), (1, 1), (0, 431)])
def test_frames_of_0_at_the_end_are_not_counted(n, counted):
    S = cut(smooth_noise(), n)
    S[:, : n // 2] = 0  # silence before music belongs to the clip
    assert count_frames(S) == counted


def test_a_full_clip_with_a_quiet_last_frame_is_whole():
    S = cut(smooth_noise(), 430)
    S[0, 430] = 1
    assert count_frames(S) == 431


@pytest.mark.parametrize("seconds", [9.9, 7.0, 5.0, 3.0, 1.0])
def test_a_short_clip_peaks_where_the_whole_does(seconds):
    n = 1 + round(seconds * FRAMES_PER_S)
    whole = derive(ripple(4.0, 12), CONFIG)
    short = derive(cut(ripple(4.0, 12), n), CONFIG)
    peak = column_names().index("modulation_4hz_up_12_bands_block_3")
    assert abs(short[peak] - whole[peak]) < 0.1
    assert short.argmax() // 6 == whole.argmax() // 6


@pytest.mark.parametrize("n", [1, 2, 3, 10, 44, 216, 430])
def test_any_number_of_frames_has_finite_values(n):
    values = derive(cut(smooth_noise(), n), CONFIG)
    assert values.shape == (426,) and values.dtype == np.float32 and np.isfinite(values).all()


def test_half_of_a_clip_is_like_the_whole_and_unlike_its_padding(shared: Path):
    tracks = [track for genre in sorted((shared / "emotify_160").iterdir()) for track in sorted(genre.iterdir())[:8]]
    clips = [prepare_clip(decoding.decode_audio(track, sr=CONFIG.sr, duration_s=10), CONFIG) for track in tracks]
    whole = np.stack([derive(log_mel(y, CONFIG), CONFIG) for y in clips])
    halves = [log_mel(y[: len(y) // 2], CONFIG) for y in clips]
    away = (np.stack([derive(S, CONFIG) for S in halves]) - whole) / whole.std(axis=0)
    assert np.sqrt(np.mean(away**2)) < 0.6 and abs(away.mean(axis=0)).mean() < 0.15
    for S in halves:
        S[0, -1] = 1  # so that its padding counts
    padded = (np.stack([derive(S, CONFIG) for S in halves]) - whole) / whole.std(axis=0)
    assert np.sqrt(np.mean(padded**2)) > 1.2


# other configurations


@pytest.mark.parametrize(
    "config",
    [
        AudioConfig(n_mels=40, hop_length=1024, clip_s=2.0),
        AudioConfig(n_mels=12),
        AudioConfig(hop_length=256, clip_s=30.0),
        AudioConfig(hop_length=8192),
    ],
)
def test_every_configuration_with_enough_bands_has_them(config):
    values = derive(log_mel(tone(config.clip_s, hz=300), config), config)
    assert values.shape == modulations.shape(config) and np.isfinite(values).all()


def test_frames_twice_as_often_give_nearly_the_same():
    y = sweeps(rising=True)
    fine = AudioConfig(hop_length=256)
    assert np.sqrt(np.mean((derive(log_mel(y, fine), fine) - derive(log_mel(y, CONFIG), CONFIG)) ** 2)) < 0.15


def test_the_range_is_taken_into_account():
    S = smooth_noise()
    wide = AudioConfig(top_db=160.0)
    np.testing.assert_allclose(derive(S, wide), derive(S, CONFIG) + np.log(2), atol=0.01)


def test_refuses_a_spectrogram_of_another_configuration():
    with pytest.raises(UsageError, match=r"shape \(96, 430\).*\(96, 431\); pass the configuration"):
        derive(np.zeros((96, 430), np.uint8), CONFIG)


def test_refuses_fewer_bands_than_places():
    config = AudioConfig(n_mels=8)
    with pytest.raises(UsageError, match=r"8 mel bands.*12 places"):
        derive(np.ones((8, config.n_frames), np.uint8), config)
