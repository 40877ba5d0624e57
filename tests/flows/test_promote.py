"""Aliases, gate, decisions and model card of a promotion, on a real MLflow store and with real processes."""

import logging
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from prefect.logging import disable_run_logger

from flows import promote, rollback
from flows.decisions import PromotionDecision, PromotionOutcome
from flows.material import Material
from flows.reports.leaderboard import ModelOutcome, ModelStatus
from genre import evaluate, models
from genre.config import AudioConfig
from genre.datasets import SYNTHETIC_WARNING
from genre.errors import GenreError
from genre.files import write_json
from genre.probabilities.tables import probability_table
from genre.safety.model_code import ForeignCodeError
from genre.splits.duplicates import ROBUST_FEATURES
from genre.training import selection
from genre.training.job import code_digest
from genre.workspace import Workspace
from tests.support.place import Place
from tests.support.project import ROOT
from tests.support.simulation import two_models
from tests.support.sounds import tone, write_music
from tests.support.tables import disputed_tracks
from tracking import aliases, gate, model_card, registry, results, scoring
from tracking.gate import ACCEPTED, Finding, SkipReason, Verdict, evaluate_version


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an MLflow database, which each test copies: MLflow takes seconds to make one."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def client(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Make a registry with four versions of ``genre`` and no alias."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    client = MlflowClient()
    client.create_registered_model("genre")
    for _ in range(4):
        client.create_model_version("genre", str(tmp_path))
    yield client
    mlflow.set_tracking_uri(before)


def current_aliases(client: MlflowClient) -> dict[str, int]:
    """Return the aliases of ``genre`` with their versions."""
    return {alias: int(v) for alias, v in client.get_registered_model("genre").aliases.items()}


def test_the_previous_champion_is_kept_and_a_refused_version_may_win_later(client):
    first, second = (client.get_model_version("genre", str(n)) for n in (1, 2))
    aliases.promote_version("genre", first, None)
    assert current_aliases(client) == {"champion": 1}
    text = aliases.refuse_version("genre", second, first, ["not certain", "Pop loses"])
    assert text == "refused: not certain; Pop loses"
    assert current_aliases(client) == {"champion": 1, "challenger": 2}
    tags = client.get_model_version("genre", "2").tags
    assert tags == {"refused": "not certain; Pop loses", "refused_against": "1"}
    aliases.promote_version("genre", client.get_model_version("genre", "2"), first)
    assert current_aliases(client) == {"champion": 2, "previous": 1}
    assert client.get_model_version("genre", "2").tags == {}


def test_a_comparison_with_a_former_champion_promotes_nothing(client):
    first, second, third = (client.get_model_version("genre", str(n)) for n in (1, 2, 3))
    aliases.promote_version("genre", first, None)
    aliases.promote_version("genre", second, first)
    with pytest.raises(GenreError, match="champion of genre changed while this version was compared"):
        aliases.promote_version("genre", third, first)
    assert current_aliases(client) == {"champion": 2, "previous": 1}
    assert [model.name for model in client.search_registered_models()] == ["genre"]


#: Promotes a version of five models once two of these processes are ready; prints the models that it promoted.
RACE = """
import sys, time
from pathlib import Path
import mlflow
from tracking import aliases
uri, mine, folder = sys.argv[1:]
mlflow.set_tracking_uri(uri)
client = mlflow.MlflowClient()
new = {name: client.get_model_version(name, mine) for name in ("a", "b", "c", "d", "e")}
old = {name: client.get_model_version(name, "1") for name in new}
(Path(folder) / mine).touch()
while len(list(Path(folder).iterdir())) < 2:
    time.sleep(0.001)
for name in new:
    try:
        aliases.promote_version(name, new[name], old[name])
        print("won", name)
    except aliases.GenreError as error:
        assert "changed while" in str(error), error
"""


def test_of_two_promotions_at_once_one_wins(client, tmp_path):
    for name in "abcde":
        client.create_registered_model(name)
        for _ in range(3):
            client.create_model_version(name, str(tmp_path))
        client.set_registered_model_alias(name, "champion", "1")
    (tmp_path / "ready").mkdir()
    both = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, mlflow.get_tracking_uri(), mine, str(tmp_path / "ready")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for mine in ("2", "3")
    ]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    won = [set(out.split("\n")) - {""} for out, _ in outputs]
    assert won[0] | won[1] == {f"won {name}" for name in "abcde"} and not won[0] & won[1]
    for name in "abcde":
        winner = 2 if f"won {name}" in won[0] else 3
        assert {k: int(v) for k, v in client.get_registered_model(name).aliases.items()} == {
            "champion": winner,
            "previous": 1,
        }


def test_the_lock_of_a_killed_promotion_is_removed_after_a_while(client, monkeypatch):
    first = client.get_model_version("genre", "1")
    client.create_registered_model(f"genre{aliases.LOCK_SUFFIX}")
    monkeypatch.setattr(aliases, "LOCK_TIMEOUT_S", 0.3)
    with pytest.raises(GenreError, match="under way and does not end; try again"):
        aliases.promote_version("genre", first, None)
    assert current_aliases(client) == {}
    monkeypatch.setattr(aliases, "LOCK_STALE_S", 0.1)
    aliases.promote_version("genre", first, None)
    assert current_aliases(client) == {"champion": 1}


def test_rolling_back_twice_restores_the_aliases(client):
    first, second = (client.get_model_version("genre", str(n)) for n in (1, 2))
    aliases.promote_version("genre", first, None)
    with pytest.raises(GenreError, match="no champion of genre before version 1 to roll back to; nothing was changed"):
        aliases.roll_back("genre")
    aliases.promote_version("genre", second, first)
    assert "version 1 of genre is champion again" in aliases.roll_back("genre")
    assert current_aliases(client) == {"champion": 1, "previous": 2}
    assert client.get_model_version("genre", "2").tags["rolled_back"].endswith("to version 1")
    aliases.roll_back("genre")
    assert current_aliases(client) == {"champion": 2, "previous": 1}
    assert "rolled_back" not in client.get_model_version("genre", "2").tags


