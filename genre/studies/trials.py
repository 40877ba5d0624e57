"""Models on features that are fitted for comparison only: on some columns, on some clips, out of fold."""

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from genre import evaluate, models
from genre.errors import DataError
from genre.folds import count_recordings, draw_folds
from genre.probabilities import tables
from genre.studies import feature_models


def fit_model(
    name: str,
    clips: pd.DataFrame,
    features: pd.DataFrame,
    *,
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    columns: Sequence[str] | None = None,
) -> tuple[Any, pd.DataFrame]:
    """Fit a model on the training clips, and predict all clips.

    Parameters
    ----------
    name : str
        A model that takes features.
    clips : pd.DataFrame
        Columns ``clip_id``, ``genre`` (categorical), ``recording``, ``split``.
    features : pd.DataFrame
        One row per clip, in that order.
    params : mapping, optional
        Hyper-parameters other than the default.
    seed : int
        Default 0.
    columns : sequence of str, optional
        The features used; by default all.

    Returns
    -------
    model : object
        For `genre.models.predict_proba`.
    table : pd.DataFrame
        Probability table.

    Raises
    ------
    UsageError
        If the model takes no features, or a hyper-parameter is unknown.
    TrainingError
        If a genre has no training clip, or the model refuses.
    """
    X = features[list(columns or features.columns)].to_numpy()
    y = clips["genre"].cat.codes.to_numpy()
    split = clips["split"].to_numpy(str)
    train = split == "train"
    validation = split == "validation"
    genres = list(clips["genre"].cat.categories)
    data = models.TrainingData(
        genres, X[train], y[train], clips["recording"].to_numpy(str)[train], X[validation], y[validation]
    )
    with tempfile.TemporaryDirectory() as folder:
        model = models.train_model(feature_models.check_model(name), data, params or {}, seed, folder)
    return model, make_probability_table(clips, models.predict_proba(name, model, X))


def predict_out_of_fold(
    name: str,
    clips: pd.DataFrame,
    features: pd.DataFrame,
    *,
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    n_folds: int = 5,
) -> pd.DataFrame:
    """Predict each clip by a model that was not fitted on its recording.

    Parameters
    ----------
    name, clips, features, params, seed
        As for `fit_model`; the split is ignored.
    n_folds : int
        Models fitted, each on all recordings but its share. Fewer where a genre has fewer recordings. Default 5.

    Returns
    -------
    pd.DataFrame
        Probability table of all clips.

    Raises
    ------
    DataError
        If a genre has fewer than two recordings.
    UsageError, TrainingError
        As for `fit_model`.
    """
    fold = draw_folds(clips["genre"], clips["recording"].to_numpy(str), _limit_folds(clips, n_folds), seed)
    proba = np.empty((len(clips), len(clips["genre"].cat.categories)))
    for number in range(fold.max() + 1):
        held_out = fold == number
        split = np.where(held_out, "test", "train")
        _, table = fit_model(name, clips.assign(split=split), features, params=params, seed=seed)
        proba[held_out] = tables.proba_of(table)[held_out]
    return make_probability_table(clips, proba)


def split_gap(
    name: str, clips: pd.DataFrame, features: pd.DataFrame, *, n_splits: int = 5, seed: int = 0, n_folds: int = 5
) -> pd.DataFrame:
    """Score a model with clips split at random, and with recordings kept whole.

    Parameters
    ----------
    name, clips, features
        As for `fit_model`; the split is ignored.
    n_splits : int
        Pairs of splits, a naive and an honest one each. Default 5.
    seed : int
        Seed of the first pair. Default 0.
    n_folds : int
        Folds, of which one is the test. Default 5.

    Returns
    -------
    pd.DataFrame
        One row per pair: ``seed``, ``honest``, ``naive`` (test macro AUC) and ``gap``.

    Raises
    ------
    DataError
        If a genre has fewer than two recordings.
    UsageError, TrainingError
        As for `fit_model`.
    """
    n_folds = _limit_folds(clips, n_folds)
    rows = []
    kept_whole = {"honest": clips["recording"].to_numpy(str), "naive": clips["clip_id"].to_numpy(str)}
    for s in range(seed, seed + n_splits):
        row: dict[str, float] = {"seed": s}
        for kind, groups in kept_whole.items():
            test = draw_folds(clips["genre"], groups, n_folds, s) == 0
            _, table = fit_model(name, clips.assign(split=np.where(test, "test", "train")), features, seed=s)
            part = table[test]
            scores = evaluate.compute_metrics(tables.labels_of(part), tables.proba_of(part), tables.genres_of(part))
            row[kind] = scores["macro_auc"]
        rows.append(row | {"gap": row["naive"] - row["honest"]})
    return pd.DataFrame(rows)


def mean_interval(values: pd.Series) -> tuple[float, float, float]:
    """Compute the mean and its 95 % interval by Student's t; the interval of a single value is NaN.

    Parameters
    ----------
    values : pd.Series
        At least one; taken as independent.

    Returns
    -------
    mean, low, high : float
    """
    from scipy.stats import t

    half = t.ppf(0.975, len(values) - 1) * values.sem() if len(values) > 1 else float("nan")
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def _limit_folds(clips: pd.DataFrame, n_folds: int) -> int:
    """Return `n_folds`, or the recordings of the rarest genre where it has fewer."""
    n_recordings = count_recordings(clips["genre"], clips["recording"])
    n_folds = min(n_folds, int(n_recordings.iloc[0]))
    if n_folds < 2:
        raise DataError(
            f"{n_recordings.index[0]} has {n_recordings.iloc[0]} recordings; each genre needs two to be split"
        )
    return n_folds


def make_probability_table(clips: pd.DataFrame, proba: np.ndarray) -> pd.DataFrame:
    """Make the probability table of `clips` from their probabilities in the same order."""
    ids = pd.Index(clips["clip_id"])
    genres = list(clips["genre"].cat.categories)
    track = tables.name_tracks(clips)
    return tables.probability_table(ids, clips["split"], clips["genre"], clips["recording"], proba, genres, track=track)
