"""The flows as a user runs them: real processes, a real Prefect server, a real MLflow store."""

import io
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from joblib import cpu_count

from serving import request
from tests.support.place import Place
from tests.support.servers import served
from tests.support.sounds import write_music

FAST_PARAMS = '{"catboost": {"iterations": 30}}'
FAST = ("--model", "logistic_regression,catboost", "--params", FAST_PARAMS)


@pytest.fixture
def place(tmp_path: Path, prefect_server: str) -> Place:
    return Place(tmp_path, prefect_server)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> tuple[Place, str]:
    """Retrain once on a folder of music; return the place and the output."""
    folder = tmp_path_factory.mktemp("first")
    write_music(folder / "music", genres={"low & slow": 110, "high-ish": 880}, tracks=26)
    place = Place(folder, prefect_server)
    return place, place.run("retrain", "--dataset", "folder", "--source", str(folder / "music"), *FAST)


def test_the_first_version_is_champion_and_everything_is_in_mlflow(first):
    place, output = first
    assert place.alias("champion") == 1
    assert "version 1 of genre: promoted" in output
    assert "comparisons" not in place.client.get_registered_model("genre").tags  # there was nothing to compare with
    assert "sounds" in place.client.get_model_version("genre", "1").tags
    assert "mlflow models serve -m models:/genre@champion" in output
    assert f"MLFLOW_TRACKING_URI={place.env['MLFLOW_TRACKING_URI']}" in output
    assert "  leaderboard  http://127.0.0.1:5000/#/experiments/" in output
    assert "  champion     http://127.0.0.1:5000/#/models/genre/versions/1" in output
    assert f"  Prefect run  {place.api_url.removesuffix('/api')}/runs/flow-run/" in output
    assert output.count("To see it in a browser") == 1
    assert "Traceback" not in output
    runs = {run.info.run_name: run for run in place.runs()}
    parent = next(run for name, run in runs.items() if name.startswith("retrain folder-music"))
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for name in ("logistic_regression", "catboost", "ensemble"):
        run = runs[name]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        expected = {
            "test_macro_auc",
            "test_macro_auc_low",
            "test_track_macro_auc_high",
            "validation_log_loss",
            "train_accuracy",
            "test_auc/high-ish",
        }
        assert expected <= set(run.data.metrics)
        assert any(metric.startswith("test_auc/low _ slow-") for metric in run.data.metrics)
    assert runs["catboost"].data.params["hp.iterations"] == "30"
    assert runs["catboost"].data.params["audio.sr"] == "22050"
    assert parent.data.tags["synthetic"] == "false"
    assert parent.inputs.dataset_inputs[0].dataset.digest
    figures = {f.path for f in place.client.list_artifacts(runs["catboost"].info.run_id, "figures")}
    names = ("roc_test", "precision_recall_test", "confusion_matrix_test", "importances", "permutation_importances")
    assert {f"figures/{name}.png" for name in names} <= figures
    on_parent = {f.path for f in place.client.list_artifacts(parent.info.run_id, "figures")}
    assert {"figures/leaderboard.png", "figures/spectrograms.png"} <= on_parent


@pytest.mark.skipif(cpu_count() < 2, reason="one core trains one model at a time")
def test_two_small_trainings_overlap(first):
    place, output = first
    begun = [path.stat().st_mtime for path in place.folder.glob("home/*/trainings/*/job.json")]
    assert max(begun) < min(place.trainings().values())
    [log] = re.findall(r"^log: (.+)$", output, re.MULTILINE)
    assert Path(log).read_text().count(" train_model ") == 1  # the stage table
    assert " train_model " not in output


