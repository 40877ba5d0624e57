"""Whether a retraining is worth it, and what its stages cost."""

import subprocess
import sys
import time

import mlflow
import pandas as pd
import pytest
from prefect.logging import disable_run_logger

from flows import retrain
from flows.drift import DriftFinding
from flows.promote import PromotionDecision, PromotionOutcome
from flows.reports import tables
from flows.retrain import RetrainingDecision, RetrainingOutcome, changed_share, reason_to_skip
from genre.config import AudioConfig
from genre.errors import UsageError
from genre.workspace import Workspace
from tracking import cost, results


@pytest.fixture
def champion(tmp_path, home):
    """A version of ten clips of ten recordings, all still in the workspace ``mine``."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    run = client.create_run(client.create_experiment("mine", artifact_location=(tmp_path / "artifacts").as_uri()))
    clips = listed(10)
    results.log_table(run.info.run_id, clips.assign(split="train", jazz=0.5, rock=0.5), "probabilities")
    client.create_registered_model("genre")
    version = client.create_model_version("genre", "here", run.info.run_id, tags={"data_set": "mine"})
    have(clips)
    yield version
    mlflow.set_tracking_uri(before)


def listed(n):
    ids = [f"clip-{i}" for i in range(n)]
    return pd.DataFrame({"clip_id": ids, "genre": ["jazz", "rock"] * (n // 2), "recording": ids})


def have(clips):
    """Make these the clips of the workspace."""
    workspace = Workspace("mine")
    workspace.write_clips(clips.assign(status="ok", reason=""))
    workspace.write_splits(clips[["recording"]].assign(split="train"))


def decision(champion, min_change):
    with disable_run_logger():
        return reason_to_skip.fn(Workspace("mine"), AudioConfig(), champion, min_change, 0.0, "no run")


def test_the_same_clips_have_not_changed(champion):
    assert changed_share(Workspace("mine"), champion) == 0


def test_new_gone_and_renamed_clips_count_among_those_of_then_and_now(champion):
    clips = listed(12)
    clips.loc[1, "genre"] = "jazz"
    have(clips.drop(index=0))
    # 0 is gone, 1 is under another genre, 10 and 11 are new; of the pairs of clip and genre, 1 counts twice
    assert changed_share(Workspace("mine"), champion) == pytest.approx(5 / 13)


@pytest.mark.parametrize(("min_change", "is_worth"), [(0.0, True), (1 / 6, True), (0.17, False), (1.0, False)])
def test_nothing_is_trained_below_the_share_asked_for(champion, min_change, is_worth):
    have(listed(12))
    skipped = decision(champion, min_change)
    assert (skipped is None) == is_worth
    if not is_worth:
        assert skipped.outcome is RetrainingOutcome.SKIPPED
        said = skipped.sentence
        assert "16.7% of the clips changed since version 1" in said and f"{min_change:.1%} are asked for" in said


def test_without_a_champion_of_this_data_set_all_is_worth_it(champion):
    assert decision(None, 1.0) is None
    champion.tags["data_set"] = "another"
    assert decision(champion, 1.0) is None


@pytest.mark.parametrize(("n_shifted", "n_clips", "is_worth"), [(0, 12, False), (2, 12, True), (2, 10, False)])
def test_any_change_is_enough_where_the_music_has_shifted(
    champion, monkeypatch, tmp_path, n_shifted, n_clips, is_worth
):
    have(listed(n_clips))
    monkeypatch.setenv("GENRE_LOG", str(tmp_path))
    monkeypatch.setattr(retrain.drift, "measure_drift", lambda *arguments: DriftFinding(n_shifted, "rms 0.40"))
    with disable_run_logger():
        skipped = reason_to_skip.fn(Workspace("mine"), AudioConfig(), champion, 1.0, 0.25, "no run")
    assert (skipped is None) == is_worth
    if skipped:
        assert ("has drifted" in skipped.sentence) == (n_shifted > 0) == ("(rms 0.40)" in skipped.sentence)


@pytest.mark.parametrize("sentence", ["", "nothing to register", "version 1 of genre: promoted"])
def test_the_state_is_named_by_the_outcome_whatever_the_sentence(sentence):
    named = {
        outcome.name: RetrainingDecision.from_promotion(PromotionDecision(outcome, sentence))
        for outcome in PromotionOutcome
    }
    assert {name: decision.outcome.value for name, decision in named.items()} == {
        "PROMOTED": "Promoted",
        "REFUSED": "Refused",
        "UNCHANGED": "Unchanged",
        "NOT_REGISTERED": "Refused",
    }
    assert {decision.sentence for decision in named.values()} == {sentence}


@pytest.mark.parametrize(
    ("outcome", "events"),
    [("PROMOTED", ["retrain.promoted"]), ("REFUSED", ["retrain.refused"]), ("UNCHANGED", []), ("SKIPPED", [])],
)
def test_an_outcome_is_tagged_published_and_sent_where_a_version_was_judged(champion, monkeypatch, outcome, events):
    sent, pages = [], []
    monkeypatch.setattr(retrain.drift, "emit_model_event", lambda event, name, text: sent.append(event))
    monkeypatch.setattr(retrain.tables, "publish_retraining", lambda *arguments: pages.append(arguments[3:5]))
    with disable_run_logger():
        retrain.report_outcome.fn("genre", None, RetrainingDecision(RetrainingOutcome[outcome], "why"), champion.run_id)
    tags = mlflow.MlflowClient().get_run(champion.run_id).data.tags
    assert (tags["outcome"], tags["decision"]) == (outcome.capitalize(), "why")
    assert (sent, pages) == (events, [(outcome.capitalize(), "why")])


@pytest.mark.parametrize(("change", "shift"), [(-0.1, 0.0), (1.1, 0.0), (0.0, -1.0)])
def test_limits_out_of_range_are_refused(change, shift):
    with pytest.raises(UsageError, match="must be a"):
        retrain.check_thresholds(change, shift)


def test_drift_without_a_log_is_refused(monkeypatch):
    monkeypatch.delenv("GENRE_LOG", raising=False)
    with pytest.raises(UsageError, match="GENRE_LOG"):
        retrain.check_thresholds(0.0, 0.25)


def test_a_bill_adds_up_each_stage_and_keeps_one_that_failed():
    @cost.timed
    def build(seconds):
        cost.count_clips(5)
        time.sleep(seconds)

    @cost.timed
    def train():
        raise ValueError

    with cost.measure_usage() as bill:
        build(0.1)
        build(0.2)
        with pytest.raises(ValueError):
            train()
    assert bill.seconds["build"] >= 0.3 and bill.clips == {"build": 10}
    assert bill.metrics["clips_per_second_build"] == 10 / bill.seconds["build"]
    assert {"seconds_build", "seconds_train", "peak_memory_mb"} < set(bill.metrics)
    assert [line.split()[0] for line in bill.text.splitlines()[1:3]] == ["build", "train"]


def test_memory_is_that_of_every_process(monkeypatch):
    monkeypatch.setattr(cost, "SAMPLE_INTERVAL_S", 0.05)
    with cost.measure_usage() as alone:
        time.sleep(0.2)
    hold = "import sys; held = b'x' * 200_000_000; print('held', flush=True); sys.stdin.read()"
    with cost.measure_usage() as together:
        child = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()
        time.sleep(0.2)
        child.communicate()
    assert together.peak_mb > alone.peak_mb + 190


def test_outside_a_flow_nothing_is_billed():
    assert cost.timed(len)([1, 2]) == 2
    cost.count_clips(1)


def test_intervals_are_one_column_and_what_is_missing_is_blank():
    table = pd.DataFrame(
        {"model": ["svm", "gone"], "auc": [0.5, None], "auc_low": [0.4, None], "auc_high": [0.6, None]}
    )
    shown = tables.format_table(table)
    assert shown.to_dict("list") == {"model": ["svm", "gone"], "auc": ["0.500", ""], "auc 95 %": ["[0.400, 0.600]", ""]}
    assert tables.to_markdown(shown).splitlines()[2] == "| svm | 0.500 | [0.400, 0.600] |"
