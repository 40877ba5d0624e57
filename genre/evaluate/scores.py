"""Accuracy, macro F1, AUC and log-loss of probabilities."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from genre.probabilities.tables import check_labels, labels_of, proba_of, validate_genres, validate_proba


def compute_metrics(y_true: np.ndarray, proba: np.ndarray, genres: Sequence[str]) -> dict[str, float]:
    """Compute accuracy, macro F1, macro and per-genre AUC, and log-loss.

    The predicted genre is the most probable one. The AUC of a genre is its one-vs-rest ROC AUC and ``macro_auc`` their
    mean, as in the paper's table 2 (Bahuleyan 2018). The AUC of a genre that no clip has, or every clip, is NaN, and
    the macro AUC is the mean over the other genres, NaN without any. The macro F1 is the mean over the genres that
    occur or are predicted.

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
    equal_weights = np.ones((len(y_true), 1), dtype=np.float32)
    metrics = weighted_metrics(equal_weights, y_true, proba, genres).iloc[0]
    return {str(name): float(value) for name, value in metrics.items()}


def table_metrics(table: pd.DataFrame, genres: list[str]) -> pd.Series:
    """Compute the metrics of a probability table, as a series."""
    return pd.Series(compute_metrics(labels_of(table), proba_of(table), genres))


def weighted_metrics(weights: np.ndarray, y_true: np.ndarray, proba: np.ndarray, genres: list[str]) -> pd.DataFrame:
    """Compute the metrics for each column of sample weights, one output row per column.

    The weights are whole numbers [shape=(clips, columns), dtype=float32].
    """
    actual = np.eye(len(genres), dtype=np.float32)[y_true]
    predicted = np.eye(len(genres), dtype=np.float32)[proba.argmax(axis=1)]
    n_hits, n_actual, n_predicted = (
        (weights.T @ flags).astype(np.float64) for flags in (actual * predicted, actual, predicted)
    )
    total = n_actual.sum(axis=1)
    aucs = np.stack([_weighted_auc(weights, actual[:, k] == 1, proba[:, k]) for k in range(len(genres))], axis=1)
    return pd.DataFrame(
        {
            "accuracy": n_hits.sum(axis=1) / total,
            "macro_f1": mean_of_defined(safe_ratio(2 * n_hits, n_actual + n_predicted)),
            "macro_auc": mean_of_defined(aucs),
            "log_loss": _log_losses(y_true, proba) @ weights.astype(np.float64) / total,
            **{f"auc/{genre}": aucs[:, k] for k, genre in enumerate(genres)},
        }
    )


def _log_losses(y_true: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Compute the log-loss of each clip, nats."""
    eps = np.finfo(proba.dtype).eps  # scikit-learn's bound for the logarithm of 0
    return -np.log(np.clip(proba[np.arange(len(y_true)), y_true], eps, 1 - eps))


def _weighted_auc(weights: np.ndarray, positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Compute the ROC AUC under each column of weights: the probability that a positive scores above a negative.

    Ties count half. By the ranks of the positives, as in the statistic of Mann and Whitney: among themselves the
    positives win exactly half of their comparisons.
    """
    order = np.argsort(score, kind="stable")
    sorted_score = score[order]
    positive_score = score[positive]
    weight_below = np.zeros((len(score) + 1, weights.shape[1]), dtype=weights.dtype)
    np.cumsum(weights[order], axis=0, out=weight_below[1:])
    # Twice the weight of the clips below a positive, where ties are half below.
    rank = weight_below[np.searchsorted(sorted_score, positive_score, "left")]
    rank = rank + weight_below[np.searchsorted(sorted_score, positive_score, "right")]
    n_positive = weights[positive].sum(axis=0, dtype=np.float64)
    wins = np.einsum("ij,ij->j", weights[positive], rank, dtype=np.float64) / 2 - n_positive**2 / 2
    return safe_ratio(wins, n_positive * (weight_below[-1] - n_positive))


def safe_ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide elementwise; NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full_like(denominator, np.nan), where=denominator > 0)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Average the values that are not NaN along the last axis; NaN, without a warning, where all are."""
    defined = ~np.isnan(values)
    return safe_ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1).astype(np.float64))
