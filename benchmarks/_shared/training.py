"""A training of a network on random clips, in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

#: Trains a network on random clips of four genres, and prints a `TrainingTimes`.
_TRAIN = """
import json, resource, sys, tempfile, time
started = time.perf_counter()
from pathlib import Path
import numpy as np
from genre import models
name, params, n = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)
X = rng.integers(0, 256, (n + 16, 96, 431), dtype=np.uint8)
y = np.arange(len(X)) % 4
seconds = []
totals = []
with tempfile.TemporaryDirectory() as folder:
    for attempt in ("first", "second")[: 1 + int(sys.argv[4])]:
        data = models.TrainingData(
            list("abcd"), X[:n], y[:n], np.arange(n).astype(str), X[n:], y[n:], Path(folder)
        )
        path = Path(folder, attempt)
        on_epoch = lambda epoch, metrics: seconds.append(metrics["seconds"])
        model = models.train_model(name, data, params, 0, path, on_epoch)
        models.save_model(name, model, path)
        totals.append(time.perf_counter() - started)
        started = time.perf_counter()
print(json.dumps([seconds, totals, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


class TrainingTimes(NamedTuple):
    """Seconds by the clock of each epoch and of each training from the imports to the saved model; peak memory, MB."""

    epochs_s: list[float]
    totals_s: list[float]
    peak_mb: float


def time_training(
    name: str, params: Mapping[str, Any], n_clips: int, environment: Mapping[str, str], *, again: bool = False
) -> TrainingTimes:
    """Train a network on random clips in a new process.

    Parameters
    ----------
    name : str
        A network of `genre.models.MODELS`.
    params : mapping
        Hyper-parameters other than the defaults.
    n_clips : int
        Training clips, beside sixteen for validation.
    environment : mapping
        Environment of the process.
    again : bool
        Whether it is trained a second time, with what the first has cached. Default False.
    """
    command = [sys.executable, "-c", _TRAIN, name, json.dumps(dict(params)), str(n_clips), str(int(again))]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return TrainingTimes(*json.loads(done.stdout.splitlines()[-1]))
