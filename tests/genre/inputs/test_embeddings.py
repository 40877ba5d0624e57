import numpy as np
import pytest
import soxr

from genre.config import AudioConfig
from genre.inputs import embeddings
from genre.inputs.features import FEATURES
from genre.inputs.musicnn import MSD_TAGS, cut_patches, forward, log_mel
from genre.inputs.stft import Analysis
from tests.support.network import random_weights
from tests.support.sounds import tone

CONFIG = AudioConfig()
WEIGHTS = random_weights()


def compute(y: np.ndarray) -> np.ndarray:
    return embeddings.compute(Analysis(y.astype(np.float32), CONFIG), {}, WEIGHTS)


def test_values_are_the_means_over_the_patches_by_name():
    y = tone(10, hz=300)
    outputs = forward(cut_patches(log_mel(soxr.resample(y, CONFIG.sr, 16000))), WEIGHTS)
    values = compute(y)
    assert values.shape == embeddings.shape(CONFIG) and values.dtype == np.float32
    assert len(outputs.tags) == 3
    named = dict(zip(embeddings.column_names(), values, strict=True))
    assert named["embedding_max_1"] == pytest.approx(outputs.max_pool[:, 0].mean(), rel=1e-6)
    assert named["embedding_max_753"] == pytest.approx(outputs.max_pool[:, -1].mean(), rel=1e-6)
    assert named["embedding_mean_1"] == pytest.approx(outputs.mean_pool[:, 0].mean(), rel=1e-6)
    assert named["tag_rock"] == pytest.approx(outputs.tags[:, 0].mean(), rel=1e-6)
    assert named["tag_hip_hop"] == pytest.approx(outputs.tags[:, MSD_TAGS.index("Hip-Hop")].mean(), rel=1e-6)


def test_names_are_unique_and_can_be_columns():
    names = embeddings.column_names()
    assert len(set(names)) == len(names) == 1556
    assert not set(names) & {column for feature in FEATURES for column in feature.columns}
    assert all(name.isidentifier() and name.islower() for name in names)
    assert {"tag_female_vocalists", "tag_80s", "tag_progressive_rock", "tag_house"} <= set(names)


@pytest.mark.parametrize("seconds", [0.01, 1, 3.3, 10])
def test_any_length_has_values(seconds):
    assert np.isfinite(compute(tone(seconds, hz=300))).all()


@pytest.mark.parametrize("y", [np.ones(1), np.zeros(22050), np.random.default_rng(0).normal(0, 0.3, 22050)])
def test_any_finite_signal_has_values(y):
    values = compute(y)
    assert np.isfinite(values).all()
    assert (values[-50:] >= 0).all() and (values[-50:] <= 1).all()


def test_the_same_clip_has_the_same_values_to_the_last_digit():
    np.testing.assert_array_equal(compute(tone(4, hz=300)), compute(tone(4, hz=300)))


def test_another_sound_has_another_summary():
    first = embeddings.summarise(compute(tone(4, hz=300)))
    other = embeddings.summarise(compute(tone(4, hz=1500)))
    assert len(first) == 52 and all(isinstance(value, float) for value in first.values())
    assert first["embedding_max"] != pytest.approx(other["embedding_max"], rel=1e-3)


def test_real_music_has_its_own_tags(shared, musicnn_weights):
    import librosa

    tags = {}
    for clip in ("10008_Rhythm_blues", "10007_Techno"):
        y, _ = librosa.load(shared / "audioset_clips" / f"{clip}.wav", sr=CONFIG.sr)
        values = embeddings.compute(Analysis(y, CONFIG), {}, musicnn_weights)
        tags[clip] = dict(zip(embeddings.TAG_COLUMNS, values[-50:], strict=True))
    assert tags["10008_Rhythm_blues"]["tag_classic_rock"] > 2 * tags["10007_Techno"]["tag_classic_rock"]
    assert tags["10007_Techno"]["tag_electronic"] > 2 * tags["10008_Rhythm_blues"]["tag_electronic"]


def test_resampling_the_clip_is_as_good_as_decoding_it_again(shared, musicnn_weights):
    import librosa

    reference = np.load(shared / "musicnn" / "reference.npz")
    for n, clip in enumerate(reference["clips"]):
        y, _ = librosa.load(shared / "audioset_clips" / f"{clip}.wav", sr=CONFIG.sr)
        values = embeddings.compute(Analysis(y, CONFIG), {}, musicnn_weights)
        np.testing.assert_allclose(values[-50:], reference["MSD_musicnn_tags"][n].mean(axis=0), atol=1e-4)
