"""Whole acquisitions from a local server: order, attempts, breaks, and recovery after a kill."""

import io
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from genre.acquisition import import_clips, session
from genre.acquisition.download import DownloadSettings, SegmentDownloader
from genre.acquisition.ledger import Ledger
from genre.acquisition.session import Acquisition, Pace, StopReason
from genre.errors import GenreError, UsageError
from tests.support import videos
from tests.support.project import ROOT

#: A pace without waiting times; each test sets those it is about.
AT_ONCE = {"max_clips": 0, "interval_s": 0.0, "retry_s": 0.01, "failures": 100}


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return videos.song(tmp_path_factory.mktemp("song") / "song.wav", seconds=16, sr=8000)


@pytest.fixture
def server(song: bytes):
    with videos.serving(song) as server:
        yield server


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def acquire(server: videos.Videos, ledger: Ledger, folder: Path, workers: int = 1, **pace: float) -> StopReason:
    settings = DownloadSettings(url=server.url, sr=8000, timeout_s=4.0)
    downloaders = [SegmentDownloader(settings, folder / "unfinished" / str(n)) for n in range(workers)]
    return Acquisition(ledger, downloaders, folder / "audio", Pace(**(AT_ONCE | pace))).run()


def rows_by_video(ledger: Ledger) -> pd.DataFrame:
    return ledger.read_segments().set_index("ytid")


def video_ids(n: int) -> list[str]:
    return [f"-v{i:09d}" for i in range(n)]


#: Fault of the server: status, class and attempts at the end.
OUTCOMES = {
    "": ("done", "", 1),
    "404": ("gone", "gone", 1),
    "private": ("gone", "private", 1),
    "geo": ("gone", "geo", 1),
    "silence": ("gone", "silent", 1),
    "403": ("gone", "http_403", 5),
    "429": ("gone", "http_429", 5),
    "reset": ("gone", "network", 5),
    "truncated": ("gone", "truncated", 5),
    "empty": ("gone", "empty", 3),
    "garbage": ("gone", "undecodable", 3),
    "html": ("gone", "wrong_type", 3),
}


def test_each_fault_is_retried_as_often_as_its_class_allows_and_leaves_no_file(server, ledger, tmp_path):
    fault_by_video = dict(zip(video_ids(len(OUTCOMES)), OUTCOMES, strict=True))
    server.faults.update(fault_by_video)
    ledger.enroll(videos.listed(*fault_by_video))
    assert acquire(server, ledger, tmp_path, workers=2).name == "Complete"
    table = rows_by_video(ledger)
    for ytid, fault in fault_by_video.items():
        row = table.loc[ytid]
        assert (row["status"], row["error"], row["attempts"]) == OUTCOMES[fault], fault
        assert row["message"] if fault else row["sha256"]
        assert row["first_try"] <= row["last_try"]
    files = [p.name for p in (tmp_path / "audio").rglob("*") if p.is_file()]
    assert files == [f"{next(iter(fault_by_video))}_5.flac"]
    assert not (tmp_path / "unfinished" / "0").exists()


def test_a_segment_whose_fault_passes_is_downloaded_in_the_end(server, ledger, tmp_path):
    server.faults.update({"-once": "429", "-twice": "reset", "-late": "stall"})
    server.until.update({"-once": 1, "-twice": 4, "-late": 1})
    ledger.enroll(videos.listed("-once", "-twice", "-late"))
    acquire(server, ledger, tmp_path)
    table = rows_by_video(ledger)
    assert set(table["status"]) == {"done"}
    assert set(table["error"]) == {""}
    assert table.loc[["-once", "-twice", "-late"], "attempts"].tolist() == [2, 3, 2]


def test_the_delay_doubles_with_each_attempt(server, ledger, tmp_path):
    server.faults["-v"] = "429"
    ledger.enroll(videos.listed("-v"))
    delays = []
    for _ in range(3):
        reason = acquire(server, ledger, tmp_path, retry_s=2000)
        row = rows_by_video(ledger).loc["-v"]
        delays.append(row["next_try"] - row["last_try"])
        ledger.update_segment("-v_5", next_try=0)
    assert reason.name == "Waiting"
    assert "can be requested again from 20" in reason.message
    for n, delay in enumerate(delays):
        assert 1000 * 2**n <= delay <= 3000 * 2**n


