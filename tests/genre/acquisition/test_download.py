"""Download of one segment from a local server through yt-dlp into one file."""

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf

from genre.acquisition import clip_file, download
from genre.acquisition.download import DownloadSettings, SegmentDownloader
from genre.acquisition.faults import DownloadError
from genre.audio import decoding
from genre.errors import GenreError, UsageError
from tests.support import videos
from tests.support.project import ROOT


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return videos.song(tmp_path_factory.mktemp("song") / "song.wav")


@pytest.fixture
def server(song: bytes):
    with videos.serving(song) as server:
        yield server


def segment(ytid: str, start_s: float = 5.0, end_s: float = 15.0, attempts: int = 0) -> dict:
    return {"clip_id": f"{ytid}_{start_s:g}", "ytid": ytid, "start_s": start_s, "end_s": end_s, "attempts": attempts}


def fetch(server: videos.Videos, folder: Path, segment: dict, **overrides: object) -> dict:
    settings = DownloadSettings(**({"url": server.url, "timeout_s": 3.0} | overrides))
    return SegmentDownloader(settings, folder / "unfinished").download_segment(segment, folder / "clips")


def files_in(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


def test_the_ten_seconds_of_the_segment_are_cut_out(server, tmp_path):
    values = fetch(server, tmp_path, segment("-a_B-cdEfgh", 7.25, 17.25))
    song = server.audio_of("-a_B-cdEfgh")
    path = tmp_path / "clips" / values["path"]
    y, sr = sf.read(path, dtype="float32")
    assert (sr, y.shape, path.name) == (44100, (441000,), "-a_B-cdEfgh_7.25.flac")
    expected = decoding.decode_audio(song, sr=44100, start_s=7.25, duration_s=10)
    assert np.abs(y - expected).max() < 2**-14
    assert (values["duration_s"], values["padded_s"], values["format"]) == (10, 0, "x-wav")
    assert values["peak"] == pytest.approx(np.abs(expected).max())
    assert values["rms"] == pytest.approx(np.sqrt(np.mean(expected**2)), rel=1e-4)
    assert values["bytes"] == len(song)
    assert "yt-dlp 20" in values["tools"]
    assert files_in(tmp_path) == [path]


def test_sampling_rate_and_format_are_those_of_the_settings(server, tmp_path):
    values = fetch(server, tmp_path, segment("abc", 2, 5), sr=22050, format="wav")
    assert sf.info(tmp_path / "clips" / values["path"]).subtype == "PCM_16"
    y, sr = sf.read(tmp_path / "clips" / values["path"])
    assert (sr, len(y), values["duration_s"]) == (22050, 3 * 22050, 3)


def test_ids_that_differ_only_by_case_have_different_files_on_disks_that_ignore_case(tmp_path):
    ids = ["abcdefghijk", "ABCDEFGHIJK", "Abcdefghijk", "aBcdefghijk"]
    files = [str(clip_file.clip_path(tmp_path, segment(ytid), "flac")).lower() for ytid in ids]
    assert len(set(files)) == len(ids)


#: Fault of the server: its class in the ledger.
CLASSES = {
    "404": "gone",
    "403": "http_403",
    "429": "http_429",
    "503": "http",
    "bot": "bot_check",
    "rate": "rate_limit",
    "private": "private",
    "gone": "gone",
    "geo": "geo",
    "reset": "network",
    "truncated": "truncated",
    "empty": "empty",
    "garbage": "undecodable",
    "html": "wrong_type",
    "stall": "network",
    "half_stall": "network",
    "short": "short",
    "silence": "silent",
}


@pytest.mark.parametrize("fault", CLASSES)
def test_each_fault_gets_its_class_and_leaves_no_file(server, tmp_path, fault):
    server.faults["-video"] = fault
    with pytest.raises(DownloadError) as caught:
        fetch(server, tmp_path, segment("-video"))
    assert caught.value.fault.name == CLASSES[fault]
    assert "\n" not in str(caught.value)
    assert not files_in(tmp_path)


def test_a_video_that_ends_early_is_padded_and_marked_only_on_the_last_attempt(server, tmp_path):
    with pytest.raises(DownloadError, match=r"5.00 s of audio where the segment has 10 s"):
        fetch(server, tmp_path, segment("abc", 20, 30))
    values = fetch(server, tmp_path, segment("abc", 20, 30, attempts=2))
    assert values["padded_s"] == pytest.approx(5)
    y, _ = sf.read(tmp_path / "clips" / values["path"])
    assert len(y) == 441000
    assert np.abs(y[5 * 44100 + 1 :]).max() == 0
    assert np.abs(y[4 * 44100 : 5 * 44100]).max() > 0.01


def fragmented_mp4(path: Path, seconds: int) -> bytes:
    """Encode AAC as YouTube serves it: a fragmented MP4 with its index in front; every second is different."""
    y = np.random.default_rng(0).normal(0, 0.1, 44100).astype(np.float32)
    with av.open(
        str(path), "w", format="mp4", options={"movflags": "+dash+global_sidx", "frag_duration": "5000000"}
    ) as out:
        stream = out.add_stream("aac", rate=44100, layout="mono")
        stream.bit_rate = 128_000
        for n in range(seconds):
            frame = av.AudioFrame.from_ndarray(np.roll(y, 199 * n)[None], "fltp", "mono")
            frame.sample_rate = 44100
            frame.pts = 44100 * n
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["wav", "m4a"])
def test_only_the_part_of_a_long_video_around_the_segment_is_read(tmp_path, kind):
    path = tmp_path / f"long.{kind}"
    with videos.serving(fragmented_mp4(path, 200) if kind == "m4a" else videos.song(path, 120)) as server:
        values = fetch(server, tmp_path, segment("abc", 90, 100), url=server.url.replace("/watch", "/page"))
        long = server.audio_of("abc")
    y, _ = sf.read(tmp_path / "clips" / values["path"], dtype="float32")
    path.write_bytes(long)
    assert np.abs(y - decoding.decode_audio(path, sr=44100, start_s=90, duration_s=10)).max() < 2**-14
    assert values["bytes"] < len(long) / 3


