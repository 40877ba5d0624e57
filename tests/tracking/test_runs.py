"""Runs in a real store: what an error inside one becomes."""

import errno
import os

import pytest
from mlflow import MlflowClient

from genre.errors import GenreError
from genre.workspace import Workspace
from tracking import runs


@pytest.mark.parametrize(
    ("number", "sentence"),
    [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "the disk is full"), (errno.EFBIG, "a file would be larger")],
)
def test_a_file_that_cannot_be_written_ends_a_run_with_a_sentence(tmp_path, monkeypatch, number, sentence):
    monkeypatch.setenv("GENRE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with (
        pytest.raises(GenreError, match=sentence),
        runs.experiment_run(Workspace("folder-music"), "build", {}) as run_id,
    ):
        raise OSError(number, os.strerror(number), "part.npy")
    assert MlflowClient().get_run(run_id).info.status == "FAILED"


def test_the_run_that_mlflow_run_opened_is_finished_with_the_flow_s(tmp_path, monkeypatch):
    monkeypatch.setenv("GENRE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    launched = client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", launched)
    with runs.experiment_run(Workspace("folder-music"), "build", {}) as run_id:
        pass
    for finished in (run_id, launched):
        run = client.get_run(finished)
        assert run.info.status == "FINISHED" and "reason" not in run.data.tags
