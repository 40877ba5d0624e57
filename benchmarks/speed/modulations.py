"""Modulations of a clip, from the spectrogram that a build has just made: what they add to it, on one core.

Claims: at most 2.5 ms a clip, and features, spectrogram and modulations take at most 1.3 times as long as features and
spectrogram, decoding included. Both methods are measured in turn in one process, on the same files, after a round
that is not counted; the modulations alone, on the spectrograms of those files.

    python -m benchmarks.speed.modulations
    python -m benchmarks.speed.modulations --folder ~/Music --clips 200
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from benchmarks._shared import measure
from benchmarks._shared.music import write_varied_music
from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.audio.listing import find_audio_files
from genre.config import AudioConfig
from genre.inputs import compute_inputs, modulations

CONFIG = AudioConfig()


def compute_clip(path: str) -> dict[str, np.ndarray]:
    """Compute features and spectrogram of the first ten seconds of a file."""
    y = decoding.decode_audio(path, sr=CONFIG.sr, duration_s=CONFIG.clip_s)
    return compute_inputs(prepare_clip(y, CONFIG), CONFIG, ["features", "spectrograms"])


def compute_base(paths: list[str]) -> int:
    """Compute features and spectrogram of some files; return their number."""
    for path in paths:
        compute_clip(path)
    return len(paths)


def compute_all(paths: list[str]) -> int:
    """Compute features, spectrogram and modulations of some files; return their number."""
    for path in paths:
        modulations.derive(compute_clip(path)["spectrograms"], CONFIG)
    return len(paths)


def derive_all(spectrograms: list[np.ndarray]) -> int:
    """Compute the modulations of some spectrograms; return their number."""
    for S_u8 in spectrograms:
        modulations.derive(S_u8, CONFIG)
    return len(spectrograms)


def describe(values: pd.Series) -> str:
    """Return the median, and the range over the rounds in brackets."""
    return f"{values.median():.2f} ({values.min():.2f} to {values.max():.2f})"


def main(folder: Path | None = None, rounds: int = 7, clips: int = 27) -> None:
    """Print the CPU time per clip with and without modulations, and the ratio."""
    with TemporaryDirectory() as temporary:
        found = find_audio_files(folder.expanduser()) if folder else write_varied_music(Path(temporary))
        paths = [str(found[i % len(found)]) for i in range(clips)]
        print(f"{measure.describe_cpu()}; {clips} clips of {len(set(paths))} files, {rounds} rounds, one core\n")
        spectrograms = [compute_clip(path)["spectrograms"] for path in paths]
        workloads = {
            "features and spectrogram": lambda: compute_base(paths),
            "with modulations": lambda: compute_all(paths),
            "modulations alone": lambda: derive_all(spectrograms),
        }
        seconds = measure.time_alternately(workloads, rounds)
    for name in workloads:
        print(f"{name}: {describe(1000 * seconds[name])} ms a clip")
    ratio = seconds["with modulations"] / seconds["features and spectrogram"]
    print(f"with modulations, times features and spectrogram: {describe(ratio)}")


if __name__ == "__main__":
    measure.run_on_one_core(main)
