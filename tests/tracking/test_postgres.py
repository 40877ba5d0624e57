"""MLflow on PostgreSQL with artifacts behind its server, chosen by MLFLOW_TRACKING_URI alone."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import requests
from mlflow import MlflowClient

from genre.errors import GenreError
from tests.support.project import ROOT
from tests.support.servers import free_port, wait_until_up
from tests.support.sounds import write_music
from tracking import aliases, runs

#: Users that can run PostgreSQL where the tests run as the superuser, whom it refuses.
UNPRIVILEGED_USERS = ("postgres", "nobody")


def program(name: str) -> str:
    """Path of a program of PostgreSQL, on PATH or where Debian installs it."""
    folders = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    if not (path := shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))):
        pytest.skip(f"{name} is not installed; install PostgreSQL, such as Debian's package postgresql")
    return path


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """URI of an empty database on a server of its own."""
    pytest.importorskip("psycopg2", reason="no psycopg2; install the extra postgres")
    initdb = program("initdb")
    server = program("postgres")
    # not pytest's own folder, which only its owner may enter
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    port = free_port()
    user = next((name for name in UNPRIVILEGED_USERS if os.geteuid() == 0 and _exists(name)), None)
    if user:
        shutil.chown(folder, user)
    as_other = {"user": user, "group": "nogroup" if user == "nobody" else user} if user else {}
    data = folder / "data"
    subprocess.run(
        [initdb, "-D", str(data), "-U", "genre", "--auth=trust", "--no-sync", "-E", "UTF8"],
        check=True,
        capture_output=True,
        cwd=folder,
        **as_other,
    )
    command = [server, "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-c", "fsync=off"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, **as_other)
    try:
        createdb = [program("createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "genre", "mlflow"]
        deadline = time.monotonic() + 60
        while subprocess.run(createdb, capture_output=True).returncode:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        yield f"postgresql+psycopg2://genre@127.0.0.1:{port}/mlflow"
    finally:
        process.send_signal(signal.SIGINT)  # fast shutdown: does not wait for connections to close
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def mlflow_server(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an MLflow server that keeps everything in PostgreSQL and in its own folder of artifacts."""
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", postgres, "--port", str(port)]
    command += ["--artifacts-destination", (folder / "artifacts").as_uri(), "--serve-artifacts", "--workers", "1"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | quiet, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until_up(f"http://127.0.0.1:{port}/health", process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def test_the_alias_lock_holds_on_postgresql(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The lock relies on the error for a name that is taken, which differs between databases."""
    monkeypatch.setattr(aliases, "LOCK_TIMEOUT_S", 0.5)
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgres)
    try:
        assert runs.connect() == postgres
        client = MlflowClient()
        client.create_registered_model("locked")
        first, second = (client.create_model_version("locked", str(tmp_path)) for _ in range(2))
        aliases.promote_version("locked", first, None)
        client.create_registered_model(f"locked{aliases.LOCK_SUFFIX}")
        with pytest.raises(GenreError, match="another promotion of locked is under way"):
            aliases.promote_version("locked", second, first)
        client.delete_registered_model(f"locked{aliases.LOCK_SUFFIX}")
        aliases.promote_version("locked", second, first)
        assert "version 1 of locked is champion again" in aliases.roll_back("locked")
    finally:
        mlflow.set_tracking_uri(before)


@pytest.mark.slow
def test_a_retraining_ends_in_a_champion_that_can_be_served(mlflow_server: str, prefect_server: str, tmp_path: Path):
    music = write_music(tmp_path / "music", genres={"low": 110, "high": 880}, tracks=26)
    env = os.environ | {
        "GENRE_HOME": str(tmp_path / "home"),
        "MLFLOW_TRACKING_URI": mlflow_server,
        "PREFECT_API_URL": prefect_server,
        "PYTHONPATH": str(ROOT),
    }
    options = ["--dataset", "folder", "--source", str(music), "--model", "logistic_regression,catboost", "--folds", "0"]
    options += ["--params", '{"catboost": {"iterations": 20}}']
    retrain = [sys.executable, "-m", "flows.retrain", *options]
    done = subprocess.run(retrain, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "version 1 of genre: promoted" in done.stdout
    client = MlflowClient(mlflow_server)
    version = client.get_model_version_by_alias("genre", "champion")
    assert version.status == "READY"
    run = client.get_run(version.run_id)
    assert run.info.artifact_uri.startswith("mlflow-artifacts:")
    assert "figures/roc_test.png" in {f.path for f in client.list_artifacts(version.run_id, "figures")}
    assert not list(tmp_path.glob("mlflow.db")) and not list(tmp_path.glob("mlruns"))
    serve = ["-m", "mlflow", "models", "serve", "-m", "models:/genre@champion", "--env-manager", "local", "-p"]
    for command in (serve, ["-m", "serving.deploy", "--port"]):
        _check_served(command, env, tmp_path, music / "high" / "0.wav")


def _check_served(command: list[str], env: dict[str, str], folder: Path, file: Path) -> None:
    """Serve with one of the commands of the documentation, and classify a file with the client."""
    port = free_port()
    log = folder / "serve.log"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, *command, str(port)],
            cwd=folder,
            env=env | {"PATH": path},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        wait_until_up(f"http://127.0.0.1:{port}/ping", process, log)
        request = [sys.executable, "-m", "serving.request", "--url", f"http://127.0.0.1:{port}", str(file)]
        done = subprocess.run(request, env=env, cwd=folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[1].split()[:2] == [str(file), "high"]
        assert requests.get(f"http://127.0.0.1:{port}/ping", timeout=5).ok
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _exists(user: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
