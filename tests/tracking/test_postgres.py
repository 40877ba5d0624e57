"""MLflow on PostgreSQL, artifacts behind the server: nothing but MLFLOW_TRACKING_URI, from music to an answer."""

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

#: PostgreSQL refuses to run as the superuser; one of these runs it then.
OTHERS = ("postgres", "nobody")


def program(name: str) -> str:
    """A program of PostgreSQL, also where Debian puts it."""
    places = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    if not (found := shutil.which(name, path=os.pathsep.join([*places, os.environ.get("PATH", "")]))):
        pytest.skip(f"no {name} here; install PostgreSQL, such as the package postgresql of Debian")
    return found


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """URI of an empty database on a server of its own."""
    pytest.importorskip("psycopg2", reason="no psycopg2; install the extra postgres")
    initdb, server = program("initdb"), program("postgres")
    # not pytest's own folder: only its owner may enter that
    folder, port = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp")), free_port()
    user = next((name for name in OTHERS if os.geteuid() == 0 and _exists(name)), None)
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
        process.send_signal(signal.SIGINT)  # without waiting for who is connected
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def mlflow_server(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an MLflow server that keeps everything in PostgreSQL and in its own folder of artifacts."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
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


def test_aliases_move_and_one_at_a_time_only(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The lock rests on what a database says of a name that is taken, which each says in its own way."""
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
def test_a_retrain_ends_in_a_champion_that_answers(mlflow_server: str, prefect_server: str, tmp_path: Path):
    music = write_music(tmp_path / "music", genres={"low": 110, "high": 880}, tracks=8)
    env = os.environ | {
        "GENRE_HOME": str(tmp_path / "home"),
        "MLFLOW_TRACKING_URI": mlflow_server,
        "PREFECT_API_URL": prefect_server,
        "PYTHONPATH": str(ROOT),
    }
    said = ["--dataset", "folder", "--source", str(music), "--model", "logistic_regression,catboost", "--folds", "0"]
    said += ["--params", '{"catboost": {"iterations": 20}}']
    retrain = [sys.executable, "-m", "flows.retrain", *said]
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
        _ask_served(command, env, tmp_path, music / "high" / "0.wav")


def _ask_served(command: list[str], env: dict[str, str], folder: Path, file: Path) -> None:
    """Serve with one of the commands of the documentation, and ask with the client."""
    port, log = free_port(), folder / "serve.log"
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
        ask = [sys.executable, "-m", "serving.request", "--url", f"http://127.0.0.1:{port}", str(file)]
        said = subprocess.run(ask, env=env, cwd=folder, capture_output=True, text=True, timeout=120)
        assert said.returncode == 0, said.stdout + said.stderr
        assert said.stdout.splitlines()[1].split()[:2] == [str(file), "high"]
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
