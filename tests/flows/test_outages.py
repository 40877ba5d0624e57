"""Retraining with a server that goes away, a full disk and a locked database: real ones."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.support.mlflow_server import MlflowServer
from tests.support.project import ROOT
from tests.support.servers import wait_until_up
from tests.support.sounds import write_music

MODELS = ["--model", "logistic_regression,random_forest", "--params", '{"random_forest": {"n_estimators": 20}}']


@dataclass
class Place:
    """Music, a workspace and an MLflow store of their own."""

    folder: Path
    api_url: str
    uri: str = ""

    def __post_init__(self) -> None:
        self.uri = self.uri or f"sqlite:///{self.folder / 'mlflow.db'}"
        write_music(self.folder / "music", genres={"low": 110, "high": 880}, tracks=26)

    def start(self, flow: str = "retrain", *arguments: str) -> subprocess.Popen[str]:
        environment = {
            "GENRE_HOME": str(self.folder / "home"),
            "MLFLOW_TRACKING_URI": self.uri,
            "PREFECT_API_URL": self.api_url,
        }
        command = [sys.executable, "-m", f"flows.{flow}", "--dataset", "folder", "--source", str(self.folder / "music")]
        return subprocess.Popen(
            [*command, *arguments],
            cwd=self.folder,
            env=os.environ | environment | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def retrain(self) -> subprocess.Popen[str]:
        return self.start("retrain", "--folds", "0", *MODELS)

    def wait(self, process: subprocess.Popen[str], happened: Callable[[], object], timeout_s: float = 120) -> None:
        """Wait for something to happen while a process runs."""
        deadline = time.monotonic() + timeout_s
        while not happened():
            assert process.poll() is None, process.communicate()[1][-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def check_champion(self) -> None:
        """Check for one complete version that is champion, and no run that is open or logged twice."""
        client = MlflowClient(self.uri)
        runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
        assert "RUNNING" not in {run.info.status for run in runs}
        for name in ("logistic_regression", "random_forest", "ensemble"):
            assert [run.info.status for run in runs if run.info.run_name == name] == ["FINISHED"], name
        [version] = client.search_model_versions("name = 'genre'")
        assert version.status == "READY"
        assert client.get_model_version_by_alias("genre", "champion").version == version.version
        assert version.description and version.tags["decision"] == "promoted"
        assert [model.name for model in client.search_registered_models()] == ["genre"]

    def is_trained(self, model: str) -> bool:
        return bool(list(self.folder.glob(f"home/*/trainings/{model}-*/result.json")))


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a process; return its exit code and output."""
    out, err = process.communicate(timeout=500)
    return process.returncode, out, err


@pytest.fixture
def place(tmp_path: Path, prefect_server: str) -> Place:
    return Place(tmp_path, prefect_server)


@pytest.mark.slow
def test_a_locked_database_is_reported_and_the_next_run_completes(place: Place):
    process = place.retrain()
    place.wait(process, lambda: place.is_trained("logistic_regression"))
    with sqlite3.connect(place.folder / "mlflow.db", isolation_level=None, timeout=30) as database:
        database.execute("BEGIN EXCLUSIVE")
        code, _, err = finish(process)
        database.execute("ROLLBACK")
    assert code == 1
    message = "error: MLflow stopped responding ((sqlite3.OperationalError) database is locked); run the same command"
    assert message in err
    assert finish(place.retrain())[0] == 0
    place.check_champion()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 64 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Write a file that fills the disk."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(2**16))
    return path


#: Moments at which the disk becomes full: before the features, between two trainings, before the registration.
MOMENTS = {
    "build": lambda place: list(place.folder.glob("home/*/clips.parquet")),
    "training": lambda place: place.is_trained("logistic_regression"),
    "promotion": lambda place: place.is_trained("random_forest"),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_full_disk_is_reported_and_the_next_run_completes(small_disk: Path, prefect_server: str, moment: str):
    place = Place(small_disk, prefect_server)
    process = place.retrain()
    place.wait(process, lambda: MOMENTS[moment](place))
    filler = fill(small_disk)
    code, _, err = finish(process)
    filler.unlink()
    assert code == 1
    assert err.splitlines()[-1].startswith("error: the disk is full"), err[-3000:]
    code, _, err = finish(place.retrain())
    assert code == 0, err[-3000:]
    place.check_champion()
    assert not list(small_disk.rglob("*.tmp"))


@pytest.mark.slow
def test_an_mlflow_server_that_is_down_for_a_minute_is_waited_for(
    mlflow_server: MlflowServer, prefect_server: str, tmp_path: Path
):
    place = Place(tmp_path, prefect_server, mlflow_server.url)
    process = place.retrain()
    place.wait(process, lambda: place.is_trained("logistic_regression"))
    mlflow_server.kill()
    time.sleep(60)
    assert process.poll() is None
    mlflow_server.start()
    code, _, err = finish(process)
    assert code == 0, err[-3000:]
    place.check_champion()


@pytest.mark.slow
def test_a_prefect_server_that_is_restarted_does_not_end_the_flow(prefect_server_of_its_own, tmp_path: Path):
    place = Place(tmp_path, prefect_server_of_its_own.url)
    process = place.retrain()
    place.wait(process, lambda: place.is_trained("logistic_regression"))
    prefect_server_of_its_own.kill()
    time.sleep(5)
    prefect_server_of_its_own.start()
    code, _, err = finish(process)
    assert code == 0, err[-3000:]
    place.check_champion()


class PrefectServer(MlflowServer):
    """A Prefect server that can be killed and started again."""

    def start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        environment |= {"PREFECT_HOME": str(self.folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        self.url = f"http://127.0.0.1:{self.port}/api"
        wait_until_up(f"{self.url}/health", self.process, self.folder / "log")


@pytest.fixture
def prefect_server_of_its_own(tmp_path: Path) -> Iterator[PrefectServer]:
    server = PrefectServer(tmp_path / "prefect")
    yield server
    server.kill()
