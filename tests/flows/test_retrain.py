"""Decision, outcome and cost of a retraining."""

import logging
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import mlflow
import pandas as pd
import pytest
from prefect.logging import disable_run_logger

from flows import checks, retrain
from flows.decisions import PromotionDecision, PromotionOutcome
from flows.drift import DriftFinding
from flows.reports import tables
from flows.retrain import RetrainingDecision, RetrainingOutcome, changed_share, reason_to_skip
from genre.config import AudioConfig
from genre.errors import UsageError
from genre.workspace import Workspace
from tracking import cost, results


@pytest.fixture
def champion(tmp_path, home):
    """Register a version trained on ten clips of ten recordings, all still in the workspace ``mine``."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    run = client.create_run(client.create_experiment("mine", artifact_location=(tmp_path / "artifacts").as_uri()))
    clips = make_clips(10)
    results.log_table(run.info.run_id, clips.assign(split="train", jazz=0.5, rock=0.5), "probabilities")
    client.create_registered_model("genre")
    version = client.create_model_version("genre", "here", run.info.run_id, tags={"data_set": "mine"})
    fill_workspace(clips)
    yield version
    mlflow.set_tracking_uri(before)


def make_clips(n):
    """Return clips of as many recordings, of jazz and rock in turn."""
    ids = [f"clip-{i}" for i in range(n)]
    return pd.DataFrame({"clip_id": ids, "genre": ["jazz", "rock"] * (n // 2), "recording": ids})


def fill_workspace(clips):
    """Write the clips and their splits to the workspace."""
    workspace = Workspace("mine")
    workspace.write_clips(clips.assign(status="ok", reason=""))
    workspace.write_splits(clips[["recording"]].assign(split="train"))


def decide(champion, min_change):
    """Return the decision to skip a training, or None."""
    with disable_run_logger():
        return reason_to_skip.fn(Workspace("mine"), AudioConfig(), champion, min_change, 0.0, "no run")


@pytest.mark.parametrize(("n_test", "is_told"), [(4, True), (6, False)])
def test_too_few_tracks_for_a_champion_are_told_before_the_training(home, caplog, monkeypatch, n_test, is_told):
    monkeypatch.setattr(retrain, "get_run_logger", lambda: logging.getLogger("retrain"))
    clips = make_clips(20)
    workspace = Workspace("mine")
    workspace.write_clips(clips.assign(status="ok", reason=""))
    workspace.write_splits(clips[["recording"]].assign(split=["test"] * n_test + ["train"] * (20 - n_test)))
    retrain.warn_of_few_tracks(workspace)
    told = "each genre needs 3 test recordings, and there are: jazz 2, rock 2; about twenty tracks of each genre"
    assert (told in caplog.text) == is_told and bool(caplog.messages) == is_told


def test_the_same_clips_have_not_changed(champion):
    assert changed_share(Workspace("mine"), champion) == 0


def test_added_removed_and_relabelled_clips_have_changed(champion):
    clips = make_clips(12)
    clips.loc[1, "genre"] = "jazz"
    fill_workspace(clips.drop(index=0))
    # 0 was removed, 1 relabelled, 10 and 11 added; as pairs of clip and genre, 1 counts twice
    assert changed_share(Workspace("mine"), champion) == pytest.approx(5 / 13)


@pytest.mark.parametrize(("min_change", "is_worth"), [(0.0, True), (1 / 6, True), (0.17, False), (1.0, False)])
def test_nothing_is_trained_below_the_required_share(champion, min_change, is_worth):
    fill_workspace(make_clips(12))
    skipped = decide(champion, min_change)
    assert (skipped is None) == is_worth
    if not is_worth:
        assert skipped.outcome is RetrainingOutcome.SKIPPED
        assert "16.7% of the clips changed since version 1" in skipped.sentence
        assert f"below the required {min_change:.1%}" in skipped.sentence


def test_without_a_champion_of_this_data_set_models_are_trained(champion):
    assert decide(None, 1.0) is None
    champion.tags["data_set"] = "another"
    assert decide(champion, 1.0) is None


@pytest.mark.parametrize(("n_shifted", "n_clips", "is_worth"), [(0, 12, False), (2, 12, True), (2, 10, False)])
def test_any_change_is_enough_where_the_music_has_shifted(
    champion, monkeypatch, tmp_path, n_shifted, n_clips, is_worth
):
    fill_workspace(make_clips(n_clips))
    monkeypatch.setenv("GENRE_LOG", str(tmp_path))
    monkeypatch.setattr(retrain.drift, "measure_drift", lambda *arguments: DriftFinding(n_shifted, "rms 0.40"))
    with disable_run_logger():
        skipped = reason_to_skip.fn(Workspace("mine"), AudioConfig(), champion, 1.0, 0.25, "no run")
    assert (skipped is None) == is_worth
    if skipped:
        assert ("has drifted" in skipped.sentence) == (n_shifted > 0) == ("(rms 0.40)" in skipped.sentence)


@pytest.mark.parametrize("sentence", ["", "nothing to register", "version 1 of genre: promoted"])
def test_the_state_is_named_after_the_outcome_whatever_the_sentence(sentence):
    decisions = {
        outcome.name: RetrainingDecision.from_promotion(PromotionDecision(outcome, sentence))
        for outcome in PromotionOutcome
    }
    assert {name: decision.outcome.value for name, decision in decisions.items()} == {
        "PROMOTED": "Promoted",
        "REFUSED": "Refused",
        "UNCHANGED": "Unchanged",
        "NOT_REGISTERED": "Refused",
        "UNDECIDED": "Undecided",
    }
    assert {decision.sentence for decision in decisions.values()} == {sentence}


@pytest.mark.parametrize(
    ("outcome", "events"),
    [
        ("PROMOTED", ["retrain.promoted"]),
        ("REFUSED", ["retrain.refused"]),
        ("UNDECIDED", ["retrain.undecided"]),
        ("UNCHANGED", []),
        ("SKIPPED", []),
    ],
)
def test_an_outcome_is_tagged_and_published_and_sent_if_a_version_was_judged(champion, monkeypatch, outcome, events):
    sent = []
    pages = []
    monkeypatch.setattr(retrain.drift, "emit_model_event", lambda event, name, text: sent.append(event))
    monkeypatch.setattr(retrain.tables, "publish_retraining", lambda *arguments: pages.append(arguments[3:5]))
    with disable_run_logger():
        retrain.report_outcome.fn("genre", None, RetrainingDecision(RetrainingOutcome[outcome], "why"), champion.run_id)
    tags = mlflow.MlflowClient().get_run(champion.run_id).data.tags
    assert (tags["outcome"], tags["decision"]) == (outcome.capitalize(), "why")
    assert (sent, pages) == (events, [(outcome.capitalize(), "why")])


@pytest.mark.parametrize(("change", "shift"), [(-0.1, 0.0), (1.1, 0.0), (0.0, -1.0)])
def test_thresholds_out_of_range_are_refused(change, shift):
    with pytest.raises(UsageError, match="must be a"):
        checks.check_thresholds(change, shift)


def test_drift_without_a_log_is_refused(monkeypatch):
    monkeypatch.delenv("GENRE_LOG", raising=False)
    with pytest.raises(UsageError, match="GENRE_LOG"):
        checks.check_thresholds(0.0, 0.25)


def test_the_usage_adds_up_each_stage_and_keeps_one_that_failed():
    @cost.timed
    def build(seconds):
        cost.count_clips(5)
        time.sleep(seconds)

    @cost.timed
    def train():
        raise ValueError

    with cost.measure_usage() as usage:
        build(0.1)
        build(0.2)
        with pytest.raises(ValueError):
            train()
    assert usage.seconds["build"] >= 0.3 and usage.clips == {"build": 10}
    assert usage.metrics["clips_per_second_build"] == 10 / usage.seconds["build"]
    assert {"seconds_build", "seconds_train", "peak_memory_mb"} < set(usage.metrics)
    assert [line.split()[0] for line in usage.text.splitlines()[1:3]] == ["build", "train"]


def test_time_in_which_a_stage_runs_twice_at_once_counts_once():
    @cost.timed
    def train(seconds):
        time.sleep(seconds)

    with cost.measure_usage() as usage, ThreadPoolExecutor() as threads:
        started = time.perf_counter()
        for future in [threads.submit(copy_context().run, train, 0.5) for _ in range(4)]:
            future.result()
        elapsed = time.perf_counter() - started
    assert 0.5 <= usage.seconds["train"] <= elapsed


def test_memory_is_the_total_of_all_processes(monkeypatch):
    monkeypatch.setattr(cost, "SAMPLE_INTERVAL_S", 0.05)
    with cost.measure_usage() as usage_alone:
        time.sleep(0.2)
    code = "import sys; held = b'x' * 200_000_000; print('held', flush=True); sys.stdin.read()"
    with cost.measure_usage() as usage_with_child:
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()
        time.sleep(0.2)
        child.communicate()
    assert usage_with_child.peak_mb > usage_alone.peak_mb + 190


def test_outside_a_flow_no_usage_is_measured():
    assert cost.timed(len)([1, 2]) == 2
    cost.count_clips(1)


def test_an_interval_is_one_column_and_a_missing_value_is_blank():
    table = pd.DataFrame(
        {"model": ["svm", "gone"], "auc": [0.5, None], "auc_low": [0.4, None], "auc_high": [0.6, None]}
    )
    shown = tables.format_table(table)
    assert shown.to_dict("list") == {"model": ["svm", "gone"], "auc": ["0.500", ""], "auc 95 %": ["[0.400, 0.600]", ""]}
    assert tables.to_markdown(shown).splitlines()[2] == "| svm | 0.500 | [0.400, 0.600] |"
