"""The folder of a deployment in the workspace, while others live, are killed or lose their files."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from genre.errors import GenreError
from genre.workspace import deployments_dir
from serving.deploy.run_folder import RunFolder
from tests.support.project import ROOT

#: A process that holds a folder until it is ended.
HOLDER = """
import sys, time
from pathlib import Path
from serving.deploy.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])) as folder:
    print(folder.path, flush=True)
    time.sleep(60)
"""


@contextmanager
def other_deployment(parent: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A living process, and its folder with a file in it."""
    command = [sys.executable, "-c", HOLDER, str(parent)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            path = Path(process.stdout.readline().strip())
            (path / "port").write_text("1")
            yield path, process
        finally:
            process.kill()


def test_the_folder_is_private_lies_in_the_workspace_and_is_removed(home: Path):
    with RunFolder() as folder:
        assert folder.path.parent == deployments_dir()
        assert deployments_dir().is_relative_to(home)
        assert folder.path.stat().st_mode & 0o777 == 0o700
        (folder.path / "port").write_text("1")
    assert not folder.path.exists()


def test_only_the_folders_of_killed_processes_are_removed(tmp_path: Path):
    with other_deployment(tmp_path) as (living, _), other_deployment(tmp_path) as (killed, process):
        process.kill()
        process.wait()
        (tmp_path / "run-without-lock").mkdir()
        assert killed.exists()
        with RunFolder(tmp_path) as own:
            assert {path for path in tmp_path.iterdir() if path.is_dir()} == {own.path, living}
            assert (living / "port").exists()


def test_a_folder_that_was_removed_is_made_and_locked_again(tmp_path: Path):
    with RunFolder(tmp_path) as folder:
        shutil.rmtree(folder.path)
        folder.restore()
        folder.restore()
        assert folder.path.stat().st_mode & 0o777 == 0o700
        with RunFolder(tmp_path) as other:
            assert folder.path.exists()
            assert other.path != folder.path
    assert not folder.path.exists()


def test_a_workspace_that_cannot_be_written_to_is_an_error_message(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GenreError, match="set GENRE_HOME to a folder that can be written to"):
        RunFolder(tmp_path / "file")
    (tmp_path / "deployments").mkdir()
    (tmp_path / "deployments" / ".lock").mkdir()
    with pytest.raises(GenreError, match="set GENRE_HOME to a folder that can be written to"):
        RunFolder(tmp_path / "deployments")
