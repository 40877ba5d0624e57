import dataclasses

import numpy as np
import pandas as pd
import pytest

from genre import ensemble, evaluate
from genre.errors import UsageError
from genre.probabilities import pooling
from genre.probabilities.tables import align_tables, genres_of, labels_of, per_track, proba_of, probability_table
from genre.training import selection
from tests.support.project import ROOT
from tests.support.simulation import two_models
from tests.support.tables import consistent_tracks, disputed_tracks

DATA = ROOT / "tests" / "data" / "paper_probabilities.npz"


def paper_table(name: str, n: int) -> pd.DataFrame:
    with np.load(DATA) as published:
        genres = [str(g) for g in published["genres"]]
        y = published["y_true"][:n]
        ids = [f"clip {i:04d}" for i in range(n)]
        return probability_table(ids, "test", [genres[k] for k in y], ids, published[name][:n], genres)


def scores(table: pd.DataFrame) -> dict[str, float]:
    return evaluate.compute_metrics(labels_of(table), proba_of(table), genres_of(table))


@pytest.fixture(scope="module")
def published() -> dict[str, pd.DataFrame]:
    return {n: paper_table(n, 600) for n in ("logistic_regression", "random_forest", "xgboost", "vgg16_fine_tune")}


@pytest.fixture(scope="module")
def search(published) -> selection.EnsembleSearch:
    return selection.search_ensembles(published)


@pytest.fixture(scope="module")
def ranked(search) -> pd.DataFrame:
    return search.candidates


def test_every_subset_is_scored_and_the_shortlist_under_learnt_rules_too(ranked):
    counts = ranked.groupby([ranked["members"].map(len), "mean"]).size().to_dict()
    plain = {(1, "arithmetic"): 4, (2, "arithmetic"): 6, (2, "geometric"): 6, (3, "arithmetic"): 4, (3, "geometric"): 4}
    assert counts == plain | {(size, mean): 3 for size in (2, 3) for mean in ("weighted", "stacked")}
    assert ranked["macro_auc"].is_monotonic_decreasing and set(ranked["n_clips"]) == {600}


def test_the_best_of_the_papers_models_is_an_ensemble_with_its_best_model(search, ranked):
    assert "vgg16_fine_tune" in ranked["members"][0] and len(ranked["members"][0]) > 1
    alone = ranked[ranked["members"].map(len) == 1]
    assert alone["members"].iloc[0] == ("vgg16_fine_tune",)
    assert len(search.best["members"]) == 2


def test_the_table_of_a_search_explains_the_row_that_is_chosen(search):
    table = search.to_table()
    assert table["chosen"].tolist().count("") == len(table) - 1
    row = table[table["chosen"] != ""].squeeze()
    assert row["chosen"] == search.explanation and row["members"] == ", ".join(search.best["members"])
    silent = dataclasses.replace(search, explanation="")
    pd.testing.assert_series_equal(silent.best, search.best)


def test_scores_are_those_of_the_combined_table(published, ranked):
    for row in ranked[ranked["mean"].isin(ensemble.FIXED_MEANS)].head(4).itertuples():
        table = ensemble.combine_tables([published[name] for name in row.members], row.mean)
        assert (row.macro_auc, row.log_loss) == pytest.approx([scores(table)[k] for k in ("macro_auc", "log_loss")])


def same_but_for_noise(n_clips: int, skills: list[float], seed: int = 0) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    tables = [two_models(rng, n_clips=n_clips, n_genres=3, skills=(s, s), shared=0.0)[0] for s in skills]
    return {f"model {k}": table for k, table in enumerate(tables)}


def test_the_ensemble_is_chosen_by_track_where_tracks_have_several_clips():
    """A model that is better by track is preferred to one that is better by clip."""
    by_track, by_clip = disputed_tracks(), consistent_tracks()
    assert scores(by_clip)["macro_auc"] > scores(by_track)["macro_auc"]
    ranked = selection.search_ensembles({"by clip": by_clip, "by track": by_track}).candidates
    alone = ranked[ranked["members"].map(len) == 1].set_index("members")
    assert alone["macro_auc"].to_dict() == {("by track",): 1, ("by clip",): 0.75}
    assert (set(ranked["n_clips"]), set(ranked["n_tracks"])) == ({24}, {8})
    choice = selection.fit_ensemble({"by track": by_track}, ["by track"], "arithmetic")
    assert (choice.n_clips, choice.n_tracks) == (24, 8)
    served = per_track(choice.ensemble_table({"by track": by_track}))
    assert choice.threshold["confidence"] == pytest.approx(proba_of(served).max(axis=1).min())
    assert choice.threshold["coverage"] == choice.threshold["precision"] == 1


def test_fewer_members_are_chosen_where_more_gain_less_than_a_standard_error():
    good, bad = same_but_for_noise(300, [2.5, 0.0]).values()
    search = selection.search_ensembles({"bad": bad, "good": good, "twin": good})
    assert search.best["members"] in [("good",), ("twin",)]
    assert (search.reason is selection.ChoiceReason.FEWER_MEMBERS) == (search.chosen > 0)
    if search.chosen:
        assert "fewer members" in search.explanation and "one standard error" in search.explanation


