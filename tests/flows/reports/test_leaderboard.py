import json
from unittest.mock import Mock

import mlflow
import numpy as np
import pytest

from flows.reports import leaderboard
from flows.reports.leaderboard import ModelOutcome, ModelStatus
from genre import evaluate
from tests.support.simulation import two_models
from tracking import results, runs

FAILED = ModelOutcome(ModelStatus.FAILED, "no memory")


@pytest.mark.parametrize("status", ModelStatus)
def test_a_model_is_trained_by_its_status_whatever_the_reason(status):
    outcomes = [ModelOutcome(status), ModelOutcome(status, "trained")]
    assert {outcome.is_trained for outcome in outcomes} == {status.name in ("TRAINED", "REUSED")}
    assert list(map(str, outcomes)) == [status.value, f"{status.value}: trained"]


@pytest.mark.parametrize("reason", ["", "chosen"])
def test_the_page_of_the_experiment_is_replaced_where_a_model_is_chosen(tmp_path, monkeypatch, reason):
    replaced, tables = [], []
    monkeypatch.setattr(leaderboard.results, "set_experiment_page", lambda *_, replace: replaced.append(replace))
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


def test_nobody_to_compare_with():
    board = leaderboard.rank_models({}, {"svm": FAILED})
    assert leaderboard.add_leads(board, evaluate.compare_models({}))["lead"].isna().all()


def test_the_experiment_opens_on_its_leaderboard(tmp_path, monkeypatch):
    """As MLflow's page reads it: an envelope with a name, times and a state, whose columns are metrics that we log."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri)
    run_id = client.create_run(client.create_experiment("mine", artifact_location=str(tmp_path))).info.run_id
    monkeypatch.setattr(runs, "MlflowClient", lambda: client)
    results.set_experiment_page(run_id, "note " * 2000, replace=True)
    results.set_experiment_page(run_id, "of one model", replace=False)
    tags = client.get_experiment_by_name("mine").tags
    assert tags["mlflow.note.content"].startswith("note ")
    view = json.loads(tags["mlflow.sharedViewState.leaderboard"])
    assert view["name"] == "Leaderboard" and isinstance(view["createdAt"], int)
    state = json.loads(view["state"])
    _, model = two_models(np.random.default_rng(0), n_clips=60, n_genres=3, skills=(0.5, 2.5))
    logged = {f"metrics.`{name}`" for name in [*evaluate.summarise_scores(model), "fit_seconds"]}
    assert {c for c in state["selectedColumns"] if c.startswith("metrics.")} <= logged
    assert state["orderByKey"] in state["selectedColumns"] and state["orderByAsc"] is False
    sections = [section["uuid"] for section in state["compareRunSections"]]
    assert {f"metrics.`{chart['metricKey']}`" for chart in state["compareRunCharts"]} <= logged
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == set(sections)
