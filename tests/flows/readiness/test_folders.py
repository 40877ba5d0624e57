"""Folders that cannot be written to: a read-only mount, a file in the way, another user's."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.readiness import folders
from genre.errors import GenreError
from genre.workspace import LIBRARY
from tests.support.project import ROOT


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder with a database and a workspace, on a read-only mount."""
    folder = tmp_path / "disk"
    (folder / "workspace" / "library").mkdir(parents=True)
    (folder / "mlflow.db").write_bytes(b"")
    mounts = [["--bind", str(folder), str(folder)], ["-o", "remount,bind,ro", str(folder)]]
    for options in mounts:
        done = subprocess.run(["mount", *options], capture_output=True)
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("name", ["workspace", "not/there/yet"])
def test_a_read_only_workspace_is_named_with_what_to_set(name: str, read_only: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GENRE_HOME", str(read_only / name))
    with pytest.raises(GenreError, match=rf"{read_only / name} \(Read-only file system\); set GENRE_HOME"):
        folders.check_workspace()


def test_a_run_of_prefect_in_a_read_only_workspace_fails_with_a_sentence(read_only, monkeypatch):
    monkeypatch.setenv("GENRE_HOME", str(read_only / "workspace"))
    with pytest.raises(GenreError, match=r"library.*Read-only file system.*GENRE_HOME"), LIBRARY.lock():
        pass


@pytest.mark.parametrize("name", ["mlflow.db", "new.db", "not/there/yet.db"])
def test_a_read_only_database_is_named_with_what_to_set(name: str, read_only: Path):
    uri = f"sqlite:///{read_only / name}"
    with pytest.raises(GenreError, match=rf"{uri} cannot be written to \(Read-only .*; set MLFLOW_TRACKING_URI"):
        folders.check_database(uri)


def test_a_file_where_a_folder_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GENRE_HOME", str(tmp_path / "file" / "workspace"))
    with pytest.raises(GenreError, match="Not a directory"):
        folders.check_workspace()
    with pytest.raises(GenreError, match="Not a directory"):
        folders.check_database(f"sqlite:///{tmp_path}/file/mlflow.db")


def test_what_can_be_written_to_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GENRE_HOME", str(tmp_path / "workspace"))
    folders.check_workspace()
    for uri in (f"sqlite:///{tmp_path / 'mlflow.db'}", "sqlite://", "http://127.0.0.1:9", "postgresql://host/mlflow"):
        folders.check_database(uri)
    assert not list(tmp_path.iterdir())


def test_another_users_files_are_refused(tmp_path: Path):
    """Root may write anywhere, so the checks run as somebody without rights."""
    if os.geteuid():
        pytest.skip("only root can run something as another user")
    tmp_path.chmod(0o755)
    database = tmp_path / "open" / "mlflow.db"
    database.parent.mkdir()
    database.parent.chmod(0o777)
    database.write_bytes(b"")
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop()); from flows.readiness import folders\n"
        "import os; os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "from genre.errors import GenreError\n"
        "for check, *rest in ((folders.check_workspace,), (folders.check_database, sys.argv[1])):\n"
        "    try:\n        check(*rest)\n    except GenreError as error:\n        print(error)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, f"sqlite:///{database}", str(ROOT)],
        env=os.environ | {"GENRE_HOME": str(tmp_path / "workspace")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert "Permission denied" in out[0] and "GENRE_HOME" in out[0]
    assert "Permission denied" in out[1] and "MLFLOW_TRACKING_URI" in out[1]
