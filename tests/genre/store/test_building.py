"""Builds as they go wrong: processes that die, files that kill them, Ctrl-C, a cluster that loses a machine."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import soundfile as sf

from benchmarks._shared import music as synthetic
from benchmarks.endurance import bad_files
from genre.config import AudioConfig
from genre.errors import GenreError, UsageError
from genre.store import archive, building, contents, outcomes
from genre.store.worker import BuildWork
from genre.workers import pool
from tests.support.project import ROOT
from tests.support.sounds import tone

CONFIG = AudioConfig()

#: What every Python process does first that finds it on its path: some files are too much for it.
SITE = """
import os, pathlib, signal, time

opened = pathlib.Path.open

def fragile(self, *arguments, **named):
    if "poison" in self.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in self.name:
        time.sleep(1000)
    if "slow" in self.name:
        time.sleep(0.3)
    return opened(self, *arguments, **named)

pathlib.Path.open = fragile
"""


def listed(paths: list[Path]) -> pd.DataFrame:
    """Clips table of these files, five seconds of each."""
    rows = [{"clip_id": p.name, "path": str(p), "stamp": "1", "status": "pending", "reason": ""} for p in paths]
    return pd.DataFrame(rows).assign(start_s=0.0, end_s=5.0)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "tone.wav"
    sf.write(path, tone(2, hz=300), 22050)
    return path


def copies(folder: Path, sound: Path, names: list[str]) -> pd.DataFrame:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).symlink_to(sound)
    return listed([folder / name for name in names])


@pytest.fixture
def fragile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{ROOT}")


def parts(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("part-*")}


def processes(parent: int) -> list[psutil.Process]:
    """Those that compute features for a process."""
    found = []
    for process in psutil.Process(parent).children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if "genre.store.worker" in " ".join(process.cmdline()):
                found.append(process)
    return found


def until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize(("n", "size"), [(1, 16), (500, 16), (2000, 32), (8000, 125), (40_000, 256), (10**6, 256)])
def test_batches_are_fine_at_first_and_large_at_scale(n, size):
    assert building.batch_size(n) == size


def test_zero_processes_are_refused(tmp_path):
    with pytest.raises(UsageError, match="n_jobs must be"):
        building.build_store(listed([]), CONFIG, tmp_path, n_jobs=0)


def test_a_file_that_crashes_its_worker_is_recorded_and_the_others_are_built(tmp_path, sound, fragile, monkeypatch):
    monkeypatch.setattr(pool, "_MAX_ATTEMPTS", 1)  # for the sake of time
    clips = copies(tmp_path / "music", sound, ["a.wav", "b.wav", "poison.wav", "c.wav"])
    assert building.build_store(clips, CONFIG, tmp_path / "s", n_jobs=1).n_computed == len(clips)
    built = contents.with_outcomes(clips, tmp_path / "s").set_index("clip_id")
    assert built["status"].to_dict() == {"a.wav": "ok", "b.wav": "ok", "poison.wav": "crashed", "c.wav": "ok"}
    assert built.loc["poison.wav", "reason"].endswith("the process that decoded it was killed by signal 11")
    assert np.isfinite(contents.load_features(clips.drop(2), tmp_path / "s")).all(axis=None)
    # lack of memory may have been the reason: a later build tries once more, and no third one
    assert [building.build_store(clips, CONFIG, tmp_path / "s", n_jobs=1).n_computed for _ in range(2)] == [1, 0]
    assert contents.with_outcomes(clips, tmp_path / "s")["status"].tolist() == ["ok", "ok", "crashed_twice", "ok"]


def test_a_clip_that_crashed_for_lack_of_memory_is_usable_after_the_next_build(tmp_path, sound, fragile, monkeypatch):
    monkeypatch.setattr(pool, "_MAX_ATTEMPTS", 1)
    clips = copies(tmp_path / "music", sound, ["a.wav", "poison.wav"])
    building.build_store(clips, CONFIG, tmp_path / "s", n_jobs=1)
    (tmp_path / "site" / "sitecustomize.py").unlink()
    assert building.build_store(clips, CONFIG, tmp_path / "s", n_jobs=1).n_computed == 1
    assert contents.with_outcomes(clips, tmp_path / "s")["status"].tolist() == ["ok", "ok"]
    archive.compact_parts(tmp_path / "s")
    assert contents.with_outcomes(clips, tmp_path / "s")["status"].tolist() == ["ok", "ok"]
    assert contents.find_missing(clips, tmp_path / "s").empty


#: What a decoder meets when a disk is away, a descriptor or memory is lacking, or permission is, by the file's name.
SYSTEM_ERRORS = """
import errno, os, pathlib

