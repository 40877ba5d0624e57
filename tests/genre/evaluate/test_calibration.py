import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genre import evaluate
from genre.errors import UsageError
from genre.probabilities import pooling, tables
from tests.support.simulation import two_models


def table_of(seed: int = 0, n_clips: int = 600, n_genres: int = 4, skill: float = 2.0) -> pd.DataFrame:
    return two_models(np.random.default_rng(seed), n_clips=n_clips, n_genres=n_genres, skills=(skill, skill))[0]


def loss(table: pd.DataFrame) -> float:
    return evaluate.compute_metrics(tables.labels_of(table), tables.proba_of(table), tables.genres_of(table))[
        "log_loss"
    ]


@pytest.mark.parametrize("distortion", [0.3, 1.0, 2.0])
def test_temperature_undoes_what_made_a_model_too_sure_or_too_modest(distortion):
    honest = table_of()
    base = evaluate.fit_temperature(honest)
    distorted = evaluate.apply_temperature(honest, distortion)
    assert evaluate.fit_temperature(distorted) * distortion == pytest.approx(base, rel=0.05)


def test_temperature_is_of_least_log_loss_and_the_error_falls_on_other_clips():
    learnt, other = (evaluate.apply_temperature(table_of(seed), 0.2) for seed in (1, 2))
    warmth = evaluate.fit_temperature(learnt)
    at = {t: loss(evaluate.apply_temperature(learnt, warmth * t)) for t in (0.9, 1.0, 1.1)}
    assert at[1.0] < min(at[0.9], at[1.1])
    assert evaluate.calibration_error(evaluate.apply_temperature(other, warmth)) < evaluate.calibration_error(other) / 2


def test_temperature_moves_no_answer():
    table = table_of(n_clips=60)
    for warmth in (0.2, 1.0, 7.0):
        after = evaluate.apply_temperature(table, warmth)
        np.testing.assert_array_equal(tables.proba_of(after).argmax(1), tables.proba_of(table).argmax(1))
        np.testing.assert_allclose(tables.proba_of(after).sum(axis=1), 1)
    np.testing.assert_allclose(tables.proba_of(evaluate.apply_temperature(table, 1.0)), tables.proba_of(table))


def test_a_handful_that_is_all_right_is_no_licence_for_certainty():
    certain = tables.probability_table(
        list("abcd"), "validation", list("xxyy"), list("abcd"), [[0.9, 0.1]] * 2 + [[0.1, 0.9]] * 2, ["x", "y"]
    )
    assert 0.4 < evaluate.fit_temperature(certain) < 1


def test_weights_find_the_member_that_knows():
    knows, guesses = two_models(np.random.default_rng(0), n_clips=600, n_genres=4, skills=(3.0, 0.0), shared=0.0)
    weights = pooling.fit_pool_weights([tables.proba_of(t) for t in (knows, guesses)], tables.labels_of(knows))
    assert weights[0] > 8 * weights[1] and weights[1] >= 0.05


def test_reliability_steps_and_error_by_hand():
    proba = [[0.95, 0.05]] * 4 + [[0.65, 0.35]] * 2
    ids = [str(i) for i in range(6)]
    table = tables.probability_table(ids, "test", list("xxxyxy"), ids, proba, ["x", "y"])
    steps = evaluate.reliability_steps(table)
    assert steps.index.tolist() == [6, 9]
    assert steps["clips"].tolist() == [2, 4] and steps["right"].tolist() == [0.5, 0.75]
    assert evaluate.calibration_error(table) == pytest.approx((4 * 0.2 + 2 * 0.15) / 6)
    assert evaluate.calibration_error(table, bins=1) == pytest.approx(abs((4 * 0.95 + 2 * 0.65) / 6 - 4 / 6))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 1.0))
def test_a_threshold_says_what_it_costs(seed, precision):
    table = table_of(seed, n_clips=40, n_genres=3, skill=1.0)
    found = evaluate.fit_threshold(table, precision)
    assert evaluate.selective_precision(table, found["confidence"]) == pytest.approx(
        (found["precision"], found["coverage"])
    )
    assert found["reached"] == (found["precision"] >= precision)
    if not found["reached"]:
        all_others = [evaluate.selective_precision(table, c)[0] for c in tables.proba_of(table).max(axis=1)]
        assert found["precision"] == pytest.approx(max(all_others)) and max(all_others) < precision


def test_a_precision_that_cannot_be_reached_is_said_to_be_so():
    ids = ["a", "b", "c", "d"]
    table = tables.probability_table(ids, "test", list("xyxy"), ids, [[0.8, 0.2]] * 4, ["x", "y"])
    found = evaluate.fit_threshold(table, 0.8)
    assert found == {"confidence": pytest.approx(0.8), "precision": 0.5, "coverage": 1.0, "reached": False}
    assert np.isnan(evaluate.selective_precision(table, 0.9)[0]) and evaluate.selective_precision(table, 0.9)[1] == 0


def test_calibration_scores_are_learnt_on_the_one_and_measured_on_the_other():
    held_out, test = evaluate.apply_temperature(table_of(3), 0.2), evaluate.apply_temperature(table_of(4), 0.2)
    found = evaluate.calibration_scores(held_out, test)
    assert found["temperature"] == evaluate.fit_temperature(held_out)
    assert found["test_calibration_error"] == evaluate.calibration_error(test)
    assert found["test_calibration_error_tempered"] < found["test_calibration_error"] / 2
    assert found["test_log_loss_tempered"] < loss(test)
    assert found["answered_precision"] >= 0.8 > 0.5 < found["test_answered_precision"]


ONE = {
    "temperature": evaluate.fit_temperature,
    "calibration_error": evaluate.calibration_error,
    "threshold": evaluate.fit_threshold,
    "calibration_scores": lambda table: evaluate.calibration_scores(table, table),
}


@pytest.mark.parametrize("function", ONE.values(), ids=ONE)
def test_bad_tables_are_refused_and_poor_ones_have_a_value(function):
    table = table_of(n_clips=30, n_genres=3)
    with pytest.raises(UsageError, match="no clips to evaluate"):
        function(table.iloc[:0])
    with pytest.raises(UsageError, match="categorical column 'genre'"):
        function(table.assign(genre=table["genre"].astype(str)))
    constant = table.assign(**dict.fromkeys(tables.genres_of(table), 1 / 3))
    for poor in (table.iloc[:1], constant, table[table["genre"] == "genre 1"]):
        values = pd.Series(function(poor) if isinstance(function(poor), dict) else [function(poor)], dtype=float)
        assert np.isfinite(values).all()


@pytest.mark.parametrize("function", ONE.values(), ids=ONE)
def test_not_a_number_is_refused_with_the_clip(function):
    table = table_of(n_clips=30, n_genres=3)
    table.loc["7", "genre 1"] = np.nan
    with pytest.raises(UsageError, match="'7' are not finite"):
        function(table)


@pytest.mark.parametrize("warmth", [0, -1, float("nan")])
def test_a_temperature_below_or_at_zero_is_refused(warmth):
    with pytest.raises(UsageError, match="temperature must lie above 0"):
        evaluate.apply_temperature(table_of(n_clips=6), warmth)


def test_no_steps_are_refused():
    with pytest.raises(UsageError, match="at least one bin"):
        evaluate.calibration_error(table_of(n_clips=6), bins=0)
