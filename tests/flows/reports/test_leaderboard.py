from unittest.mock import Mock

import numpy as np
import pytest

from flows.reports import leaderboard
from flows.reports.leaderboard import ModelOutcome, ModelStatus
from genre import evaluate
from tests.support.simulation import two_models

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
        leaderboard.experiment_page, "set_experiment_page", lambda *_, replace: replaced.append(replace)
    )
    monkeypatch.setattr(leaderboard.results, "log_table", lambda run_id, table, name: tables.append(table))
    monkeypatch.setattr(leaderboard.runs, "log_metrics", lambda *_: None)
    monkeypatch.setattr(leaderboard, "create_table_artifact", lambda **_: None)
    monkeypatch.setattr(leaderboard, "MlflowClient", Mock)
    for status in (ModelStatus.CHOSEN, ModelStatus.FAILED):
        board = leaderboard.rank_models({}, {"svm": ModelOutcome(status, reason)})
        leaderboard.log_leaderboard("run", board, {}, "note")
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
    assert max(map(len, lines)) < 120 and "nan" not in lines[3] and lines[3].endswith("failed: no memory")


def test_without_scores_there_is_no_lead():
    board = leaderboard.rank_models({}, {"svm": FAILED})
    assert leaderboard.add_leads(board, evaluate.compare_models({}))["lead"].isna().all()
