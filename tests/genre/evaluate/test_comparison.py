from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from genre import ensemble, evaluate
from genre.errors import UsageError
from genre.probabilities.tables import Level, align_tables, genres_of, labels_of, per_track, proba_of, probability_table
from tests.support.project import ROOT
from tests.support.simulation import share_promoted, two_models
from tests.support.tables import consistent_tracks, disputed_tracks

IN_TESTS = ROOT / "tests" / "data" / "paper_probabilities.npz"


@pytest.fixture(params=["tests/data", "shared"])
def paper(request: pytest.FixtureRequest) -> dict[str, pd.DataFrame]:
    """The published probability tables: the copy in tests/data, and the original with file names."""
    path = IN_TESTS
    if request.param == "shared":
        path = request.getfixturevalue("shared") / "paper/test_probabilities.npz"
    names = ("logistic_regression", "random_forest", "svm", "xgboost", "vgg16_fine_tune")
    with np.load(path) as published:
        genres = [str(genre) for genre in published["genres"]]
        y = published["y_true"]
        ids = published["file_name"] if "file_name" in published else [f"clip{i:04d}" for i in range(len(y))]
        return {
            name: probability_table(ids[:n], "test", [genres[k] for k in y[:n]], ids[:n], published[name], genres)
            for name, n in zip(names, (2027, 2027, 2027, 2027, 2016), strict=True)
        }


def ensemble_of(paper: dict[str, pd.DataFrame], mean: str) -> pd.DataFrame:
    return ensemble.combine_tables(align_tables([paper["vgg16_fine_tune"], paper["xgboost"]]), mean)


def test_mcnemar_equals_the_papers_p_values(paper):
    assert evaluate.mcnemar_test(ensemble_of(paper, "arithmetic"), paper["vgg16_fine_tune"]) == pytest.approx(
        0.049, abs=5e-4
    )
    assert evaluate.mcnemar_test(paper["xgboost"], paper["svm"]) == pytest.approx(0.064, abs=5e-4)
    assert evaluate.mcnemar_test(paper["random_forest"], paper["logistic_regression"]) == pytest.approx(0.30, abs=5e-3)


def test_interval_and_geometric_mean_equal_those_of_the_published_ensemble(paper):
    low, high = evaluate.confidence_intervals(ensemble_of(paper, "arithmetic"))["macro_auc"]
    assert (low, high) == pytest.approx((0.884, 0.904), abs=0.0015)
    table = ensemble_of(paper, "geometric")
    scores = evaluate.compute_metrics(labels_of(table), proba_of(table), genres_of(table))
    values = [scores[key] for key in ("accuracy", "macro_f1", "macro_auc")]
    assert values == pytest.approx([0.6543, 0.6286, 0.8978], abs=6e-5)


def table_of(right: str) -> pd.DataFrame:
    """Probability table of two genres in which the clips marked ``1`` are predicted right."""
    ids = [f"{i:02d}" for i in range(len(right))]
    proba = [[0.7, 0.3] if mark == "1" else [0.3, 0.7] for mark in right]
    return probability_table(ids, "test", ["a"] * len(right), ids, proba, ["a", "b"])


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        ("1111", "1111", 1),
        ("0000", "0000", 1),
        ("111111", "000000", 2 / 64),
        ("1100", "0011", 1),
        ("1111100", "0000011", 2 * binom.cdf(2, 7, 0.5)),
    ],
)
def test_mcnemar_counts_only_clips_on_which_the_models_differ(first, second, p):
    assert evaluate.mcnemar_test(table_of(first), table_of(second)) == pytest.approx(p)
    assert evaluate.mcnemar_test(table_of(second), table_of(first)) == pytest.approx(p)
    padded = evaluate.mcnemar_test(table_of(first + "10" * 20), table_of(second + "10" * 20))
    assert padded == pytest.approx(p)


def test_compare_models_equals_comparing_each_pair_alone():
    rng = np.random.default_rng(0)
    first, second = two_models(rng, n_clips=90, n_genres=3, skills=(1.0, 2.0))
    tables = {"a": first, "b": second.iloc[::-1], "c": two_models(rng, n_clips=90, n_genres=3, skills=(1, 1))[0]}
    comparisons = evaluate.compare_models(tables, n=100)
    assert list(zip(comparisons["first"], comparisons["second"], strict=True)) == list(combinations(tables, 2))
    for row in comparisons.itertuples():
        alone = evaluate.paired_gain(tables[row.first], tables[row.second], n=100)
        assert (row.gain, row.low, row.high) == pytest.approx((alone["gain"], *alone["interval"]))
        assert (row.accuracy_gain, row.accuracy_low, row.accuracy_high) == pytest.approx(alone["accuracy"])
        assert row.mcnemar == alone["mcnemar"] == evaluate.mcnemar_test(tables[row.first], tables[row.second])
        assert row.n_clips == alone["n_clips"] == 90


