"""Transfer learning on a frozen VGG-16, its outputs cached, against running it again every epoch, on one CPU core.

Claims, for ten epochs in float32 on 200 clips, in CPU time, checkpoints included and first calls (which compile)
excluded: at least 7 times as fast; at least 40 times for a further experiment with the head, once the outputs of the
base are cached. Only the fitting is compared: what a training does before and after it (imports, weights, the
probability table, for which the saved model runs over all clips) is the same for both. Both factors are smaller in
bfloat16 (`--precision auto`) on a processor that has matrix instructions for it: there the base is several times
cheaper, and the head, bound by memory, is not.

The cached method runs whole. Of the ten epochs of the other, which are alike, two are run and their mean taken for
ten; the losses of both methods are compared epoch by epoch. For the paper's 36,486 training and 2,027 validation clips
the times are projected from the parts, and the arithmetic is printed. Random weights and clips; no dropout, so that
both methods must agree.

    python -m benchmarks.speed.cached_base                        # five minutes
    python -m benchmarks.speed.cached_base --precision auto       # the precision that training would choose here
    python -m benchmarks.speed.cached_base --clips 64             # on a slow machine
"""

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import keras
import numpy as np

from benchmarks._shared import measure
from genre import models
from genre.models import TrainingData, devices, keras_training, vgg_layers
from genre.models.base_outputs import load_base_outputs

EPOCHS = 10

#: Width and height of the images, the paper's.
SIZE = 216
GENRES = [f"genre {i}" for i in range(7)]

#: Epochs with the base that are run, in addition to one that is not counted.
WHOLE_EPOCHS = 2

#: Training and validation clips of the paper (its published code).
PAPER_CLIPS = 36_486
PAPER_VALIDATION = 2_027


class Measured(NamedTuple):
    """CPU seconds: the base once, and per epoch the head, the whole network, and the head on many clips."""

    base_s: float
    head_s: np.ndarray
    whole_s: np.ndarray
    many_s: np.ndarray
    #: Largest relative difference of the validation losses of the two methods.
    difference: float


def label_clips(X: Any, X_validation: Any) -> TrainingData:
    """Give clips their genres in turn."""
    y = np.arange(len(X)) % len(GENRES)
    y_validation = np.arange(len(X_validation)) % len(GENRES)
    return TrainingData(GENRES, X, y, np.arange(len(y)).astype(str), X_validation, y_validation)


def make_training(data: TrainingData, precision: str, folder: Path) -> vgg_layers.NetworkTraining:
    """Return the training of `vgg16_transfer`, with a random base and no dropout."""
    hp = models.check_params("vgg16_transfer", {"precision": precision, "dropout": 0.0, "image_size": SIZE})
    return vgg_layers.NetworkTraining("vgg16_transfer", data, 0, folder, hp, "none", (hp["units"],))


