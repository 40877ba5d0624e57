import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genre import models
from genre.config import AudioConfig
from genre.errors import TrainingError, UsageError
from genre.files import write_table
from genre.inputs import spectrogram
from genre.models import vgg
from genre.training.job import TrainingJob, code_digest, prepare_training
from genre.training.process import run_training
from tests.support.project import ROOT

#: Name of a store's only part.
PART = f"part-{0:016d}"
#: Small enough for seconds; the image is the smallest that VGG-16 takes.
TINY = {"epochs": 3, "batch_size": 8, "units": 8, "image_size": 32, "learning_rate": 1e-3}
TRANSFER = {**TINY, "preprocessing": "paper"}
FLAT = {**TINY, "image_size": 12}


def toy(n=16, n_validation=8, seed=0):
    """Two genres on small spectrograms, each with a band of its own; three clips in four are of the first."""
    rng = np.random.default_rng(seed)
    y = (np.arange(n + n_validation) % 4 == 3).astype(int)
    X = rng.integers(0, 90, (len(y), 24, 40), dtype=np.uint8)
    for clip, code in zip(X, y, strict=True):
        clip[12 * code : 12 * code + 12] += 120
    return models.TrainingData(["Low", "High"], X[:n], y[:n], np.arange(n).astype(str), X[n:], y[n:])


def vgg16_of(model):
    return model.get_layer("vgg16")


def same_weights(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


@pytest.fixture(scope="module")
def vgg_layers():
    """The module that loads Keras, imported when first needed."""
    from genre.models import vgg_layers

    return vgg_layers


@pytest.fixture(scope="module")
def pretrained(vgg_layers, vgg_weights):
    """VGG-16 with the weights of the file."""
    return vgg_layers.build_vgg16(str(vgg_weights), 32)


@pytest.fixture(scope="module")
def transfer(vgg_weights, tmp_path_factory):
    """Directory and model of a training with a frozen base, in float32 throughout."""
    directory = tmp_path_factory.mktemp("transfer")
    params = {**TRANSFER, "weights": str(vgg_weights), "precision": "float32"}
    return directory, models.train_model("vgg16_transfer", toy(), params, 1, directory)


@pytest.mark.parametrize("preprocessing", ["paper", "imagenet"])
def test_the_image_has_the_published_colours(vgg_layers, preprocessing):
    import keras

    X = np.random.default_rng(0).integers(0, 256, (6, 24, 40), dtype=np.uint8)
    X[1] = 77
    X[2] = X[2] // 3 + 20
    X[3] = X[3] // 200
    image_layers = vgg_layers.build_image_layers((24, 40), 32, preprocessing)
    colours = np.asarray(keras.Model(image_layers.input, image_layers.get_layer("jet").output)(X))
    rgb = 255 * colours if preprocessing == "paper" else (colours + np.array([103.939, 116.779, 123.68]))[..., ::-1]
    np.testing.assert_allclose(rgb, spectrogram.render_rgb_image(X), atol=1e-4)
    images = np.asarray(image_layers(X))
    assert images.shape == (6, 32, 32, 3)
    assert images.dtype == np.float32
    assert images.min() >= colours.min() - 1e-4
    assert images.max() <= colours.max() + 1e-4
    np.testing.assert_allclose(images.mean(axis=(1, 2)), colours.mean(axis=(1, 2)), atol=0.03 * np.ptp(colours))


def test_the_image_has_low_bands_at_the_bottom(vgg_layers):
    X = np.zeros((1, 24, 40), np.uint8)
    X[0, :6] = 255
    red = np.asarray(vgg_layers.build_image_layers((24, 40), 32, "paper")(X))[0, ..., 0]
    assert red[-4:].min() > 0.4
    assert red[:20].max() == 0


def test_a_frozen_base_has_the_weights_of_the_file(transfer, pretrained):
    directory, model = transfer
    assert same_weights(vgg16_of(model), pretrained)
    assert not vgg16_of(model).trainable
    assert len(model.trainable_weights) == 4
    facts = models.training_facts("vgg16_transfer", directory)
    assert facts.pop("backend") == os.environ.get("KERAS_BACKEND", "tensorflow")
    assert facts.pop("device") in ("cpu", "gpu")
    assert facts == {"precision": "float32", "class_weights_applied": "false", "base_weights_unchanged": "true"}


def test_head_learns(transfer):
    directory, _ = transfer
    history = models.training_history("vgg16_transfer", directory)
    assert list(history.index) == [1, 2, 3]
    assert {"auc", "val_auc", "loss", "val_loss", "images_per_second", "learning_rate"} <= set(history)
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]


