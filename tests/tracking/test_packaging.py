"""The logged model elsewhere: in an environment of its own, in a container, on the other engine, in every format."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import av
import mlflow
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import soxr

from genre import models
from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.config import AudioConfig
from genre.inputs import features
from tests.support.champion import log_champion
from tests.support.project import ROOT
from tests.support.sounds import tone

SCORE = str(ROOT / "serving" / "isolated" / "score.py")


def scored(model: Path, files: dict[str, Path], folder: Path, python: str = sys.executable) -> pd.DataFrame:
    """Probabilities from a fresh process that finds nothing of this project but what was logged."""
    listed, out = folder / "files.json", folder / "out.parquet"
    listed.write_text(json.dumps({name: str(path) for name, path in files.items()}))
    command = [python, "-I", SCORE, str(model), str(listed), str(out)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    table = pd.read_parquet(out)
    assert table.pop("error").isna().all()
    return table


@pytest.mark.slow
@pytest.mark.network
def test_its_requirements_are_all_that_it_needs(model_path, tmp_path):
    files = {str(hz): tmp_path / f"{hz}.wav" for hz in (110, 300, 500, 900)}
    for hz, path in files.items():
        sf.write(path, tone(15, hz=int(hz), sr=44100), 44100)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "-q", "-r", str(model_path / "requirements.txt")]
    done = subprocess.run(install, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    alone = scored(model_path, files, tmp_path, python)
    here = scored(model_path, files, tmp_path)
    print(f"largest difference {(alone - here).abs().to_numpy().max():.1e}")
    pd.testing.assert_frame_equal(alone, here, rtol=0, atol=1e-5)
    assert np.ptp(here["high"]) > 0.5


def test_the_dockerfile_takes_the_model_and_its_requirements(model_path, tmp_path):
    command = [sys.executable, "-m", "mlflow", "models", "generate-dockerfile", "-m", str(model_path), "-d", "image"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "image" / "Dockerfile").read_text().splitlines()
    _, copied, there = next(line for line in lines if line.startswith("COPY")).split()
    packed = tmp_path / "image" / copied
    for name in ("MLmodel", "model.py", "requirements.txt", "artifacts/ensemble/ensemble.json"):
        assert (packed / name).read_bytes() == (model_path / name).read_bytes()
    assert (packed / "code" / "genre" / "ensemble.py").is_file()
    # what installs the model's requirements, and what the base image is of
    assert any(f"_install_pyfunc_deps('{there}'" in line for line in lines)
    version = ".".join(map(str, sys.version_info[:2]))
    assert any(line.startswith("FROM python:") and version in line for line in lines)


#: Tracks of each genre that a model learns from; it is asked about the others.
LEARNT = 14


@dataclass(frozen=True)
class Music:
    """A model of real music, and a hundred clips that it has not heard, as WAV files by their name."""

    model: Path
    files: dict[str, Path]


@pytest.fixture(scope="module")
def real(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Music:
    folder, config = tmp_path_factory.mktemp("real"), AudioConfig()
    genres = sorted(path.name for path in (shared / "emotify_160").iterdir())
    rows, labels, recordings, files = [], [], [], {}
    for code, genre in enumerate(genres):
        tracks = sorted((shared / "emotify_160" / genre).iterdir())
        for path in tracks[:LEARNT]:
            for start_s in (0, 10):
                y = decoding.decode_audio(path, sr=config.sr, start_s=start_s, duration_s=10)
                rows.append(features.extract_features(prepare_clip(y, config), config))
                labels.append(code)
                recordings.append(path.stem)
        for path in tracks[LEARNT:]:
            y, sr = sf.read(path, frames=10 * 44100)
            files[f"{genre}-{path.stem}"] = folder / f"{genre}-{path.stem}.wav"
            sf.write(files[f"{genre}-{path.stem}"], y, sr, subtype="PCM_16")
    X, codes = np.stack(rows), np.array(labels)
    data = models.TrainingData(genres, X, codes, np.array(recordings), X, codes)
    before = mlflow.get_tracking_uri()
    model = log_champion(folder, data, {"catboost": {"iterations": 200}, "svm": {"C": 10.0}})
    mlflow.set_tracking_uri(before)
    assert len(files) >= 100
    return Music(model, files)


def same_genre(one: pd.DataFrame, other: pd.DataFrame) -> float:
    """Share of clips that both give the same genre."""
    return float((one.idxmax(axis=1) == other.idxmax(axis=1)).mean())


@pytest.fixture(scope="module")
def as_wav(real: Music, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """What the model says of the clips; that it knows music is what makes the rest worth asking."""
    answers = scored(real.model, real.files, tmp_path_factory.mktemp("wav"))
    right = (answers.idxmax(axis=1) == answers.index.str.split("-").str[0]).mean()
    print(f"\n{len(answers)} clips, accuracy {right:.2f}")
    assert right > 0.5
    return answers


@pytest.mark.slow
def test_both_engines_give_the_same_genre(real, as_wav, tmp_path, monkeypatch):
    monkeypatch.setenv("GENRE_KERNELS", "plain")
    plain = scored(real.model, real.files, tmp_path)
    same, apart = same_genre(plain, as_wav), (plain - as_wav).abs().to_numpy()
    print(f"same genre {same:.3f}, probabilities differ by up to {apart.max():.1e}, median {np.median(apart):.1e}")
    assert same >= 0.99
    assert apart.max() > 0  # or it was the same engine twice


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["flac", "mp3", "ogg", "opus", "m4a"])
def test_a_format_keeps_the_genre(real, as_wav, tmp_path, suffix):
    files = {name: tmp_path / f"{name}.{suffix}" for name in real.files}
    for name, path in files.items():
        encode(real.files[name], path)
    answers = scored(real.model, files, tmp_path)
    same, apart = same_genre(answers, as_wav), (answers - as_wav).abs().to_numpy().max()
    moved = (answers.max(axis=1) - as_wav.max(axis=1)).abs().median()
    print(
        f"{suffix}: same genre {same:.2f}, largest probability moves by {moved:.3f} (median), any by up to {apart:.2g}"
    )
    if suffix == "flac":
        assert apart <= 1e-6
    assert same >= 0.9
    assert moved <= 0.1


def encode(wav: Path, path: Path) -> None:
    """A copy of a WAV file in the format of the other's suffix, at the bit rate that its encoder has by default."""
    y, sr = sf.read(wav, dtype="float32")
    if path.suffix == ".m4a":
        with av.open(str(path), "w") as out:
            stream = out.add_stream("aac", rate=sr, layout="stereo")
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(y.T), format="fltp", layout="stereo")
            frame.sample_rate = sr
            out.mux([*stream.encode(frame), *stream.encode(None)])
    elif path.suffix == ".opus":  # which knows no 44.1 kHz
        sf.write(path, soxr.resample(y, sr, 48000), 48000, format="OGG", subtype="OPUS")
    elif path.suffix == ".flac":  # of the very samples: libsndfile rounds floats otherwise than for WAV
        sf.write(path, sf.read(wav, dtype="int16")[0], sr)
    else:  # as floats: libsndfile makes noise of stereo integers in an MP3 file
        sf.write(path, y, sr)
