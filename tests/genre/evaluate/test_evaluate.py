import time
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

from genre import evaluate
from genre.errors import UsageError
from genre.evaluate import resampling
from genre.probabilities import tables
from tests.support.project import ROOT
from tests.support.tables import GENRES, disputed_tracks, random_table, scores_of

PAPER = ROOT / "tests" / "data" / "paper_probabilities.npz"


def paper_table(*names: str) -> pd.DataFrame:
    with np.load(PAPER) as arrays:
        n = min(len(arrays[name]) for name in names)
        proba = np.mean([arrays[name][:n] for name in names], axis=0)
        genres = arrays["genres"].tolist()
        truth = [genres[k] for k in arrays["y_true"][:n]]
    ids = [f"clip{i:04d}" for i in range(n)]
    return tables.probability_table(ids, "test", truth, ids, proba, genres)


@pytest.mark.parametrize(
    ("models", "n", "accuracy", "macro_f1", "macro_auc"),
    [
        (["logistic_regression"], 2027, 0.5338, 0.4728, 0.8225),
        (["random_forest"], 2027, 0.5432, 0.4786, 0.8395),
        (["svm"], 2027, 0.5718, 0.5218, 0.8562),
        (["xgboost"], 2027, 0.5876, 0.5454, 0.8653),
        (["vgg16_fine_tune"], 2016, 0.6369, 0.6149, 0.8892),
        (["xgboost", "vgg16_fine_tune"], 2016, 0.6503, 0.6222, 0.8938),
    ],
)
def test_scores_equal_the_papers_table_2(models, n, accuracy, macro_f1, macro_auc):
    table = paper_table(*models)
    metrics = scores_of(table)
    assert len(table) == n
    rounded = [round(metrics[name], 4) for name in ("accuracy", "macro_f1", "macro_auc")]
    assert rounded == [accuracy, macro_f1, macro_auc]


def test_auc_per_genre_equals_the_papers():
    metrics = scores_of(paper_table("vgg16_fine_tune"))
    assert [round(value, 3) for name, value in metrics.items() if name.startswith("auc/")] == [
        0.907, 0.811, 0.944, 0.790, 0.903, 0.939, 0.932,
    ]  # fmt: skip


def test_interval_of_the_papers_ensemble_is_right_and_quick():
    table = paper_table("xgboost", "vgg16_fine_tune")
    start = time.process_time()
    low, high = evaluate.confidence_intervals(table)["macro_auc"]
    assert time.process_time() - start < 15
    assert low == pytest.approx(0.884, abs=0.0015) and high == pytest.approx(0.904, abs=0.0015)


def test_gain_of_the_papers_ensemble_over_its_better_member():
    ensemble = paper_table("xgboost", "vgg16_fine_tune")
    gain = evaluate.paired_gain(ensemble, paper_table("vgg16_fine_tune"), n=400)
    low, high = gain["interval"]
    assert gain["gain"] == pytest.approx(0.8938 - 0.8892, abs=1e-4)
    assert 0 < low < gain["gain"] < high < 0.01
    assert (gain["n_clips"], gain["n_recordings"]) == (2016, 2016)
    assert gain["genres"]["Vocal"][0] < 0 < gain["genres"]["Pop"][1]
    spread = np.subtract(*evaluate.confidence_intervals(ensemble, n=400)["macro_auc"][::-1])
    assert high - low < spread / 2


def test_a_genre_without_clips_has_no_auc_and_the_macro_auc_is_over_the_others():
    table = random_table()
    metrics = scores_of(table[table["genre"] != "Rock"])
    assert np.isnan(metrics["auc/Rock"])
    assert metrics["macro_auc"] == pytest.approx((metrics["auc/Hip hop"] + metrics["auc/Æther & noise"]) / 2)


def test_a_single_genre_has_accuracy_but_no_auc(recwarn):
    table = random_table()
    table = table[table["genre"] == "Rock"]
    metrics = scores_of(table)
    assert np.isnan(metrics["macro_auc"]) and metrics["accuracy"] > 0 and metrics["log_loss"] > 0
    assert np.isnan(evaluate.confidence_intervals(table, n=20)["macro_auc"]).all()
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