def test_more_members_are_chosen_where_they_pay():
    search = selection.search_ensembles(same_but_for_noise(600, [1.0, 1.0, 1.0]))
    assert len(search.best["members"]) == 3
    assert search.reason is selection.ChoiceReason.BEST and search.chosen == 0


def test_equal_auc_is_decided_by_log_loss():
    table = same_but_for_noise(60, [30.0])["model 0"]
    sure = evaluate.apply_temperature(table, 0.9)
    modest = evaluate.apply_temperature(table, 20)
    ranked = selection.search_ensembles({"modest": modest, "sure": sure}).candidates
    alone = ranked[ranked["members"].map(len) == 1]
    assert alone["macro_auc"].nunique() == 1 and alone["members"].tolist() == [("sure",), ("modest",)]


def test_fitted_weights_are_scored_on_other_clips(monkeypatch):
    """Members that are noise: weights fitted and scored on the same clips beat chance, left out they do not."""
    monkeypatch.setattr(selection, "STACK_PENALTY", 1.0)
    parts = align_tables(list(same_but_for_noise(120, [0.0, 0.0, 0.0]).values()))
    fitted = selection.fit_stack_weights([proba_of(t) for t in parts], labels_of(parts[0]))
    assert scores(ensemble.combine_tables(parts, "stacked", fitted))["macro_auc"] > 0.65
    names = [f"model {k}" for k in range(3)]
    left_out = selection._AlignedTables.from_tables(dict(zip(names, parts, strict=True))).held_out(names, "stacked")
    assert scores(left_out)["macro_auc"] < 0.58


def test_a_strong_penalty_holds_the_stack_at_the_geometric_mean(monkeypatch):
    probas = [proba_of(t) for t in same_but_for_noise(60, [1.0, 2.0]).values()]
    monkeypatch.setattr(selection, "STACK_PENALTY", 1e9)
    weights = selection.fit_stack_weights(probas, np.arange(60) // 2 % 3)
    np.testing.assert_allclose(
        ensemble.combine_probabilities(probas, "stacked", weights),
        ensemble.combine_probabilities(probas, "geometric"),
        atol=1e-4,
    )


@pytest.mark.parametrize("mean", [*ensemble.FIXED_MEANS, *ensemble.LEARNT_MEANS])
def test_the_fitted_ensemble_is_the_one_served(mean):
    tables = same_but_for_noise(200, [1.0, 2.0])
    choice = selection.fit_ensemble(tables, list(tables), mean)
    table = choice.ensemble_table(tables)
    probas = [proba_of(t) for t in tables.values()]
    expected = pooling.pool_probabilities(
        [ensemble.combine_probabilities(probas, mean, choice.weights)], np.array([1 / choice.temperature])
    )
    np.testing.assert_allclose(proba_of(table), expected)
    assert choice.n_clips == 200 and choice.threshold["precision"] >= 0.8
    assert scores(table)["log_loss"] < scores(ensemble.combine_tables(list(tables.values()), "arithmetic"))["log_loss"]
    if mean == "weighted":
        assert sum(choice.weights) == pytest.approx(1) and choice.weights[1] > choice.weights[0]


def test_temperature_is_learnt_on_the_clips_that_the_members_have():
    first, second = same_but_for_noise(200, [1.0, 2.0]).values()
    assert selection.fit_ensemble({"a": first, "b": second.iloc[:80]}, ["a"], "arithmetic").n_clips == 200
    assert selection.fit_ensemble({"a": first, "b": second.iloc[:80]}, ["a", "b"], "geometric").n_clips == 80


def test_a_wanted_precision_moves_the_threshold():
    tables = same_but_for_noise(400, [1.0])
    low, high = (selection.fit_ensemble(tables, list(tables), "arithmetic", precision=p).threshold for p in (0.6, 0.9))
    assert low["confidence"] < high["confidence"] and low["coverage"] > high["coverage"]


def test_tables_that_do_not_fit_are_refused():
    first, second = same_but_for_noise(60, [1.0, 2.0]).values()
    with pytest.raises(UsageError, match="no models to choose from"):
        selection.search_ensembles({})
    with pytest.raises(UsageError, match="no clip in common"):
        selection.search_ensembles({"a": first.iloc[:30], "b": second.iloc[30:]})
    with pytest.raises(UsageError, match="'7' are not finite"):
        selection.search_ensembles(
            {"a": first, "b": second.assign(**{"genre 0": second["genre 0"].where(second.index != "7")})}
        )


def test_poor_tables_have_a_choice():
    """One clip, one genre, and answers that are always the same."""
    tables = same_but_for_noise(60, [1.0, 2.0])
    constant = {n: t.assign(**dict.fromkeys(genres_of(t), 1 / 3)) for n, t in tables.items()}
    one_genre = {n: t[t["genre"] == "genre 1"] for n, t in tables.items()}
    for poor in ({n: t.iloc[:1] for n, t in tables.items()}, constant, one_genre):
        best = selection.search_ensembles(poor).best
        choice = selection.fit_ensemble(poor, best["members"], best["mean"])
        assert np.isfinite([choice.temperature, choice.threshold["confidence"]]).all()
