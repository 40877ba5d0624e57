import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
import pandas as pd
import psutil
import pytest

from genre import evaluate, models
from genre.config import AudioConfig
from genre.errors import TrainingError
from genre.files import write_json, write_table
from genre.inputs.features import PUBLISHED_FEATURE_NAMES
from genre.probabilities import tables
from genre.store import contents
from genre.store.contents import write_source_features
from genre.training.job import TrainingJob, code_digest, held_out_probabilities, prepare_training, read_job, read_result
from genre.training.process import LIBRARY_ENV, RowSubset, open_lifeline, run_training
from genre.workspace import PROJECT_DIR

GENRES = ["a", "b", "c"]


def make_clips(n: int = 90) -> pd.DataFrame:
    """Clips of three genres, three to a recording, in one file."""
    number = np.arange(n)
    return pd.DataFrame(
        {
            "clip_id": [f"clip {i:03d}" for i in number],
            "stamp": "1",
            "status": "ok",
            "reason": "",
            "genre": pd.Categorical([GENRES[i // 3 % 3] for i in number], categories=GENRES),
            "recording": [f"recording {i // 3}" for i in number],
            "path": [f"/music/recording {i // 3}" for i in number],
            "split": [("train", "train", "train", "validation", "test")[i // 9 % 5] for i in number],
        }
    )


@pytest.fixture
def prepared(tmp_path):
    """Function that prepares a training of one model on features, the first of which decides the genre."""
    clips = make_clips()
    X = np.random.default_rng(0).normal(size=(len(clips), len(PUBLISHED_FEATURE_NAMES)))
    X[:, 0] += 3 * clips["genre"].cat.codes
    features = pd.DataFrame(X, index=pd.Index(clips["clip_id"]), columns=list(PUBLISHED_FEATURE_NAMES))
    write_source_features(clips, features, tmp_path / "store")

    def prepare(model="logistic_regression", genres=None, folds=0, **params):
        job = TrainingJob(
            model=model,
            params=models.check_params(model, params),
            seed=0,
            genres=genres or GENRES,
            config=AudioConfig().to_dict(),
            store=str(tmp_path / "store"),
            data_digest="d",
            splits_digest="s",
            code_digest=code_digest(model),
            inputs=["features"],
            folds=folds,
        )
        prepare_training(tmp_path / job.key, job, clips)
        return tmp_path / job.key

    return prepare


def test_a_training_leaves_what_it_promises(prepared):
    folder = prepared(C=1.0, scaling="minmax")  # few clips, and one column of 97 that counts
    assert read_result(folder) is None
    result = run_training(folder)
    assert result == read_result(folder)
    assert 0 < result["fit_seconds"] < result["seconds"]
    assert 50 < result["peak_memory_mb"] < 10_000
    table = pd.read_parquet(folder / "probabilities.parquet")
    assert len(table) == 90
    np.testing.assert_allclose(table[GENRES].sum(axis=1), 1)
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["test_track_macro_auc"] > scores["test_macro_auc"] > 0.8
    assert table["track"].tolist() == [f"clip {i // 3 * 3:03d}" for i in range(90)]  # the first of each file's clips
    importances = pd.read_parquet(folder / "importances.parquet")
    assert importances["mean"].idxmax() == importances["own"].idxmax() == PUBLISHED_FEATURE_NAMES[0]


def test_out_of_fold_predictions_come_from_models_without_the_recording(prepared):
    """A model that learns by heart is sure of what it knows and not of what it was not shown."""
    folder = prepared("random_forest", folds=3, n_estimators=40, min_samples_split=2)
    result = run_training(folder)
    assert result["out_of_fold"] == "3 folds by recording" and result["folds_seconds"] > 0
    known = pd.read_parquet(folder / "probabilities.parquet")
    held_out = held_out_probabilities(folder)
    assert set(held_out.index) == set(known.index[known["split"] != "test"])
    assert held_out["track"].equals(known.loc[held_out.index, "track"])
    assert held_out["split"].value_counts().to_dict() == {"train": 54, "validation": 18}
    assert tables.genres_of(held_out) == GENRES
    learnt = held_out[held_out["split"] == "train"]
    right, right_known = (
        (tables.proba_of(t).argmax(axis=1) == tables.labels_of(t)).mean() for t in (learnt, known.loc[learnt.index])
    )
    assert 0.5 < right < 0.97 < right_known
    pd.testing.assert_frame_equal(held_out[held_out["split"] == "validation"], known[known["split"] == "validation"])
    assert not (folder / "folds").exists()


def test_with_folds_the_final_model_learns_from_the_validation_clips_too(prepared):
    tables_of = []
    for folds in (0, 3):
        folder = prepared(folds=folds)
        run_training(folder)
        tables_of.append(pd.read_parquet(folder / "probabilities.parquet"))
    plain, refitted = tables_of
    for split, is_same in {"train": False, "validation": True, "test": False}.items():
        assert plain[plain["split"] == split].equals(refitted[refitted["split"] == split]) is is_same


def test_without_folds_only_validation_is_held_out(prepared):
    folder = prepared()
    assert "out_of_fold" not in run_training(folder)
    assert set(held_out_probabilities(folder)["split"]) == {"validation"}
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["temperature"] == evaluate.fit_temperature(held_out_probabilities(folder))
    assert {"unknown_below", "test_calibration_error", "test_log_loss_tempered"} <= set(scores)


def test_too_few_recordings_for_folds_are_reported_and_stop_nothing(prepared):
    folder = prepared(folds=3)
    clips = pd.read_parquet(folder / "clips.parquet")
    one_each = clips["recording"].where(clips["split"] != "train", clips["genre"].astype(str))
    clips.assign(recording=one_each).to_parquet(folder / "clips.parquet")
    assert run_training(folder)["out_of_fold"] == "none: a genre has a single training recording"
    assert set(held_out_probabilities(folder)["split"]) == {"validation"}


def test_the_table_comes_from_the_saved_model(prepared, tmp_path):
    folder = prepared("catboost", iterations=20)
    run_training(folder)
    job = read_job(folder)
    clips = pd.read_parquet(folder / "clips.parquet")
    X = contents.load_features(clips, tmp_path / "store").to_numpy()
    proba = models.predict_proba(job.model, models.load_model(job.model, folder / "model"), X)
    np.testing.assert_allclose(pd.read_parquet(folder / "probabilities.parquet")[GENRES], proba, atol=1e-9)


def test_the_key_names_what_matters(prepared):
    job = read_job(prepared())
    fields = asdict(job)
    assert TrainingJob(**fields | {"store": "elsewhere"}).key == job.key
    for change in (
        {"seed": 1},
        {"params": {}},
        {"data_digest": "x"},
        {"splits_digest": "x"},
        {"code_digest": "x"},
        {"folds": 3},
    ):
        assert TrainingJob(**fields | change).key != job.key


def test_a_weights_file_counts_by_its_contents_and_not_by_its_path(prepared, tmp_path):
    fields = asdict(read_job(prepared()))

    def key(name):
        return TrainingJob(**fields | {"params": {"weights": str(tmp_path / name), "units": 8}}).key

    (tmp_path / "a.weights.h5").write_bytes(b"one")
    first = key("a.weights.h5")
    (tmp_path / "a.weights.h5").rename(tmp_path / "b.weights.h5")
    assert key("b.weights.h5") == first
    (tmp_path / "b.weights.h5").write_bytes(b"two")
    assert key("b.weights.h5") != first
    assert key("imagenet") != key("none")


def test_rows_are_read_when_asked_for():
    class Watched:
        def __init__(self):
            self.asked = []

        def __getitem__(self, at):
            self.asked.append(np.asarray(at).tolist())
            return 10 * np.asarray(at)

    watched = Watched()
    rows = RowSubset(watched, np.array([3, 5, 8]))
    assert len(rows) == 3
    assert watched.asked == []
    np.testing.assert_array_equal(rows[np.array([2, 0])], [80, 30])
    np.testing.assert_array_equal(rows[:2], [30, 50])
    assert watched.asked == [[8, 3], [3, 5]]


def test_the_memory_of_a_training_is_its_own(prepared):
    held = np.ones(100_000_000)  # 800 MB in this process
    assert run_training(prepared())["peak_memory_mb"] < 700
    assert held[-1] == 1


def test_a_reason_comes_back_from_the_process(prepared):
    with pytest.raises(TrainingError, match="cannot learn z"):
        run_training(prepared(genres=[*GENRES, "z"]))


def test_a_killed_training_is_reported_and_can_be_run_again(prepared):
    folder = prepared("random_forest", n_estimators=20_000)
    script = (
        f"from pathlib import Path; from genre.training import process; process.run_training(Path({str(folder)!r}))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=PROJECT_DIR,
        stderr=subprocess.PIPE,
        text=True,
    )
    child = wait_for_child(process.pid)
    os.kill(child, signal.SIGKILL)
    assert "killed (signal 9), most likely for memory" in process.communicate(timeout=60)[1]
    assert read_result(folder) is None
    job = json.loads((folder / "job.json").read_text())
    job["params"]["n_estimators"] = 10
    (folder / "job.json").write_text(json.dumps(job))
    assert run_training(folder)["fit_seconds"] > 0


def test_a_training_does_not_outlive_its_parent(prepared):
    folder = prepared("random_forest", n_estimators=20_000)
    script = (
        f"from pathlib import Path; from genre.training import process; process.run_training(Path({str(folder)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT_DIR)
    child = psutil.Process(wait_for_child(process.pid))
    process.kill()
    process.wait()
    child.wait(timeout=20)
    assert read_result(folder) is None


def test_a_training_in_a_thread_ends_with_its_lifeline(prepared):
    folder = prepared("random_forest", n_estimators=20_000)
    with ThreadPoolExecutor() as threads, open_lifeline() as lifeline:
        future = threads.submit(run_training, folder, lifeline=lifeline)
        child = psutil.Process(wait_for_child(os.getpid()))
    with pytest.raises(TrainingError, match="ended with code 1"):
        future.result()
    assert not child.is_running()
    assert read_result(folder) is None


@pytest.mark.parametrize("own", [{}, {"OPENBLAS_NUM_THREADS": "2", "MALLOC_TRIM_THRESHOLD_": "1000000"}])
def test_a_training_has_one_thread_of_blas_and_keeps_its_memory_unless_the_user_sets_it(own, prepared):
    folder = prepared("random_forest", n_estimators=20_000)
    script = (
        f"from pathlib import Path; from genre.training import process; process.run_training(Path({str(folder)!r}))"
    )
    inherited = {name: value for name, value in os.environ.items() if name not in LIBRARY_ENV}
    process = subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT_DIR, env=inherited | own)
    child = psutil.Process(wait_for_child(process.pid))
    assert {"OPENBLAS_NUM_THREADS", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"} < set(LIBRARY_ENV)
    assert {name: child.environ().get(name) for name in LIBRARY_ENV} == LIBRARY_ENV | own
    process.kill()
    process.wait()
    child.wait(timeout=20)


def wait_for_child(pid: int) -> int:
    """Process that `pid` started, once it is under way."""
    for _ in range(600):
        for child in psutil.Process(pid).children():
            if "genre.training.process" in child.cmdline():
                time.sleep(2)
                return child.pid
        time.sleep(0.1)
    raise AssertionError("the training process never started")


@pytest.mark.parametrize("name", ["result.json", "scores.json", "job.json", "probabilities.parquet", "model/svm.skops"])
def test_a_training_with_a_damaged_file_is_left_out_with_a_line(tmp_path, caplog, name):
    """An empty result of any training ended every promotion with a traceback."""
    for file in ("result.json", "scores.json", "job.json"):
        write_json(tmp_path / file, {"fit_seconds": 1.0})
    write_table(tmp_path / "probabilities.parquet", pd.DataFrame({"a": [1.0]}))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "svm.skops").write_bytes(b"a model")
    assert read_result(tmp_path) == {"fit_seconds": 1.0}
    (tmp_path / name).write_bytes(b"")
    assert read_result(tmp_path) is None
    assert f"training {tmp_path.name} is left out" in caplog.text
