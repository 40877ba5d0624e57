"""Choosing segments from a list of AudioSet's largest size, 2,041,789 rows, on one CPU core: seconds and memory.

Claim: below ten seconds and one gigabyte, and at least ten times faster than the paper's published way, which stacks an
array row by row. That one is run once, and no more of it than the loop. The list is synthetic: random ids, one to five
labels of 527, and the paper's seven genres as often as in the real list.

    python benchmarks/segments.py                  # five minutes
    python benchmarks/segments.py --rows 200000    # half a minute; a loop that is quadratic then looks better
"""

import measure

measure.one_core()

import resource  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402

import numpy as np  # noqa: E402
import typer  # noqa: E402

from genre.acquisition import segments  # noqa: E402
from genre.acquisition.ontology import PAPER_GENRES  # noqa: E402

#: Rows of unbalanced_train_segments.csv (PAPER.md, 1.1), and of those that bear a genre of the paper.
ROWS, GENRE_ROWS = 2_041_789, 52_107


def write_list(path: Path, n: int, seed: int = 0) -> None:
    """A list of n segments."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
    others = np.array([f"/m/0{i:05x}" for i in range(520)])
    paper = np.array(list(PAPER_GENRES.values()))
    with path.open("w") as file:
        file.write("# Segments csv\n# synthetic\n# YTID, start_seconds, end_seconds, positive_labels\n")
        for first in range(0, n, 50_000):
            m = min(50_000, n - first)
            ids = ["".join(row) for row in letters[rng.integers(64, size=(m, 11))]]
            starts = rng.integers(0, 60, m) * 10.0
            labels = others[rng.integers(520, size=(m, 4))]
            counts, is_genre = rng.integers(1, 5, m), rng.random(m) < GENRE_ROWS / ROWS
            genre = paper[rng.integers(7, size=m)]
            for i in range(m):
                mids = [*labels[i, : counts[i]], genre[i]] if is_genre[i] else labels[i, : counts[i]]
                file.write(f'{ids[i]}, {starts[i]:.3f}, {starts[i] + 10:.3f}, "{",".join(mids)}"\n')


def published_loop_s(path: Path) -> float:
    """CPU seconds of the way that stacks an array row by row."""
    wanted, data = set(PAPER_GENRES.values()), np.ones((1, 4))
    start = time.process_time()
    with path.open() as file:
        for line in file:
            parts = line.strip().replace(' "', "").replace('"', "").split(",")
            if found := wanted.intersection(parts[3:]):
                data = np.vstack([data, np.array([*parts[:3], next(iter(found))]).reshape(1, 4)])
    return time.process_time() - start


def measured(path: str) -> None:
    """In a process of its own: choose, and print seconds and peak memory."""
    start = time.process_time()
    table = segments.select_segments(path, segments.SegmentSelection())
    seconds = time.process_time() - start
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, len(table))


def main(rows: int = ROWS, repeats: int = 3, child: str = "") -> None:
    """Measure and print."""
    if child:
        measured(child)
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "unbalanced_train_segments.csv"
        write_list(path, rows)
        print(f"{rows:,} rows, {path.stat().st_size / 1e6:.0f} MB, one core: {measure.cpu()}")
        found = []
        for _ in range(repeats):
            command = [sys.executable, __file__, "--child", str(path)]
            found.append([float(x) for x in subprocess.run(command, capture_output=True, check=True).stdout.split()])
        seconds, memory, n = np.array(found).T
        loop_s = published_loop_s(path)
        print(f"chosen {n[0]:,.0f} segments in {np.median(seconds):.1f} s ({seconds.min():.1f} to {seconds.max():.1f})")
        print(f"peak memory of the process {memory.max():.0f} MB")
        print(f"row by row: {loop_s:.0f} s, {loop_s / np.median(seconds):.0f} times as long")


if __name__ == "__main__":
    typer.run(main)
