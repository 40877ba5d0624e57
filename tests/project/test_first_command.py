"""The first command of the README, with defaults alone: from nothing to a champion that knows real music."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from joblib import cpu_count

from genre.datasets import SYNTHETIC_WARNING
from genre.files import read_json
from tests.support.package_index import serve_index
from tests.support.place import Place


@pytest.fixture
def empty_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package index that has nothing, and answers 404."""
    (tmp_path / "index").mkdir()
    with serve_index(tmp_path / "index", monkeypatch):
        yield


def test_it_ends_in_a_champion(tmp_path, prefect_server, network_path, empty_index, monkeypatch):
    monkeypatch.setenv("GENRE_WEIGHTS", "")
    place = Place(tmp_path, prefect_server)
    output = place.run("retrain")
    assert "version 1 of genre: promoted" in output and place.alias("champion") == 1
    assert "no champion that knows real music: cannot download the weights" in output
    assert "mlflow models serve -m models:/genre@champion" in output
    runs = {run.info.run_name: run for run in place.runs()}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    board = pd.read_csv(place.client.download_artifacts(runs["retrain demo"].info.run_id, "tables/leaderboard.csv"))
    assert len(board) >= 5 and board["test_macro_auc"].between(0.9, 1).all()
    specs = [read_json(path) for path in tmp_path.rglob("artifacts/ensemble/ensemble.json")]
    assert specs and {spec["warning"] for spec in specs} == {SYNTHETIC_WARNING}
    begun = {path.parent.name.rpartition("-")[0]: path.stat().st_mtime for path in tmp_path.rglob("job.json")}
    if cpu_count() > 1:  # the network, which takes longest, is trained beside the other models
        assert begun["mel_cnn"] < max(begun[name] for name in ("logistic_regression", "random_forest", "svm"))
    monkeypatch.setenv("GENRE_WEIGHTS", str(network_path))
    again = place.run("retrain")
    assert "nothing to register: this ensemble is already version 1 of genre" in again
    assert "version 2 of genre: promoted over version 1" in again and place.alias("champion") == 2
    last = place.run("retrain")
    assert "nothing to register: this network is already version 2 of genre (the champion)" in last
    assert place.versions() == 2
    retrainings = [run for run in place.runs() if run.info.run_name == "retrain demo"]
    assert sorted(run.data.tags["outcome"] for run in retrainings) == ["Promoted", "Unchanged", "Unchanged"]


@pytest.mark.slow
def test_the_demo_promotes_by_comparison(tmp_path, prefect_server, monkeypatch):
    monkeypatch.setenv("GENRE_WEIGHTS", "none")
    place = Place(tmp_path, prefect_server)
    stump = ("--model", "catboost", "--params", '{"catboost": {"iterations": 1, "depth": 1}}')
    assert "version 1 of genre: promoted" in place.run("retrain", *stump)
    place.run("retrain", "--model", "logistic_regression")
    assert place.alias("champion") == 2 and place.alias("previous") == 1
    run = place.client.get_run(place.client.get_model_version("genre", "2").run_id)
    assert run.data.tags["compared_with"] == "version 1 of genre" and run.data.metrics["champion_gain_low"] > 0
    assert place.client.get_registered_model("genre").tags["comparisons"] == "21"
