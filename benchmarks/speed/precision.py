"""The frozen VGG-16 base in bfloat16 against float32, on one CPU core.

Claim: at least 1.6 times as many clips per second where the processor has instructions for bfloat16. Random weights,
images of 216 × 216, batches of 8; CPU time; the two alternate. On other processors, where training keeps to float32,
the ratio is printed without a claim.

    python -m benchmarks.speed.precision
"""

from collections.abc import Callable

import numpy as np

from benchmarks._shared import measure

#: Width and height of an image.
SIDE = 216

BATCH = 8


def make_base(policy: str) -> Callable[[], int]:
    """Return a function that runs one batch through the base under a policy and returns the number of clips."""
    import keras

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    network = keras.applications.VGG16(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3))
    network.trainable = False
    images = np.random.default_rng(0).random((BATCH, SIDE, SIDE, 3), dtype=np.float32)
    return lambda: len(network.predict_on_batch(images))


def main(repeats: int = 15) -> None:
    """Measure and print."""
    workloads = {"float32": make_base("float32"), "bfloat16": make_base("mixed_bfloat16")}
    seconds = measure.time_alternately(workloads, repeats)
    print(f"\nVGG-16 base, forward, {SIDE} x {SIDE}, batch {BATCH}, one core: {measure.describe_cpu()}")
    print(measure.tabulate_rates(seconds, "float32", "clips").to_string())
    if "avx512_bf16" not in measure.describe_cpu():
        print("no avx512_bf16: training uses float32 here")


if __name__ == "__main__":
    measure.run_on_one_core(main)