@pytest.mark.parametrize("labels", [[], [0, 3], [-1, 0], [0.0, 1.0]])
def test_labels_that_are_no_positions_of_genres_are_refused(labels):
    with pytest.raises(UsageError):
        evaluate.compute_metrics(np.array(labels), np.full((len(labels), 3), 1 / 3), GENRES)


coarse = st.integers(0, 4)


@settings(max_examples=60, deadline=None)
@given(
    data=st.integers(2, 4).flatmap(
        lambda k: st.lists(
            st.tuples(st.integers(0, k - 1), st.lists(coarse, min_size=k, max_size=k)), min_size=2, max_size=25
        ).map(lambda rows: (k, rows))
    ),
    seed=st.integers(0, 99),
)
def test_every_resample_scores_as_scikit_learn_does(data, seed):
    """With few distinct scores, so that there are many ties; the drawn clips are scored by scikit-learn."""
    k, rows = data
    genres = [f"g{i}" for i in range(k)]
    y = np.array([row[0] for row in rows])
    proba = np.array([row[1] for row in rows], dtype=float) + 0.01
    proba /= proba.sum(axis=1, keepdims=True)
    ids = [f"{i:02d}" for i in range(len(y))]
    table = tables.probability_table(ids, "test", [genres[i] for i in y], ids, proba, genres)
    proba = tables.proba_of(table)
    resamples = evaluate.bootstrap_metrics(table, n=3, seed=seed, groups=None)
    rng = np.random.default_rng(seed)
    for b in range(3):
        share = rng.random(len(y))
        members = [np.flatnonzero(y == genre) for genre in np.sort(y)]
        drawn = np.array([m[int(u * len(m))] for m, u in zip(members, share, strict=True)])
        expected = sklearn_scores(y[drawn], proba[drawn], genres)
        assert list(resamples) == list(expected)
        np.testing.assert_allclose(resamples.loc[b].to_numpy(), list(expected.values()), atol=1e-9)


def sklearn_scores(y: np.ndarray, proba: np.ndarray, genres: list[str]) -> dict[str, float]:
    present = [k for k in range(len(genres)) if 0 < (y == k).sum() < len(y)]
    aucs = {genre: roc_auc_score(y == k, proba[:, k]) if k in present else np.nan for k, genre in enumerate(genres)}
    return {
        "accuracy": accuracy_score(y, proba.argmax(axis=1)),
        "macro_f1": f1_score(y, proba.argmax(axis=1), average="macro"),
        "macro_auc": np.mean([aucs[genres[k]] for k in present]) if present else np.nan,
        "log_loss": log_loss(y, proba, labels=range(len(genres))),
        **{f"auc/{genre}": value for genre, value in aucs.items()},
    }


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(60)))
def test_the_order_of_rows_changes_nothing(order):
    table = random_table()
    shuffled = table.iloc[list(order)]
    assert scores_of(shuffled) == pytest.approx(scores_of(table), abs=1e-12)
    pd.testing.assert_frame_equal(
        evaluate.bootstrap_metrics(shuffled, n=5), evaluate.bootstrap_metrics(table, n=5), atol=1e-12
    )
    pd.testing.assert_frame_equal(tables.per_track(shuffled), tables.per_track(table), atol=1e-12)
    assert evaluate.fit_threshold(shuffled) == evaluate.fit_threshold(table)
    assert evaluate.fit_temperature(shuffled) == pytest.approx(evaluate.fit_temperature(table))


def test_bootstrap_depends_on_the_seed_and_not_on_the_chunks(monkeypatch):
    table = random_table()
    whole = evaluate.bootstrap_metrics(table, n=30, seed=4)
    assert not whole.equals(evaluate.bootstrap_metrics(table, n=30, seed=5))
    monkeypatch.setattr(resampling, "CHUNK_CELLS", 7 * len(table))
    pd.testing.assert_frame_equal(evaluate.bootstrap_metrics(table, n=30, seed=4), whole, atol=1e-12)


