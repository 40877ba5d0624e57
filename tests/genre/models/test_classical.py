import os
import subprocess
import sys
from dataclasses import replace
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
from genre.models import classical, vgg
from tests.support.project import ROOT


def overlapping_genres(counts=(60, 60, 60), clips_per_recording=3, seed=0):
    """Features of genres that overlap, of the given sizes; clips of one recording are similar."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(counts)), counts)
    recordings = np.concatenate([np.arange(n) // clips_per_recording + 1000 * k for k, n in enumerate(counts)])
    means = {r: rng.normal(size=97) for r in np.unique(recordings)}
    X = np.stack([means[r] for r in recordings]) + 0.3 * rng.normal(size=(len(y), 97))
    for code in range(len(counts)):
        X[y == code, code] += 2
    genres = [f"genre {k}" for k in range(len(counts))]
    return models.TrainingData(
        genres, X.astype(np.float32), y, recordings.astype(str), X[::5].astype(np.float32), y[::5]
    )


def test_the_variant_paper_has_the_hyper_parameters_of_the_paper():
    published = {name: models.default_params(name, "paper") for name in models.model_names("features")}
    assert published["logistic_regression"]["C"] == 1
    assert published["random_forest"] == {"n_estimators": 500, "min_samples_split": 5}
    assert (published["svm"]["C"], published["svm"]["gamma"]) == (10000, pytest.approx(1 / 97))
    boosting = [published["catboost"][k] for k in ("iterations", "depth", "learning_rate", "subsample", "rsm")]
    assert boosting == [500, 5, 0.1, 0.8, 1]
    assert {published[name]["scaling"] for name in ("logistic_regression", "svm")} == {"minmax"}
    assert models.check_params("svm", {"C": 3.0}, "paper") == published["svm"] | {"C": 3.0}
    assert models.check_params("svm", {"C": 3.0}) == models.default_params("svm") | {"C": 3.0}


@pytest.mark.parametrize("name", ["vgg16_transfer", "vgg16_fine_tune", "vgg16_paper", "vgg16_scratch", "feed_forward"])
def test_the_variant_paper_has_the_published_settings_of_networks(name):
    published = models.default_params(name, "paper")
    expected = {"preprocessing": "paper", "colours": "jet", "image_size": 216, "learning_rate": 1e-5, "batch_size": 32}
    assert published.items() >= (expected | {"epochs": 10, "units": 512, "dropout": 0.3, "l2": 0.001}).items()
    assert published.get("head_learning_rate", 1e-5) == 1e-5


def test_only_hyper_parameters_that_exist_differ_in_the_paper():
    for name, params in (classical.PAPER_PARAMS | vgg.PAPER_PARAMS).items():
        defaults = models.default_params(name)
        assert models.check_params(name, params) == defaults | params != defaults


@pytest.mark.parametrize("name", ["logistic_regression", "random_forest", "svm", "catboost"])
def test_parameters_reach_the_model(name, tmp_path):
    """In the published code a misspelt name was silently ignored."""
    data = overlapping_genres()
    params = {
        "logistic_regression": {"C": 0.5},
        "random_forest": {"n_estimators": 9},
        "svm": {"C": 3.0, "gamma": 0.02},
        "catboost": {"iterations": 9, "subsample": 0.5},
    }[name]
    model = models.train_model(name, data, params, 0, tmp_path)
    inside = model.get_all_params() if name == "catboost" else _innermost(model).get_params()
    assert {k: inside[k] for k in params} == params
    if name == "catboost":
        assert inside["bootstrap_type"] == "Bernoulli"
    if name == "svm":
        assert inside["class_weight"] == "balanced"


def _pipeline(model):
    return model if isinstance(model, Pipeline) else classical._calibrated_pipeline(model)


def _innermost(model):
    return _pipeline(model)["model"]


@pytest.mark.parametrize("name", ["logistic_regression", "random_forest", "svm", "catboost"])
def test_hyper_parameters_out_of_range_are_refused(name, tmp_path):
    key = {"logistic_regression": "C", "random_forest": "n_estimators", "svm": "C", "catboost": "depth"}[name]
    with pytest.raises(TrainingError, match=key):
        models.train_model(name, overlapping_genres(), {key: -1}, 0, tmp_path)


@pytest.mark.parametrize("variant", ["corrected", "paper"])
@pytest.mark.parametrize("name", ["logistic_regression", "random_forest", "svm"])
def test_the_scaler_is_fitted_on_training_clips_only(name, variant, tmp_path):
    data = overlapping_genres()
    params = models.default_params(name, variant) | ({"n_estimators": 5} if name == "random_forest" else {})
    scaled = _pipeline(models.train_model(name, data, params, 0, tmp_path))["scale"].transform(data.X_train)
    if variant == "paper" or name == "random_forest":
        np.testing.assert_allclose([scaled.min(axis=0), scaled.max(axis=0)], [[0] * 97, [1] * 97], atol=1e-6)
    else:
        np.testing.assert_allclose([scaled.mean(axis=0), scaled.std(axis=0)], [[0] * 97, [1] * 97], atol=1e-6)


@pytest.mark.parametrize("params", [{"scaling": "log"}, {"calibration": "isotonic"}])
def test_a_scaling_or_calibration_that_is_unknown_is_refused(params, tmp_path):
    with pytest.raises(UsageError, match=r"unknown .*; choose from"):
        models.train_model("svm", overlapping_genres(), params, 0, tmp_path)


@pytest.mark.parametrize("name", ["logistic_regression", "random_forest", "svm", "catboost"])
def test_any_number_of_columns_will_do_one_of_them_constant(name, tmp_path):
    data = overlapping_genres()
    wide = np.hstack([data.X_train, data.X_train**2, np.ones((len(data.y_train), 1), np.float32)])
    params = {"random_forest": {"n_estimators": 20}, "catboost": {"iterations": 20}}.get(name, {})
    model = models.train_model(name, replace(data, X_train=wide, X_validation=wide[::5]), params, 0, tmp_path)
    assert (models.predict_proba(name, model, wide[::5]).argmax(axis=1) == data.y_validation).mean() > 0.8
    if name == "svm":
        assert _innermost(model).gamma == pytest.approx(1 / 194)
        scaled = _pipeline(model)["scale"].transform(wide)
        assert SVC(gamma="scale").fit(scaled, data.y_train)._gamma == pytest.approx(1 / 194, rel=1e-6)


def test_the_unit_of_a_feature_does_not_matter(tmp_path):
    """The scaler is part of the model, so features in other units give the same probabilities."""
    data = overlapping_genres()
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
    train = overlapping_genres((150, 60, 30))
    test = overlapping_genres((150, 60, 30), seed=1)
    model = models.train_model("svm", train, {"C": 10.0}, 0, tmp_path)
    proba = models.predict_proba("svm", model, test.X_train)
    np.testing.assert_allclose(proba.mean(axis=0), np.array([150, 60, 30]) / 240, atol=0.07)
    assert roc_auc_score(test.y_train, proba, multi_class="ovr") > 0.75
    scaled = _pipeline(model)["scale"].transform(train.X_train)
    balanced = SVC(C=10.0, gamma=1 / 97, class_weight="balanced").fit(scaled, train.y_train)
    assert _innermost(model).class_weight_ == pytest.approx(balanced.class_weight_)
    assert _innermost(model).class_weight_[2] > _innermost(model).class_weight_[0]


def test_the_size_of_the_decisions_counts_and_not_only_who_wins(tmp_path):
    """The calibration of the published code sees little more than votes."""
    train = overlapping_genres((90,) * 4)
    test = overlapping_genres((90,) * 4, seed=1)
    auc = {}
    for calibration in ("pair", "genre"):
        model = models.train_model("svm", train, {"calibration": calibration}, 0, tmp_path)
        auc[calibration] = roc_auc_score(
            test.y_train, models.predict_proba("svm", model, test.X_train), multi_class="ovr"
        )
    assert auc["pair"] > auc["genre"] + 0.01


def test_svm_folds_never_divide_a_recording_and_are_fewer_with_a_rare_genre():
    data = overlapping_genres((60, 60, 9))
    folds = classical._calibration_folds(data, 5, 0)
    assert len(folds) == 3
    for fitted, held in folds:
        assert not set(data.recordings_train[fitted]) & set(data.recordings_train[held])
        assert set(data.y_train[fitted]) == {0, 1, 2}


def test_svm_refuses_a_genre_of_one_recording(tmp_path):
    with pytest.raises(TrainingError, match=r"two training recordings.*genre 2 has 1"):
        models.train_model("svm", overlapping_genres((30, 30, 3)), {}, 0, tmp_path)


def test_svm_does_not_save_the_training_clips_positions(tmp_path):
    assert models.train_model("svm", overlapping_genres(), {}, 0, tmp_path).cv is None


def test_svm_is_calibrated_on_five_folds_or_on_two_of_many_clips(tmp_path, monkeypatch):
    models.train_model("svm", overlapping_genres(), {"C": 10.0}, 0, tmp_path / "few")
    assert models.training_facts("svm", tmp_path / "few")["calibration_folds"] == "5"
    monkeypatch.setattr(classical, "MIN_CLIPS_TWO_FOLDS", 180)
    models.train_model("svm", overlapping_genres(), {"C": 10.0}, 0, tmp_path / "many")
    assert models.training_facts("svm", tmp_path / "many")["calibration_folds"] == "2"
    models.train_model("svm", overlapping_genres(), {"C": 10.0, "n_folds": 3}, 0, tmp_path / "asked")
    assert models.training_facts("svm", tmp_path / "asked")["calibration_folds"] == "3"


def test_two_folds_calibrate_as_well_as_five(tmp_path):
    """The SVC is the same, so the ranking of the clips hardly changes."""
    train = overlapping_genres((300, 200, 100), clips_per_recording=1)
    test = overlapping_genres((300, 200, 100), clips_per_recording=1, seed=1)
    proba = {
        n: models.predict_proba("svm", models.train_model("svm", train, {"n_folds": n}, 0, tmp_path), test.X_train)
        for n in (2, 5)
    }
    auc = {n: roc_auc_score(test.y_train, p, multi_class="ovr") for n, p in proba.items()}
    loss = {n: log_loss(test.y_train, p) for n, p in proba.items()}
    assert auc[5] > 0.75
    assert auc[2] == pytest.approx(auc[5], abs=0.005)
    # with so few clips; from `MIN_CLIPS_TWO_FOLDS` clips on both are equal
    assert loss[2] == pytest.approx(loss[5], rel=0.05)


@pytest.mark.parametrize(("engine", "raised"), [("gpu", UsageError), ("scikit-learn-intelex", TrainingError)])
def test_an_engine_that_is_unknown_or_not_installed_is_refused(engine, raised, tmp_path, monkeypatch):
    monkeypatch.setattr(classical, "find_spec", lambda name: None)
    with pytest.raises(raised, match=engine):
        models.train_model("svm", overlapping_genres(), {"engine": engine}, 0, tmp_path)


def test_the_engine_is_scikit_learn_for_few_clips(tmp_path):
    models.train_model("svm", overlapping_genres(), {"C": 10.0}, 0, tmp_path)
    assert models.training_facts("svm", tmp_path)["engine"] == f"scikit-learn {version('scikit-learn')}"
    models.train_model("logistic_regression", overlapping_genres(), {}, 0, tmp_path / "other")
    assert models.training_facts("logistic_regression", tmp_path / "other") == {}


@pytest.fixture
def accelerator():
    """Module of the extra 'accelerated'."""
    return pytest.importorskip("sklearnex.svm", reason="the extra 'accelerated' is not installed")


@pytest.mark.parametrize("variant", ["corrected", "paper"])
@pytest.mark.parametrize("counts", [(60, 60), (90, 60, 30), (40, 30, 20, 20)])
def test_a_model_fitted_by_the_accelerator_is_scikit_learns(counts, variant, accelerator, tmp_path, monkeypatch):
    """Same probabilities, and a file that needs the accelerator neither to be loaded nor to predict."""
    data = overlapping_genres(counts)
    params = models.default_params("svm", variant)
    plain = models.train_model("svm", data, params | {"engine": "scikit-learn"}, 0, tmp_path)
    monkeypatch.setattr(classical, "MIN_CLIPS_INTELEX", len(data.y_train))
    fast = models.train_model("svm", data, params, 0, tmp_path)
    engine = f"scikit-learn-intelex {version('scikit-learn-intelex')}"
    assert models.training_facts("svm", tmp_path) == {"engine": engine, "calibration_folds": "5"}
    assert type(_innermost(fast)) is type(fast.estimator["model"]) is SVC
    proba = models.predict_proba("svm", fast, data.X_validation)
    np.testing.assert_allclose(proba, models.predict_proba("svm", plain, data.X_validation), atol=5e-3)

    models.save_model("svm", fast, tmp_path)
    assert set(skops.io.get_untrusted_types(file=tmp_path / "model.skops")) <= set(classical.TRUSTED_TYPES["svm"])
    np.save(tmp_path / "X.npy", data.X_validation)
    code = (
        "import sys; sys.modules['sklearnex'] = sys.modules['daal4py'] = sys.modules['onedal'] = None\n"
        "import numpy as np; from genre import models\n"
        f"folder = {str(tmp_path)!r}; model = models.load_model('svm', folder)\n"
        "np.save(folder + '/proba.npy', models.predict_proba('svm', model, np.load(folder + '/X.npy')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    np.testing.assert_allclose(np.load(tmp_path / "proba.npy"), proba, rtol=0, atol=1e-12)


@pytest.mark.parametrize("counts", [(60, 60), (90, 60, 30)])
def test_the_decisions_are_those_of_the_accelerator(counts, accelerator):
    data = overlapping_genres(counts)
    options = {"C": 100.0, "gamma": 1 / 97, "class_weight": "balanced"}
    X = data.X_train.astype(np.float64)
    X_new = overlapping_genres(counts, seed=3).X_train.astype(np.float64)
    theirs = accelerator.SVC(**options).fit(X, data.y_train)
    ours = classical._as_plain_svc(classical._IntelexSVC(**options).fit(X, data.y_train))
    np.testing.assert_allclose(ours.decision_function(X_new), theirs.decision_function(X_new), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(ours.n_support_, theirs.n_support_)


def test_the_accelerator_fits_columns_with_long_tails(accelerator):
    """On columns such as kurtosis its own decisions were wrong; those of the SVC that it fitted were right."""
    rng = np.random.default_rng(0)
    F = rng.normal(size=(1500, 30))
    X = np.expm1(0.8 * (F @ rng.normal(size=(30, 97)) / 30**0.5 + 0.4 * rng.normal(size=(1500, 97))))
    X = MinMaxScaler().fit_transform(X)
    y = (F @ rng.normal(size=(30, 3)) + rng.gumbel(size=(1500, 3))).argmax(axis=1)
    options = {"C": 10000.0, "gamma": 1 / 97, "class_weight": "balanced", "decision_function_shape": "ovo"}
    plain = SVC(**options).fit(X[:700], y[:700])
    fast = classical._IntelexSVC(**options).fit(X[:700], y[:700])
    np.testing.assert_allclose(fast.decision_function(X[700:]), plain.decision_function(X[700:]), atol=0.05)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_catboost_uses_only_the_cores_that_the_process_may_use(tmp_path):
    """Counted by joblib, as for the forest: by affinity and control group."""
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
    completed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert completed.stdout.strip() == "[1]"


@pytest.mark.parametrize("name", ["logistic_regression", "random_forest", "svm", "catboost"])
def test_two_genres_are_enough(name, tmp_path):
    data = overlapping_genres((30, 30))
    params = {"random_forest": {"n_estimators": 5}, "catboost": {"iterations": 5}}.get(name, {})
    proba = models.predict_proba(name, models.train_model(name, data, params, 0, tmp_path), data.X_validation)
    assert proba.shape == (12, 2)
    assert (proba.argmax(axis=1) == data.y_validation).mean() > 0.6


def test_catboost_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models.train_model("catboost", overlapping_genres(), {"iterations": 3}, 0, tmp_path / "state")
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
    assert not list((tmp_path / "state").iterdir())


def test_a_file_with_other_types_is_refused(tmp_path):
    """A file that would run code when loaded is not loaded."""
    import fractions

    skops.io.dump(fractions.Fraction(1, 3), tmp_path / "model.skops")
    with pytest.raises(DataError, match=r"not loaded.*Fraction"):
        models.load_model("random_forest", tmp_path)


def test_the_trusted_types_are_those_needed(tmp_path):
    for name, trusted in classical.TRUSTED_TYPES.items():
        needed = set()
        for variant in ("corrected", "paper"):
            params = models.default_params(name, variant) | ({"n_estimators": 5} if name == "random_forest" else {})
            model = models.train_model(name, overlapping_genres(), params, 0, tmp_path)
            needed |= set(skops.io.get_untrusted_types(file=models.save_model(name, model, tmp_path)))
        assert needed == set(trusted)
