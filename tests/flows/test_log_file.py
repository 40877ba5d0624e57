"""What a command shows of its log, and the file with all of it."""

import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from flows.command import log_file
from tests.support.project import ROOT

#: A command that logs as Prefect, MLflow and a flow do.
LOG = """
import logging, sys
import mlflow
from prefect import flow, get_run_logger, task
from prefect.states import Completed
from flows.command.log_file import command_log
from flows.command.running import run_flow
from flows.command.temporary_server import start_unless_named

@task
def count():
    get_run_logger().info("three files")

@flow
def work():
    count()
    logging.getLogger("mlflow.pyfunc").info("validating")
    logging.getLogger("mlflow.pyfunc").warning("no signature")
    return Completed(name="Promoted", message="better")

with command_log("work", verbose={verbose}):
    run_flow(work, {{}}, start_unless_named())
"""


def run(folder: Path, *, verbose: bool) -> tuple[str, str]:
    """Run the command, and return what the screen shows and what the file holds."""
    command = [sys.executable, "-c", LOG.format(verbose=verbose)]
    own = {"GENRE_HOME": str(folder), "PYTHONPATH": str(ROOT), "PATH": "/usr/bin", "HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    [line] = [line for line in done.stderr.splitlines() if line.startswith("log: ")]
    path = Path(line.removeprefix("log: "))
    assert path.parent == folder / "logs"
    return done.stderr, path.read_text()


def test_the_screen_shows_what_the_flow_says_and_the_file_everything(tmp_path: Path):
    screen, file = run(tmp_path, verbose=False)
    shown = [line for line in screen.splitlines() if "three files" in line or "no signature" in line]
    assert len(shown) == 2 and len(screen.splitlines()) == 3, screen
    for text in ("Beginning flow run", "three files", "validating", "no signature", "Finished in state Promoted"):
        assert text in file
    screen, _ = run(tmp_path, verbose=True)
    assert "Beginning flow run" in screen and "validating" in screen


def test_the_oldest_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GENRE_HOME", str(tmp_path))
    monkeypatch.setattr(log_file, "MAX_FILES", 2)
    paths = []
    for _ in range(4):
        with log_file.command_log("x", verbose=True) as path:
            paths.append(path)
    assert sorted((tmp_path / "logs").iterdir()) == paths[2:]


def test_a_log_that_cannot_be_written_any_more_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("GENRE_HOME", str(tmp_path))
    with log_file.command_log("x", verbose=True) as path:
        handler = next(h for h in logging.getLogger().handlers if getattr(h, "baseFilename", "") == str(path))
        handler.stream.close()  # type: ignore[attr-defined]
        with Path("/dev/full").open("wb", buffering=0) as full:
            handler.stream = io.TextIOWrapper(full, write_through=True)  # type: ignore[attr-defined]
            logging.getLogger("genre").warning("lost")
            handler.stream = None  # type: ignore[attr-defined]
    assert capsys.readouterr().err == f"log: {path}\n"


def test_without_a_folder_for_the_log_the_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GENRE_HOME", str(tmp_path / "file" / "home"))
    with log_file.command_log("x", verbose=False) as path:
        assert path is None