def test_nothing_is_promoted_after_a_rollback_until_the_hold_is_lifted(client):
    versions = [client.get_model_version("genre", str(n)) for n in (1, 2, 3)]
    aliases.promote_version("genre", versions[0], None)
    aliases.promote_version("genre", versions[1], versions[0])
    assert "nothing is promoted until the hold is lifted" in aliases.roll_back("genre")
    with pytest.raises(GenreError, match=r"genre is on hold, rolled back on .* from version 2; to lift it, run"):
        aliases.promote_version("genre", versions[2], versions[0])
    held = promote.decide_promotion.fn(material("a", "b"), None, "genre", "no run", 0.0, replace=True)
    assert held.outcome is PromotionOutcome.UNDECIDED and held.sentence.startswith("not registered: genre is on hold")
    assert current_aliases(client) == {"champion": 1, "previous": 2}
    assert aliases.lift_hold("genre").startswith("the hold on genre is lifted")
    assert aliases.lift_hold("genre") == "genre is not on hold; nothing was changed"
    aliases.promote_version("genre", versions[2], versions[0])
    assert current_aliases(client) == {"champion": 3, "previous": 1}


def test_the_command_sets_the_hold_and_its_parameter_lifts_it(client, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.get_tracking_uri())
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    first, second = (client.get_model_version("genre", str(n)) for n in (1, 2))
    aliases.promote_version("genre", first, None)
    aliases.promote_version("genre", second, first)
    rollback.rollback.fn("genre")
    assert current_aliases(client) == {"champion": 1, "previous": 2}
    assert '-e rollback -P registry_name=genre -P lift=true"' in registry.describe_hold("genre")
    rollback.rollback.fn("genre", lift=True)
    assert current_aliases(client) == {"champion": 1, "previous": 2} and registry.describe_hold("genre") is None
    assert "the hold on genre is lifted" in capsys.readouterr().out


def test_a_second_rollback_lifts_the_hold(client):
    first, second = (client.get_model_version("genre", str(n)) for n in (1, 2))
    aliases.promote_version("genre", first, None)
    aliases.promote_version("genre", second, first)
    aliases.roll_back("genre")
    assert registry.describe_hold("genre")
    assert "hold" not in aliases.roll_back("genre") and registry.describe_hold("genre") is None
    assert not any("rolled_back" in client.get_model_version("genre", n).tags for n in "12")


def test_a_rollback_after_one_that_was_undone_sets_the_hold_again(client):
    first, second = (client.get_model_version("genre", str(n)) for n in (1, 2))
    aliases.promote_version("genre", first, None)
    aliases.promote_version("genre", second, first)
    for _ in range(3):
        assert "until the hold is lifted" in aliases.roll_back("genre")
        assert registry.describe_hold("genre") and current_aliases(client) == {"champion": 1, "previous": 2}
        assert ["rolled_back" in client.get_model_version("genre", n).tags for n in "12"] == [False, True]
        aliases.roll_back("genre")
        assert registry.describe_hold("genre") is None and current_aliases(client) == {"champion": 2, "previous": 1}


@pytest.mark.parametrize(
    ("trained_on", "other_data", "is_refused"),
    [("theirs", False, True), ("theirs", True, False), ("mine", False, False), ("", False, False)],
)
def test_another_data_set_takes_no_name_unless_that_is_asked_for(client, home, trained_on, other_data, is_refused):
    tags = {"genres": '["a", "b"]', "synthetic": "false"} | ({"data_set": trained_on} if trained_on else {})
    champion = client.create_model_version("genre", "here", tags=tags)
    refusal = promote._registration_refusal(material("a", "b"), champion, "genre", other_data=other_data)
    assert (refusal is not None) == is_refused
    if refusal:
        assert refusal.outcome is PromotionOutcome.NOT_REGISTERED
        assert "the champion of genre was trained on theirs, and this is mine" in refusal.sentence
        assert "-P other_data=true" in refusal.sentence


def test_a_model_without_a_champion_cannot_be_rolled_back(client):
    for name in ("genre", "another"):
        with pytest.raises(GenreError, match=f"no champion of {name} to roll back"):
            aliases.roll_back(name)


def verdict(finding: Finding, text: str) -> Verdict:
    """Return a verdict whose reason or remark is a text."""
    return Verdict(finding, 1.0, reasons=[] if finding in ACCEPTED else [text], remark=text)


@pytest.mark.parametrize("text", ["", "promoted", "nothing to register", "not certain; Pop loses"])
def test_a_verdict_is_applied_by_its_finding_whatever_its_text(client, text):
    first, second = (client.get_model_version("genre", str(n)) for n in (1, 2))
    with disable_run_logger():
        won = promote._apply_verdict("genre", first, None, verdict(Finding.UNCOMPARED, text))
        lost = promote._apply_verdict("genre", second, first, verdict(Finding.NOT_BETTER, text))
    assert won == PromotionDecision(
        PromotionOutcome.PROMOTED, f"version 1 of genre: {' '.join(['promoted', *text.split()])}"
    )
    assert lost == PromotionDecision(PromotionOutcome.REFUSED, f"version 2 of genre: refused: {text}")
    assert current_aliases(client) == {"champion": 1, "challenger": 2}
    kept = [client.get_model_version("genre", n).tags["decision"] for n in ("1", "2")]
    assert [f"version {n} of genre: {tag}" for n, tag in enumerate(kept, 1)] == [won.sentence, lost.sentence]


def test_a_decision_stands_while_the_champion_is_the_same(client):
    first, second = (client.get_model_version("genre", str(n)) for n in (1, 2))
    assert promote._standing_decision(first, None) is None
    aliases.promote_version("genre", first, None)
    with disable_run_logger():
        promote._apply_verdict("genre", second, first, verdict(Finding.NOT_BETTER, "promoted"))
    champion, refused = (client.get_model_version("genre", str(n)) for n in (1, 2))
    sentence = "nothing to register: this ensemble is already version {} of genre ({})"
    assert promote._standing_decision(champion, champion) == PromotionDecision(
        PromotionOutcome.UNCHANGED, sentence.format(1, "the champion")
    )
    assert promote._standing_decision(refused, champion) == PromotionDecision(
        PromotionOutcome.UNCHANGED, sentence.format(2, "refused: promoted")
    )
    assert promote._standing_decision(refused, client.get_model_version("genre", "3")) is None
    client.delete_model_version_tag("genre", "2", "decision")  # killed between the two tags
    assert promote._standing_decision(client.get_model_version("genre", "2"), champion) is None


