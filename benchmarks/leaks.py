"""What leaks are worth, and whether copies are found, on a folder of real music.

The folder has one sub-folder per genre, with tracks of twenty seconds or more. Of each track two clips are taken. Each
gets a copy, in turn encoded as MP3 at 64 kbit/s, 6 dB softer, cut half a second later or earlier, or all three at
once, and the copies are looked for among all clips. Then the clips without the copies are split twenty times at
random, and twenty times with recordings kept whole, and models are scored on both.

    python benchmarks/leaks.py ~/Music/by-genre
"""

from pathlib import Path

import measure  # noqa: F401  puts the project on the path
import numpy as np
import pandas as pd
import typer
from joblib import Parallel, delayed

from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.config import AudioConfig
from genre.datasets import folder
from genre.inputs import features, spectrogram
from genre.splits import duplicates
from genre.studies import robustness, trials

CONFIG = AudioConfig()
KINDS = ("MP3, 64 kbit/s", "-6 dB", "half a second", "all three")


def copy(path: str, start_s: float, kind: str) -> np.ndarray:
    """A planted copy of a clip, as it is heard."""
    shift_s = 0.0 if kind in KINDS[:2] else 0.5 if start_s < 0.5 else -0.5
    y = decoding.decode_audio(path, sr=robustness.SR, start_s=start_s + shift_s, duration_s=CONFIG.clip_s)
    y = y * 10 ** (-6 / 20) if kind in ("-6 dB", "all three") else y
    file = robustness.degrade_clip(y, KINDS[0] if kind in (KINDS[0], "all three") else robustness.CLEAN)
    return prepare_clip(decoding.decode_audio(file, sr=CONFIG.sr, duration_s=CONFIG.clip_s), CONFIG)


def analyse(path: str, start_s: float, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and spectrogram of a clip or of a planted copy."""
    original = kind == "original"
    y = decoding.decode_audio(path, sr=CONFIG.sr, start_s=start_s, duration_s=CONFIG.clip_s) if original else None
    y = copy(path, start_s, kind) if y is None else prepare_clip(y, CONFIG)
    return features.extract_features(y, CONFIG), spectrogram.log_mel(y, CONFIG)


def planted(source: Path, n_jobs: int) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Clips and copies, their features and spectrograms."""
    clips = folder.load_clips(source, source, max_clips_per_track=2)
    copies = clips.assign(kind=np.array(KINDS)[np.arange(len(clips)) % len(KINDS)])
    everything = pd.concat([clips.assign(kind="original"), copies], ignore_index=True)
    jobs = list(zip(everything["path"], everything["start_s"], everything["kind"], strict=True))
    analyse(*jobs[0])  # fills numba's cache, which several processes would write at once
    X, S = zip(*Parallel(n_jobs)(delayed(analyse)(*job) for job in jobs), strict=True)
    return everything, pd.DataFrame(X, columns=list(features.FEATURE_NAMES)), np.stack(S)


def report_copies(clips: pd.DataFrame, X: pd.DataFrame, S: np.ndarray) -> None:
    """Print the share of copies found and the pairs that are none."""
    found = duplicates.find_duplicates(X.set_axis(np.arange(len(X))), S)
    n = len(clips) // 2
    couples = {(i, j) for i, j in zip(found["first"], found["second"], strict=True)}
    for kind in KINDS:
        at = np.flatnonzero(clips["kind"] == kind)
        print(f"{kind:16} {np.mean([(i - n, i) in couples for i in at]):6.1%} of {len(at)} copies found")
    recording = clips["recording"].to_numpy()
    false = found[recording[found["first"]] != recording[found["second"]]]
    print(f"{'false':16} {len(false)} of {len(found)} pairs are of two tracks ({len(false) / len(found):.2%})")


def report_gap(clips: pd.DataFrame, X: pd.DataFrame, n_splits: int) -> None:
    """Print the macro AUC of naive and honest splits."""
    for model in ("logistic_regression", "svm"):
        splits = trials.split_gap(model, clips, X, n_splits=n_splits)
        parts = []
        for kind in ("naive", "honest", "gap"):
            mean, low, high = trials.mean_interval(splits[kind])
            parts.append(f"{kind} {mean:.3f} [{low:.3f}, {high:.3f}]")
        print(f"{model:20} {n_splits} splits: {'  '.join(parts)}")


def main(source: Path, splits: int = 20, n_jobs: int = 2) -> None:
    """Measure and print."""
    clips, X, S = planted(source, n_jobs)
    report_copies(clips, X, S)
    originals = (clips["kind"] == "original").to_numpy()
    report_gap(clips[originals], X[originals], splits)


if __name__ == "__main__":
    typer.run(main)
