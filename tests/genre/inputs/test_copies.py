"""One piece of music in several files: an MP3, its own samples as WAV and FLAC, and a copy at 16 kHz."""

from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import soxr

from genre import models
from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.config import AudioConfig
from genre.datasets import demo
from genre.inputs import features, stft

CONFIG = AudioConfig()
GENRES = ("Rock", "Techno", "Vocal")
RECORDINGS = 4

#: The samples of an MP3 as another file, and what that costs: steps of 16 bits, of 24 bits, and all above 8 kHz.
COPIES = ("wav_16", "flac_24", "wav_16khz")


def write_copies(mp3: Path) -> dict[str, Path]:
    """Decode an MP3 and write its samples to the other files."""
    y, sr = sf.read(mp3)
    paths = dict(zip(COPIES, (mp3.with_suffix(s) for s in (".16.wav", ".flac", ".16khz.wav")), strict=True))
    sf.write(paths["wav_16"], round_to_16_bits(y), sr)
    sf.write(paths["flac_24"], y, sr, "PCM_24")
    sf.write(paths["wav_16khz"], round_to_16_bits(soxr.resample(y, sr, 16000)), 16000)
    return {"mp3": mp3} | paths


def round_to_16_bits(y: np.ndarray) -> np.ndarray:
    """Round as encoders do. libsndfile, given floating point, rounds down: a constant half a step below zero."""
    return np.round(y * 2**15).clip(-(2**15), 2**15 - 1).astype(np.int16)


def has_pause(y: np.ndarray) -> bool:
    """Return whether a tenth of a second lies 40 dB below the rest: its spectrum is that of the noise."""
    return bool((y.reshape(-1, CONFIG.sr // 10).std(axis=1) < 0.01 * y.std()).any())


def read_clip(path: Path) -> np.ndarray:
    return prepare_clip(decoding.decode_audio(path, sr=CONFIG.sr, duration_s=CONFIG.clip_s), CONFIG)


def features_of(copies: list[dict[str, Path]]) -> dict[str, np.ndarray]:
    """Features of every copy, shape (n, 97)."""
    return {
        kind: np.stack([features.extract_features(read_clip(paths[kind]), CONFIG) for paths in copies])
        for kind in ("mp3", *COPIES)
    }


def moved(X: dict[str, np.ndarray], kind: str) -> pd.Series:
    """Farthest that each feature of a copy lies from the MP3's, in standard deviations over the MP3s."""
    deviation = X["mp3"].std(axis=0)
    return pd.Series(abs(X[kind] - X["mp3"]).max(axis=0) / deviation, index=features.FEATURE_NAMES)


@pytest.fixture(scope="module")
def copies(tmp_path_factory) -> list[dict[str, Path]]:
    """MP3s of the demo's music, whose highest octave is empty, with their copies; recordings of a genre in a row."""
    folder = tmp_path_factory.mktemp("copies")
    written = []
    for genre in GENRES:
        rendered = (demo.render_recording(genre, number)[: CONFIG.n_samples] for number in range(20))
        for number, y in enumerate(islice((y for y in rendered if not has_pause(y)), RECORDINGS)):
            mp3 = folder / f"{genre}-{number}.mp3"
            sf.write(mp3, y, CONFIG.sr)
            written.append(write_copies(mp3))
    return written


def test_an_mp3_and_its_own_samples_have_the_same_features(copies):
    X = features_of(copies)
    for kind in ("wav_16", "flac_24"):
        assert moved(X, kind).max() < 0.3, moved(X, kind).nlargest(3).to_dict()


def test_without_a_floor_digital_silence_would_count(copies, monkeypatch):
    rules = stft._VARIANT_RULES["corrected"]._replace(contrast_floor=0.0)
    monkeypatch.setitem(stft._VARIANT_RULES, "corrected", rules)
    assert moved(features_of(copies), "wav_16")["spectral_contrast_7_mean"] > 1


def test_every_copy_gets_the_same_answer(copies, tmp_path):
    X = features_of(copies)
    y = np.repeat(np.arange(len(GENRES)), RECORDINGS)
    recordings = np.arange(len(y)).astype(str)
    data = models.TrainingData(list(GENRES), X["mp3"], y, recordings, X["mp3"], y)
    model = models.train_model("svm", data, {}, 0, tmp_path)
    answers = {kind: models.predict_proba("svm", model, X[kind]).argmax(axis=1).tolist() for kind in X}
    assert answers["mp3"] == y.tolist()
    assert answers["wav_16"] == answers["flac_24"] == answers["mp3"]
    assert answers["wav_16khz"] == answers["mp3"]


def test_real_music_has_the_same_features_as_its_own_samples(shared, tmp_path):
    tracks = [path for genre in sorted((shared / "emotify_160").iterdir()) for path in sorted(genre.iterdir())[:5]]
    real = []
    for number, track in enumerate(tracks):
        (tmp_path / f"{number}.mp3").symlink_to(track)
        real.append(write_copies(tmp_path / f"{number}.mp3"))
    X = features_of(real)
    for kind in ("wav_16", "flac_24"):
        assert moved(X, kind).max() < 0.3, moved(X, kind).nlargest(3).to_dict()