def test_a_version_that_was_rolled_back_is_not_judged_again(client):
    first, second = (client.get_model_version("genre", str(n)) for n in (1, 2))
    aliases.promote_version("genre", first, None)
    aliases.promote_version("genre", second, first)
    aliases.roll_back("genre")
    first, second = (client.get_model_version("genre", str(n)) for n in (1, 2))
    standing = promote._standing_decision(second, first)
    assert standing.outcome is PromotionOutcome.UNCHANGED and "(rolled back on " in standing.sentence


def material(*genres: str, has_audio: bool = True, synthetic: bool = False) -> Material:
    """Return a data set of one clip per genre."""
    clips = pd.DataFrame({"genre": pd.Categorical(genres)})
    return Material(Workspace("mine"), AudioConfig(), has_audio, synthetic, clips, "", "")


def test_only_models_of_synthetic_music_warn():
    assert material("a", synthetic=True).warning == SYNTHETIC_WARNING
    assert material("a").warning == ""


@pytest.mark.parametrize(
    ("data", "tags", "sentence"),
    [
        (material("a", "b"), None, ""),
        (material("a", "b"), {"genres": '["a", "b"]', "synthetic": "false"}, ""),
        (material("a", "b"), {"genres": '["x"]', "synthetic": "true"}, ""),
        (material("a", has_audio=False), None, "not registered: mine has features but no audio"),
        (
            material("a"),
            {"genres": '["b"]'},
            "not registered: the genres of the champion of genre are b, those of this data set a",
        ),
        (
            material("a", synthetic=True),
            {"genres": '["a"]'},
            "not registered: the champion of genre knows real music",
        ),
    ],
)
def test_a_data_set_that_cannot_stand_beside_the_champion_is_not_registered(client, home, data, tags, sentence):
    champion = None if tags is None else client.create_model_version("genre", "here", tags=tags)
    refusal = promote._registration_refusal(data, champion, "genre")
    assert (refusal is None) == (sentence == "")
    if refusal:
        assert refusal.outcome is PromotionOutcome.NOT_REGISTERED and refusal.sentence.startswith(sentence)


def test_the_leaderboard_of_a_promotion_has_the_chosen_and_the_failed(client, tmp_path):
    experiment = client.create_experiment("mine", artifact_location=str(tmp_path))
    parent = client.create_run(experiment).info.run_id
    child = client.create_run(experiment, run_name="mel_cnn", tags={"mlflow.parentRunId": parent})
    client.set_tag(child.info.run_id, "reason", "no memory")
    client.set_terminated(child.info.run_id, "FAILED")
    outcomes = promote._model_outcomes({"svm": tmp_path}, "mean of two", parent)
    assert outcomes == {
        "svm": ModelOutcome(ModelStatus.TRAINED),
        "mean of two": ModelOutcome(ModelStatus.CHOSEN),
        "mel_cnn": ModelOutcome(ModelStatus.FAILED, "no memory"),
    }
    assert [str(outcome) for outcome in outcomes.values()] == ["trained", "chosen", "failed: no memory"]


def write_training(data: Material, model: str, auc: float, **changed: object) -> Path:
    """Write what a promotion reads of a finished training."""
    job = {
        "model": model,
        "config": data.config.to_dict(),
        "data_digest": data.data_digest,
        "splits_digest": data.splits_digest,
        "code_digest": code_digest(model),
        "weights": {},
    }
    folder = data.workspace.training_dir(model, f"{auc:.3f}")
    write_json(folder / "job.json", job | changed)
    write_json(folder / "scores.json", {"validation_track_macro_auc": auc})
    write_json(folder / "result.json", {"fit_seconds": 1.0})
    return folder


def test_models_that_were_trained_before_a_change_are_named(home, caplog, monkeypatch):
    monkeypatch.setattr(promote, "get_run_logger", lambda: logging.getLogger("promote"))
    data = material("a", "b")
    write_training(data, "svm", 0.8)
    best = write_training(data, "svm", 0.9)
    write_training(data, "svm", 0.95, code_digest="older")  # another training of it is compared
    assert promote.best_trainings(data) == {"svm": best} and not caplog.messages
    write_training(data, "catboost", 0.9, code_digest="older")
    write_training(data, "mel_cnn", 0.9, data_digest="older")
    write_training(data, "random_forest", 0.9, config=AudioConfig(variant="paper").to_dict())
    assert promote.best_trainings(data) == {"svm": best}
    [line] = caplog.messages
    assert "after they were trained: catboost, mel_cnn; train them again" in line


#: Trains, logs and registers a model by the package in the current folder; writes its probabilities of the clips.
VERSION = """
import sys
from pathlib import Path
import mlflow, numpy as np, pandas as pd, soundfile as sf
sys.path.insert(0, str(Path.cwd()))
from genre import ensemble, models
from genre.inputs import features
from tracking import packaging, registry
from genre.config import AudioConfig
listed, folder = pd.read_parquet(sys.argv[1]), Path(sys.argv[2])
config = AudioConfig()
X = np.stack([features.extract_features(sf.read(path, dtype="float32")[0], config) for path in listed["path"]])
y = (listed["genre"] == "low").to_numpy().astype(int)
data = models.TrainingData(["high", "low"], X, y, listed["clip_id"].to_numpy(str), X, y)
model = models.train_model("logistic_regression", data, {"C": 100.0, "scaling": "minmax"}, 0, folder / "model")
models.save_model("logistic_regression", model, folder / "model")
proba = models.predict_proba("logistic_regression", model, X)
pd.DataFrame(proba, index=listed["clip_id"], columns=["high", "low"]).to_parquet(folder / "measured.parquet")
mlflow.set_tracking_uri(sys.argv[3])
run = mlflow.MlflowClient().create_run("0")
spec = ensemble.Ensemble(["high", "low"], config, ("logistic_regression",), "geometric", 0.5)
spec.inputs = {"logistic_regression": ["features"]}
uri = packaging.log_model(run.info.run_id, spec, {"logistic_regression": folder}, {})
registry.register_version("genre", uri, {}, "")
"""

