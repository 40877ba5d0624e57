from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

from flows.reports import leaderboard
from flows.reports.leaderboard import ModelOutcome, ModelStatus
from genre import evaluate
from genre.workspace import Workspace
from tests.support.simulation import two_models
from tests.support.tables import consistent_tracks, disputed_tracks

FAILED = ModelOutcome(ModelStatus.FAILED, "no memory")


@pytest.mark.parametrize("status", ModelStatus)
def test_a_model_is_trained_by_its_status_whatever_the_reason(status):
    outcomes = [ModelOutcome(status), ModelOutcome(status, "trained")]
    assert {outcome.is_trained for outcome in outcomes} == {status.name in ("TRAINED", "REUSED")}
    assert list(map(str, outcomes)) == [status.value, f"{status.value}: trained"]


@pytest.mark.parametrize("reason", ["", "chosen"])
def test_the_page_of_the_experiment_is_replaced_if_a_model_is_chosen(tmp_path, monkeypatch, reason):
    replaced = []
    tables = []
    monkeypatch.setattr(
        leaderboard.experiment_page, "set_experiment_page", lambda *_, replace, level: replaced.append(replace)
    )
    monkeypatch.setattr(leaderboard.results, "log_table", lambda run_id, table, name: tables.append(table))
    monkeypatch.setattr(leaderboard.runs, "log_metrics", lambda *_: None)
    monkeypatch.setattr(leaderboard, "create_table_artifact", lambda **_: None)
    monkeypatch.setattr(leaderboard, "MlflowClient", Mock)
    for status in (ModelStatus.CHOSEN, ModelStatus.FAILED):
        board = leaderboard.rank_models({}, {"svm": ModelOutcome(status, reason)})
        leaderboard.log_leaderboard("run", Workspace("demo"), board, {}, "note")
    assert replaced == [True, False]
    assert [table["outcome"].tolist() for table in tables] == [
        [": ".join(filter(None, [status, reason]))] for status in ("chosen", "failed")
    ]


def test_the_first_is_compared_with_every_other_and_a_failed_one_stays_blank():
    poor, good = two_models(np.random.default_rng(0), n_clips=120, n_genres=3, skills=(0.5, 2.5))
    tables = {"svm": poor, "catboost": good}
    scored = {name: evaluate.summarise_scores(table.assign(split="validation")) for name, table in tables.items()}
    for name, table in tables.items():
        scored[name] |= evaluate.summarise_scores(table)
    outcomes = dict.fromkeys(("svm", "catboost"), ModelOutcome(ModelStatus.TRAINED)) | {"mel_cnn": FAILED}
    board = leaderboard.rank_models(scored, outcomes)
    assert list(board.index) == ["catboost", "svm", "mel_cnn"]
    pairs = evaluate.compare_models({name: tables[name] for name in ("catboost", "svm")})
    board = leaderboard.add_leads(board, pairs)
    gain = evaluate.paired_gain(good, poor)
    assert board.loc["svm", "lead"] == gain["gain"] > 0
    assert tuple(board.loc["svm", ["lead_low", "lead_high", "lead_mcnemar"]]) == (*gain["interval"], gain["mcnemar"])
    assert board.loc[["catboost", "mel_cnn"], "lead"].isna().all()
    low, high = gain["interval"]
    shown = leaderboard.format_leaderboard(board)
    assert shown["first leads by"].tolist() == ["", f"{gain['gain']:+.3f} [{low:+.3f}, {high:+.3f}]", ""]
    assert shown["McNemar"].tolist() == ["", f"p {gain['mcnemar']:.2g}", ""]
    lines = leaderboard.to_text(board).splitlines()
    assert max(map(len, lines[:4])) < 120 and "nan" not in lines[3] and lines[3].endswith(" failed")
    assert lines[4:] == ["mel_cnn failed: no memory"]


def board_by_track() -> tuple[pd.DataFrame, dict[str, dict[str, float]]]:
    """Leaderboard of a model that is better by track beside one that is better by clip, and their scores."""
    scored = {}
    for name, table in {"by clip": consistent_tracks(), "by track": disputed_tracks()}.items():
        halves = pd.concat([table.iloc[:12].assign(split="validation"), table.iloc[12:]])
        scored[name] = evaluate.summarise_scores(halves) | {"fit_seconds": 1.0}
    outcomes = dict.fromkeys(scored, ModelOutcome(ModelStatus.TRAINED))
    return leaderboard.rank_models(scored, outcomes, level="track"), scored


def test_models_are_ordered_by_track_and_shown_by_clip_beside_it():
    board, scored = board_by_track()
    assert list(board.index) == ["by track", "by clip"]
    outcomes = dict.fromkeys(scored, ModelOutcome(ModelStatus.TRAINED))
    assert list(leaderboard.rank_models(scored, outcomes).index) == ["by clip", "by track"]
    shown = leaderboard.format_leaderboard(board).set_index("model")
    assert list(shown)[:6] == ["validation AUC", "track AUC", "95 %", "track accuracy", "clip AUC", "clip accuracy"]
    assert shown.loc["by track", ["track AUC", "track accuracy", "clip accuracy"]].tolist() == [
        "1.000",
        "1.000",
        "0.333",
    ]
    assert shown.loc["by clip", ["track accuracy", "clip accuracy"]].tolist() == ["0.750", "0.750"]


def test_the_leaderboard_by_track_fits_into_a_terminal():
    board, _ = board_by_track()
    board = board.rename(index={"by clip": "weighted mean of catboost, mel_cnn, svm"})
    lines = leaderboard.to_text(board).splitlines()
    assert max(map(len, lines)) <= 140 and "track AUC" in lines[0] and "clip AUC" in lines[0]
    for at, is_told in ((0, False), (1, True)):
        board["outcome"] = [ModelOutcome(ModelStatus.CHOSEN if n == at else ModelStatus.TRAINED) for n in range(2)]
        assert (leaderboard.CHOICE_NOTE in leaderboard.to_text(board)) == is_told


def test_the_page_and_the_figure_are_of_the_level_that_decides(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        leaderboard.experiment_page, "set_experiment_page", lambda *_, replace, level: seen.update(level=level)
    )
    monkeypatch.setattr(leaderboard.results, "log_table", lambda *_: None)
    monkeypatch.setattr(
        leaderboard.results, "log_derived_figure", lambda run_id, path, draw: seen.update(figure=draw())
    )
    monkeypatch.setattr(leaderboard.runs, "log_metrics", lambda run_id, metrics: seen.update(metrics=metrics))
    monkeypatch.setattr(leaderboard, "create_table_artifact", lambda **_: None)
    monkeypatch.setattr(leaderboard, "MlflowClient", Mock)
    board, scored = board_by_track()
    leaderboard.log_leaderboard("run", Workspace("demo"), board, scored, "note")
    assert seen["level"] == "track" and seen["metrics"]["best_test_track_accuracy"] == 1
    axes = seen["figure"].axes[0]
    assert axes.get_xlabel() == "Macro AUC by track with 95 % interval"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["by clip", "by track"]  # the best on top


def test_without_scores_there_is_no_lead():
    board = leaderboard.rank_models({}, {"svm": FAILED})
    assert leaderboard.add_leads(board, evaluate.compare_models({}))["lead"].isna().all()
