"""Old files that are removed only on demand, and split assignments that come back from MLflow."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from prefect.logging import disable_run_logger

from flows.archive import prune_files, restore_splits
from genre.files import write_json
from genre.workspace import Workspace
from tracking import results, runs


@pytest.fixture
def workspace(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace and an MLflow store of its own; what the flow logs is dropped."""
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs.connect()
    MlflowClient().create_experiment("music", artifact_location=(tmp_path / "artifacts").as_uri())
    with disable_run_logger():
        yield Workspace("music")
    mlflow.set_tracking_uri(before)


def start_run(**tags: str) -> str:
    client = MlflowClient()
    return client.create_run(client.get_experiment_by_name("music").experiment_id, tags=tags).info.run_id


def train(workspace: Workspace, data: str) -> tuple[Path, str]:
    """Leave a finished training on some data; return its folder and the id of its logged model."""
    folder = workspace.training_dir("svm", data)
    write_json(folder / "job.json", {"data_digest": data, "splits_digest": "s", "config": {"sr": 22050}})
    write_json(folder / "result.json", {"fit_seconds": 1.0})
    run_id = start_run(workspace=runs.workspace_id(workspace), work=folder.name)
    experiment = MlflowClient().get_run(run_id).info.experiment_id
    return folder, MlflowClient().create_logged_model(experiment, name="model", source_run_id=run_id).model_id


def logged_models() -> set[str]:
    experiment = MlflowClient().get_experiment_by_name("music").experiment_id
    return {model.model_id for model in MlflowClient().search_logged_models([experiment])}


def test_old_files_are_listed_first_and_removed_when_that_is_asked_for(workspace):
    old, old_model = train(workspace, "before")
    new, new_model = train(workspace, "now")
    assert prune_files(workspace, dry_run=True) == (
        "2 items, 0.0 MB can be removed; nothing was: add -P dry_run=false to remove them"
    )
    assert old.exists() and logged_models() == {old_model, new_model}
    assert prune_files(workspace, dry_run=False) == "2 items, 0.0 MB removed"
    assert not old.exists() and new.exists() and logged_models() == {new_model}
    assert prune_files(workspace, dry_run=True).startswith("0 items, 0.0 MB can be removed")


def test_assignments_that_are_damaged_or_lack_recordings_are_taken_from_mlflow(workspace):
    held = pd.DataFrame({"recording": ["a", "b", "0001"], "split": ["test", "train", "validation"]})
    results.log_assignments(start_run(data_set="music"), held)
    path = workspace.directory / "dealt.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert restore_splits(workspace) == "3 of 3 recordings have their split from MLflow; run -e build next"
    pd.testing.assert_frame_equal(workspace.read_assignments(), held)
    workspace.write_assignments(pd.DataFrame({"recording": ["new", "b"], "split": ["train", "test"]}))
    assert restore_splits(workspace).startswith("2 of 4 recordings have their split from MLflow")
    kept = dict(workspace.read_assignments().to_numpy())
    assert kept == {"new": "train", "b": "test", "a": "test", "0001": "validation"}
