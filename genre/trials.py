"""Models on features fitted here and now, to be compared: on some columns, on some clips, out of fold."""

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from genre import evaluate, models
from genre.errors import DataError, UsageError


def check_model(name: str) -> str:
    """Name of a model, if it takes features.

    Raises
    ------
    UsageError
        If it is unknown or takes something else.
    """
    if models.get(name).needs != "features":
        raise UsageError(f"{name} takes no features; choose from {', '.join(models.names('features'))}")
    return name


def fit(
    name: str,
    clips: pd.DataFrame,
    features: pd.DataFrame,
    *,
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    columns: Sequence[str] | None = None,
) -> tuple[Any, pd.DataFrame]:
    """Fit a model on the training clips; the model, and its probabilities for all clips.

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
    y, split = clips["genre"].cat.codes.to_numpy(), clips["split"].to_numpy(str)
    train, validation = split == "train", split == "validation"
    genres = list(clips["genre"].cat.categories)
    data = models.Data(
        genres, X[train], y[train], clips["recording"].to_numpy(str)[train], X[validation], y[validation]
    )
    with tempfile.TemporaryDirectory() as folder:
        model = models.train(check_model(name), data, params or {}, seed, folder)
    return model, table_of(clips, models.predict_proba(name, model, X))


def out_of_fold(
    name: str,
    clips: pd.DataFrame,
    features: pd.DataFrame,
    *,
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    n_folds: int = 5,
) -> pd.DataFrame:
    """Probabilities of each clip by a model that has heard nothing of its recording.

    Parameters
    ----------
    name, clips, features, params, seed
        As for `fit`; the split is not looked at.
    n_folds : int
        Models fitted, each on all recordings but its share. Fewer where a genre has fewer recordings. Default 5.

    Returns
    -------
    pd.DataFrame
        Probability table of all clips.

    Raises
    ------
    DataError
        If a genre has fewer than two recordings, or they cannot be dealt so that each fold leaves all genres.
    UsageError, TrainingError
        As for `fit`.
    """
    y, recordings = clips["genre"].cat.codes.to_numpy(), clips["recording"].to_numpy(str)
    scarce = clips.groupby("genre", observed=False)["recording"].nunique().sort_values()
    n_folds = min(n_folds, int(scarce.iloc[0]))
    if n_folds < 2:
        raise DataError(
            f"{scarce.index[0]} has {scarce.iloc[0]} recordings; out of fold needs two or more of each genre"
        )
    proba = np.empty((len(clips), len(clips["genre"].cat.categories)))
    for _, held_out in StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(y, y, recordings):
        sides = np.full(len(clips), "train", dtype=object)
        sides[held_out] = "test"
        _, table = fit(name, clips.assign(split=sides), features, params=params, seed=seed)
        proba[held_out] = evaluate.proba_of(table)[held_out]
    return table_of(clips, proba)


def table_of(clips: pd.DataFrame, proba: np.ndarray) -> pd.DataFrame:
    """Probability table of `clips`, given their probabilities in the same order."""
    ids, genres = pd.Index(clips["clip_id"]), list(clips["genre"].cat.categories)
    return evaluate.probability_table(ids, clips["split"], clips["genre"], clips["recording"], proba, genres)