def test_recordings_are_drawn_as_a_whole():
    """Repeating every clip three times must not narrow the interval, as it does when clips are drawn."""
    single = random_table(n=40, per_recording=1)
    ids = [f"{clip}#{copy}" for copy in range(3) for clip in single.index]
    tripled = pd.concat([single] * 3).set_axis(pd.Index(ids, name="clip_id"))
    assert evaluate.confidence_intervals(tripled)["macro_auc"] == pytest.approx(
        evaluate.confidence_intervals(single)["macro_auc"]
    )
    low, high = evaluate.confidence_intervals(tripled, groups=None)["macro_auc"]
    wide_low, wide_high = evaluate.confidence_intervals(single)["macro_auc"]
    assert high - low < 0.75 * (wide_high - wide_low)


def test_intervals_contain_the_value():
    table = random_table(n=300)
    metrics = scores_of(table)
    intervals = evaluate.confidence_intervals(table)
    assert set(intervals) == set(metrics)
    assert all(low < metrics[name] < high for name, (low, high) in intervals.items())


@pytest.mark.parametrize(
    ("options", "message"), [({"n": 0}, "at least 1"), ({"groups": "artist"}, "no column 'artist'")]
)
def test_impossible_resampling_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        evaluate.bootstrap_metrics(random_table(), **options)


def test_an_empty_split_is_refused():
    table = random_table()
    empty = table[table["split"] == "train"]
    for function in (evaluate.bootstrap_metrics, evaluate.confidence_intervals, evaluate.fit_threshold):
        with pytest.raises(UsageError, match="no clips to evaluate"):
            function(empty)


def test_a_model_gains_nothing_over_itself():
    table = random_table()
    gain = evaluate.paired_gain(table, table, n=50)
    assert gain["gain"] == 0 and gain["interval"] == (0, 0)
    assert set(gain["genres"].values()) == {(0, 0, 0)}
    assert gain["n_recordings"] == 20


def test_gain_is_computed_on_the_common_clips_in_any_order_of_rows_and_genres():
    good = random_table(1)
    chance = random_table(2).assign(**dict.fromkeys(GENRES, 1 / 3)).iloc[::-1]
    chance["genre"] = chance["genre"].cat.reorder_categories(GENRES[::-1])
    gain = evaluate.paired_gain(good.iloc[:45], chance.iloc[:45], n=200)
    common = good.loc["c015":"c044"]
    assert gain["n_clips"] == 30 and gain["n_recordings"] == 10
    assert gain["gain"] == pytest.approx(scores_of(common)["macro_auc"] - 0.5)
    assert gain["interval"][0] > 0
    assert gain["genres"]["Rock"][0] == pytest.approx(scores_of(common)["auc/Rock"] - 0.5)
    mirrored = evaluate.paired_gain(chance, good.iloc[:45], n=200)
    assert mirrored["gain"] < 0


def test_tables_that_cannot_be_compared_are_refused():
    table = random_table()
    with pytest.raises(UsageError, match="no clip in common"):
        evaluate.paired_gain(table.iloc[:10], table.iloc[10:])
    with pytest.raises(UsageError, match="different genres"):
        evaluate.paired_gain(table, random_table(genres=["Rock", "Folk"]))
    relabelled = table.copy()
    relabelled.loc["c007", "genre"] = "Rock"
    with pytest.raises(UsageError, match="genre of 1 clips, the first of them 'c007'"):
        evaluate.paired_gain(table, relabelled)
    with pytest.raises(UsageError, match="more than once"):
        evaluate.paired_gain(pd.concat([table, table]), table)


def test_summary_has_every_split_but_no_intervals_on_train():
    table = random_table(n=90)
    table["split"] = ["train"] * 30 + ["validation"] * 30 + ["test"] * 30
    summary = evaluate.summarise_scores(table)
    test = table[table["split"] == "test"]
    assert summary["test_macro_auc"] == scores_of(test)["macro_auc"] and "test_auc/Rock" in summary
    interval = (summary["test_accuracy_low"], summary["test_accuracy_high"])
    assert interval == evaluate.confidence_intervals(test)["accuracy"]
    tracks = tables.per_track(test)
    assert summary["test_track_macro_auc"] == scores_of(tracks)["macro_auc"]
    interval = (summary["validation_track_macro_auc_low"], summary["validation_track_macro_auc_high"])
    validation = tables.per_track(table[table["split"] == "validation"])
    assert interval == evaluate.confidence_intervals(validation)["macro_auc"]
    assert "train_track_log_loss" in summary and "train_track_log_loss_low" not in summary
    assert "train_log_loss" in summary and "train_log_loss_low" not in summary
    assert "validation_auc/Rock_high" in summary