def test_every_run_has_its_comparison_and_its_calibration(first):
    place, _ = first
    runs = {run.info.run_name: run for run in place.runs()}
    parent = next(run for name, run in runs.items() if name.startswith("retrain folder-music"))
    compared = [runs[name] for name in ("logistic_regression", "catboost") if "compared_with" in runs[name].data.tags]
    assert compared and all("first_lead_mcnemar" in run.data.metrics for run in compared)
    for name in ("logistic_regression", "catboost"):
        assert runs[name].data.tags["out_of_fold"].endswith("folds by recording")
    for name in ("logistic_regression", "catboost", "ensemble"):
        assert {"temperature", "unknown_below", "answered_coverage"} <= set(runs[name].data.metrics)
    tables = {f.path for f in place.client.list_artifacts(parent.info.run_id, "tables")}
    assert {"tables/comparisons.csv", "tables/ensembles.csv", "tables/leaderboard.csv"} <= tables
    version = place.client.get_model_version("genre", "1")
    assert "How to call it" in version.description and "models:/genre/1" in version.description


def test_the_champion_gets_a_robustness_card(first):
    place, _ = first
    options = ("--dataset", "folder", "--source", str(place.folder / "music"), "--n-clips", "4", "--seed", "3")
    output = place.run("robustness", *options)
    run = next(run for run in place.runs() if run.info.run_name == "robustness champion")
    card = pd.read_csv(place.client.download_artifacts(run.info.run_id, "tables/robustness.csv"))
    assert len(card) == 14 and card["clips"].nunique() == 1 and card["macro_auc"].between(0, 1).all()
    assert card.loc[card["degradation"].str.contains("MP3"), "same_answer"].mean() > 0.5
    assert "white noise, 20 dB below" in output
    version = place.client.get_model_version_by_alias("genre", "champion")
    assert version.tags["robustness"].startswith("macro AUC ")
    assert [f.path for f in place.client.list_artifacts(run.info.run_id, "figures")] == ["figures/robustness.png"]
    assert f"/runs/{run.info.run_id}/artifacts/figures/robustness.png\n" in output


@pytest.mark.slow
def test_requests_to_a_served_champion_are_logged_and_their_drift_is_found(first, tmp_path):
    place, _ = first
    log = tmp_path / "log"
    environment = {"MLFLOW_TRACKING_URI": place.env["MLFLOW_TRACKING_URI"], "GENRE_LOG": str(log)}
    drift = ("drift", "--dataset", "folder", "--source", str(place.folder / "music"), "--log", str(log))
    training_music = [path.read_bytes() for path in (place.folder / "music").rglob("*.wav")]
    with served("models:/genre@champion", tmp_path, **environment) as url:
        request.predict_audio(training_music, url)
        assert "Drift of version 1 of genre, 20 predictions: none" in place.run(*drift)
        request.predict_audio([noise(seed) for seed in range(200)], url)
    assert "shifted by more than 0.25 in 220 predictions" in place.run(*drift)


def noise(seed: int) -> bytes:
    """Return a WAV file of two seconds of noise."""
    y = np.random.default_rng(seed).normal(0, 0.3, 2 * 22050)
    sf.write(file := io.BytesIO(), y, 22050, format="WAV")
    return file.getvalue()


def test_a_second_run_reuses_everything_and_registers_nothing(first):
    place, _ = first
    before = place.trainings()
    output = place.run("retrain", "--dataset", "folder", "--source", str(place.folder / "music"), *FAST)
    assert "0 clips computed, 52 reused" in output
    assert "nothing to register: this ensemble is already version 1 of genre" in output
    assert place.trainings() == before
    assert place.versions() == 1


def test_an_experiment_of_one_model_that_is_not_better_is_refused(first):
    place, _ = first
    source = ("--dataset", "folder", "--source", str(place.folder / "music"))
    place.run("train", *source, "--model", "random_forest", "--params", '{"n_estimators": 10, "min_samples_split": 2}')
    forest = next(run for run in place.runs() if run.info.run_name == "random_forest")
    assert forest.data.params["hp.n_estimators"] == "10"
    place.run("train", *source, "--model", "catboost", "--params", '{"iterations": 40}')
    output = place.run("promote", *source)
    if place.versions() == 1:
        assert "nothing to register" in output
    else:
        assert "is not certain" in output
        assert place.alias("challenger") == 2
        assert place.client.get_registered_model("genre").tags["comparisons"] == "8"  # test recordings
        assert "refused" in place.client.get_model_version("genre", "2").tags["decision"]
    assert place.alias("champion") == 1


