from functools import cache
from unittest import mock

import librosa
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.config import AudioConfig
from genre.errors import AudioError, UsageError
from genre.inputs import compute_inputs, spectrogram
from genre.inputs.backend import analyse_clip
from genre.inputs.features import (
    FAMILIES,
    FEATURE_NAMES,
    FEATURES,
    FRAME_SERIES,
    PUBLISHED_FEATURE_NAMES,
    extract_features,
)
from genre.inputs.stft import power_to_db

CORRECTED = AudioConfig()
PAPER = AudioConfig(variant="paper")
SR = 22050


@pytest.fixture(autouse=True, params=["plain", "compiled"])
def kernels(request, monkeypatch):
    """Every test of this file, with the reference and with what is compiled."""
    if request.param == "compiled":
        pytest.importorskip("numba")
    monkeypatch.setenv("GENRE_KERNELS", request.param)
    return request.param


def beat(seconds: float = 10.0, bpm: float = 128.0) -> np.ndarray:
    """Chords that change, with a hit on every beat."""
    t = np.arange(round(seconds * SR)) / SR
    hz = 220 * 2 ** (np.floor(t / 2) * 5 % 12 / 12)
    chord = sum(np.sin(2 * np.pi * k * np.cumsum(hz) / SR) / k for k in (1, 1.25, 1.5, 2, 3))
    hit = np.exp(-((t * bpm / 60) % 1) * 12) * np.random.default_rng(0).normal(size=t.size)
    return (0.1 * chord + 0.3 * hit).astype(np.float32)


