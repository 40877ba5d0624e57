"""A build at several sizes, with one and two processes: time, processor time and memory of everything it starts.

Claims: time in proportion to the clips, memory that hardly grows with them, 1.8 times as fast with two processes, and
less than 10 % of the processor time for Prefect, MLflow, the store and the processes: all but decoding and computing,
and the search for copies. What the start of them costs is measured too, by a build of 32 clips, and does not grow. How
much of a working process's time is computing is measured beside it, by turns, since this machine may be busy.

    python benchmarks/build.py
    python benchmarks/build.py --sizes 64,128    # a minute
    python benchmarks/build.py --source ~/clips  # pieces of these files instead of synthetic ones
"""

import measure

measure.one_core()

import os  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import psutil  # noqa: E402
import soundfile as sf  # noqa: E402
import typer  # noqa: E402
from bad_files import SR, clips_of, music  # noqa: E402
from mlflow import MlflowClient  # noqa: E402

from genre.audio.listing import find_audio_files  # noqa: E402
from genre.config import AudioConfig  # noqa: E402
from genre.inputs import features  # noqa: E402
from genre.store.computing import compute_part, read_clip  # noqa: E402
from genre.workers import pool  # noqa: E402

CONFIG = AudioConfig()

#: The processes of a build, and how long each kind computes.
KINDS = ("flow", "server", "worker")
SECONDS = tuple(f"{kind} s" for kind in KINDS)

#: A build that is all start: a batch for each of two processes.
FEW = 32


def originals(source: str, folder: Path) -> list[Path]:
    """Files to make others of."""
    if source:
        return sorted(path for path in Path(source).expanduser().iterdir() if path.is_file())
    paths = [folder / f"original-{n}.wav" for n in range(8)]
    for n, path in enumerate(paths):
        sf.write(path, np.roll(music(10), n * 1000, axis=0), SR)
    return paths


def library(paths: list[Path], n: int, folder: Path) -> Path:
    """Two genres of n files in all, each ten seconds of other pieces of the originals: copies would become one."""
    pieces = np.concatenate([sf.read(path, dtype="int16", always_2d=True)[0][:, 0] for path in paths])
    sr = sf.info(paths[0]).samplerate
    pieces = pieces[: len(pieces) // (sr // 2) * (sr // 2)].reshape(-1, sr // 2)
    for i in range(n):
        genre = folder / f"genre-{i % 2}"
        genre.mkdir(parents=True, exist_ok=True)
        chosen = np.random.default_rng(i).integers(len(pieces), size=20)
        sf.write(genre / f"{i:06d}.wav", pieces[chosen].ravel(), sr)
    return folder


def build(music_folder: Path, home: Path, n_jobs: int) -> dict[str, float]:
    """``flows.build``, as a user runs it: seconds, processor seconds, and the peak of its memory, MB."""
    uri = f"sqlite:///{home.parent}/mlflow.db"
    own = {"GENRE_HOME": str(home), "PREFECT_HOME": str(home.parent / "prefect"), "MLFLOW_TRACKING_URI": uri}
    users = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL" and not k.endswith("_NUM_THREADS")}
    cores = range(os.cpu_count() or 1)
    command = [sys.executable, "-m", "flows.build", "--dataset", "folder", "--source", str(music_folder)]
    home.mkdir()
    start = time.perf_counter()
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--n-jobs", str(n_jobs)],
            cwd=Path(__file__).parent.parent,
            env=users | own,
            stdout=log,
            stderr=log,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        found = follow(process)
    assert process.returncode == 0, (home / "log").read_text()
    return {"seconds": time.perf_counter() - start, "copies s": copies_seconds(uri), **found}


def copies_seconds(uri: str) -> float:
    """How long the newest build looked for copies; of two threads, hardly more than half of what they take."""
    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, "metrics.seconds_copies > 0", order_by=["attributes.start_time DESC"])
    return runs[0].data.metrics["seconds_copies"]