def test_fewer_than_two_models_give_an_empty_table():
    assert evaluate.compare_models({}).empty and evaluate.compare_models({"alone": table_of("10")}).empty


def gain_of(
    low: float, high: float, level: Level = "clip", **genres: tuple[float, float, float]
) -> evaluate.PairedGain:
    return evaluate.PairedGain(
        gain=(low + high) / 2,
        interval=(low, high),
        lower=low,
        accuracy=(0, 0, 0),
        mcnemar=1,
        genres=genres,
        level=level,
        n_clips=500,
        n_tracks=300,
        n_recordings=250,
    )


def test_a_gain_must_be_certain_and_no_genre_may_lose_too_much():
    assert evaluate.find_objections(gain_of(0.001, 0.02)) == []
    assert evaluate.find_objections(gain_of(0.01, 0.02), min_gain=0.005) == []
    assert (
        evaluate.find_objections(gain_of(0.01, 0.02, Pop=(-0.05, -0.11, -0.019))) == []
    )  # it may have lost less than 0.02
    (uncertain,) = evaluate.find_objections(gain_of(0.0, 0.02))
    assert uncertain == "the gain in macro AUC over the champion, +0.010 [+0.000, +0.020] on 500 clips, is not certain"
    (small,) = evaluate.find_objections(gain_of(0.001, 0.02), min_gain=0.005, reference_name="version 3")
    assert "over version 3" in small and "not above +0.005" in small
    (pop,) = evaluate.find_objections(gain_of(0.01, 0.02, Pop=(-0.05, -0.08, -0.021), Rock=(0.1, 0.05, 0.2)))
    assert pop == "Pop loses 0.050 AUC [0.021, 0.080]"
    assert evaluate.find_objections(gain_of(float("nan"), float("nan")))


def test_objections_name_the_level_at_which_they_were_found():
    uncertain, pop = evaluate.find_objections(gain_of(-0.01, 0.02, "track", Pop=(-0.05, -0.08, -0.021)))
    assert "the gain in macro AUC per track over the champion" in uncertain
    assert "on 300 tracks of 500 clips, is not certain" in uncertain
    assert pop == "Pop loses 0.050 AUC per track [0.021, 0.080]"


def test_a_gain_by_track_is_that_of_the_tables_of_tracks():
    """A model whose confident clip decides every track beats one with more clips right, by track and not by clip."""
    disputed, other = disputed_tracks(), consistent_tracks()
    by_clip = evaluate.paired_gain(disputed, other, n=50)
    by_track = evaluate.paired_gain(disputed, other, n=50, level="track")
    assert by_clip["accuracy"][0] == pytest.approx(1 / 3 - 3 / 4) and by_track["accuracy"][0] == 1 / 4
    assert (by_track["level"], by_track["n_clips"], by_track["n_tracks"]) == ("track", 24, 8)
    alone = evaluate.paired_gain(per_track(disputed), per_track(other), n=50)
    for key in ("gain", "interval", "accuracy", "mcnemar", "genres"):
        assert by_track[key] == alone[key]
    (row,) = evaluate.compare_models({"a": disputed, "b": other}, n=50, level="track").itertuples()
    assert (row.gain, row.low, row.high) == (by_track["gain"], *by_track["interval"])
    assert (row.n_clips, row.n_tracks) == (24, 8)


def test_one_clip_per_track_gives_the_same_gain_at_both_levels():
    first, second = (
        t.assign(track=t.index) for t in two_models(np.random.default_rng(0), n_clips=60, n_genres=3, skills=(1, 2))
    )
    assert evaluate.paired_gain(second, first, n=50, level="track") == evaluate.paired_gain(second, first, n=50)


def test_at_most_one_in_twenty_is_promoted_without_a_true_difference():
    promoted, mean_gain = share_promoted(400, n_clips=200, n_genres=3, skills=(1.0, 1.0), n=200)
    assert abs(mean_gain) < 0.004
    assert 0 < promoted <= 0.05


@pytest.mark.parametrize(("n_genres", "n_recordings"), [(2, 1), (2, 3), (4, 1), (7, 3), (4, 6)])
def test_few_recordings_promote_no_equal_model(n_genres, n_recordings):
    n_clips = 2 * n_genres * n_recordings
    promoted, _ = share_promoted(100, n_clips=n_clips, n_genres=n_genres, skills=(0.8, 0.8), n=100)
    assert promoted <= (0.05 if n_recordings >= evaluate.MIN_RECORDINGS else 0)


def test_a_year_of_equal_candidates_promotes_nothing():
    n_years = 6
    n_promoted = 0
    for year in range(n_years):
        rng = np.random.default_rng(year)
        # all are equal: each pair shares the difficulty of the clips, as candidates of one pipeline do
        tables = two_models(rng, n_clips=48, n_genres=4, skills=(0.8,) * 53, shared=0.3)
        gains = [
            evaluate.paired_gain(table, tables[0], n=100, seed=k, error=evaluate.spend_error(k))
            for k, table in enumerate(tables[1:])
        ]
        n_promoted += any(not evaluate.find_objections(gain) for gain in gains)
    assert n_promoted <= 1


