"""VGG-16's fine-tuning on a GPU: images a second against the paper's, and the share of what the device can do.

The paper's epoch of 36,486 images took 388 s on a Titan X, 94 images a second (its published notebooks). Two floors
are measured in the same run, by the clock: the convolutions and matrix products of a step alone, and their number of
operations at the speed of one large matrix product in the same precision. Random weights and clips.

    python -m benchmarks.speed.gpu            # two minutes
    python -m benchmarks.speed.gpu --cpu --steps 1 --batch 8 --size 1024    # tries the script without a GPU
"""

import time
from collections.abc import Callable

import numpy as np
import typer

from benchmarks._shared import measure
from benchmarks.speed.vgg_step import CONVOLUTIONS, DENSE, make_floor, make_step
from genre.errors import UsageError, exit_on_error

#: Images a second of the published code: 36,486 in 388 s.
PAPER_RATE = 36_486 / 388


def operations_per_image() -> float:
    """Count the operations of a step per image: forward, and two gradients of each layer but the first."""
    convolutions = [2 * side**2 * 9 * before * after for side, before, after in CONVOLUTIONS]
    return 3.0 * (sum(convolutions) + 2 * DENSE[0] * DENSE[1]) - convolutions[0]


def measure_rate(work: Callable[[], int], steps: int) -> np.ndarray:
    """Return items per second of some calls, after three that are not counted."""
    rates = []
    for _ in range(3 + steps):
        start = time.perf_counter()
        n = work()
        rates.append(n / (time.perf_counter() - start))
    return np.array(rates[3:])


def make_product(size: int, dtype: str) -> Callable[[], int]:
    """Return a function that multiplies two square matrices ten times, and returns its operations."""
    import tensorflow as tf

    one = tf.cast(tf.random.normal((size, size)), dtype)

    @tf.function
    def compute() -> tf.Tensor:
        product = one
        for _ in range(10):
            product = (one @ product) / size
        return product[0, 0]

    def multiply() -> int:
        compute().numpy()
        return 10 * 2 * size**3

    return multiply


def main(batch: int = 32, steps: int = 60, size: int = 8192, cpu: bool = False) -> None:
    """Measure and print."""
    from genre.models import devices

    if devices.detect_device() != "gpu" and not cpu:
        raise UsageError("Keras sees no GPU here; install the extra gpu, or add --cpu to try the script")
    step, policy = make_step(measure.synthesize_spectrograms(batch), batch)
    dtype = "bfloat16" if policy == "mixed_bfloat16" else "float32"
    rates = measure_rate(step, steps)
    floors = measure_rate(make_floor(batch, dtype), steps)
    peak = np.median(measure_rate(make_product(size, dtype), steps))
    rate, floor = np.median(rates), np.median(floors)
    operations = operations_per_image()
    print(f"\nVGG-16, every weight trained, batch {batch}, {dtype}")
    print(f"{rate:.3g} images/s ({rates.min():.3g} to {rates.max():.3g}), {rate / PAPER_RATE:.2g} times the paper's 94")
    print(f"share of the bare convolutions and products ({floor:.3g} images/s): {rate / floor:.2f}")
    print(f"{operations / 1e9:.1f} GFLOP per image; one matrix product: {peak / 1e12:.2f} TFLOP/s")
    print(f"share of that: {rate * operations / peak:.2f}")


if __name__ == "__main__":
    with exit_on_error():
        typer.run(main)
