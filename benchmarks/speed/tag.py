"""A music library predicted by the flow ``tag``, against one request per file to the same champion, served.

Claim: more files per second than by single requests. Needs a champion, in the registry that MLFLOW_TRACKING_URI names.

    python -m benchmarks.speed.tag --source ~/clips                 # 400 files, pieces of these
    python -m benchmarks.speed.tag --source ~/clips --timed 40      # a minute
"""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from benchmarks._shared import server
from benchmarks._shared.library import count_predictions, start_tag_flow, wait_for_output, write_library
from genre.audio.listing import find_audio_files
from serving.request import predict_audio
from tracking import runs


def measure_flow(home: Path, music: Path) -> float:
    """Return the files per second of the flow from its first predictions to its last, without the start of Prefect."""
    process = start_tag_flow(home, "--source", str(music))
    progress: list[tuple[float, int]] = []
    while process.poll() is None:
        n = count_predictions(home)
        if n and (not progress or n != progress[-1][1]):
            progress.append((time.perf_counter(), n))
        time.sleep(0.02)
    wait_for_output(process)
    start, n_start = progress[0]
    end, n_end = progress[-1]
    return (n_end - n_start) / (end - start)


def measure_requests(files: list[Path], folder: Path) -> float:
    """Return the files per second of the served champion, with one request per file, once it is warm."""
    with server.serve_champion(os.environ["MLFLOW_TRACKING_URI"], folder) as running:
        url = f"http://{running.url}"
        for file in files[:4]:
            predict_audio([file.read_bytes()], url)
        start = time.perf_counter()
        for file in files:
            predict_audio([file.read_bytes()], url)
        return len(files) / (time.perf_counter() - start)


def main(source: Annotated[Path, typer.Option()], timed: int = 400) -> None:
    """Measure the speed over TIMED files made of those in SOURCE, and print it."""
    os.environ["MLFLOW_TRACKING_URI"] = runs.connect()
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_library(source.expanduser(), timed, folder / "music")
        by_flow = measure_flow(folder / "home", folder / "music")
        by_requests = measure_requests(find_audio_files(folder / "music"), folder)
    print(
        f"{timed} files: {by_flow:.1f} per second with {os.cpu_count()} processes, {by_requests:.1f} by single requests"
    )
    print(f"{by_flow / by_requests:.2f} times as many files per second")


if __name__ == "__main__":
    typer.run(main)
