"""Logged models that are neither served nor of a training that is kept, and their files."""

from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tracking import registry


@pytest.fixture
def client(tmp_path) -> MlflowClient:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client = MlflowClient()
    client.create_experiment("music", artifact_location=(tmp_path / "artifacts").as_uri())
    return client


def log_model(client: MlflowClient, work: str, workspace: str = "here") -> str:
    """Log a model of ten bytes in a run of its own; return its id."""
    experiment = client.get_experiment_by_name("music").experiment_id
    run = client.create_run(experiment, tags={"workspace": workspace, "work": work}).info.run_id
    model = client.create_logged_model(experiment, name="model", source_run_id=run)
    folder = Path(urlsplit(model.artifact_location).path)
    (folder / "artifacts").mkdir(parents=True)
    (folder / "MLmodel").write_text("model_id: x"[:8])
    (folder / "artifacts" / "weights").write_text("12")
    return model.model_id


def register(client: MlflowClient, model_id: str) -> str:
    return registry.register_version("genre", f"models:/{model_id}", {}, "").version


def test_only_models_that_nobody_serves_or_keeps_are_old_and_are_deleted_with_their_versions(client):
    ids = {name: log_model(client, name) for name in ("first", "second", "third", "fourth", "newest")}
    versions = {name: register(client, model_id) for name, model_id in ids.items()}
    for alias, name in {"champion": "fourth", "previous": "second", "challenger": "third"}.items():
        client.set_registered_model_alias("genre", alias, versions[name])
    kept = log_model(client, "svm-0123")
    others = log_model(client, "svm-4567", workspace="another machine")
    old = log_model(client, "svm-89ab")
    found = registry.list_old_models("here", {"svm-0123"})
    assert {model.model_id for model in found} == {ids["first"], old}
    assert {registry.model_bytes(model) for model in found if model.model_id == old} == {10}
    for model in found:
        registry.delete_model(model)
        assert not Path(urlsplit(model.artifact_location).path).exists()
    assert registry.list_old_models("here", {"svm-0123"}) == []
    left = {version.version for version in client.search_model_versions("name = 'genre'")}
    assert left == set(versions.values()) - {versions["first"]}
    with pytest.raises(MlflowException):
        client.get_logged_model(old)
    for model_id in (kept, others, *(ids[name] for name in ids if name != "first")):
        assert Path(urlsplit(client.get_logged_model(model_id).artifact_location).path, "MLmodel").exists()
