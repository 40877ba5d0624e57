import os
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
import skops.io
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC

from genre import models
from genre.errors import DataError, TrainingError, UsageError
from genre.models import classical
from tests.support.project import ROOT


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
    return models.TrainingData(
        genres, X.astype(np.float32), y, recordings.astype(str), X[::5].astype(np.float32), y[::5]
    )


def test_defaults_are_the_papers():
    assert models.default_params("logistic_regression")["C"] == 1
    assert models.default_params("random_forest") == {"n_estimators": 500, "min_samples_split": 5}
    assert (models.default_params("svm")["C"], models.default_params("svm")["gamma"]) == (10000, pytest.approx(1 / 97))
    boosting = models.default_params("catboost")
    assert [boosting[k] for k in ("iterations", "depth", "learning_rate", "subsample")] == [500, 5, 0.1, 0.8]


@pytest.mark.parametrize("name", ["logistic_regression", "random_forest", "svm", "catboost"])
def test_parameters_reach_the_model(name, tmp_path):
    """A misspelt name was silently ignored in the published code."""
    data = noisy()
    given = {"logistic_regression": {"C": 0.5}, "svm": {"C": 3.0, "gamma": 0.02}, "random_forest": {"n_estimators": 9}}
    params = given.get(name, {"iterations": 9, "subsample": 0.5})
    model = models.train_model(name, data, params, 0, tmp_path)
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
        models.train_model(name, noisy(), {key: -1}, 0, tmp_path)


@pytest.mark.parametrize("name", ["logistic_regression", "random_forest", "svm"])
def test_scaler_knows_training_clips_only(name, tmp_path):
    data = noisy()
    model = models.train_model(name, data, {"n_estimators": 5} if name == "random_forest" else {}, 0, tmp_path)
    pipeline = model if isinstance(model, Pipeline) else model.calibrated_classifiers_[0].estimator
    np.testing.assert_allclose(pipeline["scale"].data_max_, data.X_train.max(axis=0), rtol=1e-6)


def test_gain_of_a_feature_does_not_matter(tmp_path):
    """The scaler is inside: features in other units give the same probabilities."""
    data = noisy()
    scaled = models.TrainingData(
        data.genres, data.X_train * 1000, data.y_train, data.recordings_train, data.X_validation, data.y_validation
    )
    a = models.train_model("svm", data, {"C": 10.0}, 0, tmp_path)
    b = models.train_model("svm", scaled, {"C": 10.0}, 0, tmp_path)
    np.testing.assert_allclose(
        models.predict_proba("svm", a, data.X_validation),
        models.predict_proba("svm", b, data.X_validation * 1000),
        atol=1e-3,
    )


def test_svm_keeps_the_prior_despite_its_weights(tmp_path):
    train, test = noisy((150, 60, 30)), noisy((150, 60, 30), seed=1)
    model = models.train_model("svm", train, {"C": 10.0}, 0, tmp_path)
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
    folds = classical._calibration_folds(data, 5, 0)
    assert len(folds) == 3
    for fitted, held in folds:
        assert not set(data.recordings_train[fitted]) & set(data.recordings_train[held])
        assert set(data.y_train[fitted]) == {0, 1, 2}


def test_svm_with_one_recording_of_a_genre(tmp_path):
    with pytest.raises(TrainingError, match=r"two training recordings.*genre 2 has 1"):
        models.train_model("svm", noisy((30, 30, 3)), {}, 0, tmp_path)


def test_svm_does_not_save_the_training_clips_positions(tmp_path):
    assert models.train_model("svm", noisy(), {}, 0, tmp_path).cv is None


def test_svm_is_calibrated_on_five_folds_or_on_two_of_many_clips(tmp_path, monkeypatch):
    models.train_model("svm", noisy(), {"C": 10.0}, 0, tmp_path / "few")
    assert models.training_facts("svm", tmp_path / "few")["calibration_folds"] == "5"
    monkeypatch.setattr(classical, "MIN_CLIPS_TWO_FOLDS", 180)
    models.train_model("svm", noisy(), {"C": 10.0}, 0, tmp_path / "many")
    assert models.training_facts("svm", tmp_path / "many")["calibration_folds"] == "2"
    models.train_model("svm", noisy(), {"C": 10.0, "n_folds": 3}, 0, tmp_path / "asked")
    assert models.training_facts("svm", tmp_path / "asked")["calibration_folds"] == "3"


