"""A build at several sizes, with one and two processes: time, processor time and memory of all its processes.

Claims: time in proportion to the clips, less than 2 kB of the flow's memory for each further clip, 1.8 times as fast
with two processes, and less than 10 % of the processor time for overhead: Prefect, MLflow, the store and the processes,
that is, all but decoding, computing and the search for duplicates. The cost of the start, which does not grow with the
clips, is measured by a build of 32. Each build is followed by another one that finds nothing to do. The share of
computing in the time of a worker process is measured separately, the two workloads alternating, since this machine may
be busy. The flow's memory does not depend on the length of the clips, nor does the size of the store.

    python -m benchmarks.speed.build
    python -m benchmarks.speed.build --sizes 64,128    # a minute
    python -m benchmarks.speed.build --source ~/clips  # pieces of these files instead of synthetic ones
    python -m benchmarks.speed.build --sizes 20000,80000,320000 --jobs 2 --clip-s 1 --sr 22050    # 30 GB of disk
"""

import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import psutil
import soundfile as sf
from mlflow import MlflowClient

from benchmarks._shared import measure
from benchmarks._shared.music import SR, make_chord, make_clips_table
from genre.audio.listing import find_audio_files
from genre.config import AudioConfig
from genre.inputs import compute_inputs
from genre.store.computing import compute_part, read_clip
from genre.workers import pool
from genre.workspace import PROJECT_DIR

CONFIG = AudioConfig()

#: Kinds of process of a build, and the columns of their processor time.
KINDS = ("flow", "server", "worker")
SECONDS = tuple(f"{kind} s" for kind in KINDS)

#: Clips of a build that consists of little but its start: a batch for each of two processes.
N_START = 32

#: Pieces of the originals that a clip is made of.
N_PIECES = 20

#: Metric of the search for duplicates, which a build logs by the name of its stage.
DUPLICATES_METRIC = "seconds_find_duplicate_clips"


def make_originals(source: str, folder: Path, sr: int) -> list[Path]:
    """Return the files whose pieces make up the clips: those of a folder, or eight synthetic ones."""
    if source:
        return sorted(path for path in Path(source).expanduser().iterdir() if path.is_file())
    paths = [folder / f"original-{n}.wav" for n in range(8)]
    for n, path in enumerate(paths):
        sf.write(path, np.roll(make_chord(10, sr), n * 1000, axis=0), sr)
    return paths