def test_cached_outputs_are_those_of_the_base(transfer, pretrained, vgg_layers):
    directory, _ = transfer
    cached = sorted(directory.glob("outputs-*.npy"))
    assert len(cached) == 2
    image_layers = vgg_layers.build_image_layers((24, 40), 32, "paper")
    direct = {len(X): np.asarray(pretrained(image_layers(X))) for X in (toy().X_train, toy().X_validation)}
    for path in cached:
        outputs = np.load(path)["output"]
        assert outputs.dtype == np.float16
        np.testing.assert_allclose(outputs, direct[len(outputs)], rtol=2e-3, atol=1e-3 * outputs.max())


def test_the_head_sees_outputs_of_a_root_mean_square_of_one(transfer, pretrained, vgg_layers):
    _, model = transfer
    outputs = np.asarray(pretrained(vgg_layers.build_image_layers((24, 40), 32, "paper")(toy().X_train)))
    scale = model.get_layer("head").layers[1].scale
    assert scale * np.sqrt(np.mean(outputs**2)) == pytest.approx(1, rel=1e-3)


def test_another_head_uses_the_cached_outputs(vgg_weights, tmp_path):
    params = {**TRANSFER, "weights": str(vgg_weights), "epochs": 1}
    data = replace(toy(), cache_dir=tmp_path / "cache")

    def cached_after_training(name, **changed):
        models.train_model("vgg16_transfer", data, params | changed, 1, tmp_path / name)
        assert not list((tmp_path / name).glob("outputs-*"))
        return {path.name: path.stat().st_ino for path in data.cache_dir.iterdir()}

    cached = cached_after_training("a")
    assert len(cached) == 2
    assert cached_after_training("b", units=5, l2=0.1, learning_rate=1e-4) == cached
    with_other_image = cached_after_training("c", preprocessing="imagenet")
    assert len(with_other_image) == 4
    assert len(cached_after_training("d", colours="grey")) == 6
    assert with_other_image.items() >= cached.items()


@pytest.fixture
def doubled():
    """Network that doubles spectrograms, and the list of all that it was given."""
    import keras

    stored = keras.Input((24, 40), dtype="uint8")
    network = keras.Model(stored, keras.layers.Rescaling(2.0)(stored))
    given = []
    predict_on_batch = network.predict_on_batch

    def record_and_predict(X):
        given.append(X)
        return predict_on_batch(X)

    network.predict_on_batch = record_and_predict
    return network, given


def test_only_clips_that_are_new_go_through_the_base(doubled, tmp_path):
    from genre.models.base_outputs import load_base_outputs

    network, given = doubled
    X = toy(n=20).X_train
    assert load_base_outputs(network, X[:0], tmp_path, [], batch_size=8).shape == (0, 24, 40)
    load_base_outputs(network, X[:12], tmp_path, [], batch_size=8)
    assert [len(batch) for batch in given] == [8, 4]
    # A fold: some of these in another order, one of them twice, and two new ones.
    chosen = X[[11, 3, 18, 3, 0, 19]]
    outputs = load_base_outputs(network, chosen, tmp_path, [], batch_size=8)
    np.testing.assert_array_equal(given[2], X[[18, 19]])
    np.testing.assert_array_equal(outputs[:], 2.0 * chosen)
    np.testing.assert_array_equal(outputs[np.array([2, 5])], 2.0 * X[[18, 19]])
    load_base_outputs(network, chosen, tmp_path, [], batch_size=8)
    assert len(given) == 3
    load_base_outputs(network, chosen, tmp_path, ["other weights"], batch_size=8)
    assert len(given) == 4