opened = pathlib.Path.open

def failing(self, *arguments, **named):
    name = self.name.partition("-")[0]
    if name == "memory":
        raise MemoryError
    if hasattr(errno, name):
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)), str(self))
    return opened(self, *arguments, **named)

pathlib.Path.open = failing
"""


def test_what_the_system_does_not_let_be_read_is_not_stored_and_is_built_once_it_does(tmp_path, sound, monkeypatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SYSTEM_ERRORS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{ROOT}")
    names = [f"{name}-1.wav" for name in ("EIO", "ENOENT", "EACCES", "ESTALE", "EMFILE", "memory")]
    clips = copies(tmp_path / "music", sound, ["a.wav", *names])
    result = building.build_store(clips, CONFIG, tmp_path / "s", n_jobs=1)
    assert result.n_computed == 1 and list(result.unread) == names
    assert result.unread["EIO-1.wav"].startswith(
        f"{tmp_path}/music/EIO-1.wav cannot be read at the moment (Input/output"
    )
    assert contents.read_outcomes(tmp_path / "s")["clip_id"].tolist() == ["a.wav"]
    marked = outcomes.mark_unread(contents.with_outcomes(clips, tmp_path / "s"), result.unread)
    assert marked["status"].tolist() == ["ok", *["unread"] * len(names)]
    (tmp_path / "site" / "sitecustomize.py").unlink()
    result = building.build_store(clips, CONFIG, tmp_path / "s", n_jobs=1)
    assert (result.n_computed, result.unread) == (len(names), {})
    assert set(contents.with_outcomes(clips, tmp_path / "s")["status"]) == {"ok"}


def test_a_file_that_hangs_its_worker_is_recorded_as_crashed(tmp_path, sound, fragile, monkeypatch):
    monkeypatch.setattr(pool, "ROW_LIMIT_S", 2.0)
    monkeypatch.setattr(pool, "_MAX_ATTEMPTS", 1)
    clips = copies(tmp_path / "music", sound, ["hang.wav"])
    building.build_store(clips, CONFIG, tmp_path / "s", n_jobs=1)
    [built] = contents.read_outcomes(tmp_path / "s").itertuples()
    assert built.status == "crashed"
    assert built.reason.endswith("the process that decoded it took more than 2 s")


def test_batches_are_made_as_processes_need_them(tmp_path, sound):
    clips = copies(tmp_path / "music", sound, [f"{n}.wav" for n in range(12)])
    made = []
    done = 0
    (tmp_path / "s").mkdir()
    batches = (made.append(n) or clips.iloc[[n]] for n in range(len(clips)))
    for n_rows, _ in pool.run_local(batches, BuildWork(CONFIG, tmp_path / "s"), 1):
        done += n_rows
        assert len(made) <= done + 2 * pool.BATCHES_PER_PROCESS
    assert done == len(made) == len(clips)


@pytest.fixture(scope="module")
def six_batches(
    sound: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[pd.DataFrame, dict[str, bytes]]]:
    """Clips, and the parts of a build of them in which nothing went wrong."""
    folder = tmp_path_factory.mktemp("six")
    clips = copies(folder / "music", sound, [f"slow-{n:02d}.wav" for n in range(12)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "MIN_BATCH", 2)
        building.build_store(clips, CONFIG, folder / "whole", n_jobs=2)
        yield clips, parts(folder / "whole")


@contextmanager
def killing_after_the_first_part(directory: Path, victim: Callable[[], int]) -> Iterator[None]:
    """Kill a process, without giving it a chance, as soon as there is a part."""
    killed = []

    def kill() -> None:
        if until(lambda: any(directory.glob("part-*.parquet")), 60):
            killed.append(victim())
            os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    thread.join()
    assert killed


def test_a_process_that_is_killed_loses_nothing(tmp_path, fragile, six_batches):
    slow, whole = six_batches
    with killing_after_the_first_part(tmp_path / "s", lambda: processes(os.getpid())[0].pid):
        building.build_store(slow, CONFIG, tmp_path / "s", n_jobs=2)
    assert len(whole) == 12
    assert parts(tmp_path / "s") == whole


def test_a_cluster_that_loses_a_worker_leaves_the_same_bytes(tmp_path, fragile, six_batches):
    slow, whole = six_batches
    distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        workers = [nanny.pid for nanny in cluster.workers.values()]
        with killing_after_the_first_part(tmp_path / "s", lambda: workers[0]):
            building.build_store(slow, CONFIG, tmp_path / "s", dask=cluster.scheduler_address)
        assert parts(tmp_path / "s") == whole
        elsewhere = slow.assign(path="/not/on/this/machine.wav", stamp="2")
        with pytest.raises(GenreError, match=r"has no /not/on/this/machine.wav; the music and GENRE_HOME must be on"):
            building.build_store(elsewhere, CONFIG, tmp_path / "s", dask=cluster.scheduler_address)


@pytest.mark.parametrize(
    ("address", "error", "sentence"),
    [
        ("tcp://127.0.0.1:9", GenreError, 'does not answer .* "python -m dask scheduler"'),
        ("somewhere", UsageError, "dask=somewhere: .* such as tcp://host:8786"),
    ],
)
def test_a_cluster_that_does_not_answer_is_an_error(tmp_path, sound, monkeypatch, address, error, sentence):
    pytest.importorskip("distributed", reason="the extra cluster is not installed")
    monkeypatch.setattr("genre.workers.dask_cluster.CONNECT_S", 1)
    with pytest.raises(error, match=sentence):
        building.build_store(copies(tmp_path / "music", sound, ["a.wav"]), CONFIG, tmp_path / "s", dask=address)


def test_a_cluster_without_workers_is_an_error(tmp_path, sound):
    distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster,
        pytest.raises(GenreError, match=r"has no workers; start some"),
    ):
        building.build_store(
            copies(tmp_path / "music", sound, ["a.wav"]), CONFIG, tmp_path / "s", dask=cluster.scheduler_address
        )


def test_dask_that_is_not_installed_is_a_sentence_with_the_command(tmp_path, sound, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install .*cluster"):
        building.build_store(
            copies(tmp_path / "music", sound, ["a.wav"]), CONFIG, tmp_path / "s", dask="tcp://127.0.0.1:8786"
        )


def test_bad_files_of_every_kind_among_good_ones(tmp_path):
    folder = tmp_path / "music"
    good = [f"good-{n}.wav" for n in range(4)]
    folder.mkdir()
    expected = bad_files.write_files(folder, len(bad_files.CONTENTS) + len(bad_files.NOT_FILES))
    for name in good:
        sf.write(folder / name, synthetic.make_chord(), synthetic.SR)
    clips = listed([folder / name for name in [*expected, *good]]).sample(frac=1, random_state=0)
    result = building.build_store(clips, CONFIG, tmp_path / "s", n_jobs=2)
    built = outcomes.mark_unread(contents.with_outcomes(clips, tmp_path / "s"), result.unread).set_index("clip_id")
    wrong = {name: built["status"][name] for name, right in expected.items() if built["status"][name] not in right}
    assert not wrong
    assert (built.loc[good, "status"] == "ok").all()
    assert (built.loc[built["status"] != "ok", "reason"].str.len() > 10).all()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_build_leaves_no_process_and_no_partial_part(tmp_path, sound, fragile, how):
    clips = copies(tmp_path / "music", sound, [f"slow-{n:02d}.wav" for n in range(20)])
    clips.to_parquet(tmp_path / "clips.parquet")
    # The first line: a shell has what it runs in the background ignore Ctrl-C.
    code = f"""
