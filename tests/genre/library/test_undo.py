"""Changes that can be undone: bytes, times and modes, after kills at any moment, and the files that are refused."""

import hashlib
import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from genre.errors import DataError, GenreError
from genre.library.replacing import COPY_PREFIX, lock_folder, remove_copies, state_stamp
from genre.library.undo import UndoFile, change_file, read_records, restore_file
from genre.tags.splices import Splice
from tests.support.project import ROOT


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.bin"
    path.write_bytes(b"as it was" * 1000)
    path.chmod(0o640)
    os.utime(path, ns=(10**18, 10**18 + 7))
    return path


def prepend(file: Path, undo: UndoFile) -> None:
    change_file(file, lambda: [Splice(0, 0, b"new")], lambda copy: None, undo)


def test_mode_and_attributes_are_kept_and_undo_restores_the_time(file, tmp_path):
    try:
        os.setxattr(file, "user.note", b"mine")
        attribute = True
    except OSError:
        attribute = False
    prepend(file, record := UndoFile(tmp_path / "undo"))
    state = file.stat()
    assert state.st_mode & 0o777 == 0o640 and state.st_mtime_ns > 10**18 + 7
    assert not attribute or os.getxattr(file, "user.note") == b"mine"
    assert [restore_file(r) for r in read_records(record.path)] == [True]
    assert file.read_bytes() == b"as it was" * 1000
    assert file.stat().st_mtime_ns == 10**18 + 7 and file.stat().st_mode & 0o777 == 0o640


def test_an_interrupted_command_leaves_no_copy_behind(file, tmp_path):
    code = f"""
from pathlib import Path
from flows.command import running
from genre.library.undo import UndoFile, change_file
from genre.tags.splices import Splice
file = Path({str(file)!r})
def interrupt(copy):
    print(copy.name, copy.exists(), flush=True)
    running._exit_on_interrupt(2, None)
change_file(file, lambda: [Splice(0, 0, b"new")], interrupt, UndoFile(file.with_name("undo")))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 130 and "interrupted: finished work is kept" in done.stderr, done.stderr
    assert done.stdout.startswith(COPY_PREFIX) and done.stdout.endswith(" True\n")
    assert list(tmp_path.iterdir()) == [file] and file.read_bytes() == b"as it was" * 1000


def test_two_changes_are_undone_in_turn_and_one_of_another_program_is_not(file, tmp_path):
    record = UndoFile(tmp_path / "undo")
    for _ in range(2):
        prepend(file, record)
    assert [restore_file(r) for r in read_records(record.path)] == [True, True]
    assert file.read_bytes() == b"as it was" * 1000
    prepend(file, record)
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
        prepend(file, record)
    (tmp_path / "other name").unlink()
    file.chmod(0o440)
    with pytest.raises(DataError, match="is read-only"):
        prepend(file, record)
    file.chmod(0o640)

    with pytest.raises(DataError, match="modified by another program during tagging"):
        change_file(file, lambda: [Splice(0, 0, b"new")], lambda copy: file.write_bytes(b"mine"), record)
    assert file.read_bytes() == b"mine"
    assert not record.path.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_of_two_runs_on_one_file_the_second_is_refused_and_the_first_can_be_undone(file, tmp_path):
    """They wrote one copy, and the first put half of it in the file's place: 100 of 882 kB, which no undo accepted."""
    first = UndoFile(tmp_path / "first")
    second = UndoFile(tmp_path / "second")

    def run_a_second_time(copy: Path) -> None:
        with pytest.raises(DataError, match=r"another run is changing .*a\.bin; left unchanged"):
            prepend(file, second)
        remove_copies(tmp_path)  # as a run does at its start
        assert copy.read_bytes() == b"new" + b"as it was" * 1000

    change_file(file, lambda: [Splice(0, 0, b"new")], run_a_second_time, first)
    assert file.read_bytes() == b"new" + b"as it was" * 1000
    assert not second.path.exists()
    assert [restore_file(r) for r in read_records(first.path)] == [True]
    assert file.read_bytes() == b"as it was" * 1000


def test_a_second_run_in_a_folder_answers_with_a_sentence(tmp_path):
    sentence = r"another run is writing tags in .*; wait for it"
    with lock_folder(tmp_path), pytest.raises(GenreError, match=sentence), lock_folder(tmp_path):
        pytest.fail("the folder is locked")
    with lock_folder(tmp_path):
        assert list(tmp_path.iterdir()) == []  # the lock is no file


