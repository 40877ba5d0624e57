import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from genre import evaluate
from genre.errors import UsageError
from genre.probabilities import tables
from genre.probabilities.pooling import fit_pool_weights
from tests.support.simulation import two_models
from tests.support.tables import disputed_tracks


def table_of(seed: int = 0, n_clips: int = 600, n_genres: int = 4, skill: float = 2.0) -> pd.DataFrame:
    """Probability table of clips that are tracks of their own, two to a recording."""
    table = two_models(np.random.default_rng(seed), n_clips=n_clips, n_genres=n_genres, skills=(skill, skill))[0]
    return table.assign(track=table.index)


def loss(table: pd.DataFrame) -> float:
    return evaluate.compute_metrics(tables.labels_of(table), tables.proba_of(table), tables.genres_of(table))[
        "log_loss"
    ]


@pytest.mark.parametrize("distortion", [0.3, 1.0, 2.0])
def test_temperature_corrects_an_overconfident_and_an_underconfident_model(distortion):
    honest = table_of()
    base = evaluate.fit_temperature(honest)
    distorted = evaluate.apply_temperature(honest, distortion)
    assert evaluate.fit_temperature(distorted) * distortion == pytest.approx(base, rel=0.05)


def test_temperature_minimises_log_loss_and_lowers_the_error_on_other_clips():
    held_out, other = (evaluate.apply_temperature(table_of(seed), 0.2) for seed in (1, 2))
    temperature = evaluate.fit_temperature(held_out)
    losses = {f: loss(evaluate.apply_temperature(held_out, temperature * f)) for f in (0.9, 1.0, 1.1)}
    assert losses[1.0] < min(losses[0.9], losses[1.1])
    tempered = evaluate.apply_temperature(other, temperature)
    assert evaluate.calibration_error(tempered) < evaluate.calibration_error(other) / 2


def test_temperature_changes_no_prediction():
    table = table_of(n_clips=60)
    for temperature in (0.2, 1.0, 7.0):
        tempered = evaluate.apply_temperature(table, temperature)
        np.testing.assert_array_equal(tables.proba_of(tempered).argmax(1), tables.proba_of(table).argmax(1))
        np.testing.assert_allclose(tables.proba_of(tempered).sum(axis=1), 1)
    np.testing.assert_allclose(tables.proba_of(evaluate.apply_temperature(table, 1.0)), tables.proba_of(table))


def test_a_few_clips_that_are_all_right_do_not_make_the_model_certain():
    certain = tables.probability_table(
        list("abcd"), "validation", list("xxyy"), list("abcd"), [[0.9, 0.1]] * 2 + [[0.1, 0.9]] * 2, ["x", "y"]
    )
    assert 0.4 < evaluate.fit_temperature(certain) < 1


def test_reliability_steps_and_error_equal_values_computed_by_hand():
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
def test_a_threshold_comes_with_its_precision_and_coverage(seed, precision):
    table = table_of(seed, n_clips=40, n_genres=3, skill=1.0)
    threshold = evaluate.fit_threshold(table, precision)
    assert evaluate.selective_precision(table, threshold["confidence"]) == pytest.approx(
        (threshold["precision"], threshold["coverage"])
    )
    assert threshold["reached"] == (threshold["precision"] >= precision)
    if not threshold["reached"]:
        precisions = [evaluate.selective_precision(table, c)[0] for c in tables.proba_of(table).max(axis=1)]
        assert threshold["precision"] == pytest.approx(max(precisions)) and max(precisions) < precision


def test_a_precision_that_cannot_be_reached_is_reported_as_not_reached():
    ids = ["a", "b", "c", "d"]
    table = tables.probability_table(ids, "test", list("xyxy"), ids, [[0.8, 0.2]] * 4, ["x", "y"])
    threshold = evaluate.fit_threshold(table, 0.8)
    assert threshold == {"confidence": pytest.approx(0.8), "precision": 0.5, "coverage": 1.0, "reached": False}
    assert np.isnan(evaluate.selective_precision(table, 0.9)[0]) and evaluate.selective_precision(table, 0.9)[1] == 0


def test_calibration_is_fitted_on_one_table_and_measured_on_the_other():
    held_out = evaluate.apply_temperature(table_of(3), 0.2)
    test = evaluate.apply_temperature(table_of(4), 0.2)
    scores = evaluate.calibration_scores(held_out, test)
    assert scores["temperature"] == evaluate.fit_temperature(held_out)
    assert scores["test_calibration_error"] == evaluate.calibration_error(test)
    assert scores["test_calibration_error_tempered"] < scores["test_calibration_error"] / 2
    assert scores["test_log_loss_tempered"] < loss(test)
    assert scores["answered_precision"] >= 0.8 > 0.5 < scores["test_answered_precision"]