#: Code that negates all features, so that a model trained on the one kind fails on the other.
CHANGED = """

_compute = compute


def compute(*arguments, **options):
    return -_compute(*arguments, **options)
"""


@dataclass
class Two:
    """Two versions of a model: 1 logged with code whose features differ, 2 with today's; both scored today."""

    clips: pd.DataFrame
    measured: dict[str, pd.DataFrame]
    scored: dict[str, pd.DataFrame]
    versions: list[ModelVersion]

    def judge(self, test: pd.DataFrame, **options: Any) -> Verdict:
        return evaluate_version(
            self.versions[1], self.versions[0], test, self.clips, AudioConfig(), min_gain=0.0, **options
        )

    @property
    def test(self) -> pd.DataFrame:
        """Probability table that version 2 was measured with."""
        clips = self.clips
        measured = self.measured["2"]
        return probability_table(clips["clip_id"], "test", clips["genre"], clips["clip_id"], measured, measured.columns)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Two]:
    folder = tmp_path_factory.mktemp("two")
    rows = []
    for genre, hz in (("high", 880), ("low", 110)):
        for n in range(8):
            path = folder / f"{genre}{n}.wav"
            sf.write(path, tone(10, hz=hz * (1 + n / 40), seed=n), 22050, subtype="FLOAT")
            rows.append((path.stem, str(path), 0.0, 10.0, genre))
    clips = pd.DataFrame(rows, columns=["clip_id", "path", "start_s", "end_s", "genre"])
    clips.to_parquet(folder / "clips.parquet")
    shutil.copy(empty_store, folder / "mlflow.db")
    uri = f"sqlite:///{folder}/mlflow.db"
    measured = {}
    for number in ("1", "2"):
        project = folder / f"project {number}"
        trained = folder / number
        for part in ("genre", "tracking", "flows", "serving"):
            shutil.copytree(ROOT / part, project / part, ignore=shutil.ignore_patterns("__pycache__"))
        if number == "1":
            with (project / "genre" / "inputs" / "features.py").open("a") as file:
                file.write(CHANGED)
        trained.mkdir()
        command = [sys.executable, "-c", VERSION, str(folder / "clips.parquet"), str(trained), uri]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        measured[number] = pd.read_parquet(trained / "measured.parquet")
    mlflow.set_tracking_uri(uri)
    versions = [MlflowClient().get_model_version("genre", n) for n in measured]
    with pytest.raises(ForeignCodeError, match=r"^models:/genre/1 is not run: .* in code/genre/inputs/features\.py,"):
        scoring.score_clips("models:/genre/1", clips, AudioConfig())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENRE_HOME", str(folder / "workspace"))
        registry.accept_code(versions[0])
        yield Two(clips, measured, _score(clips, measured), versions)


def _score(clips: pd.DataFrame, measured: Iterable[str]) -> dict[str, pd.DataFrame]:
    return {f"models:/genre/{n}": scoring.score_clips(f"models:/genre/{n}", clips, AudioConfig()) for n in measured}


def test_each_version_is_scored_with_its_own_code_when_a_feature_has_changed(two):
    for number, measured in two.measured.items():
        scored = two.scored[f"models:/genre/{number}"]
        np.testing.assert_allclose(scored.loc[measured.index, ["high", "low"]], measured, atol=1e-4)
        assert (scored["high"] > 0.5).tolist() == [True] * 8 + [False] * 8
        assert scored.attrs["ms_per_clip"] > 0


def test_a_model_whose_weights_were_changed_after_they_were_measured_is_refused(two, tmp_path):
    folders = {number: Path(mlflow.artifacts.download_artifacts(f"models:/genre/{number}")) for number in two.measured}
    other, ours = (next(folder.rglob("model.skops")) for folder in folders.values())
    shutil.copy(ours, tmp_path / "kept")
    try:
        shutil.copy(other, ours)
        verdict = two.judge(two.test)
    finally:
        shutil.copy(tmp_path / "kept", ours)
    (reason,) = verdict.reasons
    assert "its predictions have changed since it was measured: probabilities differ by up to" in reason
    assert verdict.gain is None


@pytest.mark.slow
def test_a_version_whose_weights_were_replaced_is_refused_and_says_why(tmp_path, prefect_server):
    write_music(tmp_path / "music", genres={"low": 110, "high": 880}, tracks=26)
    place = Place(tmp_path, prefect_server)
    name = "logistic_regression"
    source = ("--dataset", "folder", "--source", str(tmp_path / "music"))
    place.run("retrain", *source, "--model", name)
    # as after a promotion that was killed between registration and verdict
    place.client.delete_registered_model_alias("genre", "champion")
    place.client.delete_model_version_tag("genre", "1", "decision")
    logged = place.client.get_model_version("genre", "1").source.removeprefix("models:/")
    (weights,) = next((tmp_path / "mlruns").rglob(logged)).rglob("model.skops")
    n_columns = models.load_model(name, weights.parent).n_features_in_
    X = np.random.default_rng(0).normal(size=(40, n_columns)).astype(np.float32)
    y = np.arange(40) % 2
    data = models.TrainingData(["high", "low"], X, y, np.arange(40).astype(str), X, y)
    models.save_model(name, models.train_model(name, data, {}, 0, tmp_path / "other"), weights.parent)
    output = place.run("promote", *source)
    version = place.client.get_model_version("genre", "1")
    reason = "refused: its predictions have changed since it was measured: probabilities differ by up to "
    assert version.tags["decision"].startswith(reason) and f"version 1 of genre: {reason}" in output
    assert version.tags["decision"] == f"refused: {version.tags['refused']}"
    aliases_now = place.client.get_registered_model("genre").aliases
    assert {alias: int(n) for alias, n in aliases_now.items()} == {"challenger": 1}
    run = next(run for run in place.runs() if run.info.run_name.startswith("promote"))
    assert run.data.tags["decision"] == f"version 1 of genre: {version.tags['decision']}"
    assert "there is no champion yet" in output and place.versions() == 1


@pytest.fixture
def as_scored(two: Two, monkeypatch: pytest.MonkeyPatch) -> Two:
    """Return the two versions, with scores that are looked up instead of computed again."""
    monkeypatch.setattr(scoring, "score_clips", lambda uri, *arguments, **options: two.scored[uri])
    return two