def test_two_folds_calibrate_as_well_as_five(tmp_path):
    """The machine is the same, so that its order of clips hardly moves."""
    train, test = noisy((300, 200, 100), clips_per_recording=1), noisy((300, 200, 100), 1, seed=1)
    proba = {
        n: models.predict_proba("svm", models.train_model("svm", train, {"n_folds": n}, 0, tmp_path), test.X_train)
        for n in (2, 5)
    }
    auc = {n: roc_auc_score(test.y_train, p, multi_class="ovr") for n, p in proba.items()}
    loss = {n: log_loss(test.y_train, p) for n, p in proba.items()}
    assert auc[5] > 0.75
    assert auc[2] == pytest.approx(auc[5], abs=0.005)
    # of so few clips; from `LARGE` on the two are the same
    assert loss[2] == pytest.approx(loss[5], rel=0.05)


@pytest.mark.parametrize(("asked", "raised"), [("gpu", UsageError), ("scikit-learn-intelex", TrainingError)])
def test_an_engine_that_is_not_there(asked, raised, tmp_path, monkeypatch):
    monkeypatch.setattr(classical, "find_spec", lambda name: None)
    with pytest.raises(raised, match=asked):
        models.train_model("svm", noisy(), {"engine": asked}, 0, tmp_path)


def test_the_engine_is_scikit_learn_unless_there_is_much_to_do(tmp_path):
    models.train_model("svm", noisy(), {"C": 10.0}, 0, tmp_path)
    assert models.training_facts("svm", tmp_path)["engine"] == f"scikit-learn {version('scikit-learn')}"
    models.train_model("logistic_regression", noisy(), {}, 0, tmp_path / "other")
    assert models.training_facts("logistic_regression", tmp_path / "other") == {}


@pytest.fixture
def accelerator():
    """The module of the extra 'accelerated'."""
    return pytest.importorskip("sklearnex.svm", reason="the extra 'accelerated' is not installed")


