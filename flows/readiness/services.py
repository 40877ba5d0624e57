"""MLflow's store, Prefect's server, and the ports that servers of this project listen on."""

import os
import socket
from pathlib import Path
from typing import NamedTuple

from flows.readiness.findings import Finding, State
from flows.readiness.servers import NoAnswerError, ask, check_mlflow, check_prefect
from tracking import store

#: Longest wait for what listens on a port of this machine, seconds.
PORT_TIMEOUT_S = 5.0

#: Registered model that the commands use by default.
MODEL = "genre"


class Service(NamedTuple):
    """Server of this project or of its tools.

    Attributes
    ----------
    port : int
        Port that it listens on by default.
    program : str
        Command that starts it.
    path : str
        Path that it answers with status 200 and other servers do not.
    """

    port: int
    program: str
    path: str


SERVICES = (
    Service(4200, "prefect server start", "/api/health"),
    Service(5000, "mlflow ui", "/api/2.0/mlflow/experiments/search?max_results=1"),
    Service(5001, "mlflow models serve", "/ping"),
    Service(5002, "python -m serving.page", "/_stcore/health"),
)


def look_at_mlflow() -> list[Finding]:
    """Connect to MLflow's store, if it exists, and look for the champion."""
    uri = store.store_uri()
    check_mlflow(uri)
    folder = store.database_folder(uri)
    if folder and not (folder / Path(uri).name).exists():
        return [Finding("MLflow", State.NOTE, f"{uri} does not exist yet; the first command makes it")]
    from tracking import registry, runs  # bring MLflow, in seconds

    runs.connect()
    if version := registry.find_version_by_alias(MODEL, "champion"):
        return [Finding("MLflow", State.READY, f"{uri}; version {version.version} of {MODEL} is champion")]
    text = f"{uri}; there is no champion of {MODEL} to serve yet: mlflow run . --env-manager local"
    return [Finding("MLflow", State.NOTE, text)]


def look_at_prefect() -> list[Finding]:
    """Ask the server that ``PREFECT_API_URL`` or a profile of Prefect names."""
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        from prefect.settings import PREFECT_API_URL  # takes seconds

        url = PREFECT_API_URL.value()
    if not url:
        return [Finding("Prefect", State.READY, "no server is named: each command starts one for itself")]
    check_prefect(url)
    return [Finding("Prefect", State.READY, f"{url} answers")]


def look_at_ports() -> list[Finding]:
    """Look at the port of each of `SERVICES`."""
    return [look_at_port(service) for service in SERVICES]


def look_at_port(service: Service) -> Finding:
    """Say whether the port of a server is free, and what answers there if it is not."""
    what = f"port {service.port}"
    if _is_free(service.port):
        return Finding(what, State.READY, f"free for {service.program}")
    try:
        status = ask(f"http://127.0.0.1:{service.port}{service.path}", timeout_s=PORT_TIMEOUT_S)
    except NoAnswerError:
        status = None
    if status == 200:
        return Finding(what, State.READY, f"in use, and answers like {service.program}")
    kind = "a program that does not answer in HTTP" if status is None else "another web server"
    text = f"in use by {kind}; start {service.program} with --port and another number, or end that program"
    return Finding(what, State.NOTE, text)


def _is_free(port: int) -> bool:
    """Return whether a server of this machine could listen on a port."""
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False