@pytest.mark.parametrize(("fault", "error"), [("bot", "bot_check"), ("rate", "rate_limit")])
def test_a_refused_session_ends_the_run_and_a_run_after_the_break_continues(server, ledger, tmp_path, fault, error):
    ids = video_ids(12)
    server.faults.update(dict.fromkeys(ids, fault))
    ledger.enroll(videos.listed(*ids))
    reason = acquire(server, ledger, tmp_path, workers=2, rest_s=1000)
    assert reason.name == "Resting"
    assert "no requests until 20" in reason.message
    assert sum(server.asked.values()) <= 2  # one per worker
    table = rows_by_video(ledger)
    assert set(table["status"]) == {"waiting"}
    assert set(table["attempts"]) == {0}
    assert set(table["error"]) == {"", error}
    until = ledger.current_break(time.time())["until"]
    assert until - time.time() == pytest.approx(1000, abs=5)
    # a run before that makes no request
    assert acquire(server, ledger, tmp_path).name == "Resting"
    assert sum(server.asked.values()) <= 2
    # a run after it continues
    server.faults.clear()
    ledger._db.execute("UPDATE breaks SET until = 0")
    assert acquire(server, ledger, tmp_path, workers=2).name == "Complete"
    assert ledger.count_by_status() == {"waiting": 0, "done": 12, "gone": 0}
    assert set(rows_by_video(ledger)["attempts"]) == {1}


def test_each_refusal_makes_the_break_longer(server, ledger, tmp_path):
    server.faults["-v"] = "rate"
    ledger.enroll(videos.listed("-v"))
    breaks_s = []
    for _ in range(3):
        acquire(server, ledger, tmp_path, rest_s=100)
        breaks_s.append(round(ledger.current_break(time.time())["until"] - time.time(), -2))
        ledger._db.execute("UPDATE breaks SET until = 0")
    assert breaks_s == [100, 200, 400]


def test_many_failures_in_a_row_count_as_a_refusal(server, ledger, tmp_path):
    ids = video_ids(30)
    server.faults.update(dict.fromkeys(ids, "403"))
    ledger.enroll(videos.listed(*ids))
    reason = acquire(server, ledger, tmp_path, failures=7, retry_s=60)
    assert reason.name == "Resting"
    assert "7 failures in a row" in reason.message
    assert sum(server.asked.values()) == 7


def test_far_more_denials_in_a_row_than_usual_are_taken_back(server, ledger, tmp_path):
    ids = video_ids(40)
    server.faults.update(dict.fromkeys(ids, "404"))
    ledger.enroll(videos.listed(*ids))
    for n_breaks in (1, 2):
        reason = acquire(server, ledger, tmp_path, rest_s=1000)
        assert reason.name == "Resting"
        assert "13 segments in a row are denied, which are asked for again in a day; the last: " in reason.message
        assert sum(server.asked.values()) == 13 * n_breaks
        assert ledger.count_by_status() == {"waiting": 40, "done": 0, "gone": 0}
        ledger._db.execute("UPDATE breaks SET until = 0")
    asked = rows_by_video(ledger).loc[list(server.asked)]
    assert (asked["next_try"] - time.time()).between(session.DAY_S - 60, session.DAY_S).all()
    server.faults.clear()
    ledger._db.execute("UPDATE segments SET next_try = 0")
    assert acquire(server, ledger, tmp_path).name == "Complete"
    assert ledger.count_by_status() == {"waiting": 0, "done": 40, "gone": 0}


def test_a_denial_on_another_day_is_believed_and_can_be_asked_for_again(server, ledger, tmp_path):
    ids = video_ids(30)
    server.faults.update(dict.fromkeys(ids, "private"))
    ledger.enroll(videos.listed(*ids))
    names = []
    for _ in range(3):
        names.append(acquire(server, ledger, tmp_path, rest_s=0).name)
        ledger._db.execute("UPDATE segments SET next_try = 0 WHERE doubted = 1")
    assert names == ["Resting", "Complete", "Complete"]
    assert ledger.count_by_status() == {"waiting": 0, "done": 0, "gone": 30}
    assert max(server.asked.values()) == 2
    server.faults.clear()
    assert ledger.ask_again() == 30
    assert acquire(server, ledger, tmp_path).name == "Complete"
    assert ledger.count_by_status()["done"] == 30


@pytest.mark.parametrize(("n_gone", "n_done", "n"), [(0, 0, 13), (10, 50, 13), (500, 500, 20), (9000, 1000, 62)])
def test_a_row_of_denials_is_too_long_where_chance_makes_one_in_a_million(n_gone, n_done, n):
    assert session._longest_row(n_gone, n_done) == n


def test_denials_are_interrupted_by_what_is_served(server, ledger, tmp_path):
    ids = video_ids(36)
    server.faults.update({ytid: "silence" if n % 12 == 11 else "404" for n, ytid in enumerate(ids)})
    ledger.enroll(videos.listed(*ids, genres="a"))
    assert acquire(server, ledger, tmp_path).name == "Complete"


