"""Accuracy, macro F1, AUC and log-loss of probabilities."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

from genre.evaluate.tables import check_labels, checked_genres, checked_proba, labels_of, proba_of


def metrics(y_true: np.ndarray, proba: np.ndarray, genres: Sequence[str]) -> dict[str, float]:
    """Accuracy, macro F1, macro and per-genre AUC, log-loss.

    The predicted genre is the most probable one. The AUC of a genre is its one-vs-rest ROC AUC and ``macro_auc`` their
    mean, as in the paper's table 2 (Bahuleyan 2018). A genre that no clip has, or that every clip has, has no AUC: its
    value is NaN and the macro AUC is the mean over the others, NaN where there are none. The macro F1 is the mean over
    the genres that occur or are predicted.

    Parameters
    ----------
    y_true : np.ndarray [shape=(n,), integer]
        Positions in `genres`.
    proba : np.ndarray [shape=(n, k)]
        Probabilities, columns in the order of `genres`.
    genres : sequence of str [k]

    Returns
    -------
    dict of str to float
        ``accuracy``, ``macro_f1``, ``macro_auc``, ``log_loss`` (nats) and ``auc/<genre>`` for each genre.

    Raises
    ------
    UsageError
        If there is no clip, or shapes, labels or probabilities do not fit.
    """
    genres = checked_genres(genres)
    y_true = np.asarray(y_true)
    proba = checked_proba(proba, genres, pd.RangeIndex(len(y_true)))
    check_labels(y_true, len(genres))
    predicted = proba.argmax(axis=1)
    aucs = {f"auc/{genre}": _auc(y_true == k, proba[:, k]) for k, genre in enumerate(genres)}
    return {
        "accuracy": float(accuracy_score(y_true, predicted)),
        "macro_f1": float(f1_score(y_true, predicted, average="macro", zero_division=0)),
        "macro_auc": float(mean_of_defined(np.array(list(aucs.values())))),
        "log_loss": float(log_loss(y_true, proba, labels=np.arange(len(genres)))),
        **aucs,
    }


def metrics_of(table: pd.DataFrame, genres: list[str]) -> pd.Series:
    """Metrics of a whole table, as a series."""
    return pd.Series(metrics(labels_of(table), proba_of(table), genres))


def _auc(positive: np.ndarray, score: np.ndarray) -> float:
    """ROC AUC, NaN where one of the two classes is empty."""
    return float(roc_auc_score(positive, score)) if positive.any() and not positive.all() else float("nan")


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full_like(denominator, np.nan), where=denominator > 0)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean of what is not NaN along the last axis; NaN, and no warning, where nothing is left."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1).astype(np.float64))
