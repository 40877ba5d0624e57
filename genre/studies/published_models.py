"""Classical models of the paper with the flaws of its code, to reproduce its table 2; never served."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from genre.errors import UsageError


def fit_published_model(name: str, clips: pd.DataFrame, features: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Train a model as the published notebook does, and return its probability table.

    Its flaws are kept: features scaled to 0 .. 1 by the extremes of all rows, those of the test set among them;
    training on the training and the validation clips; the SVM's genres weighted by their frequency; no subsampling of
    the boosted trees, whose parameter was misspelt. CatBoost stands in for XGBoost.

    Parameters
    ----------
    name : str
        ``logistic_regression``, ``random_forest``, ``svm`` or ``catboost``.
    clips : pd.DataFrame
        Columns ``clip_id``, ``genre`` (categorical), ``recording``, ``split``.
    features : pd.DataFrame
        One row per clip, in that order.
    seed : int
        Seed of the forest and the trees, which had none. Default 0.

    Returns
    -------
    pd.DataFrame
        Probability table of all clips.

    Raises
    ------
    UsageError
        If the paper has no such model on features.
    """
    from sklearn.preprocessing import minmax_scale

    from genre.studies import trials  # brings scikit-learn, and the names are wanted without it

    check_names([name])
    X = minmax_scale(features.to_numpy(np.float64))
    y = clips["genre"].cat.codes.to_numpy().astype(np.int64)
    fitted = (clips["split"] != "test").to_numpy()
    model = _MODELS[name](y[fitted], seed).fit(X[fitted], y[fitted])
    return trials.make_probability_table(clips, np.asarray(model.predict_proba(X)))


def check_names(names: Iterable[str]) -> list[str]:
    """Check that the paper has models of these names, and return them.

    Raises
    ------
    UsageError
        If one is not in `MODEL_NAMES`.
    """
    for name in (names := list(names)):
        if name not in _MODELS:
            raise UsageError(f"the paper trains no {name!r} on features; choose from {', '.join(_MODELS)}")
    return names


def _logistic_regression(y: np.ndarray, seed: int) -> Any:
    """Build ``LogisticRegression()`` as it was in 2018: liblinear, one genre against the rest."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    return OneVsRestClassifier(LogisticRegression(solver="liblinear", random_state=seed))


def _random_forest(y: np.ndarray, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(500, min_samples_split=5, random_state=seed, n_jobs=-1)


def _svm(y: np.ndarray, seed: int) -> Any:
    """Build CatBoost with XGBoost's parameters, and few thresholds as `genre.models.classical.train_catboost` does."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    frequency = pd.Series(y).value_counts(normalize=True).to_dict()
    return CalibratedClassifierCV(SVC(C=10000, gamma="auto", class_weight=frequency), ensemble=False, cv=5)


def _catboost(y: np.ndarray, seed: int) -> Any:
    """Build CatBoost with XGBoost's parameters and few thresholds, as `genre.models.classical.train_catboost`."""
    from catboost import CatBoostClassifier

    return CatBoostClassifier(
        loss_function="MultiClass",
        iterations=500,
        depth=5,
        learning_rate=0.1,
        bootstrap_type="No",
        border_count=64,
        random_seed=seed,
        allow_writing_files=False,
        verbose=False,
    )


_MODELS: dict[str, Callable[[np.ndarray, int], Any]] = {
    "logistic_regression": _logistic_regression,
    "random_forest": _random_forest,
    "svm": _svm,
    "catboost": _catboost,
}
#: Names that `fit_published_model` takes, in the order of the paper's table 2.
MODEL_NAMES = tuple(_MODELS)
