"""Weights that models start from: given, found, or not to be had."""

import pytest
from prefect.logging import disable_run_logger

from flows.hyperparameters import resolve_hyperparameters
from flows.inputs import find_start_weights
from genre.inputs.musicnn import save_weights
from genre.training.job import TrainingJob
from tests.support.network import sparse_weights


@pytest.fixture
def file(tmp_path):
    save_weights(tmp_path / "weights.npz", sparse_weights())
    return tmp_path / "weights.npz"


def hyperparameters(params: str = "{}") -> dict:
    return resolve_hyperparameters(["svm", "musicnn_fine_tune", "vgg16_transfer"], params)


def test_only_models_that_start_from_the_music_network_get_its_weights(file):
    found = hyperparameters()
    assert find_start_weights(found, str(file)) == {}
    assert found["musicnn_fine_tune"]["weights"] == str(file)
    expected = hyperparameters()
    assert {name: found[name] for name in ("svm", "vgg16_transfer")} == {
        name: expected[name] for name in ("svm", "vgg16_transfer")
    }


def test_weights_named_for_the_model_come_first(file, tmp_path):
    other = file.rename(tmp_path / "other.npz")
    found = hyperparameters(f'{{"musicnn_fine_tune": {{"weights": "{other}"}}}}')
    assert find_start_weights(found, str(file)) == {}
    assert found["musicnn_fine_tune"]["weights"] == str(other)


def test_the_model_is_left_out_where_there_are_none(home, monkeypatch):
    monkeypatch.setenv("GENRE_WEIGHTS", "none")
    with disable_run_logger():
        missing = find_start_weights(hyperparameters(), "")
    assert list(missing) == ["musicnn_fine_tune"] and "GENRE_WEIGHTS" in missing["musicnn_fine_tune"]


def test_a_training_is_identified_by_the_weights_and_not_by_their_place(file, tmp_path):
    def key(path) -> str:
        params = hyperparameters()["musicnn_fine_tune"] | {"weights": str(path)}
        return TrainingJob("musicnn_fine_tune", params, 0, ["a"], {}, "", "", "", "", ["musicnn_mel"]).key

    copy = tmp_path / "copy.npz"
    copy.write_bytes(file.read_bytes())
    other = tmp_path / "other.npz"
    save_weights(other, sparse_weights(2))
    assert key(file) == key(copy) != key(other)