def test_the_least_recently_used_outputs_are_removed(doubled, tmp_path, monkeypatch):
    from genre.models import base_outputs

    network, _ = doubled
    monkeypatch.setattr(base_outputs, "MAX_FILES", 3)
    X = toy().X_train

    def load_outputs(n):
        outputs = base_outputs.load_base_outputs(network, X[n : n + 1], tmp_path, [], batch_size=8)
        np.testing.assert_array_equal(outputs[:], 2.0 * X[n : n + 1])
        kept = [np.load(path)["output"][0] for path in tmp_path.iterdir()]
        return {n for n in range(4) if any(np.array_equal(2.0 * X[n], output) for output in kept)}

    for n in range(3):
        load_outputs(n)
    assert load_outputs(0) == {0, 1, 2}
    assert load_outputs(3) == {0, 2, 3}


@pytest.fixture
def prepared(vgg_weights, tmp_path):
    """Function that prepares a training from a store."""
    store = tmp_path / "store"
    store.mkdir()
    data = toy(n=16, n_validation=8)
    index = pd.DataFrame({"clip_id": [f"clip {n:02d}" for n in range(24)], "stamp": "1", "row": range(24)})
    write_table(store / f"{PART}.parquet", index)
    np.save(store / f"{PART}.npy", np.concatenate([data.X_train, data.X_validation]))
    labels = pd.Categorical.from_codes(np.concatenate([data.y_train, data.y_validation]), data.genres)
    splits = ["train"] * 16 + ["validation"] * 4 + ["test"] * 4
    clips = index.assign(genre=labels, recording=index["clip_id"], split=splits)

    def prepare(**params):
        job = TrainingJob(
            model="vgg16_transfer",
            params=models.check_params("vgg16_transfer", {**TRANSFER, "weights": str(vgg_weights)} | params),
            seed=0,
            genres=data.genres,
            config=AudioConfig().to_dict(),
            store=str(store),
            data_digest="d",
            splits_digest="s",
            inputs=["spectrograms"],
            code_digest=code_digest("vgg16_transfer"),
        )
        prepare_training(tmp_path / job.key, job, clips)
        return tmp_path / job.key

    return prepare


def test_a_training_reports_its_facts_and_shares_its_outputs(prepared, tmp_path):
    folder = prepared(class_weights=True)
    result = run_training(folder)
    assert result["base_weights_unchanged"] == result["class_weights_applied"] == "true"
    assert result["precision"] in ("float32", "mixed_bfloat16")
    assert result["device"] in ("cpu", "gpu")
    table = pd.read_parquet(folder / "probabilities.parquet")
    model = models.load_model("vgg16_transfer", folder / "model")
    X = np.load(tmp_path / "store" / f"{PART}.npy")
    np.testing.assert_allclose(table[["Low", "High"]], models.predict_proba("vgg16_transfer", model, X), atol=1e-6)
    assert len(pd.read_parquet(folder / "history.parquet")) == TRANSFER["epochs"]
    cached = {path.name for path in (tmp_path / "store" / "outputs").iterdir()}
    assert len(cached) == 2
    with pytest.raises(TrainingError, match="does not hold the weights"):
        run_training(prepared(weights=__file__))


@pytest.mark.parametrize("kind", ["weights.h5", "keras", "notop.h5"])
def test_weights_are_loaded_from_a_file(vgg_layers, pretrained, transfer, tmp_path, kind):
    path = tmp_path / f"vgg.{kind}"
    if kind == "weights.h5":
        pretrained.save_weights(path)
    elif kind == "keras":
        transfer[1].save(path)
    else:  # as Keras publishes ImageNet's weights: a legacy file with the layers at its root
        import h5py

        pretrained.save(tmp_path / "whole.h5")
        with h5py.File(tmp_path / "whole.h5") as whole, h5py.File(path, "w") as notop:
            for name, value in whole["model_weights"].attrs.items():
                notop.attrs[name] = value
            for name in whole["model_weights"]:
                whole.copy(whole["model_weights"][name], notop, name)
    assert same_weights(vgg_layers.build_vgg16(str(path), 32), pretrained)


