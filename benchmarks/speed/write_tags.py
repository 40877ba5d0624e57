"""Genres written into long tracks, with all checks and an undo file, against those of an earlier checkout.

Prints, per format, the files per second of both by the clock, and their ratio. An earlier checkout is a folder made by,
for instance, ``git worktree add ../before 4f44e01``; without one only this checkout is measured.

    python -m benchmarks.speed.write_tags --against ../before
    python -m benchmarks.speed.write_tags --minutes 1 --files 2 --rounds 1    # seconds
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import pandas as pd
import typer

from benchmarks._shared import measure
from benchmarks.speed.seek import write_track

#: Formats that are measured.
SUFFIXES = ("mp3", "flac", "m4a", "wav", "ogg")

#: Writes a genre into the files of a folder, and prints the seconds; the second names are those of 4f44e01.
WRITE = """
import statistics, sys, time
from pathlib import Path
try:
    from genre.library.tagging import write_genres as write
    from genre.library.undo import UndoFile
    genre = ["Rock"]
except ImportError:
    from genre.tags import write
    from genre.undo import UndoFile
    genre = "Rock"
folder = Path(sys.argv[1])
first, *files = sorted(folder.iterdir())
undo = UndoFile(folder.parent / "undo")
write(first, genre, undo)  # loads libraries
seconds = []
for file in files:
    start = time.perf_counter()
    write(file, genre, undo)
    seconds.append(time.perf_counter() - start)
print(statistics.median(seconds))
"""


def measure_writing(checkout: Path, track: Path, n_files: int) -> float:
    """Return the median of the seconds that a checkout takes to write a genre into a copy of a track."""
    with TemporaryDirectory() as name:
        folder = Path(name) / "music"
        folder.mkdir()
        for n in range(n_files + 1):
            shutil.copy(track, folder / f"{n:03}{track.suffix}")
        command = [sys.executable, "-c", WRITE, str(folder)]
        done = subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True)
        return float(done.stdout)


def main(
    against: Annotated[Path | None, typer.Option()] = None, minutes: int = 5, files: int = 20, rounds: int = 5
) -> None:
    """Measure FILES tracks of MINUTES of each format, ROUNDS times in turn, and print the speeds."""
    checkouts = {"this": Path.cwd()} | ({"earlier": against.expanduser().resolve()} if against else {})
    with TemporaryDirectory() as name:
        for suffix in SUFFIXES:
            track = Path(name) / f"a.{suffix}"
            write_track(track, minutes)
            seconds = pd.DataFrame(
                {which: measure_writing(checkout, track, files) for which, checkout in checkouts.items()}
                for _ in range(rounds)
            )
            print(f"\n{suffix}, {track.stat().st_size / 1e6:.1f} MB")
            print(measure.tabulate_rates(seconds, list(checkouts)[-1], "files").to_string())


if __name__ == "__main__":
    typer.run(main)