def test_genres_stay_balanced_when_one_loses_half_its_segments(server, ledger, tmp_path):
    ids = video_ids(40)
    server.faults.update(dict.fromkeys(ids[::4], "404"))  # every other one of the first genre
    ledger.enroll(videos.listed(*ids))
    reason = acquire(server, ledger, tmp_path, workers=2, max_clips=16)
    assert reason.name == "Enough"
    assert ledger.done_by_genre() == {"a": 8, "b": 8}
    n_requests = sum(server.asked.values())
    assert acquire(server, ledger, tmp_path, max_clips=16).name == "Enough"
    assert sum(server.asked.values()) == n_requests
    acquire(server, ledger, tmp_path, max_clips=18)
    assert ledger.done_by_genre() == {"a": 9, "b": 9}


def test_downloads_keep_the_interval_and_stop_at_the_time_limit(server, ledger, tmp_path):
    ledger.enroll(videos.listed(*video_ids(50)))
    start = time.time()
    reason = acquire(server, ledger, tmp_path, workers=2, interval_s=0.25, max_hours=1.2 / 3600)
    assert reason.name == "OutOfTime"
    assert 1 <= time.time() - start < 5
    starts = np.sort(ledger.read_segments().query("status == 'done'")["first_try"])
    assert 2 <= len(starts) <= 7  # in 1.2 s, 0.19 to 0.31 s apart


def test_a_full_disk_stops_the_run_and_counts_no_attempt(server, ledger, tmp_path):
    ledger.enroll(videos.listed(*video_ids(3)))
    (tmp_path / "audio").write_text("a file where the folder should be")
    with pytest.raises(GenreError, match=r"cannot write .*make sure that the disk has space"):
        acquire(server, ledger, tmp_path)
    assert ledger.count_by_status() == {"waiting": 3, "done": 0, "gone": 0}
    assert set(ledger.read_segments()["attempts"]) == {0}


def test_a_ledger_that_cannot_be_written_stops_the_run(server, ledger, tmp_path):
    ledger.enroll(videos.listed(*video_ids(3)))
    ledger._db.execute(f"PRAGMA max_page_count = {ledger._db.execute('PRAGMA page_count').fetchone()[0]}")
    growing = "INSERT INTO breaks VALUES (0, 0, '', hex(zeroblob(99999)))"
    ledger._db.execute(f"CREATE TRIGGER fill AFTER UPDATE ON segments BEGIN {growing}; END")
    with pytest.raises(GenreError, match=r"the ledger cannot be written \(database or disk is full\)"):
        acquire(server, ledger, tmp_path)


def test_a_pace_out_of_range_is_refused():
    for pace in (Pace(max_clips=-1), Pace(max_hours=0), Pace(interval_s=-1), Pace(failures=0)):
        with pytest.raises(UsageError, match="no number may be negative"):
            pace.check_values()
    Pace().check_values()


def test_times_in_messages_are_rounded_up_to_the_minute():
    assert session._format_time(0) == session._format_time(-59)
    assert session._format_time(0) < session._format_time(1)


RUN = """
import sys
from pathlib import Path
from genre.acquisition import import_clips
from genre.acquisition.session import Acquisition, Pace
from genre.acquisition.download import DownloadSettings, SegmentDownloader
from genre.acquisition.ledger import Ledger
url = sys.argv[1]
folder = Path(sys.argv[2])
ledger = Ledger(folder / "ledger.sqlite")
import_clips.reconcile_ledger(ledger, folder / "audio")
settings = DownloadSettings(url=url, sr=8000, timeout_s=4.0)
downloaders = [SegmentDownloader(settings, folder / "unfinished" / str(n)) for n in range(2)]
pace = Pace(max_clips=0, interval_s=0, retry_s=0.05, failures=10**6)
print(Acquisition(ledger, downloaders, folder / "audio", pace).run().name)
"""

#: Faults of a fifth of the segments.
MIXTURE = ("404", "403", "429", "private", "reset", "truncated", "empty", "garbage", "503")
#: Those that pass after a few requests in half of the cases.
PASSING = ("403", "429", "reset", "truncated", "503")


def acquire_with_kills(server: videos.Videos, folder: Path, n: int, kills: int, seed: int = 0) -> dict[str, str]:
    """Acquire n segments, a fifth of them faulty, with a number of kills; return the lasting faults by video."""
    rng = random.Random(seed)
    ids = video_ids(n)
    faulty = rng.sample(ids, n // 5)
    server.faults.update({ytid: MIXTURE[i % len(MIXTURE)] for i, ytid in enumerate(faulty)})
    server.until.update({ytid: 3 for ytid in faulty[::2] if server.faults[ytid] in PASSING})
    ledger = Ledger(folder / "ledger.sqlite")
    ledger.enroll(videos.listed(*ids))
    command = [sys.executable, "-c", RUN, server.url, str(folder)]
    for k in range(kills):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        target = n * (k + rng.random()) / (kills + 1)
        while process.poll() is None and ledger.count_by_status()["done"] + ledger.count_by_status()["gone"] < target:
            time.sleep(0.01)
        time.sleep(0.1 * rng.random())
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3600)
    assert done.stdout == "Complete\n", done.stderr
    return {ytid: fault for ytid, fault in server.faults.items() if ytid not in server.until}


