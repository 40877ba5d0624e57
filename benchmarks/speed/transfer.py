"""An experiment with a frozen VGG-16 on the CPU: ten epochs of `vgg16_transfer` on 800 clips, by its default settings.

Claim: at most five minutes on two cores, from the imports to the saved model, whatever precision the processor has. The
base runs once over the clips; a second training on them, which finds its outputs, is given too. Random clips and
weights.

    python -m benchmarks.speed.transfer                       # three minutes
    python -m benchmarks.speed.transfer --image-size 216      # the paper's
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import typer

from benchmarks._shared import measure
from benchmarks._shared.training import time_training
from benchmarks.quality.vgg16 import write_random_weights
from genre import models
from genre.training.process import LIBRARY_ENV

EPOCHS = 10

#: Seconds that the claim allows.
LIMIT_S = 300


def main(clips: int = 800, image_size: int = 0) -> None:
    """Measure and print both trainings."""
    size = image_size or models.default_params("vgg16_transfer")["image_size"]
    with TemporaryDirectory() as folder:
        weights = write_random_weights(Path(folder, "random.weights.h5"))
        params = {"epochs": EPOCHS, "image_size": size, "weights": str(weights)}
        times = time_training("vgg16_transfer", params, clips, LIBRARY_ENV | dict(os.environ), again=True)
    first, second = times.totals_s
    print(f"\n{measure.describe_cpu()}, {os.cpu_count()} cores")
    print(f"{clips} clips, {size} x {size}, {EPOCHS} epochs: {first:.0f} s, {times.peak_mb:.0f} MB")
    print(f"epoch of the head {min(times.epochs_s):.2f} to {max(times.epochs_s):.2f} s")
    print(f"a second training, the base's outputs cached: {second:.1f} s, {first / second:.1f} times as fast")
    print(f"share of the {LIMIT_S} s allowed: {first / LIMIT_S:.2f}")


if __name__ == "__main__":
    typer.run(main)
