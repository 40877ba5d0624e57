"""One version of a registered model on this machine: downloaded, served by MLflow and checked."""

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

from genre.errors import GenreError, hide_secrets
from genre.files import read_json
from serving.deploy.processes import in_own_group, terminate_group
from serving.deploy.proxy import free_port
from tracking import registry

#: Seconds that a version has to load.
LOAD_S = 600.0

#: Seconds that a version has to classify its example.
ANSWER_S = 60.0

#: Seconds that a version has to stop.
STOP_S = 5.0

#: Prefix of the folder of a downloaded version.
VERSION_PREFIX = "version-"


@dataclass(frozen=True)
class Release:
    """Files of a version on this machine, from which it can be restarted while MLflow is away."""

    version: str
    folder: Path
    model_dir: Path
    example_request: Any


@dataclass
class Server:
    """``mlflow models serve`` of one release; `since` is when it was started or, later, when it was replaced."""

    release: Release
    port: int
    process: subprocess.Popen[bytes]
    since: float = field(default_factory=time.monotonic)

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.port}"


def download_release(name: str, version: str, folder: Path, *, any_code: bool = False) -> Release:
    """Download a version with the example request that was logged with it, completely or not at all.

    Raises
    ------
    GenreError
        If the version cannot be downloaded, or carries code that is not accepted, see `genre.safety.model_code`, unless
        `any_code` is set.
    """
    release_folder = Path(tempfile.mkdtemp(prefix=f"{VERSION_PREFIX}{version}-", dir=folder))
    try:
        uri = registry.version_uri(name, version)
        model = registry.download_model(uri, release_folder / "model", any_code=any_code)
    except Exception:  # every store raises exceptions of its own
        shutil.rmtree(release_folder, ignore_errors=True)
        raise
    return Release(version, release_folder, model, read_json(model / "serving_input_example.json"))


def start_server(release: Release, folder: Path, workers: int) -> Server:
    """Start a release on a free port, outside the project and its Python path; each worker loads the model."""
    overrides = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "TMPDIR": str(release.folder),
        "UVICORN_ACCESS_LOG": os.environ.get("UVICORN_ACCESS_LOG", "false"),  # no line per request
    }
    environment = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_RUN_ID", "PYTHONPATH")}
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(release.model_dir), "-p", str(port)]
    command += ["-h", "127.0.0.1", "-w", str(workers), "--env-manager", "local"]
    return Server(release, port, subprocess.Popen(command, cwd=folder, env=environment | overrides, **in_own_group()))


def is_up(server: Server) -> bool:
    """Return whether a server has loaded its model.

    Raises
    ------
    GenreError
        If it has ended, or takes longer than `LOAD_S`.
    """
    try:
        return _direct_session().get(f"{server.url}/ping", timeout=5).ok
    except requests.RequestException:
        pass
    if (code := server.process.poll()) is not None:
        raise GenreError(f"it ended with code {code} while loading; see its messages above")
    if time.monotonic() - server.since > LOAD_S:
        raise GenreError(f"it did not load within {LOAD_S:.0f} s")
    return False


def check_example(server: Server) -> None:
    """Check that a server classifies the synthesised clip that was logged with its model.

    Raises
    ------
    GenreError
        If its response is not a genre with probabilities.
    """
    if server.release.example_request is None:
        raise GenreError("it was logged without an example request; promote a version made by this project")
    try:
        response = _direct_session().post(
            f"{server.url}/invocations", json=server.release.example_request, timeout=ANSWER_S
        )
        prediction = response.json()["predictions"][0]
        error = prediction["error"]
        total = sum((prediction["probabilities"] or {}).values())
    except (requests.RequestException, ValueError, LookupError, TypeError, AttributeError) as failure:
        raise GenreError(f"it returned no valid prediction for the example request: {first_line(failure)}") from failure
    if error or not prediction["genre"] or abs(total - 1) > 1e-3:
        raise GenreError(f"it returned no genre for the example request: {str(prediction)[:300]}")


def _direct_session() -> requests.Session:
    """Return a session for requests to this machine, which ignores the proxies set in the environment."""
    session = requests.Session()
    session.trust_env = False
    return session


def stop_server(server: Server) -> None:
    """Stop a server at once; the caller has waited for its open requests to finish."""
    terminate_group(server.process, STOP_S)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, without secrets, or its type if it has none."""
    return hide_secrets((str(error).strip().splitlines() or [type(error).__name__])[0])