def test_a_version_without_a_gain_is_refused(as_scored):
    verdict = as_scored.judge(as_scored.test)
    assert verdict.gain["gain"] == 0  # with today's code version 1 would get every clip wrong
    (reason,) = verdict.reasons
    assert "+0.000 [+0.000, +0.000] on 16 clips, is not certain" in reason
    assert verdict.ms_per_clip > 0


def test_a_version_is_judged_by_track_where_tracks_have_several_clips(as_scored):
    tracks = [f"{genre}{n // 2}" for genre in ("high", "low") for n in range(8)]
    verdict = as_scored.judge(as_scored.test.assign(recording=tracks, track=tracks))
    assert (verdict.gain["level"], verdict.gain["n_clips"], verdict.gain["n_tracks"]) == ("track", 16, 8)
    (reason,) = verdict.reasons
    assert reason.startswith("the gain in macro AUC per track over the champion, ")
    assert reason.endswith(" on 8 tracks of 16 clips, is not certain")
    genre = pd.Categorical(["high", "high", "low", "low"] * 4)
    (reason,) = as_scored.judge(as_scored.test.assign(genre=genre, recording=tracks, track=tracks)).reasons
    assert reason.startswith("its test macro AUC per track may be no better than chance")


def test_a_version_with_the_predictions_of_the_champion_is_refused(as_scored, monkeypatch):
    monkeypatch.setitem(as_scored.scored, "models:/genre/1", as_scored.scored["models:/genre/2"])
    verdict = as_scored.judge(as_scored.test)
    assert verdict.reasons == ["it predicts the same as version 1, the champion"] and verdict.gain is None


def test_a_version_whose_predictions_changed_since_it_was_measured_is_refused(as_scored):
    test = as_scored.test
    (reason,) = as_scored.judge(test.assign(high=test["low"], low=test["high"])).reasons
    assert "its predictions have changed since it was measured" in reason


def test_features_of_another_machine_may_change_digits_but_no_genre(as_scored):
    test = as_scored.test
    shaken = test.assign(high=test["high"] * 0.999 + 0.0005, low=test["low"] * 0.999 + 0.0005)
    (reason,) = as_scored.judge(shaken).reasons
    assert "probabilities differ by up to" in reason
    elsewhere = as_scored.judge(shaken, computed_here=False, skip_reason=SkipReason.OTHER_MUSIC)
    assert not elsewhere.reasons and elsewhere.may_serve
    (note,) = elsewhere.notes
    assert note.level == logging.INFO and note.text.endswith("genres agree for 100.0 %")
    swapped = as_scored.judge(test.assign(high=test["low"], low=test["high"]), computed_here=False)
    (reason,) = swapped.reasons
    assert reason.endswith("100.0% of the clips get another genre")
    assert swapped.finding is Finding.CHANGED and not swapped.may_serve


def test_nothing_is_decided_where_the_champion_cannot_be_scored(as_scored, monkeypatch):
    def score_clips(uri: str, *arguments: object, **options: object) -> pd.DataFrame:
        if uri == "models:/genre/1":
            raise GenreError("its code is gone")
        return as_scored.scored[uri]

    monkeypatch.setattr(scoring, "score_clips", score_clips)
    verdict = as_scored.judge(as_scored.test)
    assert verdict.finding is Finding.CHAMPION_FAILED and verdict.is_undecided and verdict.gain is None
    assert not verdict.may_serve
    (reason,) = verdict.reasons
    assert reason == (
        "the champion, version 1, cannot be scored; nothing is decided: its code is gone; to promote without a "
        "comparison, use -P replace=true"
    )
    assert as_scored.judge(as_scored.test, skip_reason=SkipReason.REPLACED).may_serve


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda table: table.drop(columns="low"), "its predictions lack low; the genres needed are high, low"),
        (lambda table: table.assign(high=np.nan), "its probabilities of 16 clips are not numbers, the first 'high0'"),
    ],
)
def test_predictions_that_are_no_probabilities_are_a_sentence(as_scored, monkeypatch, change, sentence):
    whole = as_scored.scored.copy()
    monkeypatch.setitem(as_scored.scored, "models:/genre/1", change(whole["models:/genre/1"]))
    champion = as_scored.judge(as_scored.test)
    assert champion.finding is Finding.CHAMPION_FAILED and sentence in champion.reasons[0]
    monkeypatch.setitem(as_scored.scored, "models:/genre/2", change(whole["models:/genre/2"]))
    candidate = as_scored.judge(as_scored.test)
    assert candidate.finding is Finding.CHANGED and sentence in candidate.reasons[0]


def test_clips_that_the_champion_refuses_are_left_out_and_counted(as_scored, monkeypatch):
    predicted = as_scored.scored["models:/genre/1"].drop(index="low3")
    predicted.attrs |= {"n_refused": 1}
    monkeypatch.setitem(as_scored.scored, "models:/genre/1", predicted)
    verdict = as_scored.judge(as_scored.test)
    assert verdict.gain["n_clips"] == 15
    text = "version 1, the champion, refuses 1 of 16 clips, which are left out"
    assert verdict.notes == [(logging.WARNING, text)]


#: Name of the fingerprints that the tests make up.
SOUNDS_NAME = "corrected-0123"


def fingerprints(two: Two, ids: pd.Index) -> pd.DataFrame:
    """Return fingerprints of clips in which each genre and number has a sound of its own."""
    rng = np.random.default_rng(0)
    features = pd.DataFrame(rng.normal(size=(len(two.clips), len(ROBUST_FEATURES))), columns=ROBUST_FEATURES)
    signs = [rng.bytes(107 * 4) for _ in range(len(two.clips))]
    table = features.assign(signs=signs, n_frames=107).set_index(pd.Index(two.clips["clip_id"])).loc[ids]
    table.attrs["name"] = SOUNDS_NAME
    return table