def check_result(server: videos.Videos, folder: Path, lasting: dict[str, str], kills: int) -> pd.DataFrame:
    """Assert that every segment has its status and every clip its samples, and that no clip was downloaded twice."""
    table = rows_by_video(Ledger(folder / "ledger.sqlite"))
    assert dict(table.loc[list(lasting), "status"]) == dict.fromkeys(lasting, "gone")
    done = table[~table.index.isin(lasting)]
    assert set(done["status"]) == {"done"}
    files = {f"{p.parent.name}/{p.name}" for p in (folder / "audio").rglob("*") if p.is_file()}
    assert files == set(done["path"])
    for ytid, row in done.iterrows():
        y, sr = sf.read(folder / "audio" / row["path"], dtype="int16")
        expected, _ = sf.read(io.BytesIO(server.audio_of(ytid)), dtype="int16", start=5 * 8000, stop=15 * 8000)
        assert sr == 8000
        assert np.array_equal(y, expected)
    # a clip is served twice, to yt-dlp's probe and for the download; each kill may repeat one clip per worker
    n_repeated = sum(max(0, server.served[ytid] - 2) for ytid in done.index if ytid not in server.faults)
    assert n_repeated <= 2 * 2 * kills
    assert not any(server.served[ytid] > 2 + 2 * kills for ytid in done.index)
    return table


def test_an_acquisition_killed_twice_completes_and_repeats_no_finished_clip(server, tmp_path):
    lasting = acquire_with_kills(server, tmp_path, n=45, kills=2)
    check_result(server, tmp_path, lasting, kills=2)


def test_a_clip_whose_file_was_deleted_is_downloaded_again(server, ledger, tmp_path):
    ledger.enroll(videos.listed("-a", "-b"))
    acquire(server, ledger, tmp_path)
    path = tmp_path / "audio" / rows_by_video(ledger).loc["-a", "path"]
    path.unlink()
    assert import_clips.reconcile_ledger(ledger, tmp_path / "audio") == (0, 1)
    acquire(server, ledger, tmp_path)
    assert path.exists()
    assert (server.asked["-a"], server.asked["-b"]) == (4, 2)


def test_a_file_missing_from_the_ledger_is_adopted_if_it_is_complete(server, ledger, tmp_path):
    ledger.enroll(videos.listed("-a", "-b"))
    acquire(server, ledger, tmp_path)
    digests = rows_by_video(ledger)["sha256"]
    for ytid in ("-a", "-b"):
        ledger.update_segment(f"{ytid}_5", status="waiting", path="", sha256="")
    path = tmp_path / "audio" / "000" / "-b_5.flac"
    path.write_bytes(path.read_bytes()[:2000])
    assert import_clips.reconcile_ledger(ledger, tmp_path / "audio") == (1, 0)
    acquire(server, ledger, tmp_path)
    assert (server.asked["-a"], server.asked["-b"]) == (2, 4)
    pd.testing.assert_series_equal(rows_by_video(ledger)["sha256"], digests)


def test_a_file_that_is_not_audio_is_replaced_by_the_clip(server, ledger, tmp_path):
    ledger.enroll(videos.listed("-a"))
    (tmp_path / "audio" / "000").mkdir(parents=True)
    (tmp_path / "audio" / "000" / "-a_5.flac").write_bytes(b"rubbish")
    (tmp_path / "audio" / "000" / "another.flac").write_bytes(b"rubbish")
    assert import_clips.reconcile_ledger(ledger, tmp_path / "audio") == (0, 0)
    acquire(server, ledger, tmp_path)
    assert rows_by_video(ledger).loc["-a", "status"] == "done"
    assert sf.info(tmp_path / "audio" / "000" / "-a_5.flac").duration == 10


def test_an_adopted_clip_keeps_its_padding(server, ledger, tmp_path):
    ledger.enroll(videos.listed("-a", start_s=10, end_s=20))
    acquire(server, ledger, tmp_path)
    ledger.update_segment("-a_10", status="waiting", padded_s=None)
    import_clips.reconcile_ledger(ledger, tmp_path / "audio")
    assert rows_by_video(ledger).loc["-a", ["status", "padded_s"]].tolist() == ["done", pytest.approx(4, abs=0.01)]
