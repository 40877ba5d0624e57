"""Scores of the models on a labelled folder of real music, out of fold, each against the models before modulations.

The folder has one sub-folder per genre. Clips are cut as in the data set ``folder``. Each model is fitted without each
fold of tracks in turn, and scored on the clips, and the tracks, that it was not fitted on. The reference is the mean of
svm and catboost with the paper's settings on the 97 features. Intervals are of the bootstrap by track, 95 %.

With ``--block 20`` the folds are of files whose numbered names lie within twenty numbers, since neighbours may share an
album.

    python -m benchmarks.quality.real_music ~/Music/by-genre
"""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from joblib import Parallel, delayed

from genre import evaluate, models, weights
from genre.audio.left_out import LeftOut
from genre.config import AudioConfig
from genre.datasets import folder
from genre.ensemble import combine_tables
from genre.inputs import column_names, compute_inputs, embeddings
from genre.probabilities import tables
from genre.store import computing
from genre.studies import trials

CONFIG = AudioConfig()

#: Inputs that are vectors, in the order of a table's columns.
VECTORS = ("features", "modulations", "embeddings")

#: Name of the reference, a mean of two models.
REFERENCE = "svm and catboost, the paper's settings"

#: Row of the table to a model, its variant and its inputs.
FAMILIES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "logistic_regression, the paper's settings": ("logistic_regression", "paper", ("features",)),
    "random_forest, the paper's settings": ("random_forest", "paper", ("features",)),
    "svm, the paper's settings": ("svm", "paper", ("features",)),
    "catboost, the paper's settings": ("catboost", "paper", ("features",)),
    "svm, features": ("svm", "corrected", ("features",)),
    "svm, modulations": ("svm", "corrected", ("modulations",)),
    "logistic_regression": ("logistic_regression", "corrected", ("features", "modulations")),
    "random_forest": ("random_forest", "corrected", ("features", "modulations")),
    "catboost": ("catboost", "corrected", ("features", "modulations")),
    "svm": ("svm", "corrected", ("features", "modulations")),
    "logistic_regression_embeddings": ("logistic_regression", "corrected", ("embeddings",)),
    "svm_embeddings": ("svm", "corrected", ("embeddings",)),
    "svm_all_inputs": ("svm", "corrected", VECTORS),
}

#: Row of the table to the rows whose geometric mean it is.
MEANS = {
    REFERENCE: ("svm, the paper's settings", "catboost, the paper's settings"),
    "svm, svm_embeddings": ("svm", "svm_embeddings"),
    "svm, svm_all_inputs": ("svm", "svm_all_inputs"),
    "catboost, svm_embeddings, svm_all_inputs": ("catboost", "svm_embeddings", "svm_all_inputs"),
}


def compute_table(clips: pd.DataFrame, weights_path: Path, n_jobs: int) -> pd.DataFrame:
    """Return the inputs of the clips that are vectors, side by side."""
    loaded = {"musicnn.npz": embeddings.load_weights(weights_path)}
    rows = Parallel(n_jobs)(delayed(_compute_row)(clip, loaded) for clip in clips.itertuples())
    return pd.DataFrame(np.stack(rows), columns=column_names(VECTORS))


def _compute_row(clip: Any, loaded: Mapping[str, Any]) -> np.ndarray:
    """Return the inputs of one clip."""
    values = compute_inputs(computing.read_clip(clip, CONFIG), CONFIG, VECTORS, loaded)
    return np.concatenate([values[name] for name in VECTORS])


