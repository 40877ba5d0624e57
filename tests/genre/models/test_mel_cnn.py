import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genre import models
from genre.errors import TrainingError, UsageError
from genre.models import mel_cnn
from tests.support.project import ROOT

TINY = {"epochs": 8, "width": 2, "batch_size": 8, "learning_rate": 0.01, "crop_frames": 48}


def toy(n=40, n_validation=12, seed=0):
    """Two genres on small spectrograms: a steady tone and a pulsing one, anywhere in frequency."""
    rng = np.random.default_rng(seed)
    y = np.arange(n + n_validation) % 2
    X = rng.integers(0, 60, (len(y), 32, 64), dtype=np.uint8)
    pulse = np.where(np.arange(64) % 16 < 8, 190, 50).astype(np.uint8)
    for clip, code in zip(X, y, strict=True):
        low = rng.integers(0, 26)
        clip[low : low + 6] += pulse if code else 120
    recordings = np.array([f"{i}" for i in range(n)])
    return models.TrainingData(["Drone", "Pulse"], X[:n], y[:n], recordings, X[n:], y[n:])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Directory, model and reported epochs of the tiny network, trained without interruption."""
    directory = tmp_path_factory.mktemp("whole")
    reported = {}
    model = models.train_model("mel_cnn", toy(), TINY, 3, directory, lambda epoch, row: reported.update({epoch: row}))
    return directory, model, reported


def test_learns_genres_that_no_single_pixel_distinguishes(tmp_path):
    data = toy(n=96, seed=1)
    params = {"epochs": 20, "width": 4, "batch_size": 16, "learning_rate": 0.01, "patience": 20}
    model = models.train_model("mel_cnn", data, params, 0, tmp_path)
    proba = models.predict_proba("mel_cnn", model, data.X_validation)
    assert (proba.argmax(axis=1) == data.y_validation).mean() >= 0.9


def test_reports_every_epoch(trained):
    directory, _, reported = trained
    history = models.training_history("mel_cnn", directory)
    assert list(reported) == list(history.index) == list(range(1, len(history) + 1))
    expected = {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds", "images_per_second"}
    assert set(history) == expected
    pd.testing.assert_frame_equal(pd.DataFrame(reported).T, history, check_names=False, check_index_type=False)
    assert (history["learning_rate"].diff().dropna() < 0).all()
    assert history["learning_rate"].iloc[-1] < 1e-6
    assert models.training_history("mel_cnn", directory / "elsewhere").empty


def test_keeps_the_epoch_of_the_lowest_validation_loss(trained):
    directory, model, _ = trained
    data = toy()
    val_loss = models.training_history("mel_cnn", directory)["val_loss"]
    proba = models.predict_proba("mel_cnn", model, data.X_validation)
    log_loss = -np.log(proba[np.arange(len(proba)), data.y_validation]).mean()
    assert log_loss == pytest.approx(val_loss.min(), rel=1e-4)
    epochs = {int(path.stem[-4:]) for path in directory.glob("epoch-*.npy")}
    assert epochs == {val_loss.idxmin(), len(val_loss)}


def test_a_finished_training_is_not_repeated(trained):
    directory, model, _ = trained
    again = models.train_model("mel_cnn", toy(), TINY, 3, directory, lambda epoch, row: pytest.fail("trained again"))
    X = toy().X_validation
    np.testing.assert_array_equal(models.predict_proba("mel_cnn", again, X), models.predict_proba("mel_cnn", model, X))


KILLED = """
import sys, pathlib
sys.path.insert(0, {tests!r})
from tests.genre.models.test_mel_cnn import TINY, toy
from genre import models
models.train_model("mel_cnn", toy(), TINY, 3, sys.argv[1], lambda epoch, row: print(epoch, flush=True))
"""


def test_a_killed_training_resumes_with_the_same_result(trained, tmp_path):
    whole_directory, whole, _ = trained
    script = KILLED.format(tests=str(ROOT))
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with process:
        for line in process.stdout:
            if int(line) == 3:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    epochs_done = len(models.training_history("mel_cnn", tmp_path))
    assert 2 <= epochs_done < TINY["epochs"]

    (tmp_path / "epoch-0009.npy.1.tmp").write_bytes(b"cut off in the middle")
    epochs = []
    model = models.train_model("mel_cnn", toy(), TINY, 3, tmp_path, lambda epoch, row: epochs.append(epoch))
    assert epochs == list(range(epochs_done + 1, TINY["epochs"] + 1))
    pd.testing.assert_frame_equal(
        models.training_history("mel_cnn", tmp_path).drop(columns=["seconds", "images_per_second"]),
        models.training_history("mel_cnn", whole_directory).drop(columns=["seconds", "images_per_second"]),
    )
    X = toy().X_validation
    np.testing.assert_allclose(
        models.predict_proba("mel_cnn", model, X), models.predict_proba("mel_cnn", whole, X), atol=1e-6
    )


def test_an_epoch_does_not_seed_the_process_anew(tmp_path):
    """With TensorFlow, seeding discards compiled functions, which doubled the seconds of a small network's epoch."""
    drawn = []

    def on_epoch(epoch, row):
        drawn.append(np.random.random())  # noqa: NPY002 - the generator that Keras seeds

    models.train_model("mel_cnn", toy(), TINY | {"epochs": 3}, 3, tmp_path, on_epoch)
    np.testing.assert_array_equal(drawn, np.random.RandomState(3).random_sample(3))