@pytest.mark.parametrize("counts", [(60, 60), (90, 60, 30), (40, 30, 20, 20)])
def test_what_the_accelerator_fitted_is_scikit_learns(counts, accelerator, tmp_path, monkeypatch):
    """Same probabilities, and a file that needs the accelerator neither to be loaded nor to predict."""
    data = noisy(counts)
    plain = models.train_model("svm", data, {"engine": "scikit-learn"}, 0, tmp_path)
    monkeypatch.setattr(classical, "MIN_CLIPS_INTELEX", len(data.y_train))
    fast = models.train_model("svm", data, {}, 0, tmp_path)
    engine = f"scikit-learn-intelex {version('scikit-learn-intelex')}"
    assert models.training_facts("svm", tmp_path) == {"engine": engine, "calibration_folds": "5"}
    assert type(_innermost(fast)) is type(fast.estimator["model"]) is SVC
    proba = models.predict_proba("svm", fast, data.X_validation)
    np.testing.assert_allclose(proba, models.predict_proba("svm", plain, data.X_validation), atol=5e-3)

    models.save_model("svm", fast, tmp_path)
    assert sorted(skops.io.get_untrusted_types(file=tmp_path / "model.skops")) == sorted(classical.TRUSTED_TYPES["svm"])
    np.save(tmp_path / "X.npy", data.X_validation)
    code = (
        "import sys; sys.modules['sklearnex'] = sys.modules['daal4py'] = sys.modules['onedal'] = None\n"
        "import numpy as np; from genre import models\n"
        f"folder = {str(tmp_path)!r}; model = models.load('svm', folder)\n"
        "np.save(folder + '/proba.npy', models.predict_proba('svm', model, np.load(folder + '/X.npy')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    np.testing.assert_allclose(np.load(tmp_path / "proba.npy"), proba, rtol=0, atol=1e-12)


@pytest.mark.parametrize("counts", [(60, 60), (90, 60, 30)])
def test_the_accelerators_machine_decides_as_the_accelerator_does(counts, accelerator):
    data, options = noisy(counts), {"C": 100.0, "gamma": 1 / 97, "class_weight": "balanced"}
    X, probe = data.X_train.astype(np.float64), noisy(counts, seed=3).X_train.astype(np.float64)
    theirs = accelerator.SVC(**options).fit(X, data.y_train)
    ours = classical._as_plain_svc(classical._IntelexSVC(**options).fit(X, data.y_train))
    np.testing.assert_allclose(ours.decision_function(probe), theirs.decision_function(probe), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(ours.n_support_, theirs.n_support_)


def test_the_accelerator_on_columns_with_long_tails(accelerator):
    """Such as kurtosis has; on the like its own decisions were wrong, and those of the machine it fitted were not."""
    rng = np.random.default_rng(0)
    F = rng.normal(size=(1500, 30))
    X = np.expm1(0.8 * (F @ rng.normal(size=(30, 97)) / 30**0.5 + 0.4 * rng.normal(size=(1500, 97))))
    X = MinMaxScaler().fit_transform(X)
    y = (F @ rng.normal(size=(30, 3)) + rng.gumbel(size=(1500, 3))).argmax(axis=1)
    options = {"C": 10000.0, "gamma": 1 / 97, "class_weight": "balanced", "decision_function_shape": "ovo"}
    plain, fast = SVC(**options).fit(X[:700], y[:700]), classical._IntelexSVC(**options).fit(X[:700], y[:700])
    np.testing.assert_allclose(fast.decision_function(X[700:]), plain.decision_function(X[700:]), atol=0.05)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_threads_keep_to_the_cores_allowed(tmp_path):
    """As joblib counts them, for the forest too: by affinity and control group."""
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "import numpy as np; import catboost; from genre import models\n"
        "seen = []; real = catboost.CatBoostClassifier.fit\n"
        "catboost.CatBoostClassifier.fit = lambda self, *a: (seen.append(self.get_params()['thread_count']),"
        " real(self, *a))[1]\n"
        "X, y = np.random.default_rng(0).random((20, 97), dtype='f4'), np.arange(20) % 2\n"
        "data = models.TrainingData(['a', 'b'], X, y, y.astype(str), X, y)\n"
        f"models.train_model('catboost', data, {{'iterations': 2}}, 0, {str(tmp_path)!r}); print(seen)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[1]"


@pytest.mark.parametrize("name", ["logistic_regression", "random_forest", "svm", "catboost"])
def test_two_genres(name, tmp_path):
    data = noisy((30, 30))
    params = {"random_forest": {"n_estimators": 5}, "catboost": {"iterations": 5}}.get(name, {})
    proba = models.predict_proba(name, models.train_model(name, data, params, 0, tmp_path), data.X_validation)
    assert proba.shape == (12, 2)
    assert (proba.argmax(axis=1) == data.y_validation).mean() > 0.6


def test_catboost_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models.train_model("catboost", noisy(), {"iterations": 3}, 0, tmp_path / "state")
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
    assert not list((tmp_path / "state").iterdir())


def test_a_file_with_other_types_is_refused(tmp_path):
    """What would run code when loaded does not load."""
    import fractions

    skops.io.dump(fractions.Fraction(1, 3), tmp_path / "model.skops")
    with pytest.raises(DataError, match=r"not loaded.*Fraction"):
        models.load_model("random_forest", tmp_path)


def test_trusted_types_are_those_needed(tmp_path):
    for name, trusted in classical.TRUSTED_TYPES.items():
        params = {"n_estimators": 5} if name == "random_forest" else {}
        path = models.save_model(name, models.train_model(name, noisy(), params, 0, tmp_path), tmp_path)
        assert sorted(skops.io.get_untrusted_types(file=path)) == sorted(trusted)