def test_weights_of_another_network_are_refused(vgg_weights, tmp_path):
    import keras

    narrow = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3), keras.layers.Conv2D(4, 3)])
    narrow.save_weights(tmp_path / "narrow.weights.h5")
    narrow.save(tmp_path / "narrow.keras")
    narrow.save(tmp_path / "narrow.h5")
    wide = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 1))
    wide.save_weights(tmp_path / "grey.weights.h5")
    wide.save(tmp_path / "grey.keras")
    wide.save(tmp_path / "grey.h5")
    (tmp_path / "torn.weights.h5").write_bytes(vgg_weights.read_bytes()[:100_000])
    (tmp_path / "torn.keras").write_bytes(b"rubbish")
    (tmp_path / "weights.txt").write_text("rubbish")
    wrong = sorted(path for path in tmp_path.iterdir() if path.is_file())
    assert len(wrong) == 9
    for path in wrong:
        with pytest.raises(TrainingError, match=f"{path.name} does not hold the weights of VGG-16.*notop"):
            models.train_model("vgg16_transfer", toy(), {**TRANSFER, "weights": str(path)}, 0, tmp_path / "state")
    with pytest.raises(TrainingError, match=r"no weights file .*nowhere\.h5"):
        models.train_model(
            "vgg16_paper", toy(), {**TRANSFER, "weights": str(tmp_path / "nowhere.h5")}, 0, tmp_path / "state"
        )


@pytest.mark.parametrize("name", ["vgg16_transfer", "vgg16_fine_tune", "vgg16_paper"])
def test_random_weights_are_refused_but_by_vgg16_scratch(name, tmp_path):
    with pytest.raises(UsageError, match=f"{name} cannot start from random weights.*vgg16_scratch"):
        models.train_model(name, toy(), {"weights": "none"}, 0, tmp_path)


OFFLINE = """
import sys
from tests.genre.models.test_vgg import TINY, toy
from genre import models
from genre.errors import TrainingError
try:
    models.train_model("vgg16_transfer", toy(), TINY, 0, sys.argv[1])
except TrainingError as error:
    print(error)
"""


def test_a_failed_download_of_imagenet_weights_says_where_to_put_them(tmp_path):
    no_network = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
    output = run(OFFLINE, tmp_path / "state", **no_network, KERAS_HOME=str(tmp_path / "keras"))
    assert f"put vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5 into {tmp_path}/keras/models" in output
    assert "vgg16_scratch" in output


