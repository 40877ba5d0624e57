"""The frozen VGG-16 base in bfloat16 against float32, on one CPU core.

Claims: at least 1.6 times as many clips a second where the processor has instructions for bfloat16. Random weights,
pictures of 216 × 216, batches of 8; CPU time; both are run in turn. Elsewhere the ratio is printed and nothing claimed:
there training keeps to float32.

    python benchmarks/precision.py
"""

import measure

measure.one_core()

from collections.abc import Callable  # noqa: E402

import numpy as np  # noqa: E402
import typer  # noqa: E402

SIDE, BATCH = 216, 8


def base(policy: str) -> Callable[[], int]:
    """Forward pass of one batch under a policy; returns the clips done."""
    import keras

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    network = keras.applications.VGG16(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3))
    network.trainable = False
    pictures = np.random.default_rng(0).random((BATCH, SIDE, SIDE, 3), dtype=np.float32)

    def forward() -> int:
        return len(network.predict_on_batch(pictures))

    return forward


def main(repeats: int = 15) -> None:
    """Measure and print."""
    ways = {name: base(policy) for name, policy in (("float32", "float32"), ("bfloat16", "mixed_bfloat16"))}
    seconds = measure.alternately(ways, repeats)
    print(f"\nVGG-16 base, forward, {SIDE} x {SIDE}, batch {BATCH}, one core: {measure.cpu()}")
    print(measure.compared(seconds, "float32", "clips").to_string())
    if "avx512_bf16" not in measure.cpu():
        print("no avx512_bf16: float32 is what training uses here")


if __name__ == "__main__":
    typer.run(main)
