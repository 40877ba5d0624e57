"""97 features and the spectrogram of a clip: one decode and one pass against the published two scripts, on one core.

Each way in a process of its own, on the same files, in turn, after a round that is not counted. No way is helped by
settings of the memory allocator. The published side is `benchmarks/published.py`. Claim: at least ten times.

    python benchmarks/features.py
    python benchmarks/features.py --folder ~/Music/wav --rounds 9
"""

import measure

measure.one_core()

import os  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from concurrent.futures import ProcessPoolExecutor  # noqa: E402
from multiprocessing import get_context  # noqa: E402
from pathlib import Path  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import soundfile  # noqa: E402
import typer  # noqa: E402

WAYS = ("published", "paper", "corrected")

FIRST_CLIP = """
import sys
from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.inputs import features
from genre.config import AudioConfig
config = AudioConfig()
y = prepare_clip(decoding.decode_audio(sys.argv[1], sr=config.sr), config)
features.extract_with_log_mel(y, config)
"""


def make_music(folder: Path, n: int = 8) -> list[str]:
    """Ten-second wav files at 44.1 kHz that have something of everything: tones, beats, noise."""
    rng = np.random.default_rng(0)
    t = np.arange(441_000) / 44_100
    for i in range(n):
        tones = sum(np.sin(2 * np.pi * f * t) for f in 110 * 2 ** (rng.integers(0, 48, 4) / 12))
        y = 0.1 * tones * np.exp(-4 * ((t * (1.5 + i / 8)) % 1)) + rng.normal(0, 0.02, t.size)
        soundfile.write(folder / f"{i}.wav", y, 44_100)
    return sorted(str(path) for path in folder.glob("*.wav"))


def seconds(way: str, paths: list[str]) -> float:
    """CPU seconds a clip, in the process that calls it."""
    if way == "published":
        import published

        def one(path: str) -> None:
            published.features(path)
            published.picture(path)
    else:
        from genre.audio import decoding
        from genre.audio.clips import prepare_clip
        from genre.config import AudioConfig
        from genre.inputs import features

        config = AudioConfig(variant=way)

        def one(path: str) -> None:
            y = prepare_clip(decoding.decode_audio(path, sr=config.sr), config)
            features.extract_with_log_mel(y, config)

    return measure.seconds_per_item(lambda: sum(one(path) is None for path in paths))


def first_clip(path: str) -> float:
    """CPU seconds from the start of a Python process to its first clip."""
    before = os.times()
    subprocess.run([sys.executable, "-c", FIRST_CLIP, path], check=True)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def main(folder: Path | None = None, rounds: int = 7, clips: int = 27) -> None:
    """Print clips a second of each way, and how many times the published one."""
    with TemporaryDirectory() as made:
        paths = sorted(map(str, folder.expanduser().glob("*.wav"))) if folder else make_music(Path(made))
        paths = [paths[i % len(paths)] for i in range(clips)]
        print(f"{measure.cpu()}; {clips} clips of {len(set(paths))} files, {rounds} rounds, one core\n")
        pools = {way: ProcessPoolExecutor(1, get_context("spawn"), measure.one_core) for way in WAYS}
        turns = [{way: pools[way].submit(seconds, way, paths).result() for way in WAYS} for _ in range(rounds + 1)]
        print(measure.compared(pd.DataFrame(turns[1:]), "published", "clips").to_string())
        starts = [first_clip(paths[0]) for _ in range(3)]
        spread = f"{min(starts):.1f} to {max(starts):.1f}"
        print(f"\nfirst clip of a fresh process: {np.median(starts):.1f} s of CPU time ({spread})")
        for pool in pools.values():
            pool.shutdown()


if __name__ == "__main__":
    typer.run(main)
