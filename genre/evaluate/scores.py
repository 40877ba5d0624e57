"""Accuracy, macro F1, AUC and log-loss of probabilities."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from genre.probabilities.tables import check_labels, labels_of, proba_of, validate_genres, validate_proba


def compute_metrics(y_true: np.ndarray, proba: np.ndarray, genres: Sequence[str]) -> dict[str, float]:
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
    genres = validate_genres(genres)
    y_true = np.asarray(y_true)
    proba = validate_proba(proba, genres, pd.RangeIndex(len(y_true)))
    check_labels(y_true, len(genres))
    once = np.ones((len(y_true), 1), dtype=np.float32)
    return {str(k): float(v) for k, v in weighted_metrics(once, y_true, proba, genres).iloc[0].items()}


def table_metrics(table: pd.DataFrame, genres: list[str]) -> pd.Series:
    """Metrics of a whole table, as a series."""
    return pd.Series(compute_metrics(labels_of(table), proba_of(table), genres))


def weighted_metrics(weights: np.ndarray, y_true: np.ndarray, proba: np.ndarray, genres: list[str]) -> pd.DataFrame:
    """Metrics under each column of `weights`, whole numbers [shape=(clips, columns), dtype=float32]: a row a column."""
    true, predicted = (np.eye(len(genres), dtype=np.float32)[codes] for codes in (y_true, proba.argmax(axis=1)))
    hits, actual, guessed = ((weights.T @ flags).astype(np.float64) for flags in (true * predicted, true, predicted))
    total = actual.sum(axis=1)
    aucs = np.stack([_weighted_auc(weights, true[:, k] == 1, proba[:, k]) for k in range(len(genres))], axis=1)
    eps = np.finfo(proba.dtype).eps  # scikit-learn's bound for the logarithm of 0
    surprise = -np.log(np.clip(proba[np.arange(len(y_true)), y_true], eps, 1 - eps))
    values = {
        "accuracy": hits.sum(axis=1) / total,
        "macro_f1": mean_of_defined(safe_ratio(2 * hits, actual + guessed)),
        "macro_auc": mean_of_defined(aucs),
        "log_loss": surprise @ weights.astype(np.float64) / total,
    }
    return pd.DataFrame({**values, **{f"auc/{genre}": aucs[:, k] for k, genre in enumerate(genres)}})


def _weighted_auc(weights: np.ndarray, positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """ROC AUC under each column of weights: the chance that a positive scores above a negative, ties counting half.

    By the positives' ranks, as Mann and Whitney count: against each other they win exactly half.
    """
    order = np.argsort(score, kind="stable")
    ranked, mine = score[order], score[positive]
    upto = np.zeros((len(score) + 1, weights.shape[1]), dtype=weights.dtype)
    np.cumsum(weights[order], axis=0, out=upto[1:])
    rank = upto[np.searchsorted(ranked, mine, "left")] + upto[np.searchsorted(ranked, mine, "right")]
    up = weights[positive].sum(axis=0, dtype=np.float64)
    wins = np.einsum("ij,ij->j", weights[positive], rank, dtype=np.float64) / 2 - up**2 / 2
    return safe_ratio(wins, up * (upto[-1] - up))


def safe_ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full_like(denominator, np.nan), where=denominator > 0)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean of what is not NaN along the last axis; NaN, and no warning, where nothing is left."""
    defined = ~np.isnan(values)
    return safe_ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1).astype(np.float64))