def test_a_file_that_was_replaced_since_its_genre_was_predicted_is_refused(file, tmp_path):
    stamp = state_stamp(file.stat())
    record = UndoFile(tmp_path / "undo")
    changed = change_file(file, lambda: [Splice(0, 0, b"new")], lambda copy: None, record, stamp)
    assert changed == state_stamp(file.stat()) != stamp
    with pytest.raises(DataError, match="has changed since its genre was predicted; run again"):
        change_file(file, lambda: [Splice(0, 0, b"new")], lambda copy: None, record, stamp)
    assert record.n_records == 1


def test_without_an_undo_file_nothing_is_changed(file, tmp_path):
    (tmp_path / "not a folder").touch()
    with pytest.raises(GenreError, match=r"cannot write .*; no further file is changed") as caught:
        prepend(file, UndoFile(tmp_path / "not a folder" / "undo"))
    assert not isinstance(caught.value, DataError)
    assert file.read_bytes() == b"as it was" * 1000


def test_a_truncated_line_is_skipped_and_other_files_are_refused(file, tmp_path):
    prepend(file, record := UndoFile(tmp_path / "undo"))
    with record.path.open("ab") as out:
        out.write(b'{"path": "/els')
    assert len(list(read_records(record.path))) == 1
    for content in (b"path,genre\n", b"[1]\n", b"{}\n", b"\xff\n"):
        (tmp_path / "no").write_bytes(content)
        with pytest.raises(DataError, match="is not an undo file"):
            read_records(tmp_path / "no")
    with pytest.raises(DataError, match=r"cannot read .*: No such file"):
        read_records(tmp_path / "nowhere")


