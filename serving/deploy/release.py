"""One version of a registered model on this machine: downloaded, served by MLflow, asked whether it answers."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from genre.errors import GenreError
from genre.files import read_json
from serving.deploy.processes import in_own_group, terminate_group
from serving.deploy.proxy import free_port
from tracking import registry

#: Seconds that a version has to load, to answer its example, and to stop.
LOAD_S, ANSWER_S, STOP_S = 600.0, 60.0, 5.0

#: How the folder of a downloaded version begins.
VERSION_PREFIX = "version-"


@dataclass(frozen=True)
class Release:
    """A version's files on this machine, so that it can be started again while MLflow is away."""

    version: str
    folder: Path
    model_dir: Path
    example_request: Any


@dataclass
class Server:
    """``mlflow models serve`` of one release, and since when it is what it is: starting, or replaced."""

    release: Release
    port: int
    process: subprocess.Popen[bytes]
    since: float = field(default_factory=time.monotonic)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"


def download_release(name: str, version: str, folder: Path) -> Release:
    """Download a registered version and its example request into a new folder below `folder`.

    Raises
    ------
    GenreError
        If the version cannot be downloaded.
    """
    place = Path(tempfile.mkdtemp(prefix=f"{VERSION_PREFIX}{version}-", dir=folder))
    try:
        model = registry.download_model(registry.version_uri(name, version), place / "model")
    except Exception:  # every store raises exceptions of its own
        shutil.rmtree(place, ignore_errors=True)
        raise
    return Release(version, place, model, read_json(model / "serving_input_example.json"))


def start_server(release: Release, folder: Path, workers: int) -> Server:
    """Start a release on a free port of this machine, away from the project and its Python path; a model per worker."""
    own = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "TMPDIR": str(release.folder),
        "UVICORN_ACCESS_LOG": os.environ.get("UVICORN_ACCESS_LOG", "false"),  # not a line for each request
    }
    environment = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_RUN_ID", "PYTHONPATH")}
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(release.model_dir), "-p", str(port)]
    command += ["-h", "127.0.0.1", "-w", str(workers), "--env-manager", "local"]
    return Server(release, port, subprocess.Popen(command, cwd=folder, env=environment | own, **in_own_group()))


def is_up(server: Server) -> bool:
    """Whether a server has loaded its model.

    Raises
    ------
    GenreError
        If it ended, or takes too long.
    """
    try:
        return _direct_session().get(f"{server.url}/ping", timeout=5).ok
    except requests.RequestException:
        pass
    if (code := server.process.poll()) is not None:
        raise GenreError(f"it ended with code {code} while it loaded; what it said is above")
    if time.monotonic() - server.since > LOAD_S:
        raise GenreError(f"it did not load in {LOAD_S:.0f} s")
    return False


def check_example(server: Server) -> None:
    """Ask a server for the genre of the synthesised clip that was logged with its model.

    Raises
    ------
    GenreError
        If what it answers is no genre with probabilities.
    """
    if server.release.example_request is None:
        raise GenreError("it was logged without an example to ask it with; promote a version of this project")
    try:
        response = _direct_session().post(
            f"{server.url}/invocations", json=server.release.example_request, timeout=ANSWER_S
        )
        answer = response.json()["predictions"][0]
        error, total = answer["error"], sum((answer["probabilities"] or {}).values())
    except (requests.RequestException, ValueError, LookupError, TypeError, AttributeError) as wrong:
        raise GenreError(f"its answer to the example is none: {first_line(wrong)}") from wrong
    if error or not answer["genre"] or abs(total - 1) > 1e-3:
        raise GenreError(f"it answers the example with {str(answer)[:300]}")


def _direct_session() -> requests.Session:
    """For requests to this machine, which no proxy of the environment can forward."""
    session = requests.Session()
    session.trust_env = False
    return session


def stop_server(server: Server) -> None:
    """End a server; whoever waits for it to answer no more requests does so before."""
    terminate_group(server.process, STOP_S)


def first_line(error: Exception) -> str:
    """What an error says, in a line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
