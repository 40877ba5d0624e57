import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from genre.config import AudioConfig
from genre.errors import DataError, GenreError
from genre.files import read_json, write_atomically, write_json, write_table
from genre.workspace import LIBRARY, PROJECT_DIR, Workspace


def test_the_home_is_taken_from_the_environment(home):
    assert Workspace("demo").directory == home / "demo"


def test_a_library_and_a_data_set_have_paths_of_their_own(home):
    assert LIBRARY.predictions_path == home / "library" / "answers.sqlite"
    assert LIBRARY.table_path == home / "library" / "tags.csv"
    assert LIBRARY.undo_path("now") == home / "library" / "undo" / "now.jsonl"
    assert LIBRARY.model_dir("genre/1 uri").parent == home / "library" / "models"
    assert not hasattr(LIBRARY, "read_clips")
    assert not hasattr(Workspace("demo"), "predictions_path")
    assert Workspace("demo").ledger_path == home / "demo" / "ledger.sqlite"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = write_json(tmp_path / "value.json", 1)

    def half(temporary):
        temporary.write_text("[1, 2")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, half)
    assert read_json(path) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_tables_come_back_with_their_categories(home):
    genre = pd.Categorical(["b", "a"], categories=["b", "a", "c"])
    Workspace("demo").write_clips(pd.DataFrame({"clip_id": ["x", "y"], "genre": genre}))
    assert list(Workspace("demo").read_clips()["genre"].cat.categories) == ["b", "a", "c"]


def test_missing_clips_are_an_error_with_the_command_to_run(home):
    with pytest.raises(DataError, match="-e build"):
        Workspace("demo").read_clips()


def test_stores_of_two_configurations_lie_apart(home):
    workspace = Workspace("demo")
    assert workspace.store_dir(AudioConfig()) != workspace.store_dir(AudioConfig(variant="paper"))
    assert AudioConfig().fingerprint != AudioConfig(sr=44100).fingerprint


def _hold(seconds: float) -> None:
    with Workspace("demo").lock():
        time.sleep(seconds)


def test_the_lock_excludes_others_and_ends_with_its_holder(home):
    holder = multiprocessing.get_context("fork").Process(target=_hold, args=(60,))
    holder.start()
    while not (home / "demo" / ".lock").exists():
        time.sleep(0.05)
    time.sleep(0.3)
    with pytest.raises(GenreError, match="another run is working"), Workspace("demo").lock(timeout_s=0.2):
        pass
    holder.kill()
    holder.join()
    with Workspace("demo").lock(timeout_s=5), Workspace("demo").lock():
        pass  # and may be taken twice by its holder


def test_the_lock_removes_temporary_files_left_by_a_kill(home):
    leftover = home / "demo" / "store" / "part.npy.123.tmp"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("half")
    with Workspace("demo").lock():
        assert not leftover.exists()


def test_importing_the_workspace_creates_nothing(tmp_path):
    script = "import genre.workspace, genre.datasets, genre.models, genre.store.contents"
    subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        env={"GENRE_HOME": str(tmp_path / "w"), "PYTHONPATH": str(PROJECT_DIR)},
    )
    assert not (tmp_path / "w").exists()


def test_write_table_is_seen_whole(tmp_path):
    path = write_table(tmp_path / "t.parquet", pd.DataFrame({"a": [1, 2]}, index=["x", "y"]))
    assert pd.read_parquet(path).loc["y", "a"] == 2


def test_files_left_by_a_killed_download_are_removed(home: Path):
    workspace = Workspace("music")
    left = workspace.directory / "models" / "x.1.tmp"
    left.mkdir(parents=True)
    (left / "part").write_text("of a model")
    with workspace.lock():
        assert not left.exists()