def test_a_deleted_champion_is_replaced_only_where_that_is_asked_for(first):
    place, _ = first
    source = ("--dataset", "folder", "--source", str(place.folder / "music"))
    place.client.delete_registered_model_alias("genre", "champion")
    for _ in range(2):  # what is undecided is decided anew
        output = place.run("promote", *source)
        assert "undecided: genre has no champion, and its last one may have been version 1" in output
    assert "promoted uncompared, as replace=true asks" in place.run("promote", *source, "--replace", "true")
    assert place.alias("champion") == place.versions()


def test_a_grown_folder_keeps_its_splits_and_is_trained_again(first):
    place, _ = first
    before = pd.read_parquet(next(place.folder.glob("home/folder-*/dealt.parquet")))
    write_music(place.folder / "more", genres={"x": 115}, tracks=4)
    for path in (place.folder / "more" / "x").iterdir():
        shutil.copy(path, place.folder / "music" / "low & slow" / f"new {path.name}")
    (place.folder / "music" / "low & slow" / "broken.mp3").write_bytes(b"no music")
    output = place.run("retrain", "--dataset", "folder", "--source", str(place.folder / "music"), *FAST)
    assert "4 clips computed, 53 reused" in output  # the broken file is not counted
    assert "1 undecodable" in output
    after = pd.read_parquet(next(place.folder.glob("home/folder-*/dealt.parquet")))
    pd.testing.assert_frame_equal(after.iloc[: len(before)], before)
    assert len(after) == len(before) + 4
    newest = max((run for run in place.runs() if "retrain" in run.info.run_name), key=lambda run: run.info.start_time)
    assert newest.data.metrics["clips_undecodable"] == 1


def test_another_list_of_genres_needs_another_registry_name(first):
    place, _ = first
    write_music(place.folder / "other", genres={"a": 110, "b": 880}, tracks=26)
    source = ("--dataset", "folder", "--source", str(place.folder / "other"))
    output = place.run("retrain", *source, *FAST)
    genres = "the genres of the champion of genre are high-ish, low & slow, those of this data set a, b"
    assert f"not registered: {genres}" in output
    assert "registry_name" in output
    place.run("promote", *source, "--registry-name", "other")
    assert place.alias("champion", "other") == 1


def kill_when(process: subprocess.Popen[str], happened: Callable[[], object]) -> None:
    """Kill a flow and all that it started as soon as something has happened."""
    for _ in range(2400):
        if happened() or process.poll() is not None:
            break
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()[0]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


#: Stage of a retraining to the sign that it is under way.
STAGES = {
    "build": lambda place: list(place.folder.glob("home/*/store/*/part-*.parquet")),
    "training": lambda place: list(place.folder.glob("home/*/trainings/catboost-*/training.log")),
    "promotion": lambda place: len(place.trainings()) == 2 and "ensemble" in [r.info.run_name for r in place.runs()],
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_retraining_completes_when_run_again_and_repeats_nothing(place, stage):
    write_music(place.folder / "music", genres={"low": 110, "high": 880}, tracks=26, seconds=22)
    command = ("retrain", "--dataset", "folder", "--source", str(place.folder / "music"), *FAST)
    kill_when(place.start(*command), lambda: STAGES[stage](place))
    parts = {p: p.stat().st_mtime_ns for p in place.folder.glob("home/*/store/*/part-*.parquet")}
    trained = place.trainings()
    output = place.run(*command)
    assert place.alias("champion") == 1
    assert place.versions() == 1
    assert {p: p.stat().st_mtime_ns for p in parts} == parts
    assert trained.items() <= place.trainings().items()
    assert len(place.trainings()) == 2
    by_status = {run.info.run_name: run.info.status for run in place.runs()}
    assert "RUNNING" not in [run.info.status for run in place.runs()], by_status
    for name in ("logistic_regression", "catboost", "ensemble"):
        assert [run.info.run_name for run in place.runs()].count(name) == 1
    assert not list(place.folder.rglob("*.tmp"))
    assert "104 clips" in output