def judge_with_sounds(two: Two, monkeypatch: pytest.MonkeyPatch, learnt: list[str], test: pd.DataFrame) -> Verdict:
    """Judge version 2 where the champion has learnt some of the test clips, under other names."""
    sounds = fingerprints(two, test.index)
    known = sounds.loc[learnt].rename(index=lambda clip_id: f"renamed {clip_id}")
    monkeypatch.setattr(gate.results, "read_sounds", lambda run_id, name: known if run_id == "1" else sounds.head(0))
    versions = [SimpleNamespace(name="genre", version=n, run_id=n, tags={gate.SOUNDS: SOUNDS_NAME}) for n in ("1", "2")]
    return evaluate_version(versions[1], versions[0], test, two.clips, AudioConfig(), min_gain=0.0, sounds=sounds)


def test_a_champion_is_not_judged_on_the_music_that_it_learnt(as_scored, monkeypatch):
    learnt = ["high0", "high1", "low0"]
    test = as_scored.test
    right = test.loc[learnt, ["high", "low"]]
    # the champion knows by heart what it learnt, and guesses all else
    guesses = as_scored.scored["models:/genre/1"].copy()
    unheard = guesses.index.difference(learnt)
    guesses.loc[unheard, ["high", "low"]] = np.random.default_rng(1).dirichlet([1, 1], len(unheard))
    guesses.loc[learnt, ["high", "low"]] = right
    monkeypatch.setitem(as_scored.scored, "models:/genre/1", guesses)
    verdict = judge_with_sounds(as_scored, monkeypatch, learnt, test)
    assert verdict.gain["n_clips"] == 13 and verdict.finding is Finding.BETTER
    assert verdict.notes == [(logging.INFO, "version 1 learnt 3 of the test recordings, which are left out")]
    whole = as_scored.judge(test)
    assert whole.gain["n_clips"] == 16 and whole.gain["gain"] < verdict.gain["gain"]


def test_nothing_is_promoted_where_too_little_remains_that_neither_learnt(as_scored, monkeypatch):
    learnt = [f"high{n}" for n in range(6)]
    verdict = judge_with_sounds(as_scored, monkeypatch, learnt, as_scored.test)
    assert verdict.finding is Finding.TOO_FEW and not verdict.may_serve and not verdict.is_undecided
    assert verdict.reasons == [
        "it cannot be compared with the champion: each genre needs 3 test recordings, and there are: high 2; 6 "
        "recordings are left out, as one of both learnt them; add music, or to promote without a comparison, use "
        "-P replace=true"
    ]


def test_a_version_on_which_no_verdict_is_possible_says_how_it_can_be_used(as_scored):
    few = as_scored.test.loc[["high0", "high1", "low0", "low1"]]
    verdict = as_scored.judge(few)
    assert verdict.finding is Finding.TOO_FEW
    use = "-e tag -P registry_name=genre -P version=2, or mlflow models serve -m models:/genre/2"
    assert verdict.reasons[0].endswith(f"use it all the same: {use}")


def test_versions_without_fingerprints_are_compared_with_a_note(as_scored):
    verdict = as_scored.judge(as_scored.test, sounds=fingerprints(as_scored, as_scored.test.index))
    assert verdict.gain["n_clips"] == 16 and len(verdict.notes) == 2
    text = "version 1 has no fingerprints to compare: it may have learnt some of the test clips"
    assert verdict.notes[1] == (logging.WARNING, text)


def test_fingerprints_that_cannot_be_downloaded_leave_it_undecided(as_scored, monkeypatch):
    def read_sounds(run_id: str, name: str) -> pd.DataFrame:
        raise GenreError("cannot download the fingerprints: timed out")

    monkeypatch.setattr(gate.results, "read_sounds", read_sounds)
    versions = [SimpleNamespace(name="genre", version=n, run_id=n, tags={gate.SOUNDS: SOUNDS_NAME}) for n in ("1", "2")]
    sounds = fingerprints(as_scored, as_scored.test.index)
    verdict = evaluate_version(
        versions[1], versions[0], as_scored.test, as_scored.clips, AudioConfig(), min_gain=0.0, sounds=sounds
    )
    assert verdict.is_undecided and "timed out" in verdict.reasons[0]


def test_fingerprints_are_logged_and_read(client, tmp_path):
    run = client.create_run(client.create_experiment("mine", artifact_location=str(tmp_path / "artifacts")))
    table = pd.DataFrame({"signs": [b"ab", b"cd"], "n_frames": [1, 2]}, index=pd.Index(["x", "y"], name="clip_id"))
    results.log_sounds(run.info.run_id, table, SOUNDS_NAME)
    pd.testing.assert_frame_equal(results.read_sounds(run.info.run_id, SOUNDS_NAME), table)
    with pytest.raises(GenreError, match="cannot download the fingerprints of run "):
        results.read_sounds(run.info.run_id, "other")


@pytest.mark.parametrize("lost", [None, "3"])
def test_a_model_whose_champion_is_gone_gets_no_first_version(as_scored, lost):
    verdict = evaluate_version(
        as_scored.versions[1],
        None,
        as_scored.test,
        as_scored.clips,
        AudioConfig(),
        min_gain=0.0,
        lost_champion=lost,
    )
    assert verdict.may_serve is (lost is None) and verdict.is_undecided is (lost is not None)
    if lost:
        (reason,) = verdict.reasons
        assert reason.startswith("genre has no champion, and its last one may have been version 3; nothing is decided")


def test_earlier_comparisons_count_as_far_as_they_were_on_the_same_music(client):
    assert registry.count_comparisons("genre", 20) == 0 == registry.count_comparisons("none yet", 20)
    for n in (10, 20, 40):
        registry.record_comparison("genre", n)
    client.delete_model_version("genre", "1")  # which takes no comparison away
    assert registry.count_comparisons("genre", 40) == 0.25 + 0.5 + 1
    assert registry.count_comparisons("genre", 20) == 0.5 + 1 + 1


def test_after_many_comparisons_a_version_must_be_better_by_more(as_scored):
    test = as_scored.test
    champion = as_scored.scored["models:/genre/1"].copy()
    champion[["high", "low"]] = np.random.default_rng(1).dirichlet([1, 1], len(champion))
    as_scored.scored["models:/genre/1"], before = champion, as_scored.scored["models:/genre/1"]
    try:
        first, hundredth = (as_scored.judge(test, error=evaluate.spend_error(k)) for k in (0, 99))
    finally:
        as_scored.scored["models:/genre/1"] = before
    assert first.gain["gain"] == hundredth.gain["gain"] > 0
    assert hundredth.gain["lower"] < first.gain["lower"]
    assert first.may_serve and not hundredth.may_serve
    assert "after earlier comparisons on this test music the bound is" in hundredth.reasons[0]


