"""A version on this machine: its files, whether its server is up, and whether its predictions are any."""

import math
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import mlflow
import pytest

from genre.errors import DataError, GenreError
from genre.files import remove_path
from serving.deploy.processes import in_own_group, listens
from serving.deploy.release import PortTakenError, Release, Server, check_prediction, download_release, is_up
from tests.support.servers import free_port

GOOD = {"genre": "one", "confidence": 0.7, "probabilities": {"one": 0.7, "two": 0.3}, "error": None}

#: A program that listens on the port named by its argument, in a child process of its own, as uvicorn's workers do.
LISTENER = """
import subprocess, sys
child = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"
subprocess.run([sys.executable, "-c", child, sys.argv[1]])
"""


@pytest.mark.parametrize("prediction", [GOOD, GOOD | {"genre": "unknown"}, GOOD | {"probabilities": {"one": 1}}])
def test_a_genre_with_its_probabilities_is_accepted(prediction: dict):
    check_prediction(prediction)


@pytest.mark.parametrize(
    ("prediction", "reason"),
    [
        ({name: value for name, value in GOOD.items() if name != "genre"}, "no genre"),
        (GOOD | {"genre": ""}, "no genre"),
        (GOOD | {"genre": 3}, "no genre"),
        (GOOD | {"error": {"code": "failed", "message": "broken"}}, "no genre"),
        ("one", "no genre"),
        (None, "no genre"),
        (GOOD | {"genre": "three"}, "a genre without a probability"),
        (GOOD | {"probabilities": None}, "no probabilities"),
        (GOOD | {"probabilities": [0.7, 0.3]}, "no probabilities"),
        (GOOD | {"probabilities": {}}, "no probabilities"),
        (GOOD | {"probabilities": {"one": math.nan, "two": 0.3}}, "no probabilities"),
        (GOOD | {"probabilities": {"one": math.inf, "two": -math.inf}}, "no probabilities"),
        (GOOD | {"probabilities": {"one": 1.2, "two": -0.2}}, "no probabilities"),
        (GOOD | {"probabilities": {"one": 0.7, "two": 0.2}}, "no probabilities"),
        (GOOD | {"probabilities": {"one": "0.7", "two": "0.3"}}, "no probabilities"),
        (GOOD | {"probabilities": {"one": True, "two": False}}, "no probabilities"),
    ],
)
def test_any_other_prediction_is_refused_with_its_reason(prediction: object, reason: str):
    with pytest.raises(GenreError, match=f"it returned {reason}"):
        check_prediction(prediction)


@contextmanager
def program(code: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], **in_own_group())
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return Release("genre", "1", tmp_path, tmp_path / "model", frozenset(), None)


@pytest.fixture
def stranger() -> Iterator[int]:
    """Port of a server that answers every request, and is no version."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_another_process_on_the_port_does_not_pass_for_the_version(release: Release, stranger: int):
    with program("import time; time.sleep(60)") as process:
        with pytest.raises(PortTakenError, match=f"another process answers on port {stranger}"):
            is_up(Server(release, stranger, process))
        process.kill()
        code = process.wait()
        with pytest.raises(GenreError, match=f"it ended with code {code} while loading"):
            is_up(Server(release, stranger, process))


def test_a_process_is_known_to_listen_by_its_children():
    port = free_port()
    with program(LISTENER, str(port)) as process:
        deadline = time.monotonic() + 20
        while not listens(process, port):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert not listens(process, port + 1)
    assert not listens(process, port)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that MLflow's client copies for every version, in the place of a store."""
    logged = tmp_path / "logged"
    (logged / "artifacts").mkdir(parents=True)
    (logged / "MLmodel").write_text("flavors: {}\n")
    (logged / "artifacts" / "weights").write_bytes(b"weights")
    (logged / "serving_input_example.json").write_text('{"dataframe_records": []}')
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", lambda uri, dst_path: shutil.copytree(logged, dst_path))
    return logged


@pytest.mark.parametrize("removed", ["MLmodel", "artifacts/weights", ".", ""])
def test_files_that_are_removed_are_downloaded_again(store: Path, tmp_path: Path, removed: str):
    release = download_release("genre", "1", tmp_path / "run", any_code=True)
    assert release.is_complete()
    remove_path(release.model_dir / removed if removed else tmp_path / "run")
    assert not release.is_complete()
    release.restore()
    assert release.is_complete()
    assert (release.model_dir / "artifacts" / "weights").read_bytes() == b"weights"


def test_a_version_with_a_damaged_example_leaves_nothing(store: Path, tmp_path: Path):
    (store / "serving_input_example.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        download_release("genre", "1", tmp_path / "run", any_code=True)
    assert not list((tmp_path / "run").iterdir())