def test_the_mean_over_a_track_is_right_where_most_of_its_clips_are_wrong():
    summary = evaluate.summarise_scores(disputed_tracks())
    assert summary["test_accuracy"] == pytest.approx(1 / 3) and summary["test_track_accuracy"] == 1
    assert summary["test_macro_auc"] < 0.6 and summary["test_track_macro_auc"] == 1
    assert summary["test_track_accuracy_low"] == 1 and summary["test_accuracy_high"] == pytest.approx(1 / 3)


def test_one_clip_per_track_gives_equal_scores():
    summary = evaluate.summarise_scores(random_table(per_recording=1))
    for key in ("macro_auc", "accuracy", "macro_f1", "log_loss"):
        for end in ("", "_low", "_high"):
            assert summary[f"test_track_{key}{end}"] == summary[f"test_{key}{end}"]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 59), st.floats(0, 1))
def test_a_clip_nearer_the_truth_makes_no_track_worse(seed, position, share):
    """Of means over clips the log-loss is at most that of the clips, since the logarithm is concave."""
    table = random_table(seed)
    scores = scores_of(tables.per_track(table))
    assert scores["log_loss"] <= scores_of(table)["log_loss"] + 1e-12
    better = table.copy()
    true = np.eye(len(GENRES))[tables.labels_of(table)[position]]
    better.iloc[position, -len(GENRES) :] = share * true + (1 - share) * tables.proba_of(table)[position]
    improved = scores_of(tables.per_track(better))
    assert improved["log_loss"] <= scores["log_loss"] + 1e-12 and improved["accuracy"] >= scores["accuracy"]


def table_with_confidences(confidences: list[float], right: list[bool]) -> pd.DataFrame:
    proba = [[c, 1 - c] for c in confidences]
    ids = [str(i) for i in range(len(proba))]
    return tables.probability_table(ids, "validation", ["a" if r else "b" for r in right], ids, proba, ["a", "b"])


@pytest.mark.parametrize(
    ("confidences", "right", "precision", "expected"),
    [
        ([0.9, 0.8, 0.7, 0.6], [True, True, True, False], 0.8, 0.7),
        ([0.9, 0.8, 0.7, 0.6], [True, True, True, True], 0.8, 0.6),
        ([0.9, 0.8, 0.7, 0.6, 0.55], [False, True, True, True, True], 0.8, 0.55),  # reached again further down
        ([0.9, 0.8, 0.8, 0.6], [True, True, False, False], 0.8, 0.9),  # equal confidences are kept or dropped together
        ([0.9, 0.8, 0.7, 0.6], [False, True, False, True], 0.8, 0.6),  # not reached: best is a half, with most clips
        ([0.9, 0.6], [False, False], 0.8, 0.6),
    ],
)
def test_threshold_is_the_smallest_confidence_that_reaches_the_precision(confidences, right, precision, expected):
    threshold = evaluate.fit_threshold(table_with_confidences(confidences, right), precision)
    assert threshold["confidence"] == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(51, 99), st.booleans()), min_size=1, max_size=30),
    st.floats(0.05, 1.0),
)
def test_threshold_of_any_table_is_the_smallest_or_else_the_best(rows, precision):
    table = table_with_confidences([c / 100 for c, _ in rows], [right for _, right in rows])
    threshold = evaluate.fit_threshold(table, precision)["confidence"]
    confidence = tables.proba_of(table).max(axis=1)
    right = tables.labels_of(table) == 0
    precisions = {t: right[confidence >= t].mean() for t in confidence}
    sufficient = [t for t, share in precisions.items() if share >= precision]
    best = [t for t, share in precisions.items() if share == max(precisions.values())]
    assert threshold == min(sufficient or best) and 0 <= threshold <= 1


@pytest.mark.parametrize("precision", [0, -0.1, 1.2, float("nan")])
def test_a_precision_out_of_range_is_refused(precision):
    with pytest.raises(UsageError, match="precision"):
        evaluate.fit_threshold(random_table(), precision)


