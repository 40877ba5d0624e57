"""Commands that keep passwords to themselves and send nothing home: real servers, files and processes."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.forward_proxy import PROXY_VARIABLES, forward_proxy
from tests.support.odd_servers import answering
from tests.support.project import ROOT

#: Word in each password and signature of these tests, which must be found nowhere.
SECRET = "kingfisher"

#: Variables that switch reports off, or by which MLflow and Prefect know a test.
REPORT_VARIABLES = ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "CI", "PYTEST_CURRENT_TEST", "PYTEST_VERSION")


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """Environment of a command with a workspace, a home and a temporary server of Prefect of its own."""
    removed = (*PROXY_VARIABLES, *REPORT_VARIABLES)
    kept = {k: v for k, v in os.environ.items() if k not in removed and not k.startswith("PREFECT_")}
    own = {"GENRE_HOME": str(folder / "workspace"), "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    return kept | own | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"} | variables


def start(folder: Path, *command: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environment(folder, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a command; return its exit code and output, which holds no secret."""
    out, err = process.communicate(timeout=300)
    assert SECRET not in out + err
    return process.returncode, out, err


def files_with_secret(folder: Path) -> list[str]:
    """Files below a folder that hold the word or have it in their name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if SECRET in path.name or SECRET.encode() in path.read_bytes()]


@pytest.mark.slow
def test_a_password_of_mlflow_and_a_report_home_leave_no_command(mlflow_server, tmp_path, network_path):
    uri = f"http://listener:{SECRET}%2F%40@127.0.0.1:{mlflow_server.port}"
    command = ["-m", "flows.pretrained", "--weights", str(network_path)]
    with forward_proxy() as (proxy, asked):
        proxies = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "ALL_PROXY": proxy}
        code, out, err = finish(start(tmp_path, *command, MLFLOW_TRACKING_URI=uri, **proxies))
    assert code == 0, err[-3000:]
    assert "promoted" in out
    assert f"  champion     {mlflow_server.url}/#/models/genre/versions/1?" in out
    assert "\n  mlflow models serve -m models:/genre@champion" in out
    assert asked == []
    assert not files_with_secret(tmp_path)
    mlflow_server.kill()
    code, out, err = finish(start(tmp_path, *command, MLFLOW_TRACKING_URI=uri))
    assert code == 1
    assert err.startswith(f"error: MLflow at {mlflow_server.url} does not answer (Connection refused); ")
    assert not files_with_secret(tmp_path)


@pytest.mark.slow
def test_a_server_that_goes_away_amid_a_run_reveals_no_password(mlflow_server, tmp_path, network_path):
    uri = f"http://listener:{SECRET}@127.0.0.1:{mlflow_server.port}"
    process = start(tmp_path, "-m", "flows.pretrained", "--weights", str(network_path), MLFLOW_TRACKING_URI=uri)
    while not list(tmp_path.glob("workspace/pretrained/.lock")):  # taken just before the run is opened
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(1)
    mlflow_server.kill()
    code, _, err = finish(process)
    assert code == 1
    assert err.splitlines()[-1].startswith("error: MLflow stopped responding")
    assert not files_with_secret(tmp_path)


@pytest.fixture
def refusing_server() -> Iterator[str]:
    """Address of a server that has nothing."""
    with answering(404) as (url, _):
        yield url


def test_the_signature_of_a_source_is_neither_shown_nor_stored(refusing_server, tmp_path):
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    source = f"{refusing_server}/tables.npz?X-Amz-Signature={SECRET}"
    process = start(tmp_path, "-m", "flows.paper", "--probabilities", source, MLFLOW_TRACKING_URI=store)
    code, _, err = finish(process)
    assert code == 1
    assert f"error: cannot download {refusing_server}/tables.npz?...: HTTP Error 404" in err
    assert not files_with_secret(tmp_path)
    shown = f"{refusing_server}/tables.npz?...".encode()
    for database in (tmp_path / "mlflow.db", *tmp_path.glob("workspace/prefect/prefect.db")):
        held = b"".join(path.read_bytes() for path in database.parent.glob(f"{database.name}*"))
        assert shown in held, database


USE_OF_MLFLOW = """
from tracking import runs
runs.connect()
import mlflow
mlflow.start_run()
"""


@pytest.mark.parametrize("own", [{}, {"MLFLOW_DISABLE_TELEMETRY": "false"}], ids=["by default", "where the user wants"])
def test_mlflow_reports_home_only_where_the_user_wants_it(own, tmp_path):
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with forward_proxy() as (proxy, asked):
        process = start(
            tmp_path, "-c", USE_OF_MLFLOW, MLFLOW_TRACKING_URI=store, HTTP_PROXY=proxy, HTTPS_PROXY=proxy, **own
        )
        code, _, err = finish(process)
    assert code == 0, err
    assert bool(asked) == bool(own), asked
