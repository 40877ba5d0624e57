import time

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

PAPER = ROOT / "tests" / "data" / "paper_probabilities.npz"
GENRES = ["Rock", "Hip hop", "Æther & noise"]


def paper_table(*names: str) -> pd.DataFrame:
    with np.load(PAPER) as arrays:
        n = min(len(arrays[name]) for name in names)
        proba = np.mean([arrays[name][:n] for name in names], axis=0)
        genres = arrays["genres"].tolist()
        truth = [genres[k] for k in arrays["y_true"][:n]]
    ids = [f"clip{i:04d}" for i in range(n)]
    return tables.probability_table(ids, "test", truth, ids, proba, genres)


def random_table(seed: int = 0, n: int = 60, per_recording: int = 3, genres: list[str] = GENRES) -> pd.DataFrame:
    """Clips whose true genre is favoured, three to a recording."""
    rng = np.random.default_rng(seed)
    recordings = np.arange(n) // per_recording
    y = (recordings % len(genres)).astype(int)
    proba = rng.dirichlet(np.ones(len(genres)) + 0.5, size=n) + 0.3 * np.eye(len(genres))[y]
    proba /= proba.sum(axis=1, keepdims=True)
    ids = [f"c{i:03d}" for i in range(n)]
    return tables.probability_table(ids, "test", [genres[k] for k in y], [f"r{r}" for r in recordings], proba, genres)


def scores(table: pd.DataFrame) -> dict[str, float]:
    return evaluate.compute_metrics(tables.labels_of(table), tables.proba_of(table), tables.genres_of(table))


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
def test_the_papers_table_2(models, n, accuracy, macro_f1, macro_auc):
    table = paper_table(*models)
    found = scores(table)
    assert len(table) == n
    assert [round(found[name], 4) for name in ("accuracy", "macro_f1", "macro_auc")] == [accuracy, macro_f1, macro_auc]


def test_the_papers_auc_per_genre():
    found = scores(paper_table("vgg16_fine_tune"))
    assert [round(value, 3) for name, value in found.items() if name.startswith("auc/")] == [
        0.907, 0.811, 0.944, 0.790, 0.903, 0.939, 0.932,
    ]  # fmt: skip


def test_interval_of_the_papers_ensemble_and_its_speed():
    table = paper_table("xgboost", "vgg16_fine_tune")
    start = time.process_time()
    low, high = evaluate.confidence_intervals(table)["macro_auc"]
    assert time.process_time() - start < 15
    assert low == pytest.approx(0.884, abs=0.0015) and high == pytest.approx(0.904, abs=0.0015)


def test_gain_of_the_papers_ensemble_over_its_better_half():
    ensemble, vgg = paper_table("xgboost", "vgg16_fine_tune"), paper_table("vgg16_fine_tune")
    found = evaluate.paired_gain(ensemble, vgg, n=400)
    low, high = found["interval"]
    assert found["gain"] == pytest.approx(0.8938 - 0.8892, abs=1e-4)
    assert 0 < low < found["gain"] < high < 0.01
    assert (found["n_clips"], found["n_recordings"]) == (2016, 2016)
    assert found["genres"]["Vocal"][0] < 0 < found["genres"]["Pop"][1]
    spread = np.subtract(*evaluate.confidence_intervals(ensemble, n=400)["macro_auc"][::-1])
    assert high - low < spread / 2


def test_table_has_the_agreed_columns_and_survives_parquet(tmp_path):
    table = random_table()
    table.to_parquet(tmp_path / "t.parquet")
    back = pd.read_parquet(tmp_path / "t.parquet")
    assert list(back) == ["split", "genre", "recording", *GENRES] and back.index.name == "clip_id"
    assert tables.genres_of(back) == GENRES
    assert tables.proba_of(back).shape == (60, 3) and tables.proba_of(back).dtype == np.float64
    assert tables.labels_of(back)[:6].tolist() == [0, 0, 0, 1, 1, 1]
    assert scores(back) == scores(table)