def few_recordings(n: int, seed: int = 0) -> pd.DataFrame:
    """Probability table of a guesser: two genres, `n` recordings of each, two clips per recording."""
    names = np.repeat([f"{genre}{i}" for genre in "ab" for i in range(n)], 2)
    proba = np.random.default_rng(seed).dirichlet([1, 1], len(names))
    ids = [f"{i:02d}" for i in range(len(names))]
    return tables.probability_table(ids, "test", [name[0] for name in names], names, proba, ["a", "b"])


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_few_recordings_have_no_interval(n):
    table = few_recordings(n)
    intervals = evaluate.confidence_intervals(table, n=50)
    has_interval = n >= evaluate.MIN_RECORDINGS
    assert np.isfinite(list(intervals.values())).all() == has_interval
    assert np.isnan(list(intervals.values())).all() == (not has_interval)
    gain = evaluate.paired_gain(table, few_recordings(n, seed=1), n=50)
    assert np.isfinite([*gain["interval"], gain["lower"]]).all() == has_interval
    assert evaluate.count_recordings(table).to_dict() == {"a": n, "b": n}


def test_a_small_genre_takes_the_intervals_of_itself_and_of_all():
    table = random_table()
    small = table.drop(table.index[table["genre"] == "Rock"][6:])  # two recordings
    intervals = evaluate.confidence_intervals(small, n=50)
    assert {name for name, bounds in intervals.items() if np.isfinite(bounds).all()} == {
        "auc/Hip hop",
        "auc/Æther & noise",
    }


def test_no_genre_is_missing_from_a_resample():
    table = random_table(n=27)
    assert evaluate.bootstrap_metrics(table, n=500).notna().all().all()


def test_the_probability_of_chance_is_that_of_all_assignments():
    for seed in range(4):
        table = few_recordings(3, seed)
        genre = table["genre"].astype(str).to_numpy()
        recordings = table["recording"].unique()
        aucs = []
        for chosen in combinations(recordings, 3):
            labels = np.where(table["recording"].isin(chosen), "a", "b")
            aucs.append(roc_auc_score(labels == "a", table["a"]))
        share = np.mean(np.array(aucs) >= roc_auc_score(genre == "a", table["a"]) - 1e-9)
        assert evaluate.chance_p_value(table) == pytest.approx(share, abs=0.02)


def test_a_guesser_passes_for_better_than_chance_no_more_often_than_wanted():
    for n in (1, 2, 3, 4, 8):
        p = np.array([evaluate.chance_p_value(few_recordings(n, seed), n=400) for seed in range(300)])
        assert (p <= evaluate.MAX_ERROR).mean() <= 0.045, n  # 0.025 and twice its standard error
    right = random_table()
    assert evaluate.chance_p_value(right, n=2000) < 0.001


def test_uninformative_tables_have_defined_scores_and_intervals(recwarn):
    table = random_table()
    constant = table.assign(**dict.fromkeys(GENRES, 1 / 3))
    assert scores_of(constant)["macro_auc"] == 0.5
    assert evaluate.confidence_intervals(constant, n=50)["macro_auc"] == (0.5, 0.5)
    one_clip = evaluate.summarise_scores(table.iloc[:1].assign(split="validation"))
    accuracy = one_clip["validation_accuracy"]
    assert accuracy in (0, 1) and np.isnan(one_clip["validation_macro_auc"])
    assert np.isnan([one_clip["validation_accuracy_low"], one_clip["validation_accuracy_high"]]).all()
    absent = evaluate.summarise_scores(table[table["genre"] != "Rock"])
    assert np.isnan(absent["test_auc/Rock_low"]) and 0 < absent["test_macro_auc_low"] < absent["test_macro_auc_high"]
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


@pytest.mark.parametrize(
    "function", [scores_of, evaluate.summarise_scores, evaluate.confidence_intervals, tables.per_track]
)
def test_nan_is_refused_and_the_clip_named(function):
    table = random_table()
    table.loc["c007", "Rock"] = np.nan
    with pytest.raises(UsageError, match="'c007' are not finite"):
        function(table)
