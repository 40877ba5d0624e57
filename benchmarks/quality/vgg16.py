"""What ImageNet is worth for music: VGG-16 frozen, trained further and from scratch, on a folder of real music.

The folder has one sub-folder per genre, and clips are cut as in the data set ``folder``. Each model is trained without
each of five folds of tracks in turn, and scored on the clips and tracks that it has not seen; networks keep a fifth of
their training tracks to choose the epoch by. Intervals are of the bootstrap by track, 95 %; differences are paired.

Weights come from `benchmarks.quality.imagenet_weights`. Each variant is kept in RESULTS as soon as it is done, and a
second call goes on from there: a full training of VGG-16, five folds at 64 x 64, takes 15 minutes on two cores.

    python -m benchmarks.quality.vgg16 ~/Music/by-genre vgg16_imagenet.weights.h5 results
"""

import os
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from joblib import Parallel, delayed

from benchmarks.quality import real_music
from genre import evaluate, models, weights
from genre.audio.left_out import LeftOut
from genre.config import AudioConfig
from genre.datasets import folder
from genre.errors import exit_on_error
from genre.folds import draw_folds
from genre.inputs import compute_inputs
from genre.models import TrainingData
from genre.probabilities import tables
from genre.store import computing
from genre.studies import trials

CONFIG = AudioConfig()
N_FOLDS = 5

#: Widths and heights of the images of a frozen base; 216 is the paper's.
SIZES = (64, 96, 128, 216)

#: Hyper-parameters by which every full training of VGG-16 is compared: few clips need more steps than an epoch of the
#: paper's batches of 32 has, and 64 x 64 costs a tenth of 216 x 216.
FULL = {"image_size": 64, "batch_size": 8, "epochs": 6, "learning_rate": 3e-5, "preprocessing": "imagenet"}

#: Hyper-parameters of a frozen base that was never trained.
RANDOM = {"image_size": 96, "weights": "random"}

#: Variant to a model and its hyper-parameters other than the defaults; ``random`` stands for untrained weights.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    f"frozen, {colours}, {preprocessing}, {size}": (
        "vgg16_transfer",
        {"image_size": size, "preprocessing": preprocessing, "colours": colours},
    )
    for size in SIZES
    for preprocessing in ("imagenet", "paper")
    for colours in ("jet", "grey")
} | {
    "frozen, random weights, imagenet": ("vgg16_transfer", RANDOM | {"preprocessing": "imagenet"}),
    "frozen, random weights, paper": ("vgg16_transfer", RANDOM | {"preprocessing": "paper"}),
    "mel_cnn": ("mel_cnn", {}),
    "musicnn_fine_tune": ("musicnn_fine_tune", {}),
    "vgg16_fine_tune": ("vgg16_fine_tune", {**FULL, "head_epochs": 10}),
    "vgg16_paper": ("vgg16_paper", FULL),
    "vgg16_scratch": ("vgg16_scratch", FULL),
    "feed_forward": ("feed_forward", FULL),
    "vgg16_fine_tune, paper's scale": ("vgg16_fine_tune", {**FULL, "head_epochs": 10, "preprocessing": "paper"}),
}

#: Differences to print: the first less the second.
PAIRS = [
    *((f"frozen, jet, imagenet, {size}", f"frozen, jet, paper, {size}") for size in SIZES),
    *((f"frozen, grey, imagenet, {size}", f"frozen, grey, paper, {size}") for size in SIZES),
    *((f"frozen, jet, paper, {size}", f"frozen, grey, paper, {size}") for size in SIZES),
    *((f"frozen, jet, paper, {size}", f"frozen, jet, paper, {smaller}") for smaller, size in pairwise(SIZES)),
    ("frozen, jet, imagenet, 96", "frozen, random weights, imagenet"),
    ("frozen, jet, paper, 96", "frozen, random weights, paper"),
    ("vgg16_fine_tune", "frozen, jet, imagenet, 64"),
    ("vgg16_fine_tune, paper's scale", "frozen, jet, paper, 64"),
    ("vgg16_fine_tune", "vgg16_paper"),
    ("vgg16_fine_tune", "vgg16_fine_tune, paper's scale"),
    ("vgg16_paper", "vgg16_scratch"),
    ("frozen, jet, paper, 216", "mel_cnn"),
    ("frozen, jet, paper, 216", "catboost"),
    ("svm_embeddings", "frozen, jet, paper, 216"),
]


def compute_arrays(clips: pd.DataFrame, names: tuple[str, ...], n_jobs: int) -> dict[str, np.ndarray]:
    """Return the inputs of the clips that networks take."""
    rows = Parallel(n_jobs)(delayed(_compute_row)(clip, names) for clip in clips.itertuples())
    return {name: np.stack([row[name] for row in rows]) for name in names}


