"""The first command of the README, with defaults alone: the demo, from nothing to a champion."""

import pandas as pd

from genre.datasets import SYNTHETIC_WARNING
from genre.files import read_json
from tests.support.place import Place


def test_it_ends_in_a_champion(tmp_path, prefect_server):
    place = Place(tmp_path, prefect_server)
    output = place.run("retrain")
    assert "version 1 of genre: promoted" in output and place.alias("champion") == 1
    assert "mlflow models serve -m models:/genre@champion" in output
    runs = {run.info.run_name: run for run in place.runs()}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    board = pd.read_csv(place.client.download_artifacts(runs["retrain demo"].info.run_id, "tables/leaderboard.csv"))
    assert len(board) >= 5 and board["test_macro_auc"].between(0.9, 1).all()
    specs = [read_json(path) for path in tmp_path.rglob("artifacts/ensemble/ensemble.json")]
    assert specs and {spec["warning"] for spec in specs} == {SYNTHETIC_WARNING}
