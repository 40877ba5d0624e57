"""A music library through the flow ``tag``, beside one request for each file to the same champion, served.

Claims: more files a second than one request each, no file asked about twice after a kill, and tags that are written
and taken back leave every byte as it was. Needs a champion: the one of the registry that MLFLOW_TRACKING_URI names.

    python benchmarks/tag.py --source ~/clips                      # 2,000 files, pieces of these
    python benchmarks/tag.py --source ~/clips --n 40 --timed 40    # two minutes
"""

import hashlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import server  # which puts the project on the path
import soundfile as sf
import typer

from genre.audio.listing import find_audio_files
from serving.request import predict_audio
from tracking import runs

ROOT = Path(__file__).resolve().parent.parent
#: Seconds of each file, and formats in turn.
SECONDS, SUFFIXES = 10, ("mp3", "flac", "wav", "ogg")


def library(source: Path, n: int, folder: Path) -> None:
    """Make n files of ten seconds, each another piece of the originals: the k-th time from a second later on."""
    originals = find_audio_files(source)
    for k, path in enumerate(islice(cycle(originals), n)):
        with sf.SoundFile(path) as file:
            start = (k // len(originals)) * file.samplerate % max(file.frames - SECONDS * file.samplerate, 1)
            file.seek(start)
            y, sr = file.read(SECONDS * file.samplerate, dtype="float32"), file.samplerate
        (folder / str(k % 50)).mkdir(parents=True, exist_ok=True)
        sf.write(folder / str(k % 50) / f"{k}.{SUFFIXES[k % len(SUFFIXES)]}", y, sr)


def flow(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """Begin the flow ``tag`` as a user does."""
    pipe, own = subprocess.PIPE, os.environ | {"GENRE_HOME": str(home)}
    command = [sys.executable, "-m", "flows.tag", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=own, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finished(process: subprocess.Popen[str]) -> str:
    """What a process printed, once it is done."""
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return said


def n_answers(home: Path) -> int:
    """Files answered so far."""
    path = home / "library" / "answers.sqlite"
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(path) as db:
            return int(db.execute("SELECT count(*) FROM answers").fetchone()[0])
    except sqlite3.OperationalError:  # it is being made
        return 0


def killed_half_way(home: Path, music: Path, n: int) -> None:
    """Kill the flow without giving it a chance; the next one must ask about the others only."""
    process = flow(home, "--source", str(music))
    while n_answers(home) < n / 2:
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)  # Prefect's temporary server too, which would stay
    process.communicate()
    done = n_answers(home)
    asked = int(re.search(r"of which (\d+) are", finished(flow(home, "--source", str(music))))[1])
    assert asked == n - done and n_answers(home) == n
    print(f"killed after {done} of {n} files; then {asked} were asked about")


def answering(home: Path, music: Path) -> float:
    """Files a second of the flow, from its first answers to its last: without the start of Prefect and MLflow."""
    process, seen = flow(home, "--source", str(music)), list[tuple[float, int]]()
    while process.poll() is None:
        now = n_answers(home)
        if now and (not seen or now != seen[-1][1]):
            seen.append((time.perf_counter(), now))
        time.sleep(0.02)
    finished(process)
    (start, first), (end, last) = seen[0], seen[-1]
    return (last - first) / (end - start)


def requesting(files: list[Path], folder: Path) -> float:
    """Files a second, one request each, of the served champion once it is warm."""
    with server.served(os.environ["MLFLOW_TRACKING_URI"], folder) as running:
        url = f"http://{running.url}"
        for file in files[:4]:
            predict_audio([file.read_bytes()], url)
        start = time.perf_counter()
        for file in files:
            predict_audio([file.read_bytes()], url)
        return len(files) / (time.perf_counter() - start)


def states(music: Path) -> dict[Path, tuple[str, int]]:
    """Hash and time of every file."""
    return {
        path: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in find_audio_files(music)
    }


def there_and_back(home: Path, music: Path) -> None:
    """Write tags, take them back, compare every byte."""
    before, start = states(music), time.perf_counter()
    finished(flow(home, "--source", str(music), "--write-tags", "true", "--dry-run", "false"))
    seconds, after = time.perf_counter() - start, states(music)
    tagged = sum(after[path] != state for path, state in before.items())
    (record,) = (home / "library" / "undo").iterdir()
    size = record.stat().st_size / sum(path.stat().st_size for path in before)
    finished(flow(home, "--undo", str(record)))
    assert states(music) == before, "a file is not as it was"
    print(f"{tagged} files tagged in {seconds:.0f} s and had back, all {len(before)} byte for byte as before")
    print(f"the undo file has {100 * size:.2f} % of the music's bytes")


def main(source: str = "", n: int = 2000, timed: int = 400) -> None:
    """Measure the speed over `timed` files, the proofs over `n`; 0 leaves either out."""
    os.environ["MLFLOW_TRACKING_URI"] = runs.connect()
    with TemporaryDirectory() as name:
        folder = Path(name)
        if timed:
            library(Path(source).expanduser(), timed, folder / "timed")
            pool = answering(folder / "home timed", folder / "timed")
            single = requesting(find_audio_files(folder / "timed"), folder)
            print(
                f"{timed} files: {pool:.1f} a second with {os.cpu_count()} processes, {single:.1f} by single requests"
            )
            print(f"{pool / single:.2f} times as many files a second", flush=True)
        if n:
            library(Path(source).expanduser(), n, folder / "music")
            killed_half_way(folder / "home", folder / "music", n)
            there_and_back(folder / "home", folder / "music")


if __name__ == "__main__":
    typer.run(main)
