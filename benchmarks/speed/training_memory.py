"""Epochs of the networks with the memory settings of a training's process, against glibc's own.

By default glibc gives every large array back to the system as soon as it is freed, and the system clears the pages of
the next one: a step of a network frees and asks for gigabytes. Each round trains every network twice, in processes of
their own, without and with `genre.training.process.LARGE_ARRAYS_ENV`; epochs after the first, which compiles, are
compared. Random clips.

    python -m benchmarks.speed.training_memory                       # ten minutes
"""

import os
from typing import Any

import numpy as np
import pandas as pd
import typer

from benchmarks._shared import measure
from benchmarks._shared.training import time_training
from genre.training.process import LARGE_ARRAYS_ENV

#: Network to its hyper-parameters other than the defaults, and its number of clips.
NETWORKS: dict[str, tuple[dict[str, Any], int]] = {
    "vgg16_scratch": ({"image_size": 64, "batch_size": 8, "epochs": 4}, 64),
    "mel_cnn": ({"epochs": 5}, 256),
}


def time_epoch(name: str, settings: dict[str, str]) -> tuple[float, float]:
    """Return the median seconds of an epoch but the first, by the clock, and the peak memory, MB."""
    params, n_clips = NETWORKS[name]
    environment = {key: value for key, value in os.environ.items() if key not in LARGE_ARRAYS_ENV} | settings
    times = time_training(name, params, n_clips, environment)
    return float(np.median(times.epochs_s[1:])), times.peak_mb


def main(rounds: int = 3) -> None:
    """Measure and print the ratio of each network, its range, and the memory."""
    print(f"\n{measure.describe_cpu()}, {rounds} rounds")
    for name in NETWORKS:
        rows = pd.DataFrame([[*time_epoch(name, {}), *time_epoch(name, LARGE_ARRAYS_ENV)] for _ in range(rounds)])
        ratio = rows[0] / rows[2]
        print(
            f"{name}: {rows[0].median():.2f} s per epoch by default, {rows[2].median():.2f} s with the settings; "
            f"{ratio.median():.2f} times as fast ({ratio.min():.2f} to {ratio.max():.2f}); "
            f"{rows[1].median():.0f} and {rows[3].median():.0f} MB"
        )


if __name__ == "__main__":
    typer.run(main)
