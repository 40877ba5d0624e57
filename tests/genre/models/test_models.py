"""Contract of every model in the registry."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from genre import models
from genre.errors import DataError, TrainingError, UsageError
from genre.inputs import is_vector
from genre.inputs.musicnn import save_weights
from tests.support.network import sparse_weights

GENRES = ["Dub", "Choir", "Surf rock"]
#: Small enough for seconds, large enough to learn the toy.
SMALL = {"image_size": 32, "units": 16, "batch_size": 6, "precision": "float32", "preprocessing": "paper"}
FAST = {
    "random_forest": {"n_estimators": 20},
    "catboost": {"iterations": 30, "depth": 3},
    "mel_cnn": {"epochs": 6, "width": 4, "learning_rate": 0.01, "batch_size": 6},
    "musicnn_fine_tune": {"epochs": 1, "learning_rate": 1e-5, "head_learning_rate": 1e-2, "batch_size": 6},
    "vgg16_transfer": {
        **SMALL,
        "image_size": 64,
        "units": 64,
        "epochs": 6,
        "learning_rate": 1e-3,
        "dropout": 0.0,
    },
    "vgg16_fine_tune": {
        **SMALL,
        "image_size": 64,
        "units": 64,
        "epochs": 1,
        "learning_rate": 1e-6,
        "head_epochs": 6,
        "head_learning_rate": 1e-3,
        "dropout": 0.0,
    },
    "vgg16_paper": {**SMALL, "units": 64, "epochs": 4, "learning_rate": 1e-4, "dropout": 0.0},
    "vgg16_scratch": {**SMALL, "units": 64, "epochs": 6, "learning_rate": 1e-4, "dropout": 0.0},
    "feed_forward": {**SMALL, "epochs": 6, "learning_rate": 1e-3},
}
#: Trained once here, like the others; more often only in the tests marked slow.
LARGE = ("vgg16_fine_tune", "vgg16_paper", "vgg16_scratch")


def toy(name, order=(0, 1, 2), seed=0):
    """Clips with an obvious genre: three features of its own, or a band of the spectrogram of its own."""
    rng = np.random.default_rng(seed)
    kind = np.tile([0, 1, 2], 16)
    if is_vector(models.get_model(name).input_names[0]):
        X = rng.normal(size=(48, 97)).astype(np.float32)
        for k in range(3):
            X[kind == k, 3 * k : 3 * k + 3] += 4
    elif models.get_model(name).input_names == ("musicnn_mel",):
        X = rng.uniform(0, 2, (48, 200, 96)).astype(np.float16)
        for k in range(3):
            X[kind == k, :, 30 * k : 30 * k + 30] += 2
    else:
        X = rng.integers(0, 120, (48, 96, 431), dtype=np.uint8)
        for k in range(3):
            X[kind == k, 30 * k : 30 * k + 30] += 120
    y = np.asarray(order)[kind]
    recordings = np.array([f"{k}-{i // 6}" for i, k in enumerate(kind)])
    genres = [GENRES[order.index(code)] for code in range(3)]
    return models.TrainingData(genres, X[:36], y[:36], recordings[:36], X[36:], y[36:])


@pytest.fixture(scope="module")
def params(vgg_weights, tmp_path_factory):
    """Hyper-parameters of a model for the toy."""
    musicnn_weights = tmp_path_factory.mktemp("musicnn") / "weights.npz"
    save_weights(musicnn_weights, sparse_weights())
    files = {"imagenet": vgg_weights, "": musicnn_weights}

    def get(name):
        weights = models.default_params(name).get("weights")
        return FAST.get(name, {}) | ({} if weights is None else {"weights": str(files[weights])})

    return get


@pytest.fixture(scope="module")
def trained(tmp_path_factory, params):
    """Each model trained once, for the tests that only look at it."""
    results = {}

    def get(name):
        if name not in results:
            directory = tmp_path_factory.mktemp(name)
            results[name] = models.train_model(name, toy(name), params(name), 7, directory), directory
        return results[name]

    return get


every_model = pytest.mark.parametrize("name", models.model_names())
every_model_again = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in models.model_names()]
)


@every_model
def test_probabilities(name, trained):
    data = toy(name)
    proba = models.predict_proba(name, trained(name)[0], data.X_validation)
    assert proba.shape == (12, 3)
    assert proba.dtype == np.float64
    assert (proba >= 0).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-12)
    assert (proba.argmax(axis=1) == data.y_validation).mean() > 0.8
    np.testing.assert_allclose(
        models.predict_proba(name, trained(name)[0], data.X_validation[3:4]), proba[3:4], atol=1e-5
    )


@every_model
def test_a_loaded_model_predicts_like_the_saved_one(name, trained, tmp_path):
    model = trained(name)[0]
    X = toy(name).X_validation
    path = models.save_model(name, model, tmp_path / "new")
    assert [p.name for p in (tmp_path / "new").iterdir()] == [path.name] == [models.get_model(name).file_name]
    loaded = models.load_model(name, tmp_path / "new")
    np.testing.assert_allclose(
        models.predict_proba(name, loaded, X), models.predict_proba(name, model, X), rtol=0, atol=1e-12
    )


def test_a_model_is_on_the_disk_before_it_gets_its_name(trained, tmp_path, monkeypatch):
    """After a power failure there was a finished training with an empty model."""
    path = tmp_path / "new" / models.get_model("svm").file_name
    synced = []
    monkeypatch.setattr(models, "sync_to_disk", lambda synced_path: synced.append((synced_path.name, path.exists())))
    assert models.save_model("svm", trained("svm")[0], tmp_path / "new") == path
    assert synced == [(f"partial-{path.name}", False), ("new", True)]


@every_model_again
def test_the_same_seed_gives_the_same_model(name, trained, params, tmp_path):
    again = models.train_model(name, toy(name), params(name), 7, tmp_path)
    X = toy(name).X_validation
    np.testing.assert_array_equal(models.predict_proba(name, again, X), models.predict_proba(name, trained(name)[0], X))


@every_model_again
def test_the_order_of_genres_only_permutes_the_columns(name, trained, params, tmp_path):
    permuted = toy(name, order=(2, 0, 1))
    model = models.train_model(name, permuted, params(name), 7, tmp_path)
    proba = models.predict_proba(name, model, permuted.X_validation)
    table = pd.DataFrame(proba, columns=permuted.genres)[GENRES].to_numpy()
    reference = models.predict_proba(name, trained(name)[0], permuted.X_validation)
    assert (table.argmax(axis=1) == reference.argmax(axis=1)).mean() > 0.8


@every_model
def test_hyper_parameters_are_checked(name):
    defaults = models.default_params(name)
    assert defaults
    assert models.check_params(name, {}) == defaults
    key, value = next((k, v) for k, v in defaults.items() if isinstance(v, int | float))
    assert models.check_params(name, {key: value + 1}) == defaults | {key: value + 1}
    with pytest.raises(UsageError, match="numberof_trees.*" + min(defaults)):
        models.check_params(name, {"numberof_trees": 1})
    for wrong in ("1", True, None, [1]):
        with pytest.raises(UsageError, match=key):
            models.check_params(name, {key: wrong})


@every_model
def test_a_genre_without_training_clips_is_refused(name, params, tmp_path):
    data = toy(name)
    without_choir = models.TrainingData(
        data.genres,
        data.X_train[data.y_train != 1],
        data.y_train[data.y_train != 1],
        data.recordings_train[data.y_train != 1],
        data.X_validation,
        data.y_validation,
    )
    with pytest.raises(TrainingError, match="Choir"):
        models.train_model(name, without_choir, params(name), 0, tmp_path)


@every_model
def test_importances_name_the_features(name, trained):
    columns = [f"feature {i}" for i in range(97)]
    values = models.feature_importances(name, trained(name)[0], columns)
    model = models.get_model(name)
    if "svm" in (name, model.trainer) or not is_vector(model.input_names[0]):
        assert values is None
        return
    assert sorted(values.index) == sorted(columns)
    assert values.is_monotonic_decreasing
    assert set(values.index[:3]) <= set(columns[:9])
    if "logistic_regression" not in (name, model.trainer):
        assert values.sum() == pytest.approx(1)


@every_model
def test_a_missing_or_damaged_file_is_refused(name, tmp_path):
    with pytest.raises(DataError, match="train it first"):
        models.load_model(name, tmp_path)
    (tmp_path / models.get_model(name).file_name).write_bytes(b"rubbish")
    with pytest.raises(DataError, match=models.get_model(name).file_name):
        models.load_model(name, tmp_path)


@every_model
def test_the_registry_entry_is_complete(name):
    model = models.get_model(name)
    assert model.name == name
    assert all(name in models.model_names(input_name) for input_name in model.input_names)
    assert models.model_requirements(name)


def test_an_unknown_model_is_refused():
    with pytest.raises(
        UsageError, match=r"unknown model 'vgg19'; choose from catboost, feed_forward, logistic_regression"
    ):
        models.get_model("vgg19")


def test_model_names_are_filtered_by_input_and_speed():
    assert models.model_names() == list(models.MODELS)
    assert set(models.model_names(fast=True)) | set(models.model_names(fast=False)) == set(models.MODELS)
    assert models.model_names("spectrograms", fast=True) == ["mel_cnn"]
    assert models.model_names("embeddings") == ["logistic_regression_embeddings", "svm_embeddings", "svm_all_inputs"]
    taken = {name for entry in models.MODELS.values() for name in entry.input_names}
    assert {name for input_name in taken for name in models.model_names(input_name)} == set(models.MODELS)


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("", "sklearn catboost keras tensorflow"),
        ("; models.default_params('catboost')", "keras tensorflow"),
        ("; models.default_params('mel_cnn')", "sklearn catboost keras tensorflow"),
        ("; models.default_params('vgg16_transfer')", "sklearn catboost keras tensorflow"),
    ],
)
def test_libraries_are_imported_when_needed(code, absent):
    script = f"import sys; from genre import models{code}; print(*(set({absent.split()!r}) & set(sys.modules)))"
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == ""
