import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from genre import files
from genre.config import AudioConfig
from genre.errors import DataError, GenreError
from genre.files import read_json, write_atomically, write_json, write_table
from genre.workspace import LIBRARY, PROJECT_DIR, Workspace, workspace_key
from tracking import runs


def test_the_home_is_taken_from_the_environment(home):
    assert Workspace("demo").directory == home / "demo"


def test_two_machines_with_workspaces_under_one_path_have_different_runs(home):
    """Each ended the other's runs, whose tag was made of the path."""
    first = runs.workspace_id(Workspace("demo"))
    assert runs.workspace_id(Workspace("demo")) == first != runs.workspace_id(LIBRARY)
    home.rename(home.with_name("first machine"))
    assert runs.workspace_id(Workspace("demo")) != first
    (home / ".id").write_text("")  # after a power failure
    with ThreadPoolExecutor(4) as threads:
        [key] = set(threads.map(lambda _: workspace_key(), range(8)))
    assert len(key) == 32


def test_a_library_and_a_data_set_have_paths_of_their_own(home):
    assert LIBRARY.predictions_path == home / "library" / "answers.sqlite"
    assert LIBRARY.table_path == home / "library" / "tags.csv"
    assert LIBRARY.undo_path("now") == home / "library" / "undo" / "now.jsonl"
    assert LIBRARY.model_dir("genre/1 uri").parent == home / "library" / "models"
    assert not hasattr(LIBRARY, "read_clips")
    assert not hasattr(Workspace("demo"), "predictions_path")
    assert Workspace("demo").ledger_path == home / "demo" / "ledger.sqlite"


def test_a_file_is_on_the_disk_before_it_gets_its_name_and_its_folder_after(tmp_path, monkeypatch):
    """After a power failure a file that was renamed first may be empty."""
    path = tmp_path / "value.json"
    seen = []
    monkeypatch.setattr(files, "sync_to_disk", lambda synced: seen.append((synced.suffix, path.exists())))
    write_json(path, 1)
    assert seen == [(".tmp", False), ("", True)]
    seen.clear()
    path = write_atomically(tmp_path / "unsynced", lambda temporary: temporary.touch(), sync=False)
    assert seen == [] and path.exists()
    path = tmp_path / "model"
    write_atomically(path, lambda folder: write_atomically(folder / "weights", Path.touch, sync=False))
    assert [exists for _, exists in seen] == [False, False, True]


@pytest.mark.parametrize("content", [b"", b"PAR1 cut short"])
def test_a_damaged_table_is_a_sentence_with_the_command_that_mends_it(home, content):
    workspace = Workspace("demo")
    workspace.directory.mkdir(parents=True)
    for name in ("clips", "splits", "copies", "dealt"):
        (workspace.directory / f"{name}.parquet").write_bytes(content)
    for read in (workspace.read_clips, workspace.read_splits, workspace.read_duplicates):
        with pytest.raises(DataError, match=r"\.parquet is damaged \(.*\); run .* -e build\" .* to write it anew"):
            read()
    with pytest.raises(DataError, match=r"dealt\.parquet is damaged .* -e archive -P action=restore_splits\""):
        workspace.read_assignments()


def test_damaged_json_is_a_sentence_and_a_damaged_table_of_a_cache_is_made_anew(tmp_path):
    (tmp_path / "value.json").write_text("")
    with pytest.raises(DataError, match=r"value\.json is damaged \(.*\); remove it and run the same command again"):
        read_json(tmp_path / "value.json")
    (tmp_path / "table.parquet").touch()
    for n in (1, 2):  # the second time it is there
        table = files.read_or_make_table(tmp_path / "table.parquet", partial(pd.DataFrame, {"a": [n]}))
        assert table["a"].tolist() == [1]


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
