"""97 features and the spectrogram of a clip: one decode and one pass against the published two scripts, on one core.

Claim: at least 20 times as fast. The published scripts are `benchmarks/_shared/published.py`. Each method runs in a
process of its own, on the same files, in turn, after a round that is not counted. No memory allocator settings help
any of them.

    python -m benchmarks.speed.features
    python -m benchmarks.speed.features --folder ~/Music/wav --rounds 9
"""

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from benchmarks._shared import measure
from benchmarks._shared.music import write_varied_music

#: The published scripts, and the variants of this project.
METHODS = ("published", "paper", "corrected")

#: Program that computes the first clip of a fresh process.
FIRST_CLIP = """
import sys
from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.inputs import compute_inputs
from genre.config import AudioConfig
config = AudioConfig()
y = prepare_clip(decoding.decode_audio(sys.argv[1], sr=config.sr), config)
compute_inputs(y, config)
"""


def cpu_seconds_per_clip(method: str, paths: list[str]) -> float:
    """Return the CPU seconds per clip, in the process that calls it."""
    return measure.cpu_seconds_per_item(
        lambda: run_published(paths) if method == "published" else run_variant(method, paths)
    )


def run_published(paths: list[str]) -> int:
    """Run the published scripts on some files; return their number."""
    from benchmarks._shared import published

    for path in paths:
        published.extract_features(path)
        published.draw_spectrogram(path)
    return len(paths)


def run_variant(variant: str, paths: list[str]) -> int:
    """Compute features and spectrogram of some files; return their number."""
    from genre.audio import decoding
    from genre.audio.clips import prepare_clip
    from genre.config import AudioConfig
    from genre.inputs import compute_inputs

    config = AudioConfig(variant=variant)
    for path in paths:
        y = prepare_clip(decoding.decode_audio(path, sr=config.sr), config)
        compute_inputs(y, config)
    return len(paths)


def first_clip_s(path: str) -> float:
    """Return the CPU seconds from the start of a Python process to its first clip."""
    before = os.times()
    subprocess.run([sys.executable, "-c", FIRST_CLIP, path], check=True)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def main(folder: Path | None = None, rounds: int = 7, clips: int = 27) -> None:
    """Print the clips per second of each method, and their ratio to the published one."""
    with TemporaryDirectory() as temporary:
        paths = sorted(map(str, folder.expanduser().glob("*.wav"))) if folder else write_varied_music(Path(temporary))
        paths = [paths[i % len(paths)] for i in range(clips)]
        print(f"{measure.describe_cpu()}; {clips} clips of {len(set(paths))} files, {rounds} rounds, one core\n")
        pools = {method: ProcessPoolExecutor(1, get_context("spawn")) for method in METHODS}
        seconds = [
            {method: pools[method].submit(cpu_seconds_per_clip, method, paths).result() for method in METHODS}
            for _ in range(rounds + 1)
        ]
        print(measure.tabulate_rates(pd.DataFrame(seconds[1:]), "published", "clips").to_string())
        starts = [first_clip_s(paths[0]) for _ in range(3)]
        spread = f"{min(starts):.1f} to {max(starts):.1f}"
        print(f"\nfirst clip of a fresh process: {np.median(starts):.1f} s of CPU time ({spread})")
        for pool in pools.values():
            pool.shutdown()


if __name__ == "__main__":
    measure.run_on_one_core(main)