def test_the_error_of_all_comparisons_is_bounded():
    errors = [evaluate.spend_error(k) for k in range(10_000)]
    assert errors[0] == evaluate.MAX_ERROR and sum(errors) < 0.0412
    assert evaluate.spend_error(0.5) == evaluate.MAX_ERROR / 2.25
    with pytest.raises(UsageError, match="n_earlier is -1; it must be 0 or more"):
        evaluate.spend_error(-1)


def test_a_gain_must_be_more_certain_after_earlier_comparisons():
    a, b = two_models(np.random.default_rng(1), n_clips=120, n_genres=3, skills=(1, 1.6))
    first, tenth = (evaluate.paired_gain(b, a, n=300, error=evaluate.spend_error(k)) for k in (0, 9))
    assert first["lower"] == first["interval"][0] == tenth["interval"][0] and tenth["lower"] < first["lower"]
    (reason,) = evaluate.find_objections(tenth | {"lower": -0.01})
    assert reason.endswith("is not certain: after earlier comparisons on this test music the bound is -0.010")


def test_most_true_gains_are_promoted():
    promoted, mean_gain = share_promoted(25, n_clips=2000, n_genres=7, skills=(1.5, 1.7), n=200)
    assert mean_gain == pytest.approx(0.027, abs=0.003)
    assert promoted >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize(("skills", "least", "most"), [((1.5, 1.5), 0, 0.05), ((1.5, 1.7), 0.8, 1)])
def test_four_hundred_promotions_at_full_size(skills, least, most):
    promoted, _ = share_promoted(400, n_clips=2000, n_genres=7, skills=skills, n=500)
    assert least <= promoted <= most


#: Functions of two tables.
COMPARISONS = {
    "mcnemar": evaluate.mcnemar_test,
    "paired_gain": lambda a, b: evaluate.paired_gain(a, b, n=20),
    "comparisons": lambda a, b: evaluate.compare_models({"a": a, "b": b}, n=20),
}


@pytest.mark.parametrize("compare", COMPARISONS.values(), ids=COMPARISONS)
def test_tables_that_cannot_be_compared_are_refused_and_the_clip_or_genre_named(compare):
    table = table_of("110100")
    with pytest.raises(UsageError, match="no clip in common"):
        compare(table.iloc[:3], table.iloc[3:])
    with pytest.raises(UsageError, match="more than once"):
        compare(table, pd.concat([table, table]))
    renamed = table.rename(columns={"b": "c"}).assign(genre=table["genre"].cat.rename_categories({"b": "c"}))
    with pytest.raises(UsageError, match="different genres: a, b and a, c"):
        compare(table, renamed)
    relabelled = table.assign(genre=pd.Categorical(["b", *table["genre"][1:]], categories=["a", "b"]))
    with pytest.raises(UsageError, match="genre of 1 clips, the first of them '00'"):
        compare(table, relabelled)
    with pytest.raises(UsageError, match="'03' are not finite"):
        compare(table, table.assign(a=np.where(table.index == "03", np.nan, table["a"])))


@pytest.mark.parametrize("compare", COMPARISONS.values(), ids=COMPARISONS)
def test_tables_with_different_clips_are_compared_on_the_common_ones(compare):
    a, b = two_models(np.random.default_rng(1), n_clips=60, n_genres=3, skills=(1, 2))
    result = compare(a.iloc[:40], b.iloc[20:])
    expected = compare(a.iloc[20:40], b.iloc[20:40])
    assert str(result) == str(expected)


def test_a_genre_without_clips_is_left_out_of_the_gain(recwarn):
    a, b = two_models(np.random.default_rng(1), n_clips=60, n_genres=3, skills=(1, 2))
    gain = evaluate.paired_gain(*(t[t["genre"] != "genre 2"] for t in (b, a)), n=50)
    assert np.isnan(gain["genres"]["genre 2"]).all() and np.isfinite(gain["interval"]).all()
    assert not [reason for reason in evaluate.find_objections(gain) if "genre 2" in reason]
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


def test_one_clip_or_constant_predictions_never_suffice_for_promotion():
    a, b = two_models(np.random.default_rng(1), n_clips=60, n_genres=3, skills=(1, 2))
    one_clip = evaluate.paired_gain(b.iloc[:1], a.iloc[:1], n=20)
    assert np.isnan(one_clip["gain"]) and evaluate.find_objections(one_clip)
    constant = a.assign(**dict.fromkeys(genres_of(a), 1 / 3))
    assert evaluate.find_objections(evaluate.paired_gain(constant, constant, n=20))
    assert evaluate.paired_gain(b, constant, n=100)["interval"][0] > 0
