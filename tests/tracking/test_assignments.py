"""Split assignments that are lost or damaged, and taken from MLflow."""

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from genre.errors import GenreError
from genre.workspace import Workspace
from tracking import results


@pytest.fixture
def client(tmp_path, home, monkeypatch) -> MlflowClient:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client = MlflowClient()
    client.create_experiment("music", artifact_location=(tmp_path / "artifacts").as_uri())
    return client


def log_run(client: MlflowClient, data_set: str) -> str:
    experiment = client.get_experiment_by_name("music")
    return client.create_run(experiment.experiment_id, tags={"data_set": data_set}).info.run_id


def test_the_newest_assignments_of_the_data_set_are_restored(client):
    first = pd.DataFrame({"recording": ["0001", "b"], "split": ["train", "test"]})
    clips = pd.DataFrame({"clip_id": ["1", "2", "3"], "recording": ["c", "c", "d"], "split": "train", "genre": "x"})
    with pytest.raises(GenreError, match="MLflow holds no splits of music"):
        results.restore_assignments(Workspace("music"))
    results.log_table(log_run(client, "music"), clips, "clips")  # as before there was a table of splits
    restored = results.restore_assignments(Workspace("music"))
    assert restored.to_dict("list") == {"recording": ["c", "d"], "split": ["train", "train"]}
    results.log_assignments(log_run(client, "music"), first.assign(more=1))
    results.log_assignments(log_run(client, "other"), clips)
    log_run(client, "music")  # without a table
    pd.testing.assert_frame_equal(results.restore_assignments(Workspace("music")), first)
