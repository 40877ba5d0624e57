import numpy as np
import pytest
import skops.io
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from genre import models
from genre.errors import DataError, TrainingError
from genre.models import classical


def noisy(counts=(60, 60, 60), clips_per_recording=3, seed=0):
    """Genres that overlap, of unequal sizes; clips of a recording are alike."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(counts)), counts)
    recordings = np.concatenate([np.arange(n) // clips_per_recording + 1000 * k for k, n in enumerate(counts)])
    of_recording = {r: rng.normal(size=97) for r in np.unique(recordings)}
    X = np.stack([of_recording[r] for r in recordings]) + 0.3 * rng.normal(size=(len(y), 97))
    for code in range(len(counts)):
        X[y == code, code] += 2
    genres = [f"genre {k}" for k in range(len(counts))]
    return models.Data(genres, X.astype(np.float32), y, recordings.astype(str), X[::5].astype(np.float32), y[::5])


def test_defaults_are_the_papers():
    assert models.defaults("logistic_regression")["C"] == 1
    assert models.defaults("random_forest") == {"n_estimators": 500, "min_samples_split": 5}
    assert (models.defaults("svm")["C"], models.defaults("svm")["gamma"]) == (10000, pytest.approx(1 / 97))
    boosting = models.defaults("catboost")
    assert [boosting[k] for k in ("iterations", "depth", "learning_rate", "subsample")] == [500, 5, 0.1, 0.8]


@pytest.mark.parametrize("name", ["logistic_regression", "random_forest", "svm", "catboost"])
def test_parameters_reach_the_model(name, tmp_path):
    """A misspelt name was silently ignored in the published code."""
    data = noisy()
    given = {"logistic_regression": {"C": 0.5}, "svm": {"C": 3.0, "gamma": 0.02}, "random_forest": {"n_estimators": 9}}
    params = given.get(name, {"iterations": 9, "subsample": 0.5})
    model = models.train(name, data, params, 0, tmp_path)
    inside = model.get_all_params() if name == "catboost" else _innermost(model).get_params()
    assert {k: inside[k] for k in params} == params
    if name == "catboost":
        assert inside["bootstrap_type"] == "Bernoulli"
    if name == "svm":
        assert inside["class_weight"] == "balanced"


def _innermost(model):
    return (model if isinstance(model, Pipeline) else model.calibrated_classifiers_[0].estimator)["model"]


@pytest.mark.parametrize("name", ["logistic_regression", "random_forest", "svm", "catboost"])
def test_out_of_range(name, tmp_path):
    key = {"logistic_regression": "C", "random_forest": "n_estimators", "svm": "C", "catboost": "depth"}[name]
    with pytest.raises(TrainingError, match=key):
        models.train(name, noisy(), {key: -1}, 0, tmp_path)


@pytest.mark.parametrize("name", ["logistic_regression", "random_forest", "svm"])
def test_scaler_knows_training_clips_only(name, tmp_path):
    data = noisy()
    model = models.train(name, data, {"n_estimators": 5} if name == "random_forest" else {}, 0, tmp_path)
    pipeline = model if isinstance(model, Pipeline) else model.calibrated_classifiers_[0].estimator
    np.testing.assert_allclose(pipeline["scale"].data_max_, data.X_train.max(axis=0), rtol=1e-6)


def test_gain_of_a_feature_does_not_matter(tmp_path):
    """The scaler is inside: features in other units give the same probabilities."""
    data = noisy()
    scaled = models.Data(
        data.genres, data.X_train * 1000, data.y_train, data.recordings_train, data.X_validation, data.y_validation
    )
    a = models.train("svm", data, {"C": 10.0}, 0, tmp_path)
    b = models.train("svm", scaled, {"C": 10.0}, 0, tmp_path)
    np.testing.assert_allclose(
        models.predict_proba("svm", a, data.X_validation),
        models.predict_proba("svm", b, data.X_validation * 1000),
        atol=1e-3,
    )


def test_svm_keeps_the_prior_despite_its_weights(tmp_path):
    train, test = noisy((150, 60, 30)), noisy((150, 60, 30), seed=1)
    model = models.train("svm", train, {"C": 10.0}, 0, tmp_path)
    proba = models.predict_proba("svm", model, test.X_train)
    np.testing.assert_allclose(proba.mean(axis=0), np.array([150, 60, 30]) / 240, atol=0.07)
    assert roc_auc_score(test.y_train, proba, multi_class="ovr") > 0.75
    balanced = SVC(C=10.0, gamma=1 / 97, class_weight="balanced").fit(
        model.calibrated_classifiers_[0].estimator["scale"].transform(train.X_train), train.y_train
    )
    assert _innermost(model).class_weight_ == pytest.approx(balanced.class_weight_)
    assert _innermost(model).class_weight_[2] > _innermost(model).class_weight_[0]


def test_svm_folds_never_cut_a_recording_and_shrink_with_the_rarest_genre():
    data = noisy((60, 60, 9))
    folds = classical._folds(data, 5, 0)
    assert len(folds) == 3
    for fitted, held in folds:
        assert not set(data.recordings_train[fitted]) & set(data.recordings_train[held])
        assert set(data.y_train[fitted]) == {0, 1, 2}


def test_svm_with_one_recording_of_a_genre(tmp_path):
    with pytest.raises(TrainingError, match=r"two training recordings.*genre 2 has 1"):
        models.train("svm", noisy((30, 30, 3)), {}, 0, tmp_path)


def test_svm_does_not_save_the_training_clips_positions(tmp_path):
    assert models.train("svm", noisy(), {}, 0, tmp_path).cv is None


@pytest.mark.parametrize("name", ["logistic_regression", "random_forest", "svm", "catboost"])
def test_two_genres(name, tmp_path):
    data = noisy((30, 30))
    params = {"random_forest": {"n_estimators": 5}, "catboost": {"iterations": 5}}.get(name, {})
    proba = models.predict_proba(name, models.train(name, data, params, 0, tmp_path), data.X_validation)
    assert proba.shape == (12, 2)
    assert (proba.argmax(axis=1) == data.y_validation).mean() > 0.6


def test_catboost_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models.train("catboost", noisy(), {"iterations": 3}, 0, tmp_path / "state")
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
    assert not list((tmp_path / "state").iterdir())


def test_a_file_with_other_types_is_refused(tmp_path):
    """What would run code when loaded does not load."""
    import fractions

    skops.io.dump(fractions.Fraction(1, 3), tmp_path / "model.skops")
    with pytest.raises(DataError, match=r"not loaded.*Fraction"):
        models.load("random_forest", tmp_path)


def test_trusted_types_are_those_needed(tmp_path):
    for name, trusted in classical.TRUSTED.items():
        params = {"n_estimators": 5} if name == "random_forest" else {}
        path = models.save(name, models.train(name, noisy(), params, 0, tmp_path), tmp_path)
        assert sorted(skops.io.get_untrusted_types(file=path)) == sorted(trusted)
