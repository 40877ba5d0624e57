"""The project in a folder whose path has blanks, umlauts, a number sign, percent, plus, parentheses, an apostrophe."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from genre.files import read_json
from serving.deploy.proxy import free_port
from tests.support.project import ROOT
from tests.support.servers import wait_until_up

NAME = "my müsic #1 (50%+) it's"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what git tracks, in a folder with an odd name."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("this is no git repository")
    for name in filter(None, listed.stdout.decode().split("\0")):
        copy = tmp_path / NAME / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy)
    return tmp_path / NAME


@pytest.fixture
def environment(prefect_server: str) -> dict[str, str]:
    """Environment of a terminal in which nothing of the project's is set."""
    foreign = ("MLFLOW_", "PREFECT_", "GENRE_HOME", "PYTHONPATH")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "PREFECT_API_URL": prefect_server, "GENRE_WEIGHTS": "none"}


def in_shell(line: str, project: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run a line as it is typed, in the project folder; return its status and what it printed."""
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
    )
    return done.returncode, done.stdout


@pytest.mark.slow
def test_the_first_command_names_the_export_with_which_the_next_ones_share_one_database(project, environment):
    rollback = "mlflow run . --env-manager local -e rollback"
    code, output = in_shell(rollback, project, environment)
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    export = line.rpartition("the same command again: ")[2]
    assert code == 1 and export.startswith("export MLFLOW_TRACKING_URI="), output
    assert not (project / "mlflow.db").exists()
    _, output = in_shell(f"{export} && {rollback}", project, environment)
    assert "there is no champion of genre to roll back" in output
    assert (project / "mlflow.db").exists()


@pytest.mark.slow
def test_train_tag_undo_promote_serve_and_ask(project, environment, music, tmp_path):
    library = shutil.copytree(music, tmp_path / "it's 100% #music + ü (2)")
    run = "mlflow run . --env-manager local"
    environment |= {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db", "MUSIC": str(library)}
    options = '-P dataset=folder -P "source=$MUSIC" -P model=logistic_regression'
    tag = f'{run} -e tag -P "source=$MUSIC" -P write_tags=true -P overwrite=true'
    promote = f'{run} -e promote -P dataset=folder -P "source=$MUSIC"'
    for line in (f"{run} {options}", f"{tag} -P dry_run=false", promote):
        code, output = in_shell(line, project, environment)
        assert code == 0, output
    (undo,) = (project / "workspace" / "library" / "undo").iterdir()
    code, output = in_shell(f"{run} -e tag -P undo={undo.relative_to(project)}", project, environment)
    assert code == 0 and " 0 refused" in output, output
    alone = 'env -u MLFLOW_TRACKING_URI python -m flows.promote --dataset folder --source "$MUSIC"'
    assert "already version 1 of genre (the champion)" in in_shell(alone, project, environment)[1]
    specs = list((project / "mlruns").rglob("artifacts/ensemble/ensemble.json"))
    assert specs and all(read_json(spec)["genres"] == ["high", "low"] for spec in specs)
    assert sorted(path.name for path in project.parent.iterdir()) == sorted([project.name, library.name])
    ask_served(project, environment, next(library.rglob("*.wav")))


def ask_served(project: Path, environment: dict[str, str], file: Path) -> None:
    """Serve the champion as in the README, and ask it for the genre of a file."""
    port = free_port()
    command = ["mlflow", "models", "serve", "-m", "models:/genre@champion", "-p", str(port), "--env-manager", "local"]
    with (project / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=project, env=environment, stdout=log, stderr=log)
    try:
        wait_until_up(f"http://127.0.0.1:{port}/ping", process, project / "server.log")
        line = f'python -m serving.request "$FILE" --url http://127.0.0.1:{port}'
        code, output = in_shell(line, project, environment | {"FILE": str(file)})
        assert code == 0 and "model: genre/1" in output, output
    finally:
        process.terminate()
        process.wait(30)
