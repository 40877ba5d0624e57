"""Duplicates planted in a folder of real music, and the gain of a naive split over an honest one.

The folder has one sub-folder per genre, with tracks of twenty seconds or more. Two clips of each track are taken. Each
gets a duplicate, in turn encoded as MP3 at 64 kbit/s, 6 dB softer, cut half a second later or earlier, or all three at
once, and duplicates are searched for among all clips. Then the clips without the planted ones are split twenty times
at random, and twenty times with whole recordings, and models are scored on both.

    python -m benchmarks.quality.leaks ~/Music/by-genre
"""

from pathlib import Path

import numpy as np
import pandas as pd
import typer
from joblib import Parallel, delayed

from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.audio.left_out import LeftOut
from genre.config import AudioConfig
from genre.datasets import folder
from genre.inputs import features, spectrogram
from genre.splits import duplicates
from genre.studies import robustness, trials

CONFIG = AudioConfig()

#: Changes made to the planted duplicates, in turn.
MP3 = "MP3, 64 kbit/s"
SOFTER = "-6 dB"
SHIFTED = "half a second"
ALL_THREE = "all three"
KINDS = (MP3, SOFTER, SHIFTED, ALL_THREE)


def make_duplicate(path: str, start_s: float, kind: str) -> np.ndarray:
    """Return the samples of a duplicate of a clip."""
    shift_s = 0.0
    if kind in (SHIFTED, ALL_THREE):
        shift_s = 0.5 if start_s < 0.5 else -0.5
    y = decoding.decode_audio(path, sr=robustness.SR, start_s=start_s + shift_s, duration_s=CONFIG.clip_s)
    if kind in (SOFTER, ALL_THREE):
        y = y * 10 ** (-6 / 20)
    file = robustness.degrade_clip(y, MP3 if kind in (MP3, ALL_THREE) else robustness.CLEAN)
    return prepare_clip(decoding.decode_audio(file, sr=CONFIG.sr, duration_s=CONFIG.clip_s), CONFIG)


def compute_inputs(path: str, start_s: float, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the features and the spectrogram of a clip or of a duplicate."""
    if kind == "original":
        decoded = decoding.decode_audio(path, sr=CONFIG.sr, start_s=start_s, duration_s=CONFIG.clip_s)
        y = prepare_clip(decoded, CONFIG)
    else:
        y = make_duplicate(path, start_s, kind)
    return features.extract_features(y, CONFIG), spectrogram.log_mel(y, CONFIG)


def plant_duplicates(source: Path, n_jobs: int) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Return the clips of a folder followed by a duplicate of each, their features and their spectrograms."""
    clips = folder.load_clips(source, source, LeftOut(), max_clips_per_track=2)
    planted = clips.assign(kind=np.array(KINDS)[np.arange(len(clips)) % len(KINDS)])
    table = pd.concat([clips.assign(kind="original"), planted], ignore_index=True)
    jobs = list(zip(table["path"], table["start_s"], table["kind"], strict=True))
    compute_inputs(*jobs[0])  # fills numba's cache, which several processes would write at once
    X, S = zip(*Parallel(n_jobs)(delayed(compute_inputs)(*job) for job in jobs), strict=True)
    return table, pd.DataFrame(X, columns=list(features.FEATURE_NAMES)), np.stack(S)


def report_detection(clips: pd.DataFrame, X: pd.DataFrame, S: np.ndarray) -> None:
    """Print the share of planted duplicates that are found, and of pairs found between two tracks."""
    pairs = duplicates.find_duplicates(X.set_axis(np.arange(len(X))), S)
    n = len(clips) // 2
    found = set(zip(pairs["first"], pairs["second"], strict=True))
    for kind in KINDS:
        planted = np.flatnonzero(clips["kind"] == kind)
        share = np.mean([(i - n, i) in found for i in planted])
        print(f"{kind:16} {share:6.1%} of {len(planted)} duplicates found")
    recording = clips["recording"].to_numpy()
    n_false = (recording[pairs["first"]] != recording[pairs["second"]]).sum()
    print(f"{'false':16} {n_false} of {len(pairs)} pairs are of two tracks ({n_false / len(pairs):.2%})")


def report_gap(clips: pd.DataFrame, X: pd.DataFrame, n_splits: int) -> None:
    """Print the macro AUC of naive and honest splits."""
    for model in ("logistic_regression", "svm"):
        splits = trials.split_gap(model, clips, X, n_splits=n_splits)
        columns = []
        for kind in ("naive", "honest", "gap"):
            mean, low, high = trials.mean_interval(splits[kind])
            columns.append(f"{kind} {mean:.3f} [{low:.3f}, {high:.3f}]")
        print(f"{model:20} {n_splits} splits: {'  '.join(columns)}")


def main(source: Path, splits: int = 20, n_jobs: int = 2) -> None:
    """Measure and print."""
    clips, X, S = plant_duplicates(source, n_jobs)
    report_detection(clips, X, S)
    is_original = (clips["kind"] == "original").to_numpy()
    report_gap(clips[is_original], X[is_original], splits)


if __name__ == "__main__":
    typer.run(main)