def test_an_undo_file_that_a_kill_cut_short_is_continued(file, tmp_path):
    prepend(file, UndoFile(tmp_path / "undo"))
    whole = (tmp_path / "undo").read_bytes()
    for n in (0, 1, len(whole) // 2, len(whole) - 1):
        (tmp_path / "undo").write_bytes(whole + whole[:n])
        prepend(file, UndoFile(tmp_path / "undo"))
        assert [restore_file(r) for r in read_records(tmp_path / "undo")] == [True, True]
        prepend(file, UndoFile(tmp_path / "other"))
    assert len(list(read_records(tmp_path / "other"))) == 4


def test_a_change_without_splices_leaves_no_trace(file, tmp_path):
    change_file(file, list, lambda copy: pytest.fail("nothing to check"), UndoFile(tmp_path / "undo"))
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    assert file.stat().st_mtime_ns == 10**18 + 7


def test_a_copy_that_fails_its_check_does_not_replace_the_file(file, tmp_path):
    seen = []

    def refuse(copy: Path) -> None:
        seen.append(copy.read_bytes())
        raise DataError("the sound would differ")

    with pytest.raises(DataError, match="the sound would differ"):
        change_file(file, lambda: [Splice(0, 2, b"")], refuse, UndoFile(tmp_path / "undo"))
    assert seen == [file.read_bytes()[2:]]
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("key", ["changes", "delta"])
@pytest.mark.parametrize("packed", ["", "AAAA", "not base64", "eJwDAAAAAAE=", "eJxjYGBg+A8AAQMBAA=="])
def test_a_damaged_record_leaves_the_file_unchanged(file, tmp_path, key, packed):
    prepend(file, record := UndoFile(tmp_path / "undo"))
    damaged = next(read_records(record.path)) | {"changes": packed}
    damaged[key] = damaged.pop("changes")
    with pytest.raises(DataError, match="the undo file is damaged; left unchanged"):
        restore_file(damaged)
    assert file.read_bytes().startswith(b"newas it was")
    assert {p.name for p in tmp_path.iterdir()} == {"a.bin", "undo"}


def hash_noise(n: int) -> bytes:
    """Bytes that do not compress, the same on every machine."""
    return b"".join(hashlib.sha256(bytes([i & 255, i >> 8])).digest() for i in range(-(-n // 32)))[:n]


def test_an_undo_file_of_an_earlier_version_is_undone(tmp_path):
    old = hash_noise(200_000)
    grown = old[:131_072] + b"tag" * 1000 + old[131_072:150_000] + b"!" + old[150_001:]
    (tmp_path / "a.bin").write_bytes(grown[20:])
    records = read_records(Path(__file__).parent / "data" / "undo_with_whole_deltas.jsonl")
    for record, before in zip(records, (grown, old), strict=True):
        assert "delta" in record
        assert restore_file(record | {"path": str(tmp_path / "a.bin")})
        assert (tmp_path / "a.bin").read_bytes() == before
        assert (tmp_path / "a.bin").stat().st_mtime_ns == record["mtime_ns"]


def test_memory_depends_on_the_largest_change_and_not_on_files_or_their_number(tmp_path):
    undo = UndoFile(tmp_path / "undo")
    noise = hash_noise(300_000)
    for n in range(30):
        (tmp_path / f"{n}").write_bytes(bytes(5_000_000))
        change_file(tmp_path / f"{n}", lambda: [Splice(100_000, 100_000, noise)], lambda copy: None, undo)
        change_file(tmp_path / f"{n}", lambda: [Splice(100_000, 400_000, b"")], lambda copy: None, undo)
    assert undo.path.stat().st_size > 30 * 300_000
    tracemalloc.start()
    assert all(restore_file(record) for record in read_records(undo.path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


#: Script that kills itself at the n-th system call of what stands in place of the last but one line.
KILLED = """
import os, signal, sys
from pathlib import Path
from genre.library.undo import UndoFile, change_file, read_records, restore_file
from genre.tags.splices import Splice
calls = 0
def hook(event, arguments):
    global calls
    if event in ("open", "os.rename", "os.remove", "os.utime", "shutil.copystat", "os.chmod", "os.setxattr"):
        calls += 1
        if calls == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
{}
os._exit(0)
"""
CHANGE = 'change_file(Path("a.bin"), lambda: [Splice(0, 0, b"new")], lambda copy: None, UndoFile(Path("undo")))'
RESTORE = 'assert all([restore_file(record) for record in read_records(Path("undo"))])'


def run_killed(folder: Path, code: str, n: int) -> bool:
    """Run code in a folder, killed at its n-th call; return whether it ended before."""
    command = [sys.executable, "-c", KILLED.format(code), str(n)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode == 0


def restore_all(folder: Path) -> list[bool]:
    """Restore the files that the records name relative to a folder."""
    records = read_records(folder / "undo") if (folder / "undo").exists() else ()
    return [restore_file(record | {"path": str(folder / record["path"])}) for record in records]


def test_killed_at_any_moment_the_file_is_whole_and_can_be_restored(file, tmp_path):
    before = file.read_bytes()
    states = set()
    for n in range(1, 100):
        file.write_bytes(before)
        (tmp_path / "undo").unlink(missing_ok=True)
        is_done = run_killed(tmp_path, CHANGE, n)
        states.add((is_done, file.read_bytes()))
        restore_all(tmp_path)
        assert file.read_bytes() == before
        remove_copies(tmp_path)
        assert {p.name for p in tmp_path.iterdir()} <= {"a.bin", "undo"}
        if is_done:
            break
    assert n > 8
    assert states == {(False, before), (False, b"new" + before), (True, b"new" + before)}


def test_an_undo_that_is_killed_at_any_moment_goes_on(file, tmp_path):
    contents = {name: file.read_bytes() + name.encode() for name in ("a.bin", "b.bin")}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert run_killed(tmp_path, CHANGE.replace("a.bin", name), 0)
    results = set()
    for n in range(1, 100):
        for name, content in contents.items():
            (tmp_path / name).write_bytes(b"new" + content)
        is_done = run_killed(tmp_path, RESTORE, n)
        results.add((is_done, *restore_all(tmp_path)))
        assert {name: (tmp_path / name).read_bytes() for name in contents} == contents
        remove_copies(tmp_path)
        assert {p.name for p in tmp_path.iterdir()} == {"a.bin", "b.bin", "undo"}
        if is_done:
            break
    # the second file is restored first, and after a kill only what is left
    assert results == {(False, True, True), (False, False, True), (False, False, False), (True, False, False)}


#: Script that writes a genre where no file may become larger than 50,000 bytes, or none may be opened any more.
WITHIN_LIMITS = """
import resource, signal, sys
from pathlib import Path
from genre.library.undo import UndoFile, change_file
from genre.tags.splices import Splice

def plan():
    resource.setrlimit(getattr(resource, sys.argv[1]), (int(sys.argv[2]), int(sys.argv[2])))
    return [Splice(0, 0, b"new")]

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
change_file(Path("large.bin"), plan, lambda copy: None, UndoFile(Path("undo")))
"""


@pytest.mark.parametrize(
    ("limit", "number", "message"),
    [
        ("RLIMIT_FSIZE", 50_000, "DataError: cannot replace large.bin by a changed copy: File too large"),
        (
            "RLIMIT_NOFILE",
            3,
            "GenreError: cannot replace large.bin by a changed copy: Too many open files; the file is",
        ),
    ],
)
def test_a_write_that_the_system_stops_leaves_the_file_and_no_copy(tmp_path, limit, number, message):
    """What is no fault of the file ends the run instead of being one file's result."""
    (tmp_path / "large.bin").write_bytes(before := bytes(60_000))
    command = [sys.executable, "-c", WITHIN_LIMITS, limit, str(number)]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert message in done.stderr
    assert (tmp_path / "large.bin").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["large.bin"]
