"""A step of VGG-16's fine-tuning against its bare convolutions and matrix products, on one CPU core.

The floor is the time of these operations alone, forward and backward, at the training's batch size and in the precision
that it chooses here: bfloat16 where the processor has instructions for it. The two alternate; CPU time. The share of a
step that is not the floor goes to the picture, activations, poolings, the loss, the penalty and Adam on 24 million
weights. Random weights and clips.

    python -m benchmarks.speed.vgg_step
    python -m benchmarks.speed.vgg_step --batch 8 --repeats 3    # a minute
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks._shared import measure
from genre import models
from genre.models import TrainingData, vgg_layers

N_GENRES = 7

#: Width and height of the image, channels before and channels after each convolution of VGG-16.
CONVOLUTIONS = (
    (216, 3, 64),
    (216, 64, 64),
    (108, 64, 128),
    (108, 128, 128),
    (54, 128, 256),
    (54, 256, 256),
    (54, 256, 256),
    (27, 256, 512),
    (27, 512, 512),
    (27, 512, 512),
    (13, 512, 512),
    (13, 512, 512),
    (13, 512, 512),
)

#: Rows and columns of the kernel of the dense layer, on 6 x 6 x 512 outputs. The softmax is too small to count.
DENSE = (6 * 6 * 512, 512)


def make_step(S: np.ndarray, batch: int) -> tuple[Callable[[], int], str]:
    """Return a function that does one step of the training, on every weight, and the precision of the network."""
    import keras

    y = np.arange(batch) % N_GENRES
    genres = [f"genre {i}" for i in range(N_GENRES)]
    data = TrainingData(genres, S[:batch], y, y.astype(str), S[:1], y[:1])
    hp = models.check_params("vgg16_fine_tune", {"batch_size": batch})
    with TemporaryDirectory() as folder:
        training = vgg_layers.NetworkTraining("vgg16_fine_tune", data, 0, Path(folder), hp, "none", (hp["units"],))
    network = training.build_network(training.policy)
    auc = keras.metrics.AUC(multi_label=True, num_labels=N_GENRES, name="auc")
    network.compile(keras.optimizers.Adam(hp["learning_rate"]), "categorical_crossentropy", metrics=["accuracy", auc])
    labels = np.eye(N_GENRES, dtype=np.float32)[y]

    def step() -> int:
        network.train_on_batch(data.X_train, labels)
        return batch

    return step, training.policy


def make_floor(batch: int, dtype: str) -> Callable[[], int]:
    """Return a function that does the convolutions and the matrix products of one step, forward and backward."""
    import tensorflow as tf

    def random(*shape: int) -> Any:
        return tf.cast(tf.random.normal(shape), dtype)

    layers = [
        (random(batch, side, side, before), random(3, 3, before, after), random(batch, side, side, after))
        for side, before, after in CONVOLUTIONS
    ]
    x, kernel, gradient = random(batch, DENSE[0]), random(*DENSE), random(batch, DENSE[1])

    def convolve(x: Any, kernel: Any, gradient: Any) -> list[Any]:
        options = {"strides": [1, 1, 1, 1], "padding": "SAME"}
        backward_filter = tf.raw_ops.Conv2DBackpropFilter(
            input=x, filter_sizes=tf.shape(kernel), out_backprop=gradient, **options
        )
        outputs = [tf.nn.conv2d(x, kernel, **options), backward_filter]
        if x.shape[-1] > 3:  # nothing below the picture is trained
            outputs.append(
                tf.raw_ops.Conv2DBackpropInput(input_sizes=tf.shape(x), filter=kernel, out_backprop=gradient, **options)
            )
        return outputs

    @tf.function
    def compute() -> list[Any]:
        products = [x @ kernel, tf.matmul(x, gradient, transpose_a=True), tf.matmul(gradient, kernel, transpose_b=True)]
        outputs = [output for layer in layers for output in convolve(*layer)]
        # one value of each, so that none is left out and none is copied
        return [tf.reshape(output, [-1])[0] for output in products + outputs]

    def floor() -> int:
        [value.numpy() for value in compute()]
        return batch

    return floor


def main(batch: int = 32, repeats: int = 5) -> None:
    """Measure and print."""
    step, policy = make_step(measure.synthesize_spectrograms(batch), batch)
    dtype = "bfloat16" if policy == "mixed_bfloat16" else "float32"
    seconds = measure.time_alternately({"step": step, "floor": make_floor(batch, dtype)}, repeats)
    print(f"\nVGG-16, every weight trained, batch {batch}, {dtype}, one core: {measure.describe_cpu()}")
    print(measure.tabulate_rates(seconds, "floor", "clips").to_string())
    share = seconds["floor"] / seconds["step"]
    print(f"share of the floor's speed: {share.median():.2f} ({share.min():.2f} to {share.max():.2f})")


if __name__ == "__main__":
    measure.run_on_one_core(main)