def signals() -> dict[str, np.ndarray]:
    t = np.arange(10 * SR) / SR
    rng = np.random.default_rng(1)
    clicks = np.zeros_like(t)
    clicks[:: SR // 2] = 1.0
    return {
        "beat": beat(),
        "short": beat(1.3),
        "quiet": 1e-3 * beat(),
        "clipped": np.clip(8 * beat(), -1, 1),
        "noise": (0.3 * rng.normal(size=t.size)).astype(np.float32),
        "chirp": (0.5 * np.sin(2 * np.pi * (100 * t + 400 * t**2))).astype(np.float32),
        "clicks": (clicks + 1e-3 * rng.normal(size=t.size)).astype(np.float32),
        "offset": beat() + np.float32(0.2),
        "square": np.sign(np.sin(2 * np.pi * 100 * t) + 1e-9).astype(np.float32),
        "tone": (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32),
        "half silent": beat() * (t < 5),
        "silence": np.zeros(SR, np.float32),
        "constant": np.full(SR, 0.25, np.float32),
        "click": np.eye(1, SR, SR // 2, dtype=np.float32)[0],
        "one sample": np.ones(1, np.float32),
        "one frame": beat(0.2)[:2048],
        "odd length": beat(2.0)[:31337],
    }


def mean_std(names: list[str], rows: np.ndarray) -> dict[str, float]:
    # In double precision: in single, the deviation of equal numbers is not 0 on every processor.
    values = [(name, f(rows, axis=1, dtype=np.float64)) for name, f in (("mean", np.mean), ("std", np.std))]
    return {f"{name}_{statistic}": v for statistic, column in values for name, v in zip(names, column, strict=True)}


def numbered(name: str, n: int) -> list[str]:
    return [f"{name}_{i}" for i in range(1, n + 1)]


#: Arguments of `by_librosa` that give the published script's values.
AS_PUBLISHED = {"dc": 0.01, "small": 0.0001, "last": 3, "chroma_hop": 1024, "contrast_floor": 0.0}

#: Columns that cannot agree with the published script: it adds 0.01 to samples in single precision, and the error of
#: that sum, which a bandwidth weighs by a power of its distance, is all that a pure tone has far from its centroid.
ROUNDING = {"tone": {f"spectral_bandwidth_{p}_{s}" for p in (2, 3, 4) for s in ("mean", "std")}}

#: Columns that cannot agree with librosa once compiled: the spectrum of one click is flat, and which of its bins are
#: peaks, and so the tuning, is decided by the last digit of a square root.
FLAT = {"click": set(mean_std(numbered("chroma_stft", 12), np.zeros((12, 1))))}


def contrast_by_librosa(y: np.ndarray, floor: float) -> np.ndarray:
    """librosa's spectral contrast, with peaks and valleys caught on their way to decibels and held above a floor.

    The floor is a share of the greatest peak.
    """
    caught = []
    with mock.patch.object(librosa.feature.spectral, "power_to_db", lambda S: caught.append(S) or S):
        librosa.feature.spectral_contrast(y=y, sr=SR, n_bands=6, fmin=200.0)
    peaks, valleys = (np.maximum(S, floor * caught[0].max()) for S in caught)
    return librosa.power_to_db(peaks) - librosa.power_to_db(valleys)


def by_librosa(
    y: np.ndarray,
    *,
    dc: float = 0.0,
    small: float = 0.0,
    last: int = 4,
    chroma_hop: int = 512,
    contrast_floor: float = 1e-4,
) -> dict:
    """Each feature by a call of its own: librosa called plainly, or with the arguments of the published script."""
    f = librosa.feature
    values = {
        "signal_mean": np.mean(abs(y)),
        "signal_std": np.std(y),
        "signal_skew": scipy.stats.skew(abs(y)),
        "signal_kurtosis": scipy.stats.kurtosis(y),
        "tempo": f.tempo(y=y, sr=SR).item(),
    }
    values |= mean_std(["zcr"], f.zero_crossing_rate(y + small, frame_length=2048, hop_length=512))
    values |= mean_std(["rmse"], f.rms(y=y + small))
    values |= mean_std(["spectral_centroid"], f.spectral_centroid(y=y + dc, sr=SR))
    for column, p in ((2, 2), (3, 3), (4, last)):
        values |= mean_std([f"spectral_bandwidth_{column}"], f.spectral_bandwidth(y=y + dc, sr=SR, p=p))
    values |= mean_std(numbered("spectral_contrast", 7), contrast_by_librosa(y, contrast_floor))
    values |= mean_std(["spectral_rolloff"], f.spectral_rolloff(y=y + dc, sr=SR, roll_percent=0.85))
    values |= mean_std(numbered("mfccs", 20), f.mfcc(y=y, sr=SR, n_mfcc=20))
    return values | mean_std(numbered("chroma_stft", 12), f.chroma_stft(y=y, sr=SR, hop_length=chroma_hop))


@cache
def expected_of(name: str, variant: str) -> dict:
    """librosa's values, NaN where a signal has none made 0; once for both kinds of kernels."""
    arguments = AS_PUBLISHED if variant == "paper" else {}
    with np.errstate(all="ignore"):
        return {k: np.nan_to_num(v) for k, v in by_librosa(signals()[name], **arguments).items()}


def compare(y: np.ndarray, config: AudioConfig, expected: dict, atol: float) -> set[str]:
    """Columns that differ."""
    mine = dict(zip(FEATURE_NAMES, extract_features(y, config), strict=True))
    assert set(expected) == set(PUBLISHED_FEATURE_NAMES)
    return {k for k in expected if not np.isclose(mine[k], expected[k], rtol=1e-4, atol=atol)}


@pytest.mark.filterwarnings("ignore")  # librosa's, of frames too long and pitches that are not there
@pytest.mark.parametrize("name", signals())
def test_corrected_is_librosa_called_plainly(name, kernels):
    wrong = compare(signals()[name], CORRECTED, expected_of(name, "corrected"), atol=1e-5)
    assert wrong <= (FLAT.get(name, set()) if kernels == "compiled" else set())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", signals())
def test_paper_is_the_published_script(name, kernels):
    y = signals()[name]
    published = expected_of(name, "paper")
    # One unit of the third decimal: a value may lie on the edge of rounding.
    wrong = compare(y, PAPER, {k: np.round(v, 3) for k, v in published.items()}, atol=1.01e-3)
    assert wrong <= ROUNDING.get(name, set()) | (FLAT.get(name, set()) if kernels == "compiled" else set())
    assert extract_features(y, PAPER) == pytest.approx(np.round(extract_features(y, PAPER).astype(float), 3), rel=1e-6)


def test_the_papers_own_clips(shared):
    for path in sorted((shared / "audioset_clips").glob("*.wav"))[::4]:
        y = prepare_clip(decoding.decode_audio(path, sr=SR, duration_s=10.0), CORRECTED)
        assert not compare(y, CORRECTED, by_librosa(y), atol=1e-5)
        published = by_librosa(y, **AS_PUBLISHED)
        assert not compare(y, PAPER, {k: np.round(v, 3) for k, v in published.items()}, atol=1.01e-3)


def test_names_are_those_of_the_published_table():
    assert len(PUBLISHED_FEATURE_NAMES) == 97 and len(FEATURE_NAMES) == len(set(FEATURE_NAMES))
    assert FEATURE_NAMES[:97] == PUBLISHED_FEATURE_NAMES
    at = {
        0: "signal_mean",
        3: "signal_kurtosis",
        5: "zcr_std",
        6: "rmse_mean",
        8: "tempo",
        9: "spectral_centroid_mean",
        11: "spectral_bandwidth_2_mean",
        16: "spectral_bandwidth_4_std",
        17: "spectral_contrast_1_mean",
        24: "spectral_contrast_1_std",
        31: "spectral_rolloff_mean",
        33: "mfccs_1_mean",
        53: "mfccs_1_std",
        73: "chroma_stft_1_mean",
        96: "chroma_stft_12_std",
    }
    assert {i: PUBLISHED_FEATURE_NAMES[i] for i in at} == at


def test_names_are_those_of_a_published_file(shared):
    table = pd.read_csv(shared / "audioset_4_genres_features.csv.gz", nrows=1)
    assert tuple(table.columns[1:]) == PUBLISHED_FEATURE_NAMES


def test_every_feature_fills_its_columns():
    a = analyse_clip(beat(2.0), CORRECTED)
    rows = a.by_frame(FRAME_SERIES)
    rows["mel_db"] = power_to_db(rows["mel"])
    for feature in FEATURES:
        values = feature.compute(a, rows[feature.series]) if feature.series else feature.compute(a)
        assert np.shape(values) == (len(feature.columns),), feature.columns
    assert list(FAMILIES) == list(FEATURE_NAMES)
    assert len({FAMILIES[name] for name in PUBLISHED_FEATURE_NAMES}) == 10


@pytest.mark.parametrize("config", [CORRECTED, PAPER], ids=["corrected", "paper"])
@pytest.mark.parametrize("kernels", ["compiled", "plain"])
def test_one_pass_and_two_agree_to_the_last_digit(config, kernels, monkeypatch):
    """Training computes the inputs together; serving computes only those that the model takes."""
    monkeypatch.setenv("GENRE_KERNELS", kernels)
    noises = [np.random.default_rng(seed).normal(0, 0.1, 10 * 22050).astype(np.float32) for seed in range(12)]
    for y in [beat(7.3), *noises]:
        both = compute_inputs(y, config, ("features", "spectrograms"))
        np.testing.assert_array_equal(both["features"], extract_features(y, config))
        np.testing.assert_array_equal(both["spectrograms"], spectrogram.log_mel(y, config))


def test_audio_longer_than_a_clip_is_refused():
    with pytest.raises(UsageError, match="220501 samples"):
        compute_inputs(np.zeros(220501), CORRECTED)


# Behaviour


def value(y: np.ndarray, name: str, config: AudioConfig = CORRECTED) -> float:
    return float(extract_features(y, config)[FEATURE_NAMES.index(name)])


def test_gain_moves_level_and_first_mfcc_only():
    loud = extract_features(beat(), CORRECTED)
    soft = extract_features(0.25 * beat(), CORRECTED)
    moved = {n for n, a, b in zip(FEATURE_NAMES, loud, soft, strict=True) if not np.isclose(a, b, rtol=1e-3, atol=1e-3)}
    assert moved == {"signal_mean", "signal_std", "rmse_mean", "rmse_std", "mfccs_1_mean"}


@pytest.mark.parametrize("bpm", [90.0, 128.0])
def test_tempo_is_that_of_the_beat(bpm):
    assert value(beat(bpm=bpm), "tempo") == pytest.approx(bpm, rel=0.05)


def test_chroma_finds_the_note():
    t = np.arange(5 * SR) / SR
    first = FEATURE_NAMES.index("chroma_stft_1_mean")
    for semitone, hz in ((0, 523.2511), (4, 659.2551), (9, 440.0)):
        y = 0.5 * np.sin(2 * np.pi * hz * t)
        assert int(np.argmax(extract_features(y, CORRECTED)[first : first + 12])) == semitone


def test_centroid_and_bandwidths_of_a_tone():
    t = np.arange(5 * SR) / SR
    y = (0.5 * np.sin(2 * np.pi * 2000 * t)).astype(np.float32)
    assert value(y, "spectral_centroid_mean") == pytest.approx(2000, rel=0.02)
    assert value(y, "zcr_mean") == pytest.approx(2 * 2000 / SR, rel=0.02)
    assert value(y, "rmse_mean") == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_fourth_bandwidth_is_its_own_when_corrected_and_the_third_as_published():
    first = FEATURE_NAMES.index("spectral_bandwidth_2_mean")
    two, three, four = extract_features(beat(2.0), CORRECTED)[first : first + 6 : 2]
    assert two < three < four
    two, three, four = extract_features(beat(2.0), PAPER)[first : first + 6 : 2]
    assert two < three == four


def test_input_is_left_alone_and_its_type_does_not_matter():
    y = beat(1.0)
    before = y.copy()
    first = extract_features(y, CORRECTED)
    np.testing.assert_array_equal(y, before)
    np.testing.assert_array_equal(extract_features(y.astype(np.float64), CORRECTED), first)
    np.testing.assert_array_equal(extract_features(np.repeat(y, 2)[::2], CORRECTED), first)
    np.testing.assert_array_equal(extract_features(y, CORRECTED), first)


# Total for finite input


@pytest.mark.filterwarnings("ignore:n_fft=2048 is too large", "ignore:Trying to estimate tuning")
@pytest.mark.parametrize("config", [CORRECTED, PAPER], ids=["corrected", "paper"])
@pytest.mark.parametrize("n", [1, 2, 511, 2047, 30000])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1.0, 1e-40, 1e12])
def test_a_constant_signal_has_finite_features(constant, n, config):
    values = extract_features(np.full(n, constant), config)
    assert values.dtype == np.float32 and np.isfinite(values).all()
    named = dict(zip(FEATURE_NAMES, values, strict=True))
    assert named["signal_skew"] == named["signal_kurtosis"] == 0.0
    assert named["signal_mean"] == pytest.approx(abs(constant), abs=1e-3 if config is PAPER else 0, rel=1e-6)


def test_square_wave_has_no_skewness_and_says_so_without_a_warning():
    y = np.sign(np.sin(2 * np.pi * 100 * np.arange(SR) / SR) + 1e-9)
    assert value(y, "signal_skew") == 0.0
    assert value(y, "signal_kurtosis") == pytest.approx(-2.0, abs=1e-3)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=25, deadline=None)
@given(arrays(np.float32, st.integers(1, 3000), elements=st.floats(-(2.0**39), 2.0**39, width=32)))
def test_any_finite_signal_has_finite_features(y):
    for config in (CORRECTED, PAPER):
        assert np.isfinite(extract_features(y, config)).all()


@pytest.mark.parametrize(
    ("y", "status"),
    [
        (np.zeros(0), "too_short"),
        (np.array([0.1, np.nan]), "not_finite"),
        (np.array([np.inf]), "not_finite"),
        (np.array([3e38]), "not_finite"),
    ],
)
def test_refuses(y, status):
    with pytest.raises(AudioError) as caught:
        extract_features(y, CORRECTED)
    assert caught.value.status == status


def test_two_channels_are_refused():
    with pytest.raises(UsageError, match=r"shape \(2, 100\)"):
        extract_features(np.zeros((2, 100)), CORRECTED)
