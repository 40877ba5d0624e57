"""The first command of the README, with defaults alone: from nothing to a champion that knows real music."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

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
    monkeypatch.setenv("GENRE_WEIGHTS", str(network_path))
    again = place.run("retrain")
    assert "nothing to register: this ensemble is already version 1 of genre" in again
    assert "version 2 of genre: promoted over version 1" in again and place.alias("champion") == 2
    last = place.run("retrain")
    assert "nothing to register: this network is already version 2 of genre (the champion)" in last
    assert place.versions() == 2
    retrainings = [run for run in place.runs() if run.info.run_name == "retrain demo"]
    assert sorted(run.data.tags["outcome"] for run in retrainings) == ["Promoted", "Unchanged", "Unchanged"]
