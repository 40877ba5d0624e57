import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genre import models
from genre.errors import DataError, TrainingError, UsageError
from genre.inputs.musicnn import MusicnnWeights, cut_patches, forward, save_weights
from genre.models import mel_cnn
from tests.support.network import random_weights, sparse_weights
from tests.support.project import ROOT

NAME = "musicnn_fine_tune"
#: Enough to learn the toy in seconds.
QUICK = {"epochs": 2, "head_epochs": 3, "learning_rate": 1e-5, "head_learning_rate": 1e-2, "batch_size": 8}


def toy(n=16, n_validation=8, n_frames=400):
    """Two genres, each with bands of its own, in clips of two patches and some frames; three in four of the first."""
    rng = np.random.default_rng(0)
    y = (np.arange(n + n_validation) % 4 == 3).astype(int)
    X = rng.uniform(0, 2, (len(y), n_frames, 96)).astype(np.float16)
    for clip, code in zip(X, y, strict=True):
        clip[:, 48 * code : 48 * code + 48] += 2
    return models.TrainingData(["Low", "High"], X[:n], y[:n], np.arange(n).astype(str), X[n:], y[n:])


@pytest.fixture(scope="module")
def layers():
    """The module that loads Keras, imported when first needed."""
    mel_cnn.silence_tensorflow()
    from genre.models import musicnn_layers

    return musicnn_layers


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "weights.npz"
    save_weights(path, sparse_weights())
    return QUICK | {"weights": str(path)}


@pytest.fixture(scope="module")
def trained(params, tmp_path_factory):
    directory = tmp_path_factory.mktemp("trained")
    return directory, models.train_model(NAME, toy(), params, 1, directory)


def run(network, patches: np.ndarray) -> np.ndarray:
    """What a network makes of patches."""
    return mel_cnn.predict_proba(network, patches)


def expected_outputs(patches: np.ndarray, weights: MusicnnWeights) -> np.ndarray:
    """The normalised pools of the channels that Keras computes, by numpy."""
    outputs = forward(patches.astype(np.float32), weights)
    pools = [outputs.max_pool, outputs.mean_pool]
    normalised = weights.normalise("pools", np.stack(pools, axis=-1).reshape(len(patches), -1))
    kept = np.pad(weights.front_end.live, (0, 192), constant_values=True)
    return np.hstack([normalised[:, place::2][:, kept] for place in (0, 1)])


@pytest.mark.parametrize(("weights", "n"), [(random_weights(3), 2 * 753), (sparse_weights(), 2 * (15 + 192))])
def test_the_base_equals_the_network_in_numpy(layers, weights, n):
    patches = np.random.default_rng(1).uniform(0, 5, (2, 187, 96)).astype(np.float16)
    outputs = run(layers.build_musicnn(weights), patches)
    assert outputs.shape == (2, n)
    np.testing.assert_allclose(outputs, expected_outputs(patches, weights), rtol=1e-4, atol=1e-4)


def test_the_base_with_the_published_weights_equals_the_original_graph(layers, shared, musicnn_weights):
    reference = np.load(shared / "musicnn" / "reference.npz")
    patches = np.concatenate([cut_patches(S) for S in reference["log_mel"]]).astype(np.float16)
    outputs = run(layers.build_musicnn(musicnn_weights), patches)
    np.testing.assert_allclose(outputs, expected_outputs(patches, musicnn_weights), rtol=1e-4, atol=1e-4)
    assert outputs.shape == (9, 512)


def test_the_first_part_leaves_the_base_as_it_is_and_the_second_moves_it_a_little(layers, params, trained, tmp_path):
    hp = models.check_params(NAME, params)
    training = layers.MusicnnTraining(NAME, toy(), 1, tmp_path, hp, hp["weights"], hidden=())
    head = training.fit_head(tmp_path / "head", 2, 1e-2, None)
    training.build_final_model(head)
    assert models.training_facts(NAME, tmp_path)["base_weights_unchanged"] == "true"

    directory, model = trained
    assert models.training_facts(NAME, directory)["base_weights_unchanged"] == "false"
    start = layers.build_musicnn(sparse_weights())
    [network] = [layer for layer in model.layers if hasattr(layer, "layers")]
    base = network.get_layer("musicnn")
    pairs = list(zip(start.get_weights(), base.get_weights(), strict=True))
    assert 0 < max(np.abs(after - before).max() for before, after in pairs) < 1e-3


def test_a_clip_has_the_mean_of_the_probabilities_of_its_patches(trained):
    X = toy().X_validation[:3]
    X[1, 200:] = 0  # so that its patches differ
    _, model = trained
    [network] = [layer for layer in model.layers if hasattr(layer, "layers")]
    each = [run(network, X[:, first : first + 187]) for first in (0, 187)]
    assert np.abs(each[0][1] - each[1][1]).max() > 1e-3
    np.testing.assert_allclose(models.predict_proba(NAME, model, X), np.mean(each, axis=0), atol=1e-6)


def test_patches_of_clips_are_read_in_their_order(layers):
    X = np.arange(3 * 400 * 96).reshape(3, 400, 96)
    patches = layers.Patches(X)
    assert len(patches) == 6
    whole = np.concatenate([cut_patches(clip) for clip in X])
    np.testing.assert_array_equal(patches[:6], whole)
    np.testing.assert_array_equal(patches[np.array([1, 4, 5])], whole[[1, 4, 5]])
    assert patches[4:9].shape == (2, 187, 96)