def run(script, *arguments, **environment):
    """Output of a script in a process of its own, which can import the tests."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-c", script, *map(str, arguments)]
    completed = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def test_fine_tune_resumes_where_it_was_stopped(vgg_weights, pretrained, tmp_path):
    params = {**TRANSFER, "weights": str(vgg_weights), "head_epochs": 1, "epochs": 2, "learning_rate": 1e-5}
    epochs = []

    def interrupt(epoch, row):
        epochs.append(epoch)
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        models.train_model("vgg16_fine_tune", toy(), params, 1, tmp_path, interrupt)
    assert epochs == [1, 2, 3]
    params["weights"] = str(shutil.copy(vgg_weights, tmp_path / "moved.weights.h5"))
    model = models.train_model("vgg16_fine_tune", toy(), params, 1, tmp_path, lambda epoch, row: epochs.append(epoch))
    assert epochs == [1, 2, 3, 3]
    history = models.training_history("vgg16_fine_tune", tmp_path)
    assert list(history.index) == [1, 2, 3]
    np.testing.assert_allclose(history["learning_rate"], [1e-4, 1e-5, 1e-5])
    assert models.training_facts("vgg16_fine_tune", tmp_path)["base_weights_unchanged"] == "false"
    pairs = zip(vgg16_of(model).get_weights(), pretrained.get_weights(), strict=True)
    assert 0 < max(np.abs(a - b).max() for a, b in pairs) < 1e-3


KILLED = """
import sys
from tests.genre.models.test_vgg import FLAT, toy
from genre import models
models.train_model("feed_forward", toy(), FLAT, 3, sys.argv[1], lambda epoch, row: print(epoch, flush=True))
"""


def test_a_killed_training_resumes_with_the_same_result(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            if int(line) == 2:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    epochs_done = len(models.training_history("feed_forward", tmp_path / "killed"))
    assert 1 <= epochs_done < FLAT["epochs"]
    epochs = []
    resumed = models.train_model(
        "feed_forward", toy(), FLAT, 3, tmp_path / "killed", lambda epoch, row: epochs.append(epoch)
    )
    assert epochs == list(range(epochs_done + 1, FLAT["epochs"] + 1))
    whole = models.train_model("feed_forward", toy(), FLAT, 3, tmp_path / "whole")
    timings = ["seconds", "images_per_second"]
    pd.testing.assert_frame_equal(
        models.training_history("feed_forward", tmp_path / "killed").drop(columns=timings),
        models.training_history("feed_forward", tmp_path / "whole").drop(columns=timings),
    )
    X = toy().X_validation
    np.testing.assert_allclose(
        models.predict_proba("feed_forward", resumed, X), models.predict_proba("feed_forward", whole, X), atol=1e-6
    )


def test_class_weights_are_in_the_gradient(tmp_path):
    """One step of plain descent at rate 1 moves the weights by minus the gradient, which is known in closed form."""
    import keras

    from genre.models import keras_training

    data = toy(n=8)
    change = {}
    for weights in (None, np.array([0.5, 3.0])):
        model = keras.Sequential([keras.Input((24, 40), dtype="uint8"), keras.layers.Flatten()])
        model.add(keras.layers.Dense(2, activation="softmax", kernel_initializer="zeros"))
        model.compile(keras.optimizers.SGD(1.0), "categorical_crossentropy")
        model.fit(keras_training.ClipBatches(data.X_train, data.y_train, 2, 8, weights), verbose=0)
        change[weights is None] = model.layers[-1].get_weights()[1]
    error = np.eye(2)[data.y_train] - 0.5
    np.testing.assert_allclose(change[True], error.mean(axis=0), atol=1e-6)
    weighted = error * np.array([0.5, 3.0])[data.y_train][:, np.newaxis]
    np.testing.assert_allclose(change[False], weighted.mean(axis=0), atol=1e-6)
    assert np.sign(change[True][1]) != np.sign(change[False][1])


def test_class_weights_keep_the_prior(tmp_path):
    """On silent clips the weighted network learns equal probabilities, which are then shifted to the prior."""
    silent = toy(n=32)
    silent = replace(silent, X_train=np.zeros_like(silent.X_train), X_validation=np.zeros_like(silent.X_validation))
    params = {**FLAT, "epochs": 12, "learning_rate": 0.02, "dropout": 0.0, "class_weights": True}
    model = models.train_model("feed_forward", silent, params, 0, tmp_path)
    proba = models.predict_proba("feed_forward", model, silent.X_validation)
    np.testing.assert_allclose(proba, np.tile([0.75, 0.25], (8, 1)), atol=0.03)
    val_loss = models.training_history("feed_forward", tmp_path)["val_loss"].min()
    assert val_loss > np.log(2) - 0.01  # log 2 is that of two equally likely genres; the L2 penalty is added
    assert models.training_facts("feed_forward", tmp_path)["class_weights_applied"] == "true"
    plain = models.train_model("feed_forward", toy(), FLAT, 0, tmp_path / "plain")
    weighted = models.train_model("feed_forward", toy(), {**FLAT, "class_weights": True}, 0, tmp_path / "weighted")
    assert not same_weights(plain, weighted)


ALONE = """
import json, sys
import keras, numpy as np
model = keras.saving.load_model(sys.argv[1], compile=False, safe_mode=True)
assert "genre" not in sys.modules
print(json.dumps(np.asarray(model(np.load(sys.argv[2]))).tolist()))
"""


def test_saved_model_is_float32_and_needs_only_keras(transfer, tmp_path):
    model = transfer[1]
    X = toy().X_validation
    path = models.save_model("vgg16_transfer", model, tmp_path / "saved")
    loaded = models.load_model("vgg16_transfer", tmp_path / "saved")
    layers = [*loaded.layers, *vgg16_of(loaded).layers, *loaded.get_layer("head").layers]
    assert {layer.dtype_policy.name for layer in layers} == {"float32"}
    assert loaded.inputs[0].dtype == "uint8"
    proba = models.predict_proba("vgg16_transfer", model, X)
    np.testing.assert_allclose(models.predict_proba("vgg16_transfer", loaded, X), proba, atol=1e-6)
    np.save(tmp_path / "X.npy", X)
    alone = json.loads(run(ALONE, path, tmp_path / "X.npy", PYTHONPATH="").splitlines()[-1])
    np.testing.assert_allclose(alone, proba, atol=1e-6)


@pytest.mark.parametrize("limit", ["AVX2", "avx512_core"])
def test_a_cpu_without_bfloat16_trains_in_single_precision(monkeypatch, limit):
    from genre.models import devices

    if devices.detect_device() == "gpu":
        pytest.skip("there is a GPU, which has bfloat16")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert devices.choose_precision("auto") == "float32"


def test_the_precision_is_the_requested_one(vgg_layers, tmp_path):
    import keras

    from genre.models import devices

    is_limited = "ONEDNN_MAX_CPU_ISA" in os.environ
    is_newer_cpu = "avx512_bf16" in Path("/proc/cpuinfo").read_text() and not is_limited
    has_bfloat16 = is_newer_cpu or devices.detect_device() == "gpu"
    expected = {"float32": "float32", "auto": "mixed_bfloat16" if has_bfloat16 else "float32"}
    for precision, policy in expected.items():
        model = models.train_model(
            "feed_forward", toy(), {**FLAT, "epochs": 1, "precision": precision}, 0, tmp_path / precision
        )
        assert {layer.dtype_policy.name for layer in model.get_layer("head").layers} == {"float32"}
        assert models.training_facts("feed_forward", tmp_path / precision)["precision"] == policy
        hp = models.check_params("feed_forward", {**FLAT, "precision": precision})
        training = vgg_layers.NetworkTraining("feed_forward", toy(), 0, tmp_path, hp, None, (8, 32))
        trained = training.build_network(training.policy).get_layer("head").layers
        assert {layer.dtype_policy.name for layer in trained[:-1]} == {policy}
        assert trained[-1].dtype_policy.name == "float32"
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("vgg16_scratch", {"image_size": 31}),
        ("vgg16_fine_tune", {"head_epochs": 0}),
        ("vgg16_transfer", {"preprocessing": "none"}),
        ("vgg16_paper", {"precision": "float16"}),
        ("feed_forward", {"dropout": 1.0}),
        ("feed_forward", {"l2": -0.1}),
        ("feed_forward", {"learning_rate": 0.0}),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(name, wrong, tmp_path):
    with pytest.raises(UsageError, match=f"{name}: {next(iter(wrong))} must be"):
        models.train_model(name, toy(), wrong, 0, tmp_path)


def test_an_out_of_memory_error_names_the_batch_size_to_try(tmp_path):
    import keras

    from genre.models import keras_training

    stack = [keras.Input((24, 40), dtype="uint8"), keras.layers.Rescaling(1.0), keras.layers.Reshape((24, 40, 1))]
    stack += [keras.layers.UpSampling2D((1, 10**8)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
    model = keras.Sequential(stack)
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    with pytest.raises(TrainingError, match=r"out of memory with batch_size=8; try batch_size=4"):
        keras_training.train_network(model, toy(), tmp_path, key={"seed": 0}, epochs=1, batch_size=8, patience=1)


BACKEND = """
import sys, pathlib
import keras, numpy as np
from tests.genre.models.test_vgg import FLAT, toy
from genre import models
from genre.models import vgg, vgg_layers
hp = models.default_params("feed_forward") | FLAT | {"dropout": 0.0, "precision": "float32"}
training = vgg_layers.NetworkTraining("feed_forward", toy(), 0, pathlib.Path(sys.argv[1]), hp, None, (8, 4))
network = training.build_network("float32")
rng = np.random.default_rng(0)
head = network.get_layer("head")
head.set_weights([rng.normal(0, 0.1, w.shape) for w in head.get_weights()])
training.build_final_model(training.fit_network(network, None))
print(keras.backend.backend(), *models.training_history("feed_forward", sys.argv[1])["loss"])
"""


def test_backends_agree(tmp_path):
    installed = [backend for backend in ("tensorflow", "jax", "torch") if importlib.util.find_spec(backend)]
    if len(installed) < 2:
        pytest.skip(f"only {', '.join(installed)} is installed")
    losses = {}
    for backend in installed:
        name, *values = run(BACKEND, tmp_path / backend, KERAS_BACKEND=backend).splitlines()[-1].split()
        assert name == backend
        losses[backend] = np.array(values, float)
    for backend in losses:
        np.testing.assert_allclose(losses[backend], losses["tensorflow"], rtol=1e-3, err_msg=backend)


def test_no_backend_is_imported_directly():
    """So that a network that runs on TensorFlow runs on the other backends."""
    for module in ("vgg.py", "vgg_layers.py", "musicnn_layers.py", "devices.py", "keras_training.py"):
        text = (Path(vgg.__file__).parent / module).read_text()
        assert not {"import tensorflow", "import jax", "import torch"} & set(text.splitlines())
