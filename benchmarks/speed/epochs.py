"""The epochs of `mel_cnn` against those of an earlier checkout, on the demo corpus.

Both train with their own default settings, in turn, each round with another seed, in processes of their own. Claim: an
epoch takes at most half of the time of one at 4f44e01, and the validation scores are the same. The first epoch, for
which TensorFlow is imported and compiles, is given by itself. An earlier checkout is a folder made by, for instance,
``git worktree add ../before 4f44e01``, with an environment of its own in ``.venv``.

    python -m benchmarks.speed.epochs ../before
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import typer

from benchmarks._shared import measure
from genre.config import AudioConfig
from genre.datasets import demo
from genre.folds import draw_folds
from genre.inputs import compute_inputs
from genre.store import computing

CONFIG = AudioConfig()

#: Trains `mel_cnn` on a file of clips, and prints the state of both clocks at the start and after each epoch, with the
#: validation scores; the second names are those of 4f44e01.
TRAIN = """
import json, sys, tempfile, time
from pathlib import Path
import numpy as np
try:
    from genre.models import TrainingData
    from genre.models.mel_cnn import train_mel_cnn
except ImportError:
    from genre.models import Data as TrainingData
    from genre.models.cnn import mel_cnn as train_mel_cnn
path, seed, params = sys.argv[1:]
arrays = dict(np.load(path))
data = TrainingData(**arrays | {"genres": arrays["genres"].tolist()})
rows = [{"cpu": time.process_time(), "clock": time.perf_counter()}]
def on_epoch(epoch, metrics):
    rows.append({"cpu": time.process_time(), "clock": time.perf_counter(), **metrics})
with tempfile.TemporaryDirectory() as folder:
    train_mel_cnn(data, int(seed), Path(folder), on_epoch, **json.loads(params))
print(json.dumps(rows))
"""


def write_demo_clips(folder: Path) -> Path:
    """Write the spectrograms and labels of the demo corpus, a sixth of the recordings for validation."""
    clips = demo.load_clips(None, folder)
    X = np.stack([_compute_spectrogram(clip) for clip in clips.itertuples()])
    genre = clips["genre"].astype("category")
    y = genre.cat.codes.to_numpy()
    recordings = clips["recording"].to_numpy(str)
    is_validation = draw_folds(genre, recordings, 6, 0) == 0
    return save_data(folder / "clips.npz", genre.cat.categories.to_numpy(str), X, y, recordings, is_validation)


def save_data(
    path: Path, genres: np.ndarray, X: np.ndarray, y: np.ndarray, recordings: np.ndarray, is_validation: np.ndarray
) -> Path:
    """Save what both checkouts train on, by the names of `genre.models.TrainingData`, and return the path."""
    np.savez(
        path,
        genres=genres,
        X_train=X[~is_validation],
        y_train=y[~is_validation],
        recordings_train=recordings[~is_validation],
        X_validation=X[is_validation],
        y_validation=y[is_validation],
    )
    return path


def _compute_spectrogram(clip: object) -> np.ndarray:
    return compute_inputs(computing.read_clip(clip, CONFIG), CONFIG, ("spectrograms",), {})["spectrograms"]


def run_training(checkout: Path, path: Path, seed: int, **params: int) -> pd.DataFrame:
    """Train in a checkout, with its own environment where it has one.

    Returns
    -------
    pd.DataFrame
        One row per epoch, from 1: the seconds ``cpu`` and ``clock`` that it took, and its scores.
    """
    python = checkout / ".venv" / "bin" / "python"
    command = [python if python.exists() else sys.executable, "-c", TRAIN, path, str(seed), json.dumps(params)]
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.PIPE, text=True, env=quiet)
    rows = pd.DataFrame(json.loads(done.stdout))
    return rows.assign(cpu=rows["cpu"].diff(), clock=rows["clock"].diff()).iloc[1:]


def summarise(rows: pd.DataFrame) -> dict[str, float]:
    """Return the seconds of the first and of a later epoch, and the scores of the epoch that training keeps."""
    later = rows[["cpu", "clock"]].iloc[1:].median()
    best = rows.iloc[int(rows["val_loss"].to_numpy().argmin())]
    return {
        "first epoch, CPU s": rows["cpu"].iloc[0],
        "epoch, CPU s": later["cpu"],
        "epoch, s": later["clock"],
        "training, CPU s": rows["cpu"].sum(),
        "validation loss": best["val_loss"],
        "accuracy": best["val_accuracy"],
    }


def tabulate(rounds: list[dict[str, dict[str, float]]]) -> pd.DataFrame:
    """Return the medians of both checkouts, and of their ratio in a round the median and range."""
    this, earlier = (pd.DataFrame(r[which] for r in rounds) for which in ("this", "earlier"))
    ratios = this / earlier
    table = pd.DataFrame({"this": this.median(), "earlier": earlier.median(), "ratio": ratios.median()})
    return table.assign(lowest=ratios.min(), highest=ratios.max()).round(3)


def main(against: Path, rounds: int = 5) -> None:
    """Train ROUNDS times in each checkout, in turn, and print seconds and scores."""
    checkouts = {"this": Path.cwd(), "earlier": against.expanduser().resolve()}
    with TemporaryDirectory() as name:
        path = write_demo_clips(Path(name))
        measured = [
            {which: summarise(run_training(checkout, path, seed)) for which, checkout in checkouts.items()}
            for seed in range(rounds)
        ]
    print(f"\nmel_cnn on the demo corpus, {rounds} rounds: {measure.describe_cpu()}")
    print(tabulate(measured).to_string())


if __name__ == "__main__":
    typer.run(main)
