"""`serving.deploy` as a command, with real MLflow servers, a real proxy, and clients that count their responses."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import pandas as pd
import psutil
import pytest
import requests
from mlflow import MlflowClient

from tests.support.project import ROOT
from tests.support.servers import free_port

#: A quick model whose predictions have the form of this project's; its genre identifies the version.
MODEL = """
import time
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Model(PythonModel):
    def load_context(self, context):
        "LOADS"

    def predict(self, context, model_input, params=None):
        time.sleep(0.15)
        row = {"genre": "GENRE", "confidence": 1.0, "probabilities": {"GENRE": 1.0}, "error": None}
        return pd.DataFrame([row] * len(model_input), dtype=object)


set_model(Model())
"""

#: Genre of each version, and what is replaced in its code.
VERSIONS = {
    "1": ("one", "", ""),
    "2": ("two", "", ""),
    "3": ("three", "", ""),
    "4": ("four", '"LOADS"', 'raise RuntimeError("no such weights")'),
    "5": ("five", '"genre": "five", ', ""),
}

#: A row of a request; six of them make two megabytes.
ROW = {"audio": "x" * 350_000}


@dataclass
class Place:
    """A registry, and the command: versions 1 to 3 predict ``one``, ``two``, ``three``; the others are faulty."""

    folder: Path
    port: int = field(default_factory=free_port)
    workers: int = 1

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/invocations"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def point(self, version: int) -> None:
        MlflowClient(self.uri).set_registered_model_alias("genre", "champion", str(version))

    @property
    def command(self) -> list[str]:
        own = ["--port", str(self.port), "--every-s", "0.3", "--workers", str(self.workers), "--any-code"]
        return [sys.executable, "-m", "serving.deploy", *own]

    @property
    def home(self) -> Path:
        """A workspace so deep that the path of a socket in it is longer than any system accepts."""
        return self.folder / ("deep" * 30)

    @property
    def env(self) -> dict[str, str]:
        return os.environ | {"MLFLOW_TRACKING_URI": self.uri, "PYTHONPATH": str(ROOT), "GENRE_HOME": str(self.home)}

    @property
    def run_folders(self) -> list[Path]:
        return list((self.home / "deployments").glob("run-*"))

    @contextmanager
    def locked_registry(self) -> Iterator[None]:
        """Let no other process use the registry."""
        with closing(sqlite3.connect(self.folder / "mlflow.db", isolation_level=None)) as database:
            database.execute("BEGIN EXCLUSIVE")
            yield
            database.execute("ROLLBACK")

    def start(self) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("w") as log:
            return subprocess.Popen(self.command, cwd=self.folder, env=self.env, stdout=log, stderr=log)

    def ask(self, n_rows: int = 1) -> str:
        response = requests.post(self.url, json={"dataframe_records": [ROW] * n_rows}, timeout=120)
        return response.json()["predictions"][0]["genre"]

    def wait(self, text: str, n: int = 1, timeout_s: float = 180) -> None:
        deadline = time.monotonic() + timeout_s
        while self.log.count(text) < n:
            assert time.monotonic() < deadline, f"no {text!r} in {timeout_s:.0f} s:\n{self.log[-3000:]}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("deploy")
    place = Place(folder)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(place.uri)
    client = MlflowClient(place.uri)
    client.create_registered_model("genre")
    (folder / "model.py").write_text(MODEL.replace("GENRE", "one"))
    example = pd.DataFrame([{"audio": "aGVsbG8="}])
    signature = mlflow.models.infer_signature(example)
    mlflow.pyfunc.save_model(
        str(folder / "1"),
        python_model=str(folder / "model.py"),
        input_example=example,
        signature=signature,
        pip_requirements=["mlflow"],
    )
    for version, (genre, old, new) in VERSIONS.items():
        if version != "1":
            shutil.copytree(folder / "1", folder / version)
            code = MODEL.replace("GENRE", genre).replace(old, new)
            next((folder / version).glob("*.py")).write_text(code)
        client.create_model_version("genre", str(folder / version))
    place.point(1)
    mlflow.set_tracking_uri(before)
    return place


@pytest.fixture(scope="module")
def command(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    abandoned = place.home / "deployments" / "run-killed"
    abandoned.mkdir(parents=True)
    with place.locked_registry():
        process = place.start()
        place.wait("cannot get genre@champion from MLflow, trying again")
        assert not abandoned.exists()
    try:
        place.wait("version 1 of genre is now being served")
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def deployed(place: Place, command: subprocess.Popen[bytes]) -> Place:
    assert command.poll() is None, place.log
    return place


class Clients:
    """Threads that send request after request; every prediction is counted, and every failure is listed."""

    def __init__(self, place: Place, n: int = 4) -> None:
        self.place = place
        self.answers = Counter[str]()
        self.lost = list[str]()
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(1 if k else 6,)) for k in range(n)]

    def _ask(self, n_rows: int) -> None:
        session = requests.Session()
        while not self.ending.is_set():
            try:
                response = session.post(self.place.url, json={"dataframe_records": [ROW] * n_rows}, timeout=120)
                genres = {row["genre"] for row in response.json()["predictions"]}
                assert response.status_code == 200 and len(genres) == 1
                self.answers[genres.pop()] += 1
            except Exception as error:
                self.lost.append(repr(error))

    def __enter__(self) -> "Clients":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ending.set()
        for thread in self.threads:
            thread.join()

    def wait_for(self, genre: str, n: int = 8) -> None:
        before = self.answers[genre]
        deadline = time.monotonic() + 180
        while self.answers[genre] < before + n:
            assert time.monotonic() < deadline, f"{genre} does not answer: {self.answers}, {self.lost}"
            time.sleep(0.05)


def processes(command: subprocess.Popen[bytes], word: str = "") -> list[psutil.Process]:
    """Processes that the command has started, directly or not, with a word in their command line."""
    return [p for p in psutil.Process(command.pid).children(recursive=True) if word in " ".join(p.cmdline())]


def test_no_request_is_lost_while_the_alias_moves_twice(deployed: Place):
    with Clients(deployed) as clients:
        clients.wait_for("one")
        deployed.point(2)
        clients.wait_for("two")
        deployed.point(3)
        clients.wait_for("three")
        deployed.wait("version 2 has been stopped")
        clients.wait_for("three")
    assert clients.lost == []
    assert set(clients.answers) == {"one", "two", "three"}
    served = deployed.log.index("version 2 of genre is now being served")
    assert served < deployed.log.index("version 1 has been stopped")


@pytest.mark.parametrize(
    ("version", "reason"),
    [(4, "it ended with code 1 while loading"), (5, "it returned no genre for the example request")],
)
def test_a_version_that_cannot_serve_changes_nothing_and_is_tried_once(deployed: Place, version: int, reason: str):
    with Clients(deployed, 2) as clients:
        deployed.point(version)
        deployed.wait(f"version {version} of genre cannot be served: {reason}")
        clients.wait_for("three")
        time.sleep(2)
    assert clients.lost == []
    assert set(clients.answers) == {"three"}
    assert "; still serving version 3" in deployed.log
    assert deployed.log.count(f"starting version {version}") == 1


def test_a_killed_server_is_started_again_while_requests_wait_and_the_registry_is_locked(deployed: Place, command):
    deployed.point(3)
    deployed.wait("version 3 of genre is now being served")
    [server] = processes(command, "uvicorn")
    with deployed.locked_registry():
        deployed.wait("cannot get genre@champion from MLflow, trying again", 2)
        server.kill()
        server.wait()
        assert deployed.ask() == "three"
    assert "version 3 died" in deployed.log


def test_files_that_another_program_removes_are_fetched_again(deployed: Place, command):
    [folder] = deployed.run_folders
    [server] = processes(command, "uvicorn")
    folder.rename(deployed.folder / "removed")  # in one step: the download may begin amid a removal file by file
    deployed.wait("files of version 3 were missing and have been downloaded again")
    assert deployed.ask() == "three"
    server.kill()
    server.wait()
    assert deployed.ask() == "three"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert command.poll() is None


def test_a_killed_proxy_is_started_again(deployed: Place, command):
    [proxy] = processes(command, "caddy")
    proxy.kill()
    deployed.wait("the proxy died; restarting it")
    for _ in range(50):
        with suppress(requests.ConnectionError):
            return_value = deployed.ask()
            break
        time.sleep(0.1)
    assert return_value == "three"


def test_a_port_in_use_is_an_error_message(deployed: Place):
    second = Place(deployed.folder, deployed.port)
    done = subprocess.run(second.command, env=second.env, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: cannot listen on 127.0.0.1:{deployed.port}")
    assert deployed.ask() == "three"


def test_ctrl_c_finishes_open_requests_and_leaves_no_process(deployed: Place, command):
    started = processes(command)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(deployed.ask(6)))
    asking.start()
    time.sleep(0.1)
    command.send_signal(signal.SIGINT)
    assert command.wait(60) == 0
    asking.join()
    assert answers == ["three"]
    assert len(started) == 3
    assert not psutil.wait_procs(started, 5)[1]
    assert not deployed.run_folders
    assert "Traceback" not in deployed.log.split("stopping;")[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals children when their parent is killed")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_command_takes_its_processes_along(place: Place, workers: int):
    place = Place(place.folder, workers=workers)
    command = place.start()
    place.wait("of genre is now being served")
    started = processes(command)
    command.kill()
    command.wait()
    assert not psutil.wait_procs(started, 15)[1]


@pytest.mark.slow
def test_a_worker_that_dies_beside_another_is_replaced(place: Place):
    two = Place(place.folder, workers=2)
    two.point(1)
    command = two.start()
    try:
        two.wait("version 1 of genre is now being served")
        first, second = wait_for_workers(command)
        first.kill()
        first.wait()
        assert two.ask() == "one"
        assert second in wait_for_workers(command)
        with Clients(two) as clients:
            clients.wait_for("one")
            two.point(2)
            clients.wait_for("two")
        assert clients.lost == []
    finally:
        command.send_signal(signal.SIGINT)
        assert command.wait(60) == 0


def wait_for_workers(command: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Wait for both of uvicorn's workers; it replaces one that dies within a second."""
    deadline = time.monotonic() + 60
    while len(workers := processes(command, "spawn_main")) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return workers
