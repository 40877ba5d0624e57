"""The server that a command starts where Prefect knows no other."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from flows.command import temporary_server
from tests.support.project import ROOT

#: Starts a server, prints the address at which it answers and its process, and waits.
HOLD = """
import time
from flows.command.temporary_server import start_unless_named
server = start_unless_named()
print(server.wait(), server._process.pid, flush=True)
time.sleep(600)
"""


#: Runs a flow that ends in some way after its server was killed.
LOSE_SERVER = """
import os, signal, sys
from flows.command import running
from flows.command.temporary_server import start_unless_named
from genre.errors import GenreError, exit_on_error
from prefect import flow

server = start_unless_named()

@flow
def work():
    os.kill(server._process.pid, signal.SIGKILL)
    server._process.wait()
    {ending}

with exit_on_error():
    running.run_flow(work, {{}}, server)
"""


def environment(folder: Path) -> dict[str, str]:
    """Environment in which Prefect and MLflow know no server."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
    own = {"GENRE_HOME": str(folder / "workspace"), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    return kept | own | {"PYTHONPATH": str(ROOT), "PREFECT_PROFILES_PATH": str(folder / "profiles.toml")}


def roll_back(folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the shortest of the flows, which fails as there is no champion."""
    command = [sys.executable, "-m", "flows.rollback"]
    return subprocess.run(command, env=environment(folder) | more, cwd=folder, capture_output=True, text=True)


def servers_of(folder: Path) -> list[psutil.Process]:
    """Temporary servers whose workspace is in a folder."""
    home = str(folder / "workspace" / "prefect")
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("PREFECT_HOME") == home:
                found.append(process)
        except psutil.Error:
            pass
    return found


def test_a_command_leaves_no_server_and_its_log_is_complete(tmp_path: Path):
    done = roll_back(tmp_path)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: ")
    assert "View at" not in done.stderr and "API" not in done.stderr
    assert (tmp_path / "workspace" / "prefect" / "prefect.db").exists()
    assert servers_of(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_server_ends_with_its_parent(number: signal.Signals, tmp_path: Path):
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, env=environment(tmp_path), stdout=subprocess.PIPE, text=True) as parent:
        url, pid = parent.stdout.readline().split()
        assert httpx.get(f"{url}/health", trust_env=False).json() is True
        assert [process.pid for process in servers_of(tmp_path)] == [int(pid)]
        parent.send_signal(number)
    deadline = time.monotonic() + 30
    while servers_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert servers_of(tmp_path) == []


def test_a_server_that_cannot_start_is_an_error_in_words(tmp_path: Path):
    done = roll_back(tmp_path, PREFECT_SERVER_DATABASE_CONNECTION_URL=f"sqlite+aiosqlite:///{tmp_path}/none/prefect.db")
    assert done.returncode == 1
    assert "error: Prefect's temporary server did not start" in done.stderr


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("return 1", "error: Prefect's temporary server stopped responding ("),
        ("raise GenreError('the disk is full')", "error: the disk is full"),
    ],
)
def test_a_server_that_dies_amid_a_flow_is_an_error_in_words(ending: str, message: str, tmp_path: Path):
    command = [sys.executable, "-c", LOSE_SERVER.format(ending=ending)]
    retries = {"PREFECT_CLIENT_MAX_RETRIES": "1"}
    done = subprocess.run(command, env=environment(tmp_path) | retries, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith(message)], done.stderr


def test_no_server_is_started_where_one_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    assert temporary_server.start_unless_named() is None


def test_a_server_named_in_a_profile_is_used(prefect_server: str, tmp_path: Path):
    text = f'active = "ours"\n[profiles.ours]\nPREFECT_API_URL = "{prefect_server}"\n'
    (tmp_path / "profiles.toml").write_text(text)
    before = httpx.post(f"{prefect_server}/flow_runs/count", trust_env=False).json()
    assert roll_back(tmp_path).returncode == 1
    assert httpx.post(f"{prefect_server}/flow_runs/count", trust_env=False).json() == before + 1
