"""A build on two Dask workers, one of them killed half way, beside the same build on local processes.

Claim: both write the same bytes. Prints the time of both.

    python -m benchmarks.endurance.cluster
    python -m benchmarks.endurance.cluster --n 32    # seconds
"""

import os
import signal
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import soundfile as sf
import typer
from distributed import LocalCluster

from benchmarks._shared.music import SR, make_chord, make_clips_table
from genre.config import AudioConfig
from genre.store import building


def kill_half_way(directory: Path, n_clips: int, pid: int) -> None:
    """Wait for half of the parts, then end a process with SIGKILL."""
    n_parts = -(-n_clips // building.batch_size(n_clips))
    while len(list(directory.glob("part-*.parquet"))) < n_parts / 2:
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    print(f"killed process {pid} after half of {n_parts} parts")


def build(title: str, clips: pd.DataFrame, directory: Path, n_jobs: int = -1, dask: str = "") -> dict[str, bytes]:
    """Build a store, print the time, and return the contents of its parts by file name."""
    start = time.perf_counter()
    building.build_store(clips, AudioConfig(), directory, n_jobs=n_jobs, dask=dask)
    print(f"{title}: {time.perf_counter() - start:.1f} s")
    return {path.name: path.read_bytes() for path in directory.glob("part-*")}


def main(n: int = 2000) -> None:
    """Build n clips twice, compare the parts, and print the figures."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        sf.write(folder / "original.wav", make_chord(10), SR)
        paths = [folder / f"{i:06d}.wav" for i in range(n)]
        for path in paths:
            path.symlink_to(folder / "original.wav")
        clips = make_clips_table(paths)
        local = build("two processes", clips, folder / "local", n_jobs=2)
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
            pid = next(iter(cluster.workers.values())).pid
            threading.Thread(target=kill_half_way, args=(folder / "dask", n, pid), daemon=True).start()
            on_dask = build("two workers", clips, folder / "dask", dask=cluster.scheduler_address)
    assert local == on_dask, "the parts differ"
    print(f"{len(local)} files, byte for byte the same")


if __name__ == "__main__":
    typer.run(main)
