"""Transfer learning on a frozen VGG-16, its outputs kept, against running it again every epoch, on one CPU core.

Claims, ten epochs in float32, CPU time, checkpoints counted, first calls (which compile) left out, on 200 clips: at
least 7 times faster; at least 40 times for a further experiment with the head, the base's outputs being there. It is
the fitting that is compared: what a training does before and after (imports, weights, the probability table, for which
the saved model runs over all clips) is the same for both and not in it. Both factors are less in bfloat16
(`--precision auto`) on a processor that has matrix instructions for it: the base is then several times cheaper and the
head, bound by memory, is not.

The cached way is run whole. Of the other's ten epochs, which are alike, two are run and the sum taken for ten; the
losses of both ways are held against each other epoch by epoch. For the paper's 36,486 training and 2,027 validation
clips the times are projected from the parts, and the arithmetic printed. Random weights and clips; no dropout, so that
both ways must agree.

    python benchmarks/cached_base.py                        # five minutes
    python benchmarks/cached_base.py --precision auto       # what training would choose here
    python benchmarks/cached_base.py --clips 64             # where 200 take too long
"""

import measure

measure.one_core()

import time  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402
from typing import Any  # noqa: E402

import keras  # noqa: E402
import numpy as np  # noqa: E402
import typer  # noqa: E402

from genre import models  # noqa: E402
from genre.models import TrainingData, devices, keras_training, vgg_layers  # noqa: E402

EPOCHS, GENRES = 10, [f"genre {i}" for i in range(7)]

#: Epochs with the base that are run, besides one that is not counted.
EVERY_EPOCHS = 2

#: Training and validation clips of the paper (its published code).
PAPER_CLIPS, PAPER_VALIDATION = 36_486, 2_027


def labelled(X: Any, X_validation: Any) -> TrainingData:
    """Clips with genres in turn."""
    y, y_validation = (np.arange(len(part)) % len(GENRES) for part in (X, X_validation))
    return TrainingData(GENRES, X, y, np.arange(len(y)).astype(str), X_validation, y_validation)


def training(data: TrainingData, precision: str, folder: Path) -> vgg_layers.NetworkTraining:
    """The model as `vgg16_transfer` would train it, its base random and its dropout off."""
    hp = models.check_params("vgg16_transfer", {"precision": precision, "dropout": 0.0})
    return vgg_layers.NetworkTraining("vgg16_transfer", data, 0, folder, hp, "none", (hp["units"],))


def epochs_s(
    model: keras.Model, data: TrainingData, work: vgg_layers.NetworkTraining, folder: Path, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """CPU seconds of n epochs, after one that is not counted, and all the validation losses."""
    folder.mkdir()
    stamps: list[float] = []
    model.compile(
        keras.optimizers.Adam(work.hp["learning_rate"]),
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
        batch_size=work.hp["batch_size"],
        patience=n + 1,
        on_epoch=lambda epoch, metrics: stamps.append(time.process_time()),
    )
    return np.diff(stamps), keras_training.training_history(folder)["val_loss"].to_numpy()


def measured(data: TrainingData, work: vgg_layers.NetworkTraining, folder: Path, many: int) -> dict[str, Any]:
    """Both ways whole, and the head alone on many clips."""
    model = work.build_network(work.policy, frozen=True)
    head = model.get_layer("head")
    start = head.get_weights()
    body = vgg_layers.chain_layers(work.shape, model.layers[1:-1], "body")
    batch = work.hp["batch_size"]
    body.predict_on_batch(data.X_train[:batch])

    begun = time.process_time()
    kept = [vgg_layers.cached_outputs(body, X, folder, [], batch_size=batch) for X in (data.X_train, data.X_validation)]
    base_s = time.process_time() - begun
    cached = replace(data, X_train=kept[0], X_validation=kept[1])
    head_s, head_loss = epochs_s(head, cached, work, folder / "head", EPOCHS)
    head.set_weights(start)
    every_s, every_loss = epochs_s(model, data, work, folder / "whole", EVERY_EPOCHS)
    more = np.resize(kept[0], (many, *kept[0].shape[1:]))
    many_s, _ = epochs_s(head, labelled(more, kept[1]), work, folder / "many", 2)
    apart = np.abs(head_loss[: len(every_loss)] / every_loss - 1).max()
    return {"base": base_s, "head": head_s, "every": every_s, "many": many_s, "apart": apart}


def report(found: dict[str, Any], n: int, n_validation: int, many: int) -> None:
    """What was measured at n clips, and the same at the paper's number with the arithmetic."""
    base, head, every = found["base"], found["head"].sum(), EPOCHS * found["every"].mean()
    for name in ("head", "every"):
        print(f"  epoch, {name:5} {np.median(found[name]):8.2f} s ({found[name].min():.2f} to {found[name].max():.2f})")
    print(f"  base, once   {base:8.2f} s")
    print(f"  validation losses of the two ways apart by {found['apart']:.1e} of themselves at most")
    print(
        f"{n} clips, {EPOCHS} epochs: every epoch {every:.1f} s, cached {base:.1f} + {head:.1f} = {base + head:.1f} s"
    )
    print(f"  factor {every / (base + head):.1f}; further head experiment {every / head:.1f}")
    b = base / (n + n_validation)
    h = (np.median(found["many"]) - np.median(found["head"])) / (many - n)
    fixed = max(0.0, np.median(found["head"]) - n * h)
    N, V = PAPER_CLIPS, PAPER_VALIDATION
    again, once, heads = EPOCHS * (N * (b + h) + V * b + fixed), (N + V) * b, EPOCHS * (N * h + fixed)
    print(f"a clip: base b = {1000 * b:.2f} ms, head h = {1000 * h:.3f} ms; an epoch besides: f = {fixed:.2f} s")
    print(f"at {N:,} clips, projected, N = {N}, V = {V}:")
    print(f"  every epoch  {EPOCHS} (N (b + h) + V b + f) = {again / 3600:.2f} h")
    print(f"  cached       (N + V) b + {EPOCHS} (N h + f) = {once / 3600:.2f} + {heads / 3600:.2f} h")
    print(f"  factor {again / (once + heads):.1f}; further head experiment {again / heads:.1f}")


def main(clips: int = 200, precision: str = "float32", many: int = 2_000) -> None:
    """Measure and print; an epoch of the head on `many` clips tells what one costs whatever its length."""
    n_validation = max(1, clips * PAPER_VALIDATION // PAPER_CLIPS)
    S = measure.noise(clips + n_validation)
    with TemporaryDirectory() as folder:
        data = labelled(S[:clips], S[clips:])
        work = training(data, precision, Path(folder))
        print(f"\nVGG-16 at 216 x 216, {work.policy}, one core: {measure.cpu()}")
        report(measured(data, work, Path(folder), many), clips, n_validation, many)


if __name__ == "__main__":
    typer.run(main)
