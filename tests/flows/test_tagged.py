"""A library with genres in its tags, from the files to the splits; in this process, on a real Prefect server."""

import shutil
from pathlib import Path

import pytest
import soundfile as sf
from mlflow import MlflowClient
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.build import build
from genre.datasets import dataset_id, demo
from genre.workspace import Workspace
from tests.support.sounds import write_tags
from tracking.results import read_table


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Seven pieces of the demo corpus in two genres, of three artists each, one of whom has two pieces."""
    folder = tmp_path / "library"
    folder.mkdir()
    for genre in list(demo.GENRES)[:2]:
        for n in range(4 if genre == next(iter(demo.GENRES)) else 3):
            suffix = ("flac", "ogg", "mp3", "wav")[n]
            path = folder / f"{genre} {n}.{suffix}"
            sf.write(path, demo.render_recording(genre, n), demo.SR)
            write_tags(path, genre=[genre.upper() if n == 1 else genre, "Other"], artist=f"{genre} artist {n % 3}")
    (folder / "#recycle").mkdir()
    shutil.copy(path, folder / "#recycle" / "deleted.wav")
    (folder / "tune.mid").touch()
    return folder


def check_left_out(experiment: str) -> None:
    """Check that the run reports what is left out, without a file's name."""
    client = MlflowClient()
    [run] = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    table = read_table(run.info.run_id, "left-out")
    assert table["reason"].tolist() == [
        "files in trash, old versions and the like",
        "files of types that are not decoded",
    ]
    assert table[["type", "number"]].to_numpy().tolist() == [["#recycle", "1"], [".mid", "1"]]
    note = run.data.tags["mlflow.note.content"]
    assert "| files of types that are not decoded | .mid | 1 |" in note
    assert "deleted" not in note and "tune" not in note


def test_a_tagged_library_is_built(library, tmp_path, monkeypatch, prefect_server):
    monkeypatch.setenv("GENRE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with temporary_settings({PREFECT_API_URL: prefect_server}):
        assert build("tagged", str(library), n_jobs=1) == {"ok": 21}
        APILogHandler().flush()  # otherwise it would keep trying after the server has ended
    workspace = Workspace(dataset_id("tagged", str(library)))
    check_left_out(workspace.dataset_id)
    clips = workspace.read_clips()
    assert set(clips["genre"]) == set(list(demo.GENRES)[:2])
    assert clips["recording"].nunique() == 6
    splits = workspace.read_splits()
    assert splits["recording"].is_unique and set(splits["recording"]) == set(clips["recording"])
    assert splits["split"].value_counts().to_dict() == {"train": 2, "validation": 2, "test": 2}
