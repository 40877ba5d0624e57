"""Trainings on a busy machine against those of an earlier checkout: `mel_cnn`, and three models on features.

Four processes that only compute run beside each training. Claim: under this load a training takes at most half of the
time by the clock that it takes at 4f44e01, and no longer on an idle machine (``--load 0``). Each training is a process
of its own, the two checkouts in turn. An earlier checkout is a folder with an environment of its own in ``.venv``.

    python -m benchmarks.speed.busy ../before
    python -m benchmarks.speed.busy ../before --load 0
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import typer

from benchmarks._shared import measure
from benchmarks.speed import epochs
from genre.folds import draw_folds
from genre.training import process

#: Trains models on vectors, and prints the seconds of each; the second names are those of 4f44e01.
TRAIN = """
import json, resource, sys, tempfile, time
import numpy as np
from genre import models
Data = getattr(models, "TrainingData", None) or models.Data
train = getattr(models, "train_model", None) or models.train
arrays = dict(np.load(sys.argv[1]))
data = Data(**arrays | {"genres": arrays["genres"].tolist()})
seconds = {}
for name in sys.argv[2:]:
    cpu, clock = time.process_time(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        model = train(name, data, {}, 0, folder)
        for _ in range(20):
            models.predict_proba(name, model, data.X_validation)
    seconds[name] = {"CPU s": time.process_time() - cpu, "s": time.perf_counter() - clock}
print(json.dumps(seconds))
"""

#: Models on vectors that are trained.
CLASSICAL = ("logistic_regression", "random_forest", "svm", "catboost")


@contextmanager
def busy_processes(n: int) -> Iterator[None]:
    """Keep n processes computing."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for busy in processes:
            busy.kill()
            busy.wait()


def write_vectors(folder: Path, n: int = 360, n_columns: int = 523) -> Path:
    """Write vectors of seven genres that overlap, as many as the demo corpus has clips and inputs."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 7
    X = (rng.normal(size=(7, n_columns))[y] * 0.2 + rng.normal(size=(n, n_columns))).astype(np.float32)
    recordings = (np.arange(n) // 3).astype(str)
    is_validation = draw_folds(y, recordings, 6, 0) == 0
    genres = np.array([f"genre {i}" for i in range(7)])
    return epochs.save_data(folder / "vectors.npz", genres, X, y, recordings, is_validation)


def train_classical(checkout: Path, path: Path) -> dict[str, float]:
    """Train the models on vectors in a checkout, and return the seconds of each."""
    command = [str(checkout / ".venv" / "bin" / "python"), "-c", TRAIN, str(path), *CLASSICAL]
    # what the training processes of this checkout get beyond those of 4f44e01
    own = process.ONE_BLAS_THREAD_ENV if checkout == Path.cwd() else {}
    done = subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.PIPE, text=True, env=own | os.environ)
    seconds = json.loads(done.stdout)
    return {f"{name}, {unit}": value for name, by_unit in seconds.items() for unit, value in by_unit.items()}


def measure_checkout(checkout: Path, clips: Path, vectors: Path, n_epochs: int) -> dict[str, float]:
    """Return the seconds of all trainings in a checkout."""
    rows = epochs.run_training(checkout, clips, 0, epochs=n_epochs)
    later = rows[["cpu", "clock"]].iloc[1:].median()
    return {"mel_cnn epoch, CPU s": later["cpu"], "mel_cnn epoch, s": later["clock"]} | train_classical(
        checkout, vectors
    )


def main(against: Path, load: int = 4, rounds: int = 3, n_epochs: int = 5) -> None:
    """Train ROUNDS times in each checkout, in turn, beside LOAD busy processes, and print the seconds."""
    checkouts = {"this": Path.cwd(), "earlier": against.expanduser().resolve()}
    with TemporaryDirectory() as name:
        clips = epochs.write_demo_clips(Path(name))
        vectors = write_vectors(Path(name))
        with busy_processes(load):
            measured = [
                {which: measure_checkout(folder, clips, vectors, n_epochs) for which, folder in checkouts.items()}
                for _ in range(rounds)
            ]
    print(f"\n{load} busy processes, {os.cpu_count()} cores, {rounds} rounds: {measure.describe_cpu()}")
    print(epochs.tabulate(measured).to_string())


if __name__ == "__main__":
    typer.run(main)