def test_state_of_another_training_is_not_continued(tmp_path):
    one_epoch = {**TINY, "epochs": 1}
    models.train_model("mel_cnn", toy(), one_epoch, 0, tmp_path)
    for params, seed, data in [({**one_epoch, "width": 3}, 1, toy()), ({**one_epoch, "width": 3}, 1, toy(n=38))]:
        epochs = []
        models.train_model("mel_cnn", data, params, seed, tmp_path, lambda epoch, row, to=epochs: to.append(epoch))
        assert epochs == [1]


def test_stops_when_the_patience_is_exhausted(tmp_path):
    data = toy(n=16)
    swapped_labels = models.TrainingData(
        data.genres, data.X_train, data.y_train, data.recordings_train, data.X_train, 1 - data.y_train
    )
    params = {**TINY, "epochs": 40, "patience": 2}
    models.train_model("mel_cnn", swapped_labels, params, 0, tmp_path)
    losses = models.training_history("mel_cnn", tmp_path)["val_loss"]
    assert len(losses) == losses.idxmin() + 2 < 40


def test_trains_from_a_memory_map(tmp_path):
    data = toy(n=16)
    np.save(tmp_path / "X.npy", data.X_train)
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    small = models.TrainingData(data.genres, X, data.y_train, data.recordings_train, X[:4], data.y_train[:4])
    model = models.train_model("mel_cnn", small, {**TINY, "epochs": 1}, 0, tmp_path / "state")
    assert models.predict_proba("mel_cnn", model, X).shape == (16, 2)


def test_threads_share_a_model(trained):
    _, model, _ = trained
    X = toy().X_train
    expected = models.predict_proba("mel_cnn", model, X)
    with ThreadPoolExecutor(4) as pool:
        for proba in pool.map(lambda _: models.predict_proba("mel_cnn", model, X), range(12)):
            np.testing.assert_allclose(proba, expected, atol=1e-6)


def test_batches_are_the_same_clips_in_another_order_each_epoch():
    keras_training = mel_cnn._load_keras_training()
    data = toy()

    def rows(batches):
        return [tuple(clip[:, 0]) for i in range(len(batches)) for clip in batches[i][0]]

    batches = keras_training.ClipBatches(data.X_train, data.y_train, 2, 16, seed=5)
    first = rows(batches)
    batches.on_epoch_end()
    second = rows(batches)
    assert sorted(first) == sorted(second) == sorted(tuple(clip[:, 0]) for clip in data.X_train)
    assert first != second
    assert rows(keras_training.ClipBatches(data.X_train, data.y_train, 2, 16, seed=5, epoch=1)) == second
    X, labels = keras_training.ClipBatches(data.X_train, data.y_train, 2, 16, seed=5)[1]
    for clip, label in zip(X, labels, strict=True):
        (i,) = np.flatnonzero((data.X_train == clip).all(axis=(1, 2)))
        assert label.argmax() == data.y_train[i]