def test_float_noise_in_the_sums_is_divided_out():
    proba = np.array([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4]], dtype=np.float16)
    table = tables.probability_table(["a", "b"], "train", ["Rock", "Rock"], ["x", "y"], proba, GENRES)
    assert np.abs(tables.proba_of(table).sum(axis=1) - 1).max() < 1e-12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": ["a", "a"]}, "'a' occurs more than once"),
        ({"split": "dev"}, "unknown split 'dev'; choose from train, validation, test"),
        ({"split": ["test"]}, "split has shape"),
        ({"genre": ["Rock", "Polka"]}, "'b' has the genre 'Polka'; the genres are Rock, Hip hop"),
        ({"genre": ["Rock", None]}, "'b' has no genre"),
        ({"recording": ["x", np.nan]}, "'b' has no recording"),
        ({"proba": [[0.2, 0.3, 0.5], [0.2, np.nan, 0.5]]}, "'b' are not finite or are negative"),
        ({"proba": [[-0.1, 0.6, 0.5], [0.2, 0.3, 0.5]]}, "'a' are not finite or are negative"),
        ({"proba": [[0.2, 0.3, 0.5], [0.2, 0.3, 0.6]]}, "'b' sum to 1.1, not to 1"),
        ({"proba": [[0.5, 0.5], [0.5, 0.5]]}, "shape"),
        ({"genres": ["Rock", "Rock", "Hip hop"]}, "two different genres"),
        ({"genres": ["Rock"]}, "two different genres"),
        ({"genres": ["Rock", "Hip hop", "split"]}, "a genre cannot be called 'split'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(change, message):
    good = {
        "index": ["a", "b"],
        "split": ["test", "train"],
        "genre": ["Rock", "Hip hop"],
        "recording": ["x", "y"],
        "proba": [[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]],
        "genres": GENRES,
    }
    tables.probability_table(**good)
    with pytest.raises(UsageError, match=message):
        tables.probability_table(**{**good, **change})


def test_accessors_refuse_what_is_no_table():
    table = random_table()
    with pytest.raises(UsageError, match="categorical column 'genre'"):
        tables.genres_of(table.assign(genre=table["genre"].astype(str)))
    with pytest.raises(UsageError, match="no column for 'Rock'"):
        tables.proba_of(table.drop(columns="Rock"))
    table.loc["c004", "genre"] = None
    with pytest.raises(UsageError, match="'c004' has no genre"):
        tables.labels_of(table)


def test_absent_genre_has_no_auc_and_the_macro_auc_is_over_the_others():
    table = random_table()
    found = scores(table[table["genre"] != "Rock"])
    assert np.isnan(found["auc/Rock"])
    assert found["macro_auc"] == pytest.approx((found["auc/Hip hop"] + found["auc/Æther & noise"]) / 2)


def test_one_genre_only_has_accuracy_but_no_auc(recwarn):
    table = random_table()
    table = table[table["genre"] == "Rock"]
    found = scores(table)
    assert np.isnan(found["macro_auc"]) and found["accuracy"] > 0 and found["log_loss"] > 0
    assert np.isnan(evaluate.confidence_intervals(table, n=20)["macro_auc"]).all()
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


@pytest.mark.parametrize("labels", [[], [0, 3], [-1, 0], [0.0, 1.0]])
def test_labels_that_do_not_fit_are_refused(labels):
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
    """Few distinct scores, so ties abound; clips repeated as drawn and scored one by one."""
    k, rows = data
    genres = [f"g{i}" for i in range(k)]
    y = np.array([row[0] for row in rows])
    proba = np.array([row[1] for row in rows], dtype=float) + 0.01
    proba /= proba.sum(axis=1, keepdims=True)
    ids = [f"{i:02d}" for i in range(len(y))]
    table = tables.probability_table(ids, "test", [genres[i] for i in y], ids, proba, genres)
    proba = tables.proba_of(table)
    found = evaluate.bootstrap_metrics(table, n=3, seed=seed, groups=None)
    rng = np.random.default_rng(seed)
    for b in range(3):
        drawn = rng.integers(len(y), size=len(y))
        expected = sklearn_scores(y[drawn], proba[drawn], genres)
        assert list(found) == list(expected)
        np.testing.assert_allclose(found.loc[b].to_numpy(), list(expected.values()), atol=1e-9)


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
    mixed = table.iloc[list(order)]
    assert scores(mixed) == pytest.approx(scores(table), abs=1e-12)
    pd.testing.assert_frame_equal(
        evaluate.bootstrap_metrics(mixed, n=5), evaluate.bootstrap_metrics(table, n=5), atol=1e-12
    )
    pd.testing.assert_frame_equal(tables.per_recording(mixed), tables.per_recording(table), atol=1e-12)
    assert evaluate.fit_threshold(mixed) == evaluate.fit_threshold(table)


def test_bootstrap_is_seeded_and_the_same_in_chunks(monkeypatch):
    table = random_table()
    whole = evaluate.bootstrap_metrics(table, n=30, seed=4)
    assert not whole.equals(evaluate.bootstrap_metrics(table, n=30, seed=5))
    monkeypatch.setattr(resampling, "CHUNK_CELLS", 7 * len(table))
    pd.testing.assert_frame_equal(evaluate.bootstrap_metrics(table, n=30, seed=4), whole, atol=1e-12)


def test_recordings_are_drawn_whole():
    """Every clip three times over must not narrow the interval, as drawing clips would."""
    single = random_table(n=40, per_recording=1)
    ids = [f"{clip}#{copy}" for copy in range(3) for clip in single.index]
    tripled = pd.concat([single] * 3).set_axis(pd.Index(ids, name="clip_id"))
    assert evaluate.confidence_intervals(tripled)["macro_auc"] == pytest.approx(
        evaluate.confidence_intervals(single)["macro_auc"]
    )
    low, high = evaluate.confidence_intervals(tripled, groups=None)["macro_auc"]
    wide_low, wide_high = evaluate.confidence_intervals(single)["macro_auc"]
    assert high - low < 0.75 * (wide_high - wide_low)


def test_intervals_hold_the_value_itself():
    table = random_table(n=300)
    found, bounds = scores(table), evaluate.confidence_intervals(table)
    assert set(bounds) == set(found)
    assert all(low < found[name] < high for name, (low, high) in bounds.items())


@pytest.mark.parametrize(
    ("options", "message"), [({"n": 0}, "at least 1"), ({"groups": "artist"}, "no column 'artist'")]
)
def test_bootstrap_refuses(options, message):
    with pytest.raises(UsageError, match=message):
        evaluate.bootstrap_metrics(random_table(), **options)


def test_empty_split_is_named():
    table = random_table()
    empty = table[table["split"] == "train"]
    for function in (evaluate.bootstrap_metrics, evaluate.confidence_intervals, evaluate.fit_threshold):
        with pytest.raises(UsageError, match="no clips to evaluate"):
            function(empty)


def test_a_model_gains_nothing_over_itself():
    table = random_table()
    found = evaluate.paired_gain(table, table, n=50)
    assert found["gain"] == 0 and found["interval"] == (0, 0)
    assert set(found["genres"].values()) == {(0, 0, 0)}
    assert found["n_recordings"] == 20


def test_gain_is_on_the_common_clips_whatever_the_order_of_rows_and_genres():
    good, poor = random_table(1), random_table(2)
    chance = poor.assign(**dict.fromkeys(GENRES, 1 / 3)).iloc[::-1]
    chance["genre"] = chance["genre"].cat.reorder_categories(GENRES[::-1])
    found = evaluate.paired_gain(good.iloc[:45], chance.iloc[:45], n=200)
    both = good.loc["c015":"c044"]
    assert found["n_clips"] == 30 and found["n_recordings"] == 10
    assert found["gain"] == pytest.approx(scores(both)["macro_auc"] - 0.5)
    assert found["interval"][0] > 0
    assert found["genres"]["Rock"][0] == pytest.approx(scores(both)["auc/Rock"] - 0.5)
    mirrored = evaluate.paired_gain(chance, good.iloc[:45], n=200)
    assert mirrored["gain"] < 0


def test_gain_refuses_tables_that_cannot_be_compared():
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


def test_per_recording_is_the_mean_over_clips():
    table = random_table()
    means = tables.per_recording(table)
    assert len(means) == 20 and list(means) == list(table) and means.index.name == "clip_id"
    assert tables.genres_of(means) == GENRES
    row = means[means["recording"] == "r4"].iloc[0]
    np.testing.assert_allclose(row[GENRES].astype(float), tables.proba_of(table)[12:15].mean(axis=0))
    assert row["genre"] == "Hip hop" and row.name == "c012"
    np.testing.assert_allclose(tables.proba_of(means).sum(axis=1), 1)
    assert scores(means)["macro_auc"] > scores(table)["macro_auc"]


def test_a_recording_of_two_genres_gives_two_rows():
    means = tables.per_recording(random_table().assign(recording="one artist"))
    assert means["genre"].tolist() == GENRES and means.index.is_unique


def test_summary_has_every_split_and_intervals_only_where_nothing_was_fitted():
    table = random_table(n=90)
    table["split"] = ["train"] * 30 + ["validation"] * 30 + ["test"] * 30
    found, test = evaluate.summarise_scores(table), table[table["split"] == "test"]
    assert found["test_macro_auc"] == scores(test)["macro_auc"] and "test_auc/Rock" in found
    assert (found["test_accuracy_low"], found["test_accuracy_high"]) == evaluate.confidence_intervals(test)["accuracy"]
    assert found["test_recording_macro_auc"] == scores(tables.per_recording(test))["macro_auc"]
    assert "train_log_loss" in found and "train_log_loss_low" not in found and "validation_auc/Rock_high" in found


def confident(confidences: list[float], right: list[bool]) -> pd.DataFrame:
    proba = [[c, 1 - c] for c in confidences]
    ids = [str(i) for i in range(len(proba))]
    return tables.probability_table(ids, "validation", ["a" if r else "b" for r in right], ids, proba, ["a", "b"])


@pytest.mark.parametrize(
    ("confidences", "right", "precision", "expected"),
    [
        ([0.9, 0.8, 0.7, 0.6], [True, True, True, False], 0.8, 0.7),
        ([0.9, 0.8, 0.7, 0.6], [True, True, True, True], 0.8, 0.6),
        ([0.9, 0.8, 0.7, 0.6, 0.55], [False, True, True, True, True], 0.8, 0.55),  # recovers lower down
        ([0.9, 0.8, 0.8, 0.6], [True, True, False, False], 0.8, 0.9),  # equal confidences stand or fall together
        ([0.9, 0.8, 0.7, 0.6], [False, True, False, True], 0.8, 0.6),  # never reached: best is a half, with most clips
        ([0.9, 0.6], [False, False], 0.8, 0.6),
    ],
)
def test_threshold(confidences, right, precision, expected):
    found = evaluate.fit_threshold(confident(confidences, right), precision)
    assert found["confidence"] == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(51, 99), st.booleans()), min_size=1, max_size=30),
    st.floats(0.05, 1.0),
)
def test_threshold_keeps_its_promise(rows, precision):
    table = confident([c / 100 for c, _ in rows], [right for _, right in rows])
    threshold = evaluate.fit_threshold(table, precision)["confidence"]
    confidence, right = tables.proba_of(table).max(axis=1), tables.labels_of(table) == 0
    reached = {t: right[confidence >= t].mean() for t in confidence}
    enough = [t for t, share in reached.items() if share >= precision]
    best = [t for t, share in reached.items() if share == max(reached.values())]
    assert threshold == min(enough or best) and 0 <= threshold <= 1