#: Functions of one table.
FUNCTIONS = {
    "temperature": evaluate.fit_temperature,
    "calibration_error": evaluate.calibration_error,
    "threshold": evaluate.fit_threshold,
    "calibration_scores": lambda table: evaluate.calibration_scores(table, table),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_bad_tables_are_refused_and_uninformative_ones_have_a_value(function):
    table = table_of(n_clips=30, n_genres=3)
    with pytest.raises(UsageError, match="no clips to evaluate"):
        function(table.iloc[:0])
    with pytest.raises(UsageError, match="categorical column 'genre'"):
        function(table.assign(genre=table["genre"].astype(str)))
    constant = table.assign(**dict.fromkeys(tables.genres_of(table), 1 / 3))
    for uninformative in (table.iloc[:1], constant, table[table["genre"] == "genre 1"]):
        result = function(uninformative)
        values = pd.Series(result if isinstance(result, dict) else [result], dtype=float)
        assert np.isfinite(values).all()


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_nan_is_refused_and_the_clip_named(function):
    table = table_of(n_clips=30, n_genres=3)
    table.loc["7", "genre 1"] = np.nan
    with pytest.raises(UsageError, match="'7' are not finite"):
        function(table)


def tracks_of(seed: int = 0, n_tracks: int = 300) -> pd.DataFrame:
    """Probability table of tracks of four clips, which differ from each other as much as tracks do."""
    rng = np.random.default_rng(seed)
    track = np.repeat(np.arange(n_tracks), 4)
    noise = rng.normal(size=(n_tracks, 3))[track] + rng.normal(size=(len(track), 3))
    y = track % 3
    proba = softmax(1.5 * np.eye(3)[y] + noise, axis=1)
    names = [f"t{i:03d}" for i in track]
    ids = [f"{name}@{i % 4}" for i, name in enumerate(names)]
    return tables.probability_table(ids, "test", np.array(list("xyz"))[y], names, proba, list("xyz"), track=names)


def test_temperature_minimises_the_log_loss_of_tracks_as_they_are_served():
    table = tracks_of()
    temperature = evaluate.fit_temperature(table)

    def loss_of_tracks(factor: float) -> float:
        return loss(tables.per_track(evaluate.apply_temperature(table, temperature * factor)))

    assert loss_of_tracks(1) < min(map(loss_of_tracks, (0.1, 0.5, 0.85, 1.2, 2, 10)))
    # the mean over clips that differ is more modest than each of them
    assert temperature < 0.8 * evaluate.fit_temperature(table.assign(track=table.index))


def test_temperature_of_tracks_with_one_clip_is_that_of_pooling():
    table = table_of(5)
    alone = fit_pool_weights([tables.proba_of(table)], tables.labels_of(table))
    assert evaluate.fit_temperature(table) == pytest.approx(1 / alone[0], rel=1e-3)


def test_confidence_is_calibrated_for_tracks_and_not_for_their_clips():
    held_out, test = tracks_of(0), tracks_of(1)
    scores = evaluate.calibration_scores(held_out, test)
    by_clip = evaluate.fit_temperature(held_out.assign(track=held_out.index))
    for_clips = evaluate.calibration_error(tables.per_track(evaluate.apply_temperature(test, by_clip)))
    assert scores["test_calibration_error_tempered"] < 0.7 * for_clips
    assert scores["answered_precision"] >= 0.8 and scores["test_answered_precision"] > 0.75
    served = tables.per_track(evaluate.apply_temperature(test, scores["temperature"]))
    answered = tables.proba_of(served).max(axis=1) >= scores["unknown_below"]
    assert scores["test_answered_coverage"] == answered.mean()


def test_threshold_of_disputed_tracks_is_one_of_their_means():
    table = disputed_tracks()
    assert evaluate.fit_threshold(table, 0.8)["coverage"] < 0.5
    threshold = evaluate.fit_threshold(tables.per_track(table), 0.8)
    assert threshold == {"confidence": pytest.approx(0.53), "precision": 1.0, "coverage": 1.0, "reached": True}


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_a_temperature_that_is_not_above_zero_is_refused(temperature):
    with pytest.raises(UsageError, match=f"temperature is {temperature}; it must lie above 0"):
        evaluate.apply_temperature(table_of(n_clips=6), temperature)


def test_zero_bins_are_refused():
    with pytest.raises(UsageError, match="at least one bin"):
        evaluate.calibration_error(table_of(n_clips=6), bins=0)


def test_a_threshold_learnt_on_few_tracks_keeps_its_precision_on_new_ones():
    new = table_of(99, n_clips=4000, skill=1.6)
    shares = {}
    for n_errors in (0.0, 1.0):
        thresholds = [
            evaluate.fit_threshold(table_of(seed, n_clips=30, skill=1.6), 0.8, n_errors=n_errors) for seed in range(60)
        ]
        precisions = [evaluate.selective_precision(new, threshold["confidence"])[0] for threshold in thresholds]
        shares[n_errors] = np.mean(np.array(precisions) < 0.8)
    assert shares[0.0] > 0.3 and shares[1.0] < 0.25  # below the target in half of all cases, and in one of seven