def test_a_batch_has_an_excerpt_of_each_clip_from_another_start_each_epoch():
    keras_training = mel_cnn._load_keras_training()
    frame_numbers = np.broadcast_to(np.arange(64, dtype=np.uint8), (300, 4, 64))
    augment = partial(mel_cnn.crop_clips, crop_frames=60)

    def starts(batches):
        X = np.concatenate([batches[i][0] for i in range(len(batches))])
        np.testing.assert_array_equal(X, np.broadcast_to(X[:, :1, :1] + np.arange(60), (300, 4, 60)))
        return X[:, 0, 0]

    y = np.zeros(300, int)
    batches = keras_training.ClipBatches(frame_numbers, y, 1, 32, seed=5, augment=augment)
    first = starts(batches)
    assert set(first) == {0, 1, 2, 3, 4}
    batches.on_epoch_end()
    second = starts(batches)
    assert (first != second).mean() > 0.5
    resumed = keras_training.ClipBatches(frame_numbers, y, 1, 32, seed=5, epoch=1, augment=augment)
    np.testing.assert_array_equal(starts(resumed), second)


@pytest.mark.parametrize("crop_frames", [64, 100])
def test_short_clips_stay_whole(crop_frames):
    X = toy(n=8).X_train
    np.testing.assert_array_equal(mel_cnn.crop_clips(X, np.random.default_rng(0), crop_frames=crop_frames), X)


def test_predicts_from_the_whole_clip(trained):
    _, model, _ = trained
    X = toy().X_validation
    assert model.inputs[0].shape == (None, 32, 64)
    changed = X.copy()
    changed[:, :, TINY["crop_frames"] :] = 0
    before = models.predict_proba("mel_cnn", model, X)
    assert np.median(np.abs(models.predict_proba("mel_cnn", model, changed) - before).max(axis=1)) > 1e-3


def test_a_saved_network_is_small_uncompiled_and_takes_bytes(trained, tmp_path):
    _, model, _ = trained
    assert model.inputs[0].dtype == "uint8"
    network = mel_cnn._mel_network((96, 431), 7, models.default_params("mel_cnn")["width"], 0.3)
    assert network.count_params() <= 1_000_000
    models.save_model("mel_cnn", model, tmp_path)
    loaded = models.load_model("mel_cnn", tmp_path)
    assert {layer.dtype_policy.name for layer in loaded.layers} == {"float32"}
    assert not loaded.compiled


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"dropout": 1.0}, {"learning_rate": -1.0}, {"width": 0}, {"crop_frames": 0}]
)
def test_hyper_parameters_out_of_range_are_refused(wrong, tmp_path):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        models.train_model("mel_cnn", toy(n=8), wrong, 0, tmp_path)


def test_a_loss_that_is_not_finite_is_reported(tmp_path):
    with pytest.raises(TrainingError, match="not finite after epoch"):
        models.train_model("mel_cnn", toy(n=16), {**TINY, "learning_rate": 1e38}, 0, tmp_path)


def test_a_training_without_validation_clips_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="no validation clip"):
        models.train_model("mel_cnn", toy(n_validation=0), TINY, 0, tmp_path)


def test_no_backend_is_imported_directly():
    """So that a network that runs on TensorFlow runs on the other backends."""
    for module in ("mel_cnn.py", "keras_training.py"):
        text = (Path(mel_cnn.__file__).parent / module).read_text()
        assert "import tensorflow" not in text and "tf." not in text.replace("tf.py", "")