@pytest.mark.parametrize("precision", [0, -0.1, 1.2, float("nan")])
def test_threshold_refuses(precision):
    with pytest.raises(UsageError, match="precision"):
        evaluate.fit_threshold(random_table(), precision)


def test_poor_tables_have_defined_scores_and_intervals(recwarn):
    table = random_table()
    constant = table.assign(**dict.fromkeys(GENRES, 1 / 3))
    assert scores(constant)["macro_auc"] == 0.5 and evaluate.confidence_intervals(constant, n=50)["macro_auc"] == (
        0.5,
        0.5,
    )
    alone = evaluate.summarise_scores(table.iloc[:1].assign(split="validation"))
    assert alone["validation_accuracy"] in (0, 1) and np.isnan(alone["validation_macro_auc"])
    assert alone["validation_accuracy_low"] == alone["validation_accuracy_high"] == alone["validation_accuracy"]
    absent = evaluate.summarise_scores(table[table["genre"] != "Rock"])
    assert np.isnan(absent["test_auc/Rock_low"]) and 0 < absent["test_macro_auc_low"] < absent["test_macro_auc_high"]
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


@pytest.mark.parametrize(
    "function", [scores, evaluate.summarise_scores, evaluate.confidence_intervals, tables.per_recording]
)
def test_not_a_number_is_refused_with_the_clip(function):
    table = random_table()
    table.loc["c007", "Rock"] = np.nan
    with pytest.raises(UsageError, match="'c007' are not finite"):
        function(table)
