"""Choice of segments from a list of AudioSet's largest size, 2,041,789 rows, on one CPU core: seconds and memory.

Claim: less than ten seconds and one gigabyte, and at least ten times as fast as the loop of the paper's published
script, which stacks an array row by row and is run once. The list is synthetic: random ids, one to five labels of 527,
and the paper's seven genres as often as in the real list.

    python -m benchmarks.speed.segments                  # five minutes
    python -m benchmarks.speed.segments --rows 200000    # half a minute; flatters the loop, whose time is quadratic
"""

import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks._shared import measure
from genre.acquisition import segments
from genre.acquisition.ontology import PAPER_GENRES
from genre.workspace import PROJECT_DIR

#: Rows of AudioSet's unbalanced_train_segments.csv.
ROWS = 2_041_789

#: Those of them that have a genre of the paper.
GENRE_ROWS = 52_107

#: Rows generated at once.
CHUNK = 50_000


def write_list(path: Path, n: int, seed: int = 0) -> None:
    """Write a list of n segments."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
    other_mids = np.array([f"/m/0{i:05x}" for i in range(520)])
    genre_mids = np.array(list(PAPER_GENRES.values()))
    with path.open("w") as file:
        file.write("# Segments csv\n# synthetic\n# YTID, start_seconds, end_seconds, positive_labels\n")
        for first in range(0, n, CHUNK):
            m = min(CHUNK, n - first)
            ids = ["".join(row) for row in letters[rng.integers(64, size=(m, 11))]]
            starts = rng.integers(0, 60, m) * 10.0
            labels = other_mids[rng.integers(520, size=(m, 4))]
            n_labels = rng.integers(1, 5, m)
            has_genre = rng.random(m) < GENRE_ROWS / ROWS
            genres = genre_mids[rng.integers(7, size=m)]
            for i in range(m):
                mids = [*labels[i, : n_labels[i]], *([genres[i]] if has_genre[i] else [])]
                file.write(f'{ids[i]}, {starts[i]:.3f}, {starts[i] + 10:.3f}, "{",".join(mids)}"\n')


def published_loop_s(path: Path) -> float:
    """Return the CPU seconds of the published loop, which stacks an array row by row."""
    mids = set(PAPER_GENRES.values())
    data = np.ones((1, 4))
    start = time.process_time()
    with path.open() as file:
        for line in file:
            fields = line.strip().replace(' "', "").replace('"', "").split(",")
            if matches := mids.intersection(fields[3:]):
                data = np.vstack([data, np.array([*fields[:3], next(iter(matches))]).reshape(1, 4)])
    return time.process_time() - start


def print_usage(path: str) -> None:
    """Choose segments in a process of its own, and print seconds, peak memory in MB and their number."""
    start = time.process_time()
    table = segments.select_segments(path, segments.SegmentSelection())
    seconds = time.process_time() - start
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, len(table))


def main(rows: int = ROWS, repeats: int = 3, child: str = "") -> None:
    """Measure and print."""
    if child:
        print_usage(child)
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "unbalanced_train_segments.csv"
        write_list(path, rows)
        print(f"{rows:,} rows, {path.stat().st_size / 1e6:.0f} MB, one core: {measure.describe_cpu()}")
        command = [sys.executable, "-m", "benchmarks.speed.segments", "--child", str(path)]
        outputs = [
            subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, check=True).stdout for _ in range(repeats)
        ]
        seconds, memory, n = np.array([[float(field) for field in output.split()] for output in outputs]).T
        loop_s = published_loop_s(path)
        print(f"chosen {n[0]:,.0f} segments in {np.median(seconds):.1f} s ({seconds.min():.1f} to {seconds.max():.1f})")
        print(f"peak memory of the process {memory.max():.0f} MB")
        print(f"row by row: {loop_s:.0f} s, {loop_s / np.median(seconds):.0f} times as long")


if __name__ == "__main__":
    measure.run_on_one_core(main)