def follow(process: subprocess.Popen) -> dict[str, float]:
    """Wait for a process; processor seconds by kind of process, and peak memory of the largest of each, MB."""
    flow, seconds, memory = psutil.Process(process.pid), dict[int, tuple[str, float]](), dict[str, float]()
    while process.poll() is None:
        for one in [flow, *flow.children(recursive=True)] if flow.is_running() else []:
            try:
                if not (line := one.cmdline()):  # it has ended, but for its exit status
                    continue
                kind = "flow" if one == flow else "worker" if "genre.store.worker" in line else "server"
                seconds[one.pid] = kind, sum(one.cpu_times()[:2])
                memory[kind] = max(memory.get(kind, 0.0), one.memory_info().rss / 1e6)
            except psutil.Error:  # it has ended
                continue
        time.sleep(0.1)
    totals = pd.DataFrame(seconds.values(), columns=["kind", "s"]).groupby("kind")["s"].sum().to_dict()
    return {f"{kind} s": totals[kind] for kind in KINDS} | {f"{kind} MB": memory[kind] for kind in KINDS}


def computing(music_folder: Path, repeats: int) -> pd.Series:
    """How much of the time of a part, computed and written, is decoding and computing; by turns, one for each part."""
    clips = clips_of(find_audio_files(music_folder)[:128])

    def computed() -> int:
        for clip in clips.itertuples():
            features.extract_with_log_mel(read_clip(clip, CONFIG), CONFIG)
        return len(clips)

    with TemporaryDirectory() as name:
        ways = {"computed": computed, "written": lambda: compute_part(clips, CONFIG, Path(name))}
        seconds = measure.alternately(ways, repeats)
    return seconds["computed"] / seconds["written"]


def main(sizes: str = "500,2000,8000", source: str = "", jobs: str = "1,2", repeats: int = 9) -> None:
    """Measure and print."""
    if not pool.MALLOC_ENV.items() <= os.environ.items():  # as in the processes of a build, for `computing`
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | pool.MALLOC_ENV)
    rows, all_jobs = [], sorted(map(int, jobs.split(",")))
    with TemporaryDirectory() as name:
        paths, home = originals(source, Path(name)), Path(name) / "home"
        build(library(paths, FEW, Path(name) / "music"), home, 1)  # databases and kernels are made
        for n in sorted({FEW, *map(int, sizes.split(","))}):
            tracks = library(paths, n, Path(name) / f"music-{n}")
            for n_jobs in all_jobs:
                rows.append({"clips": n, "jobs": n_jobs, **build(tracks, home.with_name(f"home-{n}-{n_jobs}"), n_jobs)})
                print(rows[-1], flush=True)
        share = computing(tracks, repeats)
    table = pd.DataFrame(rows).set_index(["clips", "jobs"])
    print(f"\n{measure.cpu()}")
    print(f"of a part's time {share.median():.3f} is decoding and computing ({share.min():.3f} to {share.max():.3f})")
    print(compared(table, share.median()).round(3).to_string())


def compared(table: pd.DataFrame, share: float) -> pd.DataFrame:
    """Against one process, and what is neither computing nor the search for copies: of all, and beyond the start."""
    start = table.loc[FEW].reindex(table.index, level="jobs")
    beyond, further = table - start, table.index.get_level_values("clips") > FEW
    cpu, worked = table[list(SECONDS)].sum(axis=1), beyond["worker s"] * share
    return table.assign(
        **{
            "times": table["seconds"].groupby("clips").transform("first") / table["seconds"],
            "beyond": (beyond["seconds"].groupby("clips").transform("first") / beyond["seconds"]).where(further),
            "overhead": 1 - (worked + table["copies s"]) / cpu,
            "overhead beyond": (1 - (worked + beyond["copies s"]) / beyond[list(SECONDS)].sum(axis=1)).where(further),
        }
    )


if __name__ == "__main__":
    typer.run(main)
