"""One version of a registered model on this machine: downloaded, served by MLflow and checked."""

import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from genre.config import UNKNOWN
from genre.errors import GenreError, first_line
from genre.files import read_json
from serving.deploy.processes import in_own_group, listens, terminate_group
from serving.deploy.proxy import free_port
from tracking import registry

#: Seconds that a version has to load.
LOAD_S = 600.0

#: Seconds that a version has to classify its example.
ANSWER_S = 60.0

#: Seconds that a version has to stop.
STOP_S = 5.0

#: Largest difference from 1 that the sum of the example's probabilities may have: they are rounded in JSON.
SUM_TOLERANCE = 1e-3

#: Prefix of the folder of a downloaded version.
VERSION_PREFIX = "version-"


class PortTakenError(GenreError):
    """Another process that answers on the port of a server."""


@dataclass(frozen=True)
class Release:
    """Files of a version on this machine, from which it can be restarted while MLflow is away.

    Attributes
    ----------
    name, version : str
        Name of the registered model, and number of the version.
    folder : Path
        Folder of the model's files, and of its server's temporary files.
    model_dir : Path
        The logged model.
    files : frozenset of str
        Paths of its files, relative to `model_dir`.
    example_request : Any
        Body of the request that was logged with it; None if there was none.
    any_code : bool
        Whether it may carry any code, see `genre.safety.model_code`.
    """

    name: str
    version: str
    folder: Path
    model_dir: Path
    files: frozenset[str]
    example_request: Any
    any_code: bool = False

    def is_complete(self) -> bool:
        """Return whether all files are still there."""
        return all((self.model_dir / file).is_file() for file in self.files)

    def restore(self) -> None:
        """Download the version again.

        Raises
        ------
        GenreError
            If it cannot be downloaded.
        """
        shutil.rmtree(self.model_dir, ignore_errors=True)
        registry.download_model(registry.version_uri(self.name, self.version), self.model_dir, any_code=self.any_code)


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
    folder.mkdir(parents=True, exist_ok=True)
    release_folder = Path(tempfile.mkdtemp(prefix=f"{VERSION_PREFIX}{version}-", dir=folder))
    try:
        uri = registry.version_uri(name, version)
        model = registry.download_model(uri, release_folder / "model", any_code=any_code)
        example_request = read_json(model / "serving_input_example.json")
    except Exception:  # every store raises exceptions of its own
        shutil.rmtree(release_folder, ignore_errors=True)
        raise
    files = frozenset(str(file.relative_to(model)) for file in model.rglob("*") if file.is_file())
    return Release(name, version, release_folder, model, files, example_request, any_code)


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
    PortTakenError
        If another process answers on its port.
    GenreError
        If it has ended, or takes longer than `LOAD_S`.
    """
    if (code := server.process.poll()) is not None:
        raise GenreError(f"it ended with code {code} while loading; see its messages above")
    if _answers_ping(server):
        if not listens(server.process, server.port):
            raise PortTakenError(f"another process answers on port {server.port}")
        return True
    if time.monotonic() - server.since > LOAD_S:
        raise GenreError(f"it did not load within {LOAD_S:.0f} s")
    return False


def _answers_ping(server: Server) -> bool:
    try:
        return _direct_session().get(f"{server.url}/ping", timeout=5).ok
    except requests.RequestException:
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
    except (requests.RequestException, ValueError, LookupError, TypeError) as failure:
        raise GenreError(f"it returned no valid prediction for the example request: {first_line(failure)}") from failure
    check_prediction(prediction)


def check_prediction(prediction: Any) -> None:
    """Check that one prediction of a response is a genre with probabilities.

    Parameters
    ----------
    prediction : Any
        As read from JSON, in which Python also accepts ``NaN``.

    Raises
    ------
    GenreError
        If it has no genre, or an error; if its probabilities are not numbers from 0 to 1 whose sum is 1, to
        `SUM_TOLERANCE`; or if they are of other genres.
    """
    received = f"for the example request: {str(prediction)[:300]}"
    fields = prediction if isinstance(prediction, Mapping) else {}
    genre = fields.get("genre")
    probabilities = fields.get("probabilities")
    if fields.get("error") or not isinstance(genre, str) or not genre:
        raise GenreError(f"it returned no genre {received}")
    if not isinstance(probabilities, Mapping) or not _is_distribution(list(probabilities.values())):
        raise GenreError(f"it returned no probabilities from 0 to 1 with the sum 1 {received}")
    if genre not in (*probabilities, UNKNOWN):
        raise GenreError(f"it returned a genre without a probability {received}")


def _is_distribution(values: list[Any]) -> bool:
    """Return whether values are numbers from 0 to 1 whose sum is 1; a comparison with NaN is false."""
    is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return is_number and all(0 <= v <= 1 for v in values) and math.isclose(sum(values), 1, abs_tol=SUM_TOLERANCE)


def _direct_session() -> requests.Session:
    """Return a session for requests to this machine, which ignores the proxies set in the environment."""
    session = requests.Session()
    session.trust_env = False
    return session


def stop_server(server: Server) -> None:
    """Stop a server at once; the caller has waited for its open requests to finish."""
    terminate_group(server.process, STOP_S)