@pytest.mark.parametrize("deed", ["alias", "version", "older code"])
def test_a_champion_that_is_gone_is_remembered(client, deed):
    first, second = (client.get_model_version("genre", str(n)) for n in (1, 2))
    for number in ("3", "4"):
        client.delete_model_version("genre", number)
    aliases.refuse_version("genre", first, None, ["no better than chance"])
    assert registry.find_lost_champion("genre", "2") is None
    aliases.promote_version("genre", second, None)
    if deed == "version":
        client.delete_model_version("genre", "2")
    else:
        client.delete_registered_model_alias("genre", "champion")
    if deed == "older code":
        client.delete_registered_model_tag("genre", registry.LAST_CHAMPION)
    third = client.create_model_version("genre", "here")
    assert registry.find_lost_champion("genre", str(third.version)) == "2"


def test_an_undecided_version_is_decided_anew(client):
    first, second = (client.get_model_version("genre", str(n)) for n in (1, 2))
    aliases.promote_version("genre", first, None)
    aliases.refuse_version("genre", second, first, ["not certain"])
    second = client.get_model_version("genre", "2")
    with disable_run_logger():
        decision = promote._apply_verdict("genre", second, first, verdict(Finding.CHAMPION_FAILED, "no disk"))
    assert decision == PromotionDecision(PromotionOutcome.UNDECIDED, "version 2 of genre: undecided: no disk")
    assert current_aliases(client) == {"champion": 1, "challenger": 2}
    version = client.get_model_version("genre", "2")
    assert version.tags == {"decision": "undecided: no disk"}
    assert promote._standing_decision(version, first) is None


def test_replace_decides_anew_on_what_was_refused(client):
    first, second = (client.get_model_version("genre", str(n)) for n in (1, 2))
    aliases.promote_version("genre", first, None)
    with disable_run_logger():
        promote._apply_verdict("genre", second, first, verdict(Finding.NOT_BETTER, "not certain"))
    refused = client.get_model_version("genre", "2")
    assert (
        promote._standing_decision(refused, first) and promote._standing_decision(refused, first, replace=True) is None
    )


@pytest.fixture
def brief_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "RETRY_PAUSES_S", (0.0, 0.0))


@pytest.mark.parametrize("n_failures", [1, 2, 3])
def test_scoring_is_tried_three_times(two, monkeypatch, brief_pauses, n_failures):
    download = mlflow.artifacts.download_artifacts
    failures = iter(range(n_failures))

    def unsteady(*arguments: Any, **options: Any) -> str:
        if next(failures, None) is not None:
            raise OSError("the connection timed out")
        return download(*arguments, **options)

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", unsteady)
    if n_failures == 3:
        with pytest.raises(GenreError, match="cannot download models:/genre/1: the connection timed out"):
            scoring.score_clips("models:/genre/1", two.clips, AudioConfig())
    else:
        scored = scoring.score_clips("models:/genre/1", two.clips.head(2), AudioConfig())
        assert len(scored) == 2 and scored.attrs["n_refused"] == 0


@pytest.mark.parametrize("n_killed", [1, 3])
def test_a_process_that_is_killed_is_started_again(two, monkeypatch, brief_pauses, n_killed):
    start = scoring._start_process
    left = iter(range(n_killed))

    def unsteady(folder: Path) -> subprocess.Popen[str]:
        process = start(folder)
        if next(left, None) is not None:
            process.kill()
        return process

    monkeypatch.setattr(scoring, "_start_process", unsteady)
    if n_killed == 3:
        with pytest.raises(GenreError, match="cannot score models:/genre/2: its process ended with code -9"):
            scoring.score_clips("models:/genre/2", two.clips.head(1), AudioConfig())
    else:
        assert len(scoring.score_clips("models:/genre/2", two.clips.head(1), AudioConfig())) == 1


def test_a_full_disk_is_a_sentence_after_three_attempts(two, monkeypatch, brief_pauses):
    n_writes = []

    def write(path: str, *arguments: Any, **options: Any) -> None:
        n_writes.append(path)
        raise sf.LibsndfileError(2, f"{path}: ")

    monkeypatch.setattr(scoring.sf, "write", write)
    with pytest.raises(GenreError, match="cannot score models:/genre/2: cannot write "):
        scoring.score_clips("models:/genre/2", two.clips.head(1), AudioConfig())
    assert len(n_writes) == 3


@pytest.mark.parametrize(("max_refused", "is_accepted"), [(0.0, False), (1 / 16, True)])
def test_few_refused_clips_are_left_out(two, monkeypatch, max_refused, is_accepted):
    table = two.scored["models:/genre/2"].assign(error=None)
    table.loc["low1", "error"] = "silent: no sound"
    table.attrs["ms_per_clip"] = 1.0
    monkeypatch.setattr(scoring, "_score_once", lambda *arguments: table)
    if not is_accepted:
        with pytest.raises(GenreError, match="refuses 1 of 16 clips; low1: silent: no sound"):
            scoring.score_clips("models:/genre/2", two.clips, AudioConfig(), max_refused=max_refused)
    else:
        scored = scoring.score_clips("models:/genre/2", two.clips, AudioConfig(), max_refused=max_refused)
        assert "low1" not in scored.index and scored.attrs == {"ms_per_clip": 1.0, "n_refused": 1}


def test_a_first_version_may_serve_without_a_comparison(as_scored):
    verdict = evaluate_version(
        as_scored.versions[1], None, as_scored.test, as_scored.clips, AudioConfig(), min_gain=0.0
    )
    assert verdict.finding is Finding.FIRST_VERSION and verdict.may_serve and verdict.remark == ""


@pytest.mark.parametrize("finding", Finding)
def test_the_finding_and_not_the_text_lets_a_version_serve(finding):
    without_text = Verdict(finding, 1.0)
    with_text = Verdict(finding, 1.0, reasons=["why"], remark="so")
    assert without_text.may_serve == with_text.may_serve == (finding in ACCEPTED)


