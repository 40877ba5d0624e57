"""Changes that can be taken back: bytes, times and modes, after kills at any moment, and what is refused."""

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
def test_what_was_comes_back_whatever_was_done(seed, n, cuts):
    rng = np.random.default_rng(seed)
    old = rng.integers(0, 256, n, np.uint8)
    pieces = np.split(old, np.sort(rng.integers(0, n + 1, cuts)))
    new = np.concatenate([rng.integers(0, 256, rng.integers(0, 3000), np.uint8), *pieces[:: rng.choice([-1, 1])]])
    np.testing.assert_array_equal(undo.apply_delta(undo.compute_delta(old, new), new, old.size), old)


def test_a_delta_is_small_where_bytes_only_move():
    rng = np.random.default_rng(0)
    old, more = rng.integers(0, 256, 3_000_000, np.uint8), rng.integers(0, 256, 5000, np.uint8)
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


def longer(copy: Path) -> None:
    copy.write_bytes(b"new" + copy.read_bytes())


def test_mode_and_attributes_stay_the_time_is_now_and_undo_brings_the_time_back(file, tmp_path):
    try:
        os.setxattr(file, "user.note", b"mine")
        attribute = True
    except OSError:
        attribute = False
    change_file(file, longer, record := UndoFile(tmp_path / "undo"))
    state = file.stat()
    assert state.st_mode & 0o777 == 0o640 and state.st_mtime_ns > 10**18 + 7
    assert not attribute or os.getxattr(file, "user.note") == b"mine"
    assert [restore_file(r) for r in read_records(record.path)] == [True]
    assert file.read_bytes() == b"as it was" * 1000
    assert file.stat().st_mtime_ns == 10**18 + 7 and file.stat().st_mode & 0o777 == 0o640


def test_two_changes_are_taken_back_in_turn_and_one_of_somebody_else_is_not(file, tmp_path):
    record = UndoFile(tmp_path / "undo")
    for _ in range(2):
        change_file(file, longer, record)
    assert [restore_file(r) for r in read_records(record.path)] == [True, True]
    assert file.read_bytes() == b"as it was" * 1000
    change_file(file, longer, record)
    file.write_bytes(b"mine")
    with pytest.raises(DataError, match="was changed since it was tagged; it is left as it is"):
        restore_file(next(read_records(record.path)))
    assert file.read_bytes() == b"mine"
    file.unlink()
    with pytest.raises(DataError, match="No such file"):
        restore_file(next(read_records(record.path)))


def test_what_must_not_be_replaced_is_refused(file, tmp_path):
    record = UndoFile(tmp_path / "undo")
    os.link(file, tmp_path / "other name")
    with pytest.raises(DataError, match=r"has 2 names \(hard links\)"):
        change_file(file, longer, record)
    (tmp_path / "other name").unlink()
    file.chmod(0o440)
    with pytest.raises(DataError, match="is read-only"):
        change_file(file, longer, record)
    file.chmod(0o640)

    def somebody_else(copy: Path) -> None:
        longer(copy)
        file.write_bytes(b"mine")

    with pytest.raises(DataError, match="changed by another program meanwhile"):
        change_file(file, somebody_else, record)
    assert file.read_bytes() == b"mine"
    assert not record.path.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_without_an_undo_file_nothing_is_touched(file, tmp_path):
    (tmp_path / "not a folder").touch()
    with pytest.raises(GenreError, match=r"cannot be written .*; no further file is touched") as caught:
        change_file(file, longer, UndoFile(tmp_path / "not a folder" / "undo"))
    assert not isinstance(caught.value, DataError)
    assert file.read_bytes() == b"as it was" * 1000


def test_what_is_no_undo_file_and_a_line_that_was_cut_short(file, tmp_path):
    change_file(file, longer, record := UndoFile(tmp_path / "undo"))
    with record.path.open("ab") as out:
        out.write(b'{"path": "/els')
    assert len(list(read_records(record.path))) == 1
    for content in (b"path,genre\n", b"[1]\n", b"{}\n", b"\xff\n"):
        (tmp_path / "no").write_bytes(content)
        with pytest.raises(DataError, match="is no undo file"):
            read_records(tmp_path / "no")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_records(tmp_path / "nowhere")


#: Stops for good at the n-th call of the system that a change makes.
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


def test_killed_at_any_moment_the_file_is_whole_and_can_be_had_back(file, tmp_path):
    before, n, states = file.read_bytes(), 0, set()
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
