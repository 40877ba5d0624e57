"""The logged model elsewhere: in its own environment, in a container, with plain kernels, for every file format."""

import json
import platform
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import av
import mlflow
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import soxr
import yaml
from packaging.requirements import Requirement

from genre import models
from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.config import AudioConfig
from genre.files import read_json, write_json
from genre.inputs import features
from tests.support.champion import log_champion
from tests.support.project import ROOT, read_pins
from tests.support.sounds import tone
from tracking import packaging

SCORE = str(ROOT / "serving" / "isolated" / "score.py")


def scored(model: Path, files: dict[str, Path], folder: Path, python: str = sys.executable) -> pd.DataFrame:
    """Probabilities from a fresh process, which has nothing of this project except what was logged."""
    out = folder / "out.parquet"
    task = json.dumps({"model": str(model), "files": {name: str(path) for name, path in files.items()}})
    command = [python, "-I", SCORE, str(out)]
    done = subprocess.run(command, cwd=folder, input=task, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    table = pd.read_parquet(out)
    assert table.pop("error").isna().all()
    return table


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("of", ["the model", "a machine that serves"])
def test_the_requirements_suffice_to_load_the_model(model_path, tmp_path, of):
    requirements = model_path / "requirements.txt" if of == "the model" else ROOT / "requirements-serve.txt"
    files = {str(hz): tmp_path / f"{hz}.wav" for hz in (110, 300, 500, 900)}
    for hz, path in files.items():
        sf.write(path, tone(15, hz=int(hz), sr=44100), 44100)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "-q", "-r", str(requirements)]
    done = subprocess.run(install, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    alone = scored(model_path, files, tmp_path, python)
    here = scored(model_path, files, tmp_path)
    print(f"largest difference {(alone - here).abs().to_numpy().max():.1e}")
    pd.testing.assert_frame_equal(alone, here, rtol=0, atol=1e-5)
    assert np.ptp(here["high"]) > 0.5


def test_a_machine_that_serves_gets_the_versions_that_models_name():
    """Of every model that needs no TensorFlow."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = {Requirement(text).name for text in project["dependency-groups"]["serve"]}
    networks = {name for name in models.MODELS if "tensorflow" in models.model_requirements(name)}
    named = {Requirement(line) for line in packaging.pinned_requirements(models.MODELS.keys() - networks)}
    assert {requirement.name for requirement in named} <= listed
    pinned = map(Requirement, read_pins("requirements-serve.txt"))
    assert named <= {Requirement(f"{pin.name}{pin.specifier}") for pin in pinned}


def test_a_model_names_its_python_and_its_numpy(model_path):
    environment = yaml.safe_load((model_path / "python_env.yaml").read_text())
    assert environment["python"] == platform.python_version()
    assert f"numpy=={version('numpy')}" in (model_path / "requirements.txt").read_text().splitlines()


def test_the_dockerfile_copies_the_model_and_installs_its_requirements(model_path, tmp_path):
    command = [sys.executable, "-m", "mlflow", "models", "generate-dockerfile", "-m", str(model_path), "-d", "image"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "image" / "Dockerfile").read_text().splitlines()
    _, copied, target = next(line for line in lines if line.startswith("COPY")).split()
    packed = tmp_path / "image" / copied
    for name in ("MLmodel", "model.py", "requirements.txt", "artifacts/ensemble/ensemble.json"):
        assert (packed / name).read_bytes() == (model_path / name).read_bytes()
    assert (packed / "code" / "genre" / "ensemble.py").is_file()
    # the model's requirements are installed, on a base image of this Python version
    assert any(f"_install_pyfunc_deps('{target}'" in line for line in lines)
    version = ".".join(map(str, sys.version_info[:2]))
    assert any(line.startswith("FROM python:") and version in line for line in lines)


def test_warning_and_genres_of_a_downloaded_model_are_read_without_loading_it(model_path, tmp_path):
    assert packaging.read_warning(model_path) == ""
    assert packaging.read_genres(model_path) == ["high", "low"]
    spec = read_json(model_path / "artifacts" / "ensemble" / "ensemble.json")
    for folder, given, warning in (("new", {"warning": "Beware."}, "Beware."), ("older", {}, "")):
        (tmp_path / folder / "artifacts" / "0123456789ab").mkdir(parents=True)
        others = {name: value for name, value in spec.items() if name != "warning"}
        write_json(tmp_path / folder / "artifacts" / "0123456789ab" / "ensemble.json", others | given)
        assert packaging.read_warning(tmp_path / folder) == warning


def test_the_signature_has_every_field_of_a_prediction(model_path):
    [prediction] = (
        mlflow.pyfunc.load_model(str(model_path))
        .predict(pd.DataFrame({"audio": [""]}), params={"timeline": True})
        .to_dict(orient="records")
    )
    assert packaging.SIGNATURE.outputs.input_names() == list(prediction)


#: Tracks per genre that the model is trained on; it is tested on the others.
N_TRAINING_TRACKS = 14


@dataclass(frozen=True)
class Music:
    """A model trained on real music, and a hundred clips it was not trained on, as WAV files by their name."""

    model: Path
    files: dict[str, Path]


@pytest.fixture(scope="module")
def real(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Music:
    folder = tmp_path_factory.mktemp("real")
    config = AudioConfig()
    genres = sorted(path.name for path in (shared / "emotify_160").iterdir())
    rows = []
    labels = []
    recordings = []
    files = {}
    for code, genre in enumerate(genres):
        tracks = sorted((shared / "emotify_160" / genre).iterdir())
        for path in tracks[:N_TRAINING_TRACKS]:
            for start_s in (0, 10):
                y = decoding.decode_audio(path, sr=config.sr, start_s=start_s, duration_s=10)
                rows.append(features.extract_features(prepare_clip(y, config), config))
                labels.append(code)
                recordings.append(path.stem)
        for path in tracks[N_TRAINING_TRACKS:]:
            y, sr = sf.read(path, frames=10 * 44100)
            files[f"{genre}-{path.stem}"] = folder / f"{genre}-{path.stem}.wav"
            sf.write(files[f"{genre}-{path.stem}"], y, sr, subtype="PCM_16")
    X = np.stack(rows)
    codes = np.array(labels)
    data = models.TrainingData(genres, X, codes, np.array(recordings), X, codes)
    before = mlflow.get_tracking_uri()
    model = log_champion(folder, data, {"catboost": {"iterations": 200}, "svm": {"C": 10.0}})
    mlflow.set_tracking_uri(before)
    assert len(files) >= 100
    return Music(model, files)


def same_genre(one: pd.DataFrame, other: pd.DataFrame) -> float:
    """Share of clips with the same genre in both tables."""
    return float((one.idxmax(axis=1) == other.idxmax(axis=1)).mean())


@pytest.fixture(scope="module")
def as_wav(real: Music, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Probabilities of the clips; the other tests mean little unless the model is often right."""
    table = scored(real.model, real.files, tmp_path_factory.mktemp("wav"))
    accuracy = (table.idxmax(axis=1) == table.index.str.split("-").str[0]).mean()
    print(f"\n{len(table)} clips, accuracy {accuracy:.2f}")
    assert accuracy > 0.5
    return table


@pytest.mark.slow
def test_compiled_and_plain_kernels_give_the_same_genre(real, as_wav, tmp_path, monkeypatch):
    monkeypatch.setenv("GENRE_KERNELS", "plain")
    plain = scored(real.model, real.files, tmp_path)
    same = same_genre(plain, as_wav)
    difference = (plain - as_wav).abs().to_numpy()
    print(f"same genre {same:.3f}, probabilities differ by {difference.max():.1e}, median {np.median(difference):.1e}")
    assert same >= 0.99
    assert difference.max() > 0  # otherwise the same kernels ran twice


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["flac", "mp3", "ogg", "opus", "m4a"])
def test_the_genre_does_not_depend_on_the_file_format(real, as_wav, tmp_path, suffix):
    files = {name: tmp_path / f"{name}.{suffix}" for name in real.files}
    for name, path in files.items():
        encode(real.files[name], path)
    table = scored(real.model, files, tmp_path)
    same = same_genre(table, as_wav)
    difference = (table - as_wav).abs().to_numpy().max()
    median_change = (table.max(axis=1) - as_wav.max(axis=1)).abs().median()
    print(f"{suffix}: same genre {same:.2f}, confidence changes by {median_change:.3f} (median)")
    print(f"{suffix}: probabilities differ by up to {difference:.2g}")
    if suffix == "flac":
        assert difference <= 1e-6
    assert same >= 0.9
    assert median_change <= 0.1


def encode(wav: Path, path: Path) -> None:
    """Encode a WAV file in the format of the other path's suffix, at the encoder's default bit rate."""
    y, sr = sf.read(wav, dtype="float32")
    if path.suffix == ".m4a":
        with av.open(str(path), "w") as out:
            stream = out.add_stream("aac", rate=sr, layout="stereo")
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(y.T), format="fltp", layout="stereo")
            frame.sample_rate = sr
            out.mux([*stream.encode(frame), *stream.encode(None)])
    elif path.suffix == ".opus":  # Opus has no sampling rate of 44.1 kHz
        sf.write(path, soxr.resample(y, sr, 48000), 48000, format="OGG", subtype="OPUS")
    elif path.suffix == ".flac":  # from the integer samples: libsndfile rounds floats differently than for WAV
        sf.write(path, sf.read(wav, dtype="int16")[0], sr)
    else:  # from floats: libsndfile turns stereo integers into noise in an MP3 file
        sf.write(path, y, sr)