import signal; signal.signal(signal.SIGINT, signal.default_int_handler)
import pandas as pd; from pathlib import Path; from genre.store import building; from genre.config import AudioConfig
building.MIN_BATCH = 2
building.build_store(pd.read_parquet("{tmp_path}/clips.parquet"), AudioConfig(), Path("{tmp_path}/s"), n_jobs=2)
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True) as build:
        assert until(lambda: list((tmp_path / "s").glob("part-*.parquet")), 60)
        working = processes(build.pid)
        assert working
        build.send_signal(how)
        start = time.monotonic()
        errors = build.communicate(timeout=30)[1]
    assert build.returncode != 0
    assert until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in working), 10)
    assert time.monotonic() - start < 10
    assert "BrokenPipe" not in errors
    done = len(contents.read_outcomes(tmp_path / "s"))
    assert 0 < done < 20
    contents.remove_damaged_parts(tmp_path / "s")
    assert len(contents.find_missing(clips, tmp_path / "s")) == 20 - done


def test_a_full_disk_is_a_sentence(tmp_path, sound):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        with pytest.raises(GenreError, match=r"cannot be written \(OSError: .*disk is full"):
            building.build_store(copies(tmp_path / "music", sound, ["a.wav"]), CONFIG, tmp_path / "s")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not parts(tmp_path / "s")