def test_drawn_patches_are_cuts_of_their_clips_and_follow_the_seed(layers):
    X = np.broadcast_to(np.arange(400)[:, np.newaxis] + 1000 * np.arange(5)[:, np.newaxis, np.newaxis], (5, 400, 96))
    patches = layers.draw_patches(X, np.random.default_rng(0))
    assert patches.shape == (5, 187, 96)
    assert (patches[:, 0, 0] // 1000 == np.arange(5)).all() and len(set(patches[:, 0, 0] % 1000)) > 1
    assert (np.diff(patches, axis=1) == 1).all()
    np.testing.assert_array_equal(patches, layers.draw_patches(X, np.random.default_rng(0)))
    np.testing.assert_array_equal(layers.draw_patches(X[:, :187], np.random.default_rng(1)), X[:, :187])


def test_batches_draw_other_patches_in_each_epoch_and_the_same_after_a_resumption(layers):
    from genre.models import keras_training

    data = toy()

    def batch(epoch: int) -> np.ndarray:
        batches = keras_training.ClipBatches(
            data.X_train, data.y_train, 2, 16, seed=1, epoch=epoch, augment=layers.draw_patches
        )
        return batches[0][0]

    np.testing.assert_array_equal(batch(1), batch(1))
    assert not np.array_equal(batch(0), batch(1))


def test_a_stopped_training_resumes_with_the_same_result(params, trained, tmp_path):
    epochs = []

    def interrupt(epoch, row):
        epochs.append(epoch)
        if epoch == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        models.train_model(NAME, toy(), params, 1, tmp_path, interrupt)
    moved = params | {"weights": str(Path(params["weights"]).rename(tmp_path / "moved.npz"))}
    model = models.train_model(NAME, toy(), moved, 1, tmp_path, lambda epoch, row: epochs.append(epoch))
    Path(moved["weights"]).rename(params["weights"])
    assert epochs == [1, 2, 3, 4, 5, 5]
    history = models.training_history(NAME, tmp_path)
    np.testing.assert_allclose(history["learning_rate"], [1e-2] * 3 + [1e-5] * 2)
    X = toy().X_validation
    np.testing.assert_allclose(
        models.predict_proba(NAME, model, X), models.predict_proba(NAME, trained[1], X), atol=1e-6
    )


def test_class_weights_are_divided_out(layers, params, tmp_path):
    """A head of zeros finds all genres equally likely, as weighted; the final model answers with their shares."""
    hp = models.check_params(NAME, params | {"class_weights": True})
    training = layers.MusicnnTraining(NAME, toy(), 1, tmp_path, hp, hp["weights"], hidden=())
    model = training.build_final_model(training.build_network("float32"))
    proba = models.predict_proba(NAME, model, toy().X_validation)
    np.testing.assert_allclose(proba, np.tile([0.75, 0.25], (8, 1)), atol=1e-6)


def test_the_saved_model_needs_only_keras(trained, tmp_path):
    X = toy().X_validation
    path = models.save_model(NAME, trained[1], tmp_path)
    np.save(tmp_path / "X.npy", X)
    script = (
        "import json, sys, keras, numpy as np\n"
        "model = keras.saving.load_model(sys.argv[1], compile=False, safe_mode=True)\n"
        "assert 'genre' not in sys.modules\n"
        "print(json.dumps(np.asarray(model(np.load(sys.argv[2]))).tolist()))"
    )
    command = [sys.executable, "-c", script, str(path), str(tmp_path / "X.npy")]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    proba = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(proba, models.predict_proba(NAME, trained[1], X), atol=1e-6)


BACKEND = """
import sys, keras, numpy as np
from tests.genre.models.test_musicnn import NAME, QUICK, toy
from genre import models
model = models.train_model(NAME, toy(), QUICK | {"weights": sys.argv[1], "dropout": 0.0}, 1, sys.argv[2])
print(keras.backend.backend(), *models.training_history(NAME, sys.argv[2])["loss"])
"""


def test_backends_agree(params, tmp_path):
    installed = [backend for backend in ("tensorflow", "jax", "torch") if importlib.util.find_spec(backend)]
    if len(installed) < 2:
        pytest.skip(f"only {', '.join(installed)} is installed")
    losses = {}
    for backend in installed:
        command = [sys.executable, "-c", BACKEND, params["weights"], str(tmp_path / backend)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": backend}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        name, *values = done.stdout.splitlines()[-1].split()
        assert name == backend
        losses[backend] = np.array(values, float)
    for backend in losses:
        np.testing.assert_allclose(losses[backend], losses["tensorflow"], rtol=5e-3, err_msg=backend)


@pytest.mark.parametrize(
    "wrong", [{"head_epochs": 0}, {"batch_size": 0}, {"dropout": 1.0}, {"C": 0.0}, {"precision": "float16"}]
)
def test_hyper_parameters_out_of_range_are_refused(wrong, params, tmp_path):
    with pytest.raises(UsageError, match=f"{NAME}: {next(iter(wrong))} must be"):
        models.train_model(NAME, toy(), params | wrong, 0, tmp_path)


def test_weights_are_asked_for_and_read_as_such(tmp_path):
    with pytest.raises(UsageError, match=r"starts from the weights of musicnn; set weights .*python -m genre\.weights"):
        models.train_model(NAME, toy(), {}, 0, tmp_path)
    with pytest.raises(DataError, match=r"nowhere\.npz cannot be read as weights of musicnn"):
        models.train_model(NAME, toy(), {"weights": str(tmp_path / "nowhere.npz")}, 0, tmp_path)


def test_validation_clips_are_needed(params, tmp_path):
    data = toy()
    without = replace(data, X_validation=data.X_validation[:0], y_validation=data.y_validation[:0])
    with pytest.raises(TrainingError, match="no validation clips"):
        models.train_model(NAME, without, params, 0, tmp_path)
