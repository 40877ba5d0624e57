from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from threadpoolctl import threadpool_limits

from genre import ensemble, evaluate, models
from genre.config import AudioConfig
from genre.errors import AudioError, DataError, UsageError
from genre.files import read_json, write_json
from genre.probabilities import pooling, tables
from tests.support.network import random_weights
from tests.support.project import ROOT
from tests.support.sounds import tone

DATA = ROOT / "tests" / "data" / "paper_probabilities.npz"
probas = hnp.arrays(float, (5, 4), elements=st.floats(0.001, 1)).map(lambda p: p / p.sum(axis=1, keepdims=True))


def paper_table(name: str, n: int = 2016) -> pd.DataFrame:
    with np.load(DATA) as published:
        genres = [str(g) for g in published["genres"]]
        y = published["y_true"][:n]
        ids = [f"clip {i:04d}" for i in range(n)]
        return tables.probability_table(ids, "test", [genres[k] for k in y], ids, published[name][:n], genres)


@given(probas, probas)
def test_means_are_probabilities_and_symmetric(a, b):
    for mean in ensemble.FIXED_MEANS:
        combined = ensemble.combine_probabilities([a, b], mean)
        np.testing.assert_allclose(combined.sum(axis=1), 1)
        np.testing.assert_allclose(combined, ensemble.combine_probabilities([b, a], mean))
        np.testing.assert_allclose(ensemble.combine_probabilities([a], mean), a)


def test_a_member_that_is_certain_of_the_contrary_is_no_division_by_zero():
    combined = ensemble.combine_probabilities([np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])], "geometric")
    np.testing.assert_allclose(combined, [[0.5, 0.5]])


def test_an_unknown_mean_lists_the_known_ones():
    with pytest.raises(UsageError, match="arithmetic, geometric, weighted, stacked"):
        ensemble.combine_probabilities([np.ones((1, 1))], "harmonic")


@pytest.mark.parametrize(
    ("mean", "accuracy", "macro_f1", "macro_auc"),
    [("arithmetic", 0.6503, 0.6222, 0.8938), ("geometric", 0.6543, 0.6286, 0.8978)],
)
def test_the_papers_own_ensemble(mean, accuracy, macro_f1, macro_auc):
    table = ensemble.combine_tables([paper_table("xgboost"), paper_table("vgg16_fine_tune")], mean)
    scores = evaluate.compute_metrics(tables.labels_of(table), tables.proba_of(table), tables.genres_of(table))
    found = [scores[k] for k in ("accuracy", "macro_f1", "macro_auc")]
    np.testing.assert_allclose(found, [accuracy, macro_f1, macro_auc], atol=6e-5)


def test_one_member_with_all_the_weight_is_that_member():
    probas = [np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.4, 0.6], [0.3, 0.7]])]
    np.testing.assert_allclose(ensemble.combine_probabilities(probas, "weighted", [1.0, 0.0]), probas[0])
    np.testing.assert_allclose(
        ensemble.combine_probabilities(probas, "weighted", [0.5, 0.5]),
        ensemble.combine_probabilities(probas, "geometric"),
    )
    stack = np.vstack([np.zeros((2, 2)), np.eye(2), np.zeros((1, 2))])
    np.testing.assert_allclose(ensemble.combine_probabilities(probas, "stacked", stack), probas[1])
    stack[-1] = [np.log(3), 0]
    np.testing.assert_allclose(ensemble.combine_probabilities(probas, "stacked", stack)[0], [2 / 3, 1 / 3])


def test_tables_of_other_clips_are_refused():
    with pytest.raises(DataError, match="other clips"):
        ensemble.combine_tables([paper_table("xgboost", 50), paper_table("svm", 51)], "arithmetic")


def test_an_ensemble_computes_the_inputs_of_its_members(tmp_path):
    config = AudioConfig()
    rng = np.random.default_rng(0)
    low, high = [[tone(10, hz=hz * (1 + n / 50), seed=n) for n in range(4)] for hz in (110, 880)]
    members = ("logistic_regression", "random_forest")
    from genre.inputs.features import extract_features

    X = np.stack([extract_features(y, config) for y in low + high])
    y = np.repeat([0, 1], 4)
    data = models.TrainingData(["low", "high"], X, y, np.arange(8).astype(str), X, y)
    for name in members:
        model = models.train_model(name, data, {}, 0, tmp_path / name)
        models.save_model(name, model, tmp_path / name)
    inputs = {name: ["features"] for name in members}
    spec = ensemble.Ensemble(["low", "high"], config, members, "geometric", 0.6, inputs=inputs)
    spec.write_spec(tmp_path)
    loaded = ensemble.Ensemble.load(tmp_path)
    assert loaded == spec
    proba = loaded.predict_proba([tone(10, hz=118, seed=9), tone(3, hz=930, seed=9)])
    assert proba.argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    noise = [rng.normal(0, 0.1, 22050).astype(np.float32)]
    np.testing.assert_array_equal(loaded.predict_proba(noise), loaded.predict_proba(noise))
    weighting = ("weighted", 0.6, [0.3, 0.7], 2.0)
    calibrated = ensemble.Ensemble(["low", "high"], config, members, *weighting, inputs=inputs, warning="Beware.")
    calibrated.write_spec(tmp_path)
    again = ensemble.Ensemble.load(tmp_path)
    assert again == calibrated and again.label == "weighted mean of logistic_regression, random_forest"
    old = {name: value for name, value in read_json(tmp_path / "ensemble.json").items() if name != "warning"}
    write_json(tmp_path / "ensemble.json", old)
    assert ensemble.Ensemble.load(tmp_path) == replace(calibrated, warning="")
    probas = [
        models.predict_proba(name, again.loaded_models[name], [extract_features(noise[0], config)]) for name in members
    ]
    expected = pooling.pool_probabilities(probas, np.array([0.15, 0.35]))
    np.testing.assert_allclose(again.predict_proba(noise), expected)


@pytest.mark.parametrize(
    "names", [["features", "embeddings", "modulations"], ["features", "modulations"], ["embeddings"]]
)
def test_a_network_computed_in_another_thread_changes_no_digit(names):
    spec = ensemble.Ensemble(["low", "high"], AudioConfig(), ("m",), "geometric", 0.6, inputs={"m": names})
    spec.loaded_weights = {"musicnn.npz": random_weights()}
    y = tone(10, hz=300)
    # One thread of BLAS, as in a server: with two, its sums have other last digits while the network limits it.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(1) as executor:
        alone = spec.compute_inputs(y)
        beside = spec.compute_inputs(y, executor)
    assert list(beside) == list(alone) == names
    for name in names:
        np.testing.assert_array_equal(beside[name], alone[name])


def test_a_clip_that_cannot_be_analysed_raises_from_either_thread():
    names = ["features", "embeddings"]
    spec = ensemble.Ensemble(["low", "high"], AudioConfig(), ("m",), "geometric", 0.6, inputs={"m": names})
    spec.loaded_weights = {"musicnn.npz": random_weights()}
    with ThreadPoolExecutor(1) as executor, pytest.raises(AudioError, match="NaN"):
        spec.compute_inputs(np.full(22050, np.nan, np.float32), executor)