def time_epochs(
    model: keras.Model, data: TrainingData, training: vgg_layers.NetworkTraining, folder: Path, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the CPU seconds of n epochs, after one that is not counted, and all the validation losses."""
    folder.mkdir()
    stamps: list[float] = []
    model.compile(
        keras.optimizers.Adam(training.hp["learning_rate"]),
        "categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=devices.jit_compile_setting(dense=model.name == "head"),
    )
    keras_training.train_network(
        model,
        data,
        folder,
        key={"seed": 0},
        epochs=n + 1,
        batch_size=training.hp["batch_size"],
        patience=n + 1,
        on_epoch=lambda epoch, metrics: stamps.append(time.process_time()),
    )
    return np.diff(stamps), keras_training.training_history(folder)["val_loss"].to_numpy()


def measure_methods(data: TrainingData, training: vgg_layers.NetworkTraining, folder: Path, many: int) -> Measured:
    """Run both methods, and the head alone on many clips."""
    model = training.build_network(training.policy, frozen=True)
    head = model.get_layer("head")
    head_weights = head.get_weights()
    body = vgg_layers.chain_layers(training.shape, model.layers[1:-1], "body")
    batch = training.hp["batch_size"]
    body.predict_on_batch(data.X_train[:batch])

    start = time.process_time()
    X, X_validation = (
        load_base_outputs(body, X, folder, [], batch_size=batch) for X in (data.X_train, data.X_validation)
    )
    base_s = time.process_time() - start
    cached = replace(data, X_train=X, X_validation=X_validation)
    head_s, head_loss = time_epochs(head, cached, training, folder / "head", EPOCHS)
    head.set_weights(head_weights)
    whole_s, whole_loss = time_epochs(model, data, training, folder / "whole", WHOLE_EPOCHS)
    X_many = np.resize(X[:], (many, *X.shape[1:]))
    many_s, _ = time_epochs(head, label_clips(X_many, X_validation), training, folder / "many", 2)
    difference = np.abs(head_loss[: len(whole_loss)] / whole_loss - 1).max()
    return Measured(base_s, head_s, whole_s, many_s, difference)


def report(measured: Measured, n: int, n_validation: int, many: int) -> None:
    """Print the figures at n clips, and the projection to the paper's number of clips."""
    base = measured.base_s
    head = measured.head_s.sum()
    whole = EPOCHS * measured.whole_s.mean()
    for name, seconds in (("head", measured.head_s), ("every", measured.whole_s)):
        print(f"  epoch, {name:5} {np.median(seconds):8.2f} s ({seconds.min():.2f} to {seconds.max():.2f})")
    print(f"  base, once   {base:8.2f} s")
    print(f"  validation losses of the two methods differ by {measured.difference:.1e} of themselves at most")
    print(
        f"{n} clips, {EPOCHS} epochs: every epoch {whole:.1f} s, cached {base:.1f} + {head:.1f} = {base + head:.1f} s"
    )
    print(f"  factor {whole / (base + head):.1f}; further head experiment {whole / head:.1f}")
    head_s = np.median(measured.head_s)
    head_clip_s = (np.median(measured.many_s) - head_s) / (many - n)
    report_projection(base / (n + n_validation), head_clip_s, max(0.0, head_s - n * head_clip_s))


def report_projection(b: float, h: float, f: float) -> None:
    """Print the projection to the paper's clips.

    Parameters
    ----------
    b, h : float
        Seconds per clip of the base and of an epoch of the head.
    f : float
        Further seconds per epoch.
    """
    N = PAPER_CLIPS
    V = PAPER_VALIDATION
    whole = EPOCHS * (N * (b + h) + V * b + f)
    once = (N + V) * b
    heads = EPOCHS * (N * h + f)
    print(f"per clip: base b = {1000 * b:.2f} ms, head h = {1000 * h:.3f} ms; further per epoch: f = {f:.2f} s")
    print(f"at {N:,} clips, projected, N = {N}, V = {V}:")
    print(f"  every epoch  {EPOCHS} (N (b + h) + V b + f) = {whole / 3600:.2f} h")
    print(f"  cached       (N + V) b + {EPOCHS} (N h + f) = {once / 3600:.2f} + {heads / 3600:.2f} h")
    print(f"  factor {whole / (once + heads):.1f}; further head experiment {whole / heads:.1f}")


def main(clips: int = 200, precision: str = "float32", many: int = 2_000) -> None:
    """Measure and print; an epoch of the head on MANY clips separates the cost per clip from that per epoch."""
    n_validation = max(1, clips * PAPER_VALIDATION // PAPER_CLIPS)
    S = measure.synthesize_spectrograms(clips + n_validation)
    with TemporaryDirectory() as folder:
        data = label_clips(S[:clips], S[clips:])
        training = make_training(data, precision, Path(folder))
        print(f"\nVGG-16 at {SIZE} x {SIZE}, {training.policy}, one core: {measure.describe_cpu()}")
        report(measure_methods(data, training, Path(folder), many), clips, n_validation, many)


if __name__ == "__main__":
    measure.run_on_one_core(main)