def write_clips(paths: list[Path], n: int, folder: Path, clip_s: float) -> Path:
    """Write n files in two genres, each of 20 random pieces of the originals; equal ones would be duplicates."""
    sr = sf.info(paths[0]).samplerate
    length = math.ceil(clip_s * sr / N_PIECES)  # a clip must not be shorter than the shortest accepted
    pieces = np.concatenate([sf.read(path, dtype="int16", always_2d=True)[0][:, 0] for path in paths])
    pieces = pieces[: len(pieces) // length * length].reshape(-1, length)
    for i in range(n):
        album = folder / f"genre-{i % 2}" / f"album-{i // 1000}"
        album.mkdir(parents=True, exist_ok=True)
        chosen = np.random.default_rng(i).integers(len(pieces), size=N_PIECES)
        sf.write(album / f"{i:06d}.wav", pieces[chosen].ravel(), sr)
    return folder


def build(music_folder: Path, home: Path, n_jobs: int) -> dict[str, float]:
    """Run ``flows.build`` as a user does; return seconds, processor seconds and peak memory in MB."""
    uri = f"sqlite:///{home.parent}/mlflow.db"
    own = {"GENRE_HOME": str(home), "PREFECT_HOME": str(home.parent / "prefect"), "MLFLOW_TRACKING_URI": uri}
    users = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL" and k not in measure.ONE_THREAD_ENV}
    cores = range(os.cpu_count() or 1)
    command = [sys.executable, "-m", "flows.build", "--dataset", "folder", "--source", str(music_folder)]
    home.mkdir(exist_ok=True)
    start = time.perf_counter()
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--n-jobs", str(n_jobs)],
            cwd=PROJECT_DIR,
            env=users | own,
            stdout=log,
            stderr=log,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        usage = watch_processes(process)
    assert process.returncode == 0, (home / "log").read_text()
    return {"seconds": time.perf_counter() - start, "duplicates s": read_duplicates_s(uri), **usage}


def build_twice(music_folder: Path, home: Path, n_jobs: int) -> dict[str, float]:
    """Build, then build again with nothing to do; return the figures of the first, and some of the second."""
    figures = build(music_folder, home, n_jobs)
    again = build(music_folder, home, n_jobs)
    return figures | {"again s": again["seconds"], "again MB": again["flow MB"]}


def read_duplicates_s(uri: str) -> float:
    """Return the seconds that the newest build searched for duplicates; two threads take nearly twice as much CPU."""
    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = f"metrics.{DUPLICATES_METRIC} > 0"
    runs = client.search_runs(experiments, query, order_by=["attributes.start_time DESC"])
    return runs[0].data.metrics[DUPLICATES_METRIC]


def watch_processes(process: subprocess.Popen) -> dict[str, float]:
    """Wait for a process; return processor seconds per kind of process, and peak memory of the largest of each, MB."""
    flow = psutil.Process(process.pid)
    seconds: dict[int, tuple[str, float]] = {}
    memory: dict[str, float] = {}
    while process.poll() is None:
        for watched in [flow, *flow.children(recursive=True)] if flow.is_running() else []:
            try:
                command = watched.cmdline()
                if not command:  # it has ended, but its exit status has not been read
                    continue
                kind = "flow" if watched == flow else "worker" if "genre.store.worker" in command else "server"
                seconds[watched.pid] = kind, sum(watched.cpu_times()[:2])
                memory[kind] = max(memory.get(kind, 0.0), watched.memory_info().rss / 1e6)
            except psutil.Error:  # it has ended
                continue
        time.sleep(0.1)
    totals = pd.DataFrame(seconds.values(), columns=["kind", "s"]).groupby("kind")["s"].sum().to_dict()
    return {f"{kind} s": totals.get(kind, 0.0) for kind in KINDS} | {
        f"{kind} MB": memory.get(kind, 0.0) for kind in KINDS
    }


def measure_computing(music_folder: Path, repeats: int) -> pd.Series:
    """Return the share of decoding and computing in the time of a part, once per round."""
    clips = make_clips_table(find_audio_files(music_folder)[:128])

    def compute() -> int:
        for clip in clips.itertuples():
            compute_inputs(read_clip(clip, CONFIG), CONFIG)
        return len(clips)

    with TemporaryDirectory() as name:
        workloads = {"computed": compute, "written": lambda: compute_part(clips, CONFIG, Path(name))}
        seconds = measure.time_alternately(workloads, repeats)
    return seconds["computed"] / seconds["written"]


def add_ratios(table: pd.DataFrame, share: float) -> pd.DataFrame:
    """Add the speed against one process and the share of overhead, each of the whole and beyond the start.

    Parameters
    ----------
    table : pd.DataFrame
        Figures of each build, by clips and processes.
    share : float
        Share of decoding and computing in the time of a worker process.
    """
    is_beyond = table.index.get_level_values("clips") > N_START
    beyond = table - table.loc[N_START].reindex(table.index, level="jobs")
    cpu_s = table[list(SECONDS)].sum(axis=1)
    beyond_cpu_s = beyond[list(SECONDS)].sum(axis=1)
    computing_s = beyond["worker s"] * share
    overhead = 1 - (computing_s + table["duplicates s"]) / cpu_s
    overhead_beyond = 1 - (computing_s + beyond["duplicates s"]) / beyond_cpu_s
    return table.assign(
        **{
            "clips/s": table.index.get_level_values("clips") / table["seconds"],
            "B/clip": bytes_per_clip(table["flow MB"]),
            "times": table["seconds"].groupby("clips").transform("first") / table["seconds"],
            "beyond": (beyond["seconds"].groupby("clips").transform("first") / beyond["seconds"]).where(is_beyond),
            "overhead": overhead,
            "overhead beyond": overhead_beyond.where(is_beyond),
        }
    )


def bytes_per_clip(memory_mb: pd.Series) -> pd.Series:
    """Return what the memory of a build grows by for each clip that it has more than the next smaller build."""
    by_size = memory_mb.unstack("jobs")
    growth = by_size.diff().div(by_size.index.to_series().diff(), axis=0) * 1e6
    return growth.stack().reindex(memory_mb.index)


def main(
    sizes: str = "500,2000,8000",
    source: str = "",
    jobs: str = "1,2",
    repeats: int = 9,
    clip_s: float = 10.0,
    sr: int = SR,
) -> None:
    """Measure and print."""
    rows = []
    all_jobs = sorted(map(int, jobs.split(",")))
    with TemporaryDirectory() as name:
        folder = Path(name)
        paths = make_originals(source, folder, sr)
        tracks = write_clips(paths, N_START, folder / "music", clip_s)
        build(tracks, folder / "home", 1)  # creates databases, compiles kernels
        for n in sorted({N_START, *map(int, sizes.split(","))}):
            shutil.rmtree(tracks)
            tracks = write_clips(paths, n, folder / f"music-{n}", clip_s)
            for n_jobs in all_jobs:
                home = folder / f"home-{n}-{n_jobs}"
                rows.append({"clips": n, "jobs": n_jobs, **build_twice(tracks, home, n_jobs)})
                shutil.rmtree(home)
                print(rows[-1], flush=True)
        share = measure_computing(tracks, repeats)
    table = pd.DataFrame(rows).set_index(["clips", "jobs"])
    print(f"\n{measure.describe_cpu()}")
    print(f"of a part's time {share.median():.3f} is decoding and computing ({share.min():.3f} to {share.max():.3f})")
    print(add_ratios(table, share.median()).round(3).to_string())


if __name__ == "__main__":
    measure.run_on_one_core(main, pool.MALLOC_ENV)  # memory settings of a worker process, for `measure_computing`
