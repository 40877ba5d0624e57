"""Listing and decoding of ordinary tracks by this code, against that of another checkout of the project.

Prints, per format, the processor time of a clip by both, with its features and spectrogram, and the ratio; and the same
of decoding alone. Every round lists a track and cuts six clips of ten seconds, as a build does, in a process that has
not seen the file before.

    git worktree add ../before COMMIT    # 4f44e01 or later
    python -m benchmarks.speed.decode ../before
    python -m benchmarks.speed.decode ../before --minutes 1 --rounds 5    # seconds
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from benchmarks._shared import measure
from benchmarks._shared.music import make_chord
from benchmarks.speed.seek import ENCODED, write_track
from tests.support.odd_files import bare_frames, constant_mp3

#: What a process does with each path that it is sent: it answers with the milliseconds of decoding and of the rest. The
#: second names are those of 4f44e01.
WORKER = """
import sys, time
from genre.config import AudioConfig
try:
    from genre.audio.clips import prepare_clip, window_starts
    from genre.audio.decoding import decode_audio, read_duration_s
    from genre.inputs import compute_inputs
except ImportError:
    from genre.audio import clip as prepare_clip, decode as decode_audio, duration_s as read_duration_s, window_starts
    from genre.features import extract_with_log_mel as compute_inputs
config = AudioConfig()
for line in sys.stdin:
    path = line.strip()
    start = time.process_time()
    starts = window_starts(read_duration_s(path), config, max_windows=6)
    clips = [decode_audio(path, sr=config.sr, start_s=s, duration_s=10) for s in starts]
    decoded = time.process_time()
    for y in clips:
        compute_inputs(prepare_clip(y, config), config)
    end = time.process_time()
    print(1e3 * (decoded - start) / len(clips), 1e3 * (end - start) / len(clips), flush=True)
"""


def write_tracks(folder: Path, minutes: int) -> list[Path]:
    """Write a track of some minutes in each format."""
    paths = [folder / f"track.{suffix}" for suffix in ("wav", "flac", "mp3", "ogg", *ENCODED)]
    for path in paths:
        write_track(path, minutes)
    constant = folder / "constant.mp3"
    minute = make_chord(60, channels=2).astype(np.float32)
    constant.write_bytes(bare_frames(constant_mp3(minute)) * minutes)
    return [*paths, constant]


def start_worker(checkout: Path) -> Any:
    """Start a process that runs the code of a checkout."""
    return subprocess.Popen(
        [sys.executable, "-c", WORKER],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def time_clip(worker: Any, path: Path) -> tuple[float, float]:
    """Return the milliseconds a clip of a track took to decode, and in all."""
    path.touch()  # what a process remembers of a file holds until it changes
    print(path, file=worker.stdin, flush=True)
    decoding, total = worker.stdout.readline().split()
    return float(decoding), float(total)


def main(before: Path, minutes: int = 4, rounds: int = 9) -> None:
    """Measure and print."""
    workers = {"before": start_worker(before.resolve()), "now": start_worker(Path.cwd())}
    print(f"{measure.describe_cpu()}; tracks of {minutes} minutes, {rounds} rounds", flush=True)
    lines = []
    with TemporaryDirectory() as folder:
        for path in write_tracks(Path(folder), minutes):
            times = [{name: time_clip(w, path) for name, w in workers.items()} for _ in range(rounds + 1)][1:]
            decoding, total = (pd.DataFrame([{k: v[i] for k, v in t.items()} for t in times]) for i in (0, 1))
            ratios = total["now"] / total["before"]
            lines.append(
                {
                    "track": path.name,
                    "ms before": total["before"].median(),
                    "ms now": total["now"].median(),
                    "ratio": ratios.median(),
                    "of decoding": (decoding["now"] / decoding["before"]).median(),
                    "of the fastest": total["now"].min() / total["before"].min(),
                }
            )
            print(pd.DataFrame(lines[-1:]).round(3).to_string(header=len(lines) == 1, index=False), flush=True)
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()


if __name__ == "__main__":
    measure.run_on_one_core(main)
