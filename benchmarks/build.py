"""A build at several sizes, with one and two processes: time, processor time and memory of everything it starts.

Claims: time in proportion to the clips, memory that does not grow with them, 1.8 times as fast with two processes, and
less than 10 % of all processor time for Prefect, MLflow, the store and the processes: beyond what decoding and
computing take by themselves, and the search for copies. A small build comes first, on which a new machine's databases
and compiled kernels are made.

    python benchmarks/build.py
    python benchmarks/build.py --sizes 16,64    # a minute
    python benchmarks/build.py --source ~/clips  # pieces of these files instead of synthetic ones
"""

import measure

measure.one_core()

import os  # noqa: E402
import resource  # noqa: E402
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

from genre import features, pool, store  # noqa: E402
from genre.config import AudioConfig  # noqa: E402
from genre.datasets.folder import audio_files  # noqa: E402

CONFIG = AudioConfig()


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
    threads = {name: os.environ.pop(name) for name in list(os.environ) if name.endswith("_NUM_THREADS")}
    cores = range(os.cpu_count() or 1)
    command = [sys.executable, "-m", "flows.build", "--dataset", "folder", "--source", str(music_folder)]
    home.mkdir()
    used, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--n-jobs", str(n_jobs)],
            cwd=Path(__file__).parent.parent,
            env=os.environ | own,
            stdout=log,
            stderr=log,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        peaks = follow(process)
    assert process.returncode == 0, (home / "log").read_text()
    os.environ.update(threads)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "cpu": cpu, "copies s": copies_seconds(uri), **peaks}


def copies_seconds(uri: str) -> float:
    """How long the newest build looked for copies, in one thread."""
    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, "metrics.seconds_copies > 0", order_by=["attributes.start_time DESC"])
    return runs[0].data.metrics["seconds_copies"]


def follow(process: subprocess.Popen) -> dict[str, float]:
    """Wait for a process; the peak of the flow's own memory, and of the largest process that computes, MB."""
    flow, peaks = psutil.Process(process.pid), {"flow MB": 0.0, "worker MB": 0.0}
    while process.poll() is None:
        for one in [flow, *flow.children(recursive=True)] if flow.is_running() else []:
            try:
                kind = "worker MB" if "genre.worker" in one.cmdline() else "flow MB" if one == flow else ""
                if kind:
                    peaks[kind] = max(peaks[kind], one.memory_info().rss / 1e6)
            except psutil.Error:  # it has ended
                continue
        time.sleep(0.3)
    return peaks


def alone(music_folder: Path, n: int) -> float:
    """Processor seconds that decoding and computing take for one clip, in one process that does nothing else."""
    clips = list(clips_of(audio_files(music_folder)[:n]).itertuples())
    features.warm_up(CONFIG)
    start = time.process_time()
    for clip in clips:
        features.extract_with_log_mel(store.read_clip(clip, CONFIG), CONFIG)
    return (time.process_time() - start) / len(clips)


def main(sizes: str = "500,2000,8000", source: str = "", jobs: str = "1,2") -> None:
    """Measure and print."""
    if not pool.HEAP.items() <= os.environ.items():  # as in the processes of a build, for `alone` to be their equal
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | pool.HEAP)
    rows = []
    with TemporaryDirectory() as name:
        paths = originals(source, Path(name))
        build(library(paths, 16, Path(name) / "music"), Path(name) / "home", 1)
        for n in map(int, sizes.split(",")):
            tracks = library(paths, n, Path(name) / f"music-{n}")
            for n_jobs in map(int, jobs.split(",")):
                clip = alone(tracks, 256)
                got = build(tracks, Path(name) / f"home-{n}-{n_jobs}", n_jobs)
                rows.append({"clips": n, "processes": n_jobs, "clip alone": clip, **got})
                print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    table["ms/clip"] = 1000 * table["seconds"] / table["clips"]
    table["overhead"] = 1 - (table["clip alone"] * table["clips"] + table["copies s"]) / table["cpu"]
    first = table.groupby("clips")["seconds"].transform("first")
    table["times one process"] = first / table["seconds"]
    print(f"\n{measure.cpu()}")
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    typer.run(main)
