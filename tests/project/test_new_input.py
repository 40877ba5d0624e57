"""A third input goes the whole road, from the build to a served answer, by one file and one line in the registry.

It exists only in a copy of the project that the test makes. A model that takes it is one more line.
"""

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
from mlflow import MlflowClient

from tests.support.project import ROOT
from tests.support.servers import served

#: The file.
LOUDNESS = '''
"""Loudness of the quarters of a clip."""

import numpy as np

FRAME_SERIES = frozenset()


def shape(config):
    return (5,)


def column_names():
    return [*(f"loudness_{n}" for n in range(1, 5)), "crossings"]


def compute(a, rows):
    loudness = [20 * np.log10(np.sqrt(np.mean(part**2)) + 1e-6) for part in np.array_split(a.y, 4)]
    return np.array([*loudness, np.mean(np.diff(np.sign(a.y)) != 0)], np.float32)


def summarise(values):
    return dict(zip(column_names(), values.tolist()))
'''

#: The line of the input, and that of a model, each before the line that it names.
LINES = {
    "inputs/__init__.py": (
        '        Input("spectrograms",',
        '        Input("loudness", "genre.inputs.loudness", "float32", 1),\n',
    ),
    "models/__init__.py": (
        '        ModelSpec("random_forest",',
        '        ModelSpec("loudness_regression", _CLASSICAL, ("loudness",), "model.skops", _SKLEARN,'
        ' trainer="logistic_regression"),\n',
    ),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with one input and one model more."""
    project = tmp_path_factory.mktemp("copy") / "project"
    for part in ("genre", "tracking", "flows", "serving"):
        shutil.copytree(ROOT / part, project / part, ignore=shutil.ignore_patterns("__pycache__"))
    (project / "genre" / "inputs" / "loudness.py").write_text(LOUDNESS)
    for name, (before, line) in LINES.items():
        path = project / "genre" / name
        text = path.read_text()
        assert text.count(before) == 1
        path.write_text(text.replace(before, line + before))
    return project


@pytest.fixture(scope="module")
def environment(project: Path, prefect_server: str) -> dict[str, str]:
    home = project.parent
    own = {
        "GENRE_HOME": str(home / "workspace"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}",
        "PREFECT_API_URL": prefect_server,
    }
    return os.environ | own


def run(project: Path, environment: dict[str, str], flow: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"flows.{flow}", "--dataset", "folder", *arguments]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def store(project: Path, environment: dict[str, str], music: Path) -> Path:
    """The store of a data set after a build, a training on the new input, and a promotion."""
    run(project, environment, "build", "--source", str(music), "--model", "svm")
    [store] = (project.parent / "workspace").glob("*/store/*")
    assert not list(store.glob("*loudness*")), "a build computes what no model was asked to take"
    run(project, environment, "train", "--source", str(music), "--model", "loudness_regression", "--folds", "0")
    run(project, environment, "promote", "--source", str(music), "--registry-name", "mine")
    return store


def read_parts(store: Path) -> pd.DataFrame:
    """All values of the new input in a store, in the order of the clips."""
    [part] = store.glob("part-loudness-*.parquet")
    values = np.load(part.with_suffix(".npy"))
    return pd.DataFrame(values, pd.Index(pd.read_parquet(part)["clip_id"])).sort_index()


def test_the_store_gains_the_input_beside_what_it_had(store):
    [part] = store.glob("part-loudness-v1-*.parquet")
    table = pd.read_parquet(part)
    values = np.load(part.with_suffix(".npy"))
    assert (table["status"] == "ok").all() and values.shape == (8, 5) and np.isfinite(values).all()
    assert (store / "probe-loudness-v1.json").exists()


def test_its_model_is_trained_scored_and_explained(store, environment):
    client = MlflowClient(environment["MLFLOW_TRACKING_URI"])
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    [run] = [run for run in runs if run.info.run_name == "loudness_regression"]
    assert run.info.status == "FINISHED" and run.data.metrics["test_macro_auc"] > 0.5
    [training] = store.parents[1].glob("trainings/loudness_regression-*")
    importances = pd.read_parquet(training / "importances.parquet")
    assert list(importances.index) == ["loudness"] and list(importances.columns) == ["mean", "std", "own"]


def test_the_archive_carries_it(store, project, environment, music):
    file = project.parent / "archive.parquet"
    run(project, environment, "archive", "--source", str(music), "--action", "export", "--file", str(file))
    column = pd.read_parquet(file)["loudness"]
    assert {len(value) for value in column} == {5 * 4}
    before = read_parts(store)
    shutil.rmtree(store)
    run(project, environment, "archive", "--source", str(music), "--action", "import", "--file", str(file))
    assert len(before) == 8
    pd.testing.assert_frame_equal(read_parts(store), before)


def test_a_served_version_computes_it_and_answers(store, project, environment, music, tmp_path):
    uri = environment["MLFLOW_TRACKING_URI"]
    audio = base64.b64encode((music / "high" / "0.wav").read_bytes()).decode()
    with served("models:/mine/1", tmp_path, MLFLOW_TRACKING_URI=uri) as url:
        response = requests.post(f"{url}/invocations", json={"dataframe_records": [{"audio": audio}]}, timeout=60)
    [answer] = response.json()["predictions"]
    assert answer["error"] is None and set(answer["probabilities"]) == {"high", "low"}
