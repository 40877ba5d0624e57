"""A build on two Dask workers, one of them killed half way, beside the same build on one machine: the same bytes.

Prints the time of both and whether the parts are equal.

    python benchmarks/cluster.py
    python benchmarks/cluster.py --n 32    # seconds
"""

import os
import signal
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import measure  # noqa: F401  puts the project on the path
import soundfile as sf
import typer
from bad_files import SR, clips_of, music
from distributed import LocalCluster

from genre.config import AudioConfig
from genre.store import building


def kill_half_way(directory: Path, clips: int, pid: int) -> None:
    """Wait for half of the parts, then kill a process without giving it a chance."""
    parts = -(-clips // building.batch_size(clips))
    while len(list(directory.glob("part-*.parquet"))) < parts / 2:
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    print(f"killed process {pid} after half of {parts} parts")


def timed(what: str, **where: object) -> dict[str, bytes]:
    """Build, print the time, and return what lies in the store."""
    start = time.perf_counter()
    directory = where["directory"]
    building.build_store(config=AudioConfig(), **where)
    print(f"{what}: {time.perf_counter() - start:.1f} s")
    return {path.name: path.read_bytes() for path in directory.glob("part-*")}


def main(n: int = 2000) -> None:
    """Build twice, compare, and print."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        sf.write(folder / "original.wav", music(10), SR)
        paths = [folder / f"{i:06d}.wav" for i in range(n)]
        for path in paths:
            path.symlink_to(folder / "original.wav")
        clips = clips_of(paths)
        here = timed("two processes", clips=clips, directory=folder / "here", n_jobs=2)
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            pid = next(iter(cluster.workers.values())).pid
            threading.Thread(target=kill_half_way, args=(folder / "there", n, pid), daemon=True).start()
            there = timed("two workers", clips=clips, directory=folder / "there", dask=cluster.scheduler_address)
    assert here == there, "the parts differ"
    print(f"{len(here)} files, byte for byte the same")


if __name__ == "__main__":
    typer.run(main)