def _compute_row(clip: Any, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the inputs of one clip."""
    return compute_inputs(computing.read_clip(clip, CONFIG), CONFIG, names, {})


def predict_out_of_fold(
    name: str, params: Mapping[str, Any], clips: pd.DataFrame, X: np.ndarray, cache: Path
) -> pd.DataFrame:
    """Return the probability table of a network of which each fold's clips were held out."""
    import keras

    genre, recording = clips["genre"], clips["recording"].to_numpy(str)
    y = genre.cat.codes.to_numpy()
    fold = draw_folds(genre, recording, N_FOLDS, 0)
    proba = np.empty((len(clips), len(genre.cat.categories)))
    for number in range(N_FOLDS):
        rest = np.flatnonzero(fold != number)
        is_validation = draw_folds(genre.iloc[rest], recording[rest], N_FOLDS, 1) == 0
        train, validation = rest[~is_validation], rest[is_validation]
        data = TrainingData(
            list(genre.cat.categories), X[train], y[train], recording[train], X[validation], y[validation], cache
        )
        with TemporaryDirectory() as directory:
            model = models.train_model(name, data, params, 0, directory)
        proba[fold == number] = models.predict_proba(name, model, X[fold == number])
        keras.backend.clear_session()
    return trials.make_probability_table(clips, proba)


def write_random_weights(path: Path) -> Path:
    """Write VGG-16 as it is before any training."""
    import keras

    from genre.models.vgg_layers import build_vgg16

    if not path.exists():
        keras.utils.set_random_seed(0)
        build_vgg16("none", size=32).save_weights(path)
    return path


def summarise_pairs(predicted: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the differences of macro AUC of `PAIRS`, by clip and by track, as far as both are there."""
    records = []
    for one, other in PAIRS:
        if one in predicted and other in predicted:
            tables_by_clip = predicted[one], predicted[other]
            clip = evaluate.paired_gain(*tables_by_clip)
            track = evaluate.paired_gain(*(tables.per_track(table) for table in tables_by_clip))
            texts = [real_music.format_interval(gain["gain"], gain["interval"], "+") for gain in (clip, track)]
            records.append({"difference": f"{one} - {other}", "AUC": texts[0], "track AUC": texts[1]})
    return pd.DataFrame(records)


def main(
    source: Annotated[Path, typer.Argument(help="Folder with one sub-folder per genre.")],
    imagenet: Annotated[Path, typer.Argument(help="ImageNet's weights of VGG-16.")],
    results: Annotated[Path, typer.Argument(help="Folder of the results so far.")],
    only: Annotated[str, typer.Option(help="Variants to compute, by the beginning of their names.")] = "",
    n_jobs: Annotated[int, typer.Option(help="Processes.")] = os.cpu_count() or 1,
) -> None:
    """Compute what is missing, and print the tables."""
    results.mkdir(parents=True, exist_ok=True)
    clips = folder.load_clips(source.expanduser(), source, LeftOut(), max_clips_per_track=2).assign(split="test")
    music = weights.find_weights("")
    families = real_music.FAMILIES
    if not all((results / f"{row}.parquet").exists() for row in families):
        X = real_music.compute_table(clips, music, n_jobs)
        for row, table in real_music.predict(clips, X, clips["recording"], N_FOLDS).items():
            table.to_parquet(results / f"{row}.parquet")
    inputs = compute_arrays(clips, ("spectrograms", "musicnn_mel"), n_jobs)
    for variant, (name, params) in NETWORKS.items():
        params = dict(params)
        if name.startswith("vgg16") and name != "vgg16_scratch":
            is_random = params.get("weights") == "random"
            params["weights"] = str(write_random_weights(results / "random.weights.h5") if is_random else imagenet)
        elif name == "musicnn_fine_tune":
            params["weights"] = str(music)
        path = results / f"{variant}.parquet"
        if not path.exists() and variant.startswith(tuple(only.split(";"))):
            started = time.perf_counter()
            X = inputs[models.get_model(name).input_names[0]]
            predict_out_of_fold(name, params, clips, X, results).to_parquet(path)
            print(f"{variant}: {time.perf_counter() - started:.0f} s", flush=True)
    predicted = {path.stem: pd.read_parquet(path) for path in sorted(results.glob("*.parquet"))}
    print(f"\n{len(clips)} clips of {clips['recording'].nunique()} tracks, {N_FOLDS} folds by track\n")
    for table in (real_music.summarise(predicted), summarise_pairs(predicted)):
        print(real_music.format_table(table), end="\n\n")


if __name__ == "__main__":
    with exit_on_error():
        typer.run(main)