def test_a_stall_within_a_long_video_is_a_network_fault(tmp_path):
    with videos.serving(videos.song(tmp_path / "long.wav", seconds=120)) as server:
        server.faults["abc"] = "stall"
        server.after["abc"] = 3
        with pytest.raises(DownloadError) as caught:
            fetch(server, tmp_path, segment("abc", 60, 70), url=server.url.replace("/watch", "/page"))
    assert caught.value.fault.name == "network"


@pytest.mark.slow
def test_a_download_that_is_too_slow_is_abandoned(server, tmp_path):
    server.faults["abc"] = "drip"
    with pytest.raises(DownloadError) as caught:
        fetch(server, tmp_path, segment("abc"))
    assert caught.value.fault.name == "throttled"
    assert not files_in(tmp_path)


def test_a_segment_after_the_end_of_its_video_is_gone(server, tmp_path):
    with pytest.raises(DownloadError, match="ends after 3600 s") as caught:
        fetch(server, tmp_path, segment("abc", 4000, 4010), url=server.url.replace("/watch", "/page"))
    assert caught.value.fault.name == "gone"


def test_messages_contain_no_secret(server, tmp_path):
    (tmp_path / "my-cookies.txt").write_text("# Netscape HTTP Cookie File\n")
    secrets = {"proxy": "http://me:pass@127.0.0.1:9", "cookies": str(tmp_path / "my-cookies.txt")}
    with pytest.raises(DownloadError) as caught:
        fetch(server, tmp_path, segment("abc"), **secrets)
    texts = f"{caught.value} {DownloadSettings(url=server.url, **secrets)!r}"
    assert "pass" not in texts
    assert "cookies.txt" not in texts
    assert caught.value.fault.name == "network"
    assert (tmp_path / "my-cookies.txt").read_text() == "# Netscape HTTP Cookie File\n"


FULL_DISK = """
import resource, sys
from pathlib import Path
from genre.acquisition.download import DownloadSettings, SegmentDownloader
url, folder, limit, format = sys.argv[1:]
downloader = SegmentDownloader(DownloadSettings(url=url, format=format, sr=96000), Path(folder) / "unfinished")
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
try:
    segment = {"clip_id": "abc_5", "ytid": "abc", "start_s": 5.0, "end_s": 15.0, "attempts": 0}
    downloader.download_segment(segment, Path(folder) / "clips")
except Exception as error:
    print(error.fault.name, error)
"""


@pytest.mark.parametrize("limit", [200_000, 1_200_000], ids=["during the download", "while the clip is written"])
def test_a_full_disk_is_a_fault_of_the_machine(server, tmp_path, limit):
    """A limit on the size of files stands in for a full disk."""
    command = [sys.executable, "-c", FULL_DISK, server.url, str(tmp_path), str(limit), "wav"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.startswith("disk "), done.stdout + done.stderr
    assert not files_in(tmp_path)


def test_a_folder_that_cannot_be_created_is_a_fault_of_the_machine(server, tmp_path):
    (tmp_path / "unfinished").write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match="cannot make the folder") as caught:
        fetch(server, tmp_path, segment("abc"))
    assert caught.value.fault.kind == "machine"
    assert not server.asked


def test_other_braces_in_an_address_are_left_alone(server, tmp_path):
    assert fetch(server, tmp_path, segment("abc"), url=server.url + "&list={x}")["duration_s"] == 10


def test_invalid_settings_are_refused():
    for settings, message in (
        (DownloadSettings(url="http://127.0.0.1/video"), "must hold {ytid}"),
        (DownloadSettings(sr=100), "sr from 8000"),
        (DownloadSettings(cookies="/nowhere/cookies"), "GENRE_COOKIES names a file that does not exist"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            settings.check_values()
        assert "/nowhere" not in str(caught.value)


def test_settings_are_refused_without_a_recent_javascript_runtime(tmp_path):
    code = "from genre.acquisition.download import DownloadSettings; DownloadSettings().check_values()"
    old = tmp_path / "node"
    old.write_text("#!/bin/sh\necho v12.1.0\n")
    old.chmod(0o755)
    environment = {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    if (Path(sys.executable).parent / "deno").exists():
        pytest.skip("deno is installed beside this Python, where yt-dlp always finds it")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT, timeout=60
    )
    assert 'node 12.1.0, which is too old; install one with "pip install deno"' in done.stderr


def test_an_installed_javascript_runtime_is_found(tmp_path, monkeypatch):
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\necho v24.0.1\n")
    node.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert "node 24.0.1" in download.javascript_runtimes()[0]


@pytest.mark.network
def test_a_segment_is_downloaded_from_youtube(tmp_path):
    settings = DownloadSettings()
    settings.check_values()
    first_video = segment("jNQXAC9IVRw", 2, 12)  # "Me at the zoo", the first video of YouTube
    values = SegmentDownloader(settings, tmp_path / "unfinished").download_segment(first_video, tmp_path / "clips")
    assert sf.info(tmp_path / "clips" / values["path"]).duration == 10
    assert values["peak"] > 0.01


def test_download_errors_are_errors_of_this_project():
    assert issubclass(DownloadError, GenreError)
