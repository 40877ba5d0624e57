"""Changes that can be undone: bytes, times and modes, after kills at any moment, and the files that are refused."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genre.errors import DataError, GenreError
from genre.library import undo
from genre.library.undo import UndoFile, change_file, read_records, restore_file
from tests.support.project import ROOT


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), n=st.integers(0, 200_000), cuts=st.integers(0, 4))
def test_a_delta_restores_the_old_bytes_after_any_change(seed, n, cuts):
    rng = np.random.default_rng(seed)
    old = rng.integers(0, 256, n, np.uint8)
    pieces = np.split(old, np.sort(rng.integers(0, n + 1, cuts)))
    new = np.concatenate([rng.integers(0, 256, rng.integers(0, 3000), np.uint8), *pieces[:: rng.choice([-1, 1])]])
    np.testing.assert_array_equal(undo.apply_delta(undo.compute_delta(old, new), new, old.size), old)


def test_a_delta_is_small_where_bytes_only_move():
    rng = np.random.default_rng(0)
    old = rng.integers(0, 256, 3_000_000, np.uint8)
    more = rng.integers(0, 256, 5000, np.uint8)
    renumbered = old.copy()
    renumbered[5000::4096] += 1  # a byte in every page
    for new in (np.r_[more, old], np.r_[old, more], np.r_[old[:1_000_000], more, old[1_000_000:]], old[9000:]):
        assert len(undo.compute_delta(old, new)) < 80_000
    assert len(undo.compute_delta(old, np.r_[more, renumbered])) < 100_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.bin"
    path.write_bytes(b"as it was" * 1000)
    path.chmod(0o640)
    os.utime(path, ns=(10**18, 10**18 + 7))
    return path


def prepend(copy: Path) -> None:
    copy.write_bytes(b"new" + copy.read_bytes())


def test_mode_and_attributes_are_kept_and_undo_restores_the_time(file, tmp_path):
    try:
        os.setxattr(file, "user.note", b"mine")
        attribute = True
    except OSError:
        attribute = False
    change_file(file, prepend, record := UndoFile(tmp_path / "undo"))
    state = file.stat()
    assert state.st_mode & 0o777 == 0o640 and state.st_mtime_ns > 10**18 + 7
    assert not attribute or os.getxattr(file, "user.note") == b"mine"
    assert [restore_file(r) for r in read_records(record.path)] == [True]
    assert file.read_bytes() == b"as it was" * 1000
    assert file.stat().st_mtime_ns == 10**18 + 7 and file.stat().st_mode & 0o777 == 0o640


def test_two_changes_are_undone_in_turn_and_one_of_another_program_is_not(file, tmp_path):
    record = UndoFile(tmp_path / "undo")
    for _ in range(2):
        change_file(file, prepend, record)
    assert [restore_file(r) for r in read_records(record.path)] == [True, True]
    assert file.read_bytes() == b"as it was" * 1000
    change_file(file, prepend, record)
    file.write_bytes(b"mine")
    with pytest.raises(DataError, match="was modified after it was tagged; left unchanged"):
        restore_file(next(read_records(record.path)))
    assert file.read_bytes() == b"mine"
    file.unlink()
    with pytest.raises(DataError, match="No such file"):
        restore_file(next(read_records(record.path)))


def test_hard_links_read_only_and_modified_files_are_refused(file, tmp_path):
    record = UndoFile(tmp_path / "undo")
    os.link(file, tmp_path / "other name")
    with pytest.raises(DataError, match="has 2 hard links"):
        change_file(file, prepend, record)
    (tmp_path / "other name").unlink()
    file.chmod(0o440)
    with pytest.raises(DataError, match="is read-only"):
        change_file(file, prepend, record)
    file.chmod(0o640)

    def modify_original_too(copy: Path) -> None:
        prepend(copy)
        file.write_bytes(b"mine")

    with pytest.raises(DataError, match="modified by another program during tagging"):
        change_file(file, modify_original_too, record)
    assert file.read_bytes() == b"mine"
    assert not record.path.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_without_an_undo_file_nothing_is_changed(file, tmp_path):
    (tmp_path / "not a folder").touch()
    with pytest.raises(GenreError, match=r"cannot write .*; no further file is changed") as caught:
        change_file(file, prepend, UndoFile(tmp_path / "not a folder" / "undo"))
    assert not isinstance(caught.value, DataError)
    assert file.read_bytes() == b"as it was" * 1000


def test_a_truncated_line_is_skipped_and_other_files_are_refused(file, tmp_path):
    change_file(file, prepend, record := UndoFile(tmp_path / "undo"))
    with record.path.open("ab") as out:
        out.write(b'{"path": "/els')
    assert len(list(read_records(record.path))) == 1
    for content in (b"path,genre\n", b"[1]\n", b"{}\n", b"\xff\n"):
        (tmp_path / "no").write_bytes(content)
        with pytest.raises(DataError, match="is not an undo file"):
            read_records(tmp_path / "no")
    with pytest.raises(DataError, match=r"cannot read .*: No such file"):
        read_records(tmp_path / "nowhere")


#: Script that kills itself at the n-th system call of a change.
KILLED = """
import os, signal, sys
from pathlib import Path
from genre.library import undo
calls = 0
def hook(event, arguments):
    global calls
    if event in ("open", "os.rename", "os.remove", "os.utime", "shutil.copyfile", "os.chmod"):
        calls += armed
        if calls == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
armed = 0
sys.addaudithook(hook)
def write(copy):
    copy.write_bytes(b"new" + copy.read_bytes())
armed = 1
undo.change_file(Path("a.bin"), write, undo.UndoFile(Path("undo")))
armed = 0
print("done")
"""


def test_killed_at_any_moment_the_file_is_whole_and_can_be_restored(file, tmp_path):
    before = file.read_bytes()
    n = 0
    states = set()
    while True:
        n += 1
        file.write_bytes(before)
        (tmp_path / "undo").unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(n)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        now = file.read_bytes()
        states.add((done.returncode, now == before))
        assert now in (before, b"new" + before)
        if (tmp_path / "undo").exists():
            for record in read_records(tmp_path / "undo"):
                restore_file(record | {"path": str(file)})
        assert file.read_bytes() == before
        undo.remove_copies(tmp_path)
        assert {p.name for p in tmp_path.iterdir()} <= {"a.bin", "undo"}
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert n > 8
    assert states >= {(-signal.SIGKILL, True), (-signal.SIGKILL, False), (0, False)}