def test_the_champion_of_the_demo_is_not_compared_with_real_music(as_scored):
    verdict = as_scored.judge(as_scored.test, skip_reason=SkipReason.OTHER_MUSIC)
    assert verdict.finding is Finding.UNCOMPARED and verdict.may_serve


def test_chance_is_refused_and_a_demo_champion_is_replaced(as_scored):
    chance = as_scored.test.assign(genre=pd.Categorical(["high", "low"] * 8))
    (reason,) = as_scored.judge(chance).reasons
    assert "no better than chance" in reason
    uncompared = as_scored.judge(as_scored.test, skip_reason=SkipReason.OTHER_MUSIC)
    assert (uncompared.reasons, uncompared.remark, uncompared.gain) == (
        [],
        SkipReason.OTHER_MUSIC,
        None,
    )


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(0)
    simulated = [two_models(rng, n_clips=240, n_genres=3, skills=(s, s))[0] for s in (1.0, 2.0)]
    return {name: t.assign(track=t.index) for name, t in zip(("svm", "catboost"), simulated, strict=True)}


def render_card(
    tables: dict[str, pd.DataFrame], precision: float = 0.8, synthetic: bool = False, n_earlier: float = 0.0
) -> str:
    """Return the model card of a weighted ensemble of some models."""
    choice = selection.fit_ensemble(tables, list(tables), "weighted", precision=precision)
    table = choice.ensemble_table(tables)
    clips = table[["genre", "recording"]].assign(split="test")
    return model_card.render_model_card(
        table,
        clips,
        choice,
        label="weighted mean of svm, catboost",
        data_set="folder-music",
        synthetic=synthetic,
        uri="models:/genre/7",
        run_url="#/experiments/1/runs/abc",
        ms_per_clip=41.7,
        megabytes=3.25,
        n_earlier=n_earlier,
    )


def test_the_model_card_is_complete(tables):
    text = render_card(tables)
    for part in (
        "\n\nModel: weighted mean of svm, catboost.\n",
        "Data: folder-music, 240 clips of 120 recordings (genre 0 80, genre 1 80, genre 2 80); test 240.",
        "macro AUC 0.",
        "95 % intervals",
        "| genre 1 | 80 | 0.",
        "(#/experiments/1/runs/abc)",
        "Temperature ",
        "learnt on 240 clips",
        "Below a confidence of 0.",
        "42 ms per ten-second clip",
        "3.2 MB",
        "`mlflow models serve -m models:/genre/7 -p 5001",
        "- music of any other genre is given one of these genres",
    ):
        assert part in text
    assert "synthetic" not in text and "cannot" not in text and "only" not in text


def test_the_model_card_names_the_weaknesses(tables):
    poor = {
        name: table.iloc[:40].assign(**{"genre 0": 0.0, "genre 1": 1.0, "genre 2": 0.0})
        for name, table in tables.items()
    }
    text = render_card(poor, precision=0.9, synthetic=True)
    assert text.split("\n\n")[2] == f"**{SYNTHETIC_WARNING}**"
    assert "- genre 0: only 0% of its clips are recognised" in text
    assert "tested on fewer than 30 clips: genre 0, genre 1, genre 2" in text
    assert "The requested precision could not be reached; this is the highest found." in text
    assert "genre 1, 100%" in text


def test_the_model_card_shows_both_levels_where_tracks_have_several_clips():
    table = disputed_tracks()
    text = render_card({"svm": table, "catboost": table})
    assert "## Scores on 8 test tracks (24 clips) of 8 recordings" in text
    first, second, *_ = text.splitlines()[::2]
    assert first.startswith("**Test scores per track: macro AUC 1.000 [1.000, 1.000], accuracy 1.000 [1.000, 1.000]**")
    assert second.startswith("Data: folder-music, 24 clips of 8 recordings")
    assert "- per track, the mean over its clips, as served: macro F1 1.000 [1.000, 1.000], log-loss" in text
    assert "- per clip: macro AUC 0.556" in text and "accuracy 0.333 [0.333, 0.333]" in text
    assert "| genre | tracks | AUC |" in text and "| a | 4 | 1.000 [1.000, 1.000] | 100% | 100% |  |" in text
    assert "learnt on 8 tracks (24 clips) that no member was fitted on" in text
    assert "On the tracks it was learnt on, 100% get a genre, which is right for 100% of them." in text
    assert "On test, 100% get a genre, which is right for 100%." in text
    assert "tested on fewer than 30 tracks: a, b" in text and text.endswith("any format, sampling rate and length.")


def test_the_model_card_shows_one_level_where_every_track_has_one_clip(tables):
    text = render_card(tables)
    assert "## Scores on 240 test clips of 120 recordings" in text and "| genre | clips | AUC |" in text
    assert "learnt on 240 clips" in text and "track" not in text


def test_the_model_card_names_earlier_comparisons(tables):
    assert "as of its promotion" not in render_card(tables)
    assert "About 12 versions were judged on this test music before" in render_card(tables, n_earlier=12.3)


def test_a_model_card_of_very_many_genres_still_fits():
    rng = np.random.default_rng(0)
    table = two_models(rng, n_clips=400, n_genres=100, skills=(2.0, 2.0))[0]
    assert len(render_card({"svm": table, "catboost": table})) <= model_card.MAX_LENGTH


def test_metrics_per_genre_of_a_small_table():
    ids = list("abcdef")
    proba = np.eye(3)[[0, 1, 1, 1, 2, 2]] * 0.7 + 0.1
    table = probability_table(ids, "test", list("xxxyyy"), ids, proba, list("xyz"))
    metrics = model_card.metrics_per_genre(table)
    assert metrics["n"].tolist() == [3, 3, 0]
    assert metrics["recall"].tolist()[:2] == pytest.approx([1 / 3, 1 / 3]) and np.isnan(metrics["recall"]["z"])
    assert metrics["precision"].tolist() == pytest.approx([1, 1 / 3, 0])
    assert metrics["taken_for"].tolist() == ["y", "z", ""]
    assert metrics["taken_share"].tolist()[:2] == pytest.approx([2 / 3, 2 / 3])