def predict(clips: pd.DataFrame, X: pd.DataFrame, groups: pd.Series, n_folds: int) -> dict[str, pd.DataFrame]:
    """Return the out-of-fold probability table of each row of the table, with the track as recording."""
    predicted: dict[str, pd.DataFrame] = {}
    grouped = clips.assign(recording=groups)
    for row, (name, variant, inputs) in FAMILIES.items():
        started = time.perf_counter()
        params = models.check_params(name, {}, variant)
        out = trials.predict_out_of_fold(name, grouped, X[column_names(inputs)], params=params, n_folds=n_folds)
        predicted[row] = out.assign(recording=clips["recording"].to_numpy())
        print(f"{row}: {time.perf_counter() - started:.0f} s", flush=True)
    for row, members in MEANS.items():
        predicted[row] = combine_tables([predicted[member] for member in members], "geometric")
    return predicted


def summarise(predicted: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return one row of scores per model, per clip and per track, with the gains over the reference."""
    by_track = {row: tables.per_track(table) for row, table in predicted.items()}
    records = []
    for row, table in predicted.items():
        clip = _scores(table)
        track = _scores(by_track[row])
        gain = evaluate.paired_gain(table, predicted[REFERENCE])
        track_gain = evaluate.paired_gain(by_track[row], by_track[REFERENCE])
        records.append(
            {
                "model": row,
                "AUC": format_interval(clip["macro_auc"], evaluate.confidence_intervals(table)["macro_auc"]),
                "accuracy": f"{clip['accuracy']:.3f}",
                "gain of AUC": format_interval(gain["gain"], gain["interval"], "+"),
                "log-loss": f"{clip['log_loss']:.3f}",
                "track AUC": f"{track['macro_auc']:.3f}",
                "track accuracy": f"{track['accuracy']:.3f}",
                "gain of track accuracy": format_interval(*_split_gain(track_gain["accuracy"]), "+"),
            }
        )
    return pd.DataFrame(records)


def _scores(table: pd.DataFrame) -> dict[str, float]:
    """Return the metrics of a probability table."""
    return evaluate.compute_metrics(tables.labels_of(table), tables.proba_of(table), tables.genres_of(table))


def _split_gain(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Return a gain and its interval."""
    return values[0], (values[1], values[2])


def format_interval(value: float, bounds: Sequence[float], sign: str = "") -> str:
    """Return a number with its interval, as in ``.902 [.884, .918]``."""
    texts = [f"{number:{sign}.3f}".replace("0.", ".", 1) for number in (value, *bounds)]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]"


def format_table(table: pd.DataFrame) -> str:
    """Return a table of texts as Markdown."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def neighbours(clips: pd.DataFrame, size: int) -> pd.Series:
    """Return a group per clip: of one genre, and of so many consecutive numbers, the last ones in the tracks' names."""
    number = clips["path"].map(lambda path: int("0" + "".join(filter(str.isdigit, Path(path).stem))))
    return clips["genre"].astype(str) + " " + ((number - 1) // size).astype(str)


def main(
    source: Annotated[Path, typer.Argument(help="Folder with one sub-folder per genre.")],
    weights_path: Annotated[
        str, typer.Option("--weights", help="Weights of the music network; found by default.")
    ] = "",
    clips_per_track: Annotated[int, typer.Option(help="Largest number of clips per track.")] = 2,
    n_folds: Annotated[int, typer.Option(help="Folds.")] = 5,
    block: Annotated[int, typer.Option(help="Consecutive numbers in names whose tracks share a fold.")] = 1,
    n_jobs: Annotated[int, typer.Option(help="Processes.")] = os.cpu_count() or 1,
) -> None:
    """Print the table."""
    clips = folder.load_clips(source.expanduser(), source, LeftOut(), max_clips_per_track=clips_per_track)
    X = compute_table(clips, weights.find_weights(weights_path), n_jobs)
    groups = clips["recording"] if block == 1 else neighbours(clips, block)
    predicted = predict(clips.assign(split="test"), X, groups, n_folds)
    print(f"\n{len(clips)} clips of {clips['recording'].nunique()} tracks, {n_folds} folds by {block} track(s)\n")
    print(format_table(summarise(predicted)))


if __name__ == "__main__":
    typer.run(main)