def test_a_process_that_is_killed_at_its_start_is_started_again(tmp_path, sound, monkeypatch):
    (tmp_path / "numpy.py").write_text(
        f"import os, pathlib\np = pathlib.Path({str(tmp_path)!r}, 'once')\n"
        "if p.exists(): raise SystemExit(3)\np.touch(); os.kill(os.getpid(), 9)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(GenreError, match=r"ended with exit status 3 before it was ready"):
        building.build_store(copies(tmp_path / "music", sound, ["a.wav"]), CONFIG, tmp_path / "s")


def test_a_process_that_cannot_start_is_a_sentence_and_no_file_is_blamed(tmp_path, sound, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(GenreError, match=r"ended with exit status 3 before it was ready"):
        building.build_store(copies(tmp_path / "music", sound, ["a.wav"]), CONFIG, tmp_path / "s")
    assert contents.read_outcomes(tmp_path / "s").empty


def test_an_input_is_added_to_a_store_from_its_spectrograms_without_the_audio(tmp_path, sound):
    clips = pd.DataFrame(
        {"clip_id": ["a", "b"], "path": str(sound), "start_s": 0.0, "end_s": 10.0, "stamp": "s", "status": "pending"}
    )
    store = tmp_path / "store"
    assert building.build_store(clips, AudioConfig(), store, n_jobs=1).n_computed == 2
    gone = clips.assign(path="gone.wav")
    assert building.build_store(gone, AudioConfig(), store, names=["modulations"]).n_computed == 2
    assert building.build_store(clips, AudioConfig(), store, names=["spectrograms", "modulations"]).n_computed == 0
    together = tmp_path / "together"
    building.build_store(clips, AudioConfig(), together, names=["features", "spectrograms", "modulations"], n_jobs=1)
    for name in ("features", "modulations"):
        np.testing.assert_array_equal(*(contents.load_input(clips, folder, name) for folder in (store, together)))


def test_a_file_that_cannot_be_decoded_is_not_tried_again_for_another_input(tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    path = str(tmp_path / "text.wav")
    clips = pd.DataFrame(
        {"clip_id": ["a"], "path": path, "start_s": 0.0, "end_s": 10.0, "stamp": "s", "status": "pending"}
    )
    assert building.build_store(clips, AudioConfig(), tmp_path, n_jobs=1).n_computed == 1
    assert building.build_store(clips, AudioConfig(), tmp_path, names=["modulations"], n_jobs=1).n_computed == 0
