"""Calibration of confidences: temperature, calibration error, and the threshold below which a genre is unknown."""

from functools import partial
from typing import TypedDict

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import logsumexp

from genre.errors import UsageError
from genre.evaluate.scores import table_metrics
from genre.probabilities.pooling import MIN_PROBABILITY, MIN_WEIGHT, pool_probabilities
from genre.probabilities.tables import check_labels, genres_of, labels_of, per_track, proba_of, track_codes

#: Target share of correct predictions among those at or above the threshold.
TARGET_PRECISION = 0.8


class Threshold(TypedDict):
    """Result of `fit_threshold`."""

    confidence: float
    precision: float
    coverage: float
    reached: bool


def fit_temperature(table: pd.DataFrame) -> float:
    """Fit the temperature at which a model's confidence matches how often it is right (Guo et al. 2017).

    The log-loss that is minimised is that of a track's probabilities, the mean over its clips after the temperature was
    applied to each, as the model is served. The penalty that keeps few tracks from driving the temperature to certainty
    is that of `genre.probabilities.pooling.fit_pool_weights`, whose result this is where each track has one clip.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table of clips that the model was not fitted on.

    Returns
    -------
    float
        Above 1 where the model is overconfident, below 1 where it is underconfident; at most 20.

    Raises
    ------
    UsageError
        If the table is empty or no probability table.
    """
    proba, y_true = _checked_arrays(table)
    codes = track_codes(table)
    order = np.argsort(codes, kind="stable")
    logs = np.log(np.maximum(proba, MIN_PROBABILITY))[order]
    loss = partial(_track_loss, logs=logs, log_of_true=logs[np.arange(len(logs)), y_true[order]], track=codes[order])
    # A mean over clips need not be convex in the weight: the search begins at the best of a coarse grid around 1.
    start = min(np.geomspace(0.1, 10, 9), key=lambda weight: loss(np.array([weight]))[0])
    found = minimize(loss, [start], jac=True, method="L-BFGS-B", bounds=[(MIN_WEIGHT, None)])
    return float(1 / found.x[0])


def apply_temperature(table: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """Rescale a probability table: each probability to the power of 1 / temperature, normalised again.

    The most probable genre stays the same. Above a temperature of 1 its probability moves towards 1 / k with k genres,
    below 1 towards 1.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table.
    temperature : float
        Above 0; at 1 nothing changes.

    Returns
    -------
    pd.DataFrame
        Probability table.

    Raises
    ------
    UsageError
        If the temperature is not above 0, or `table` no probability table.
    """
    if not temperature > 0:
        raise UsageError(f"temperature is {temperature!r}; it must lie above 0")
    out = table.copy()
    out[genres_of(table)] = pool_probabilities([proba_of(table)], np.array([1 / temperature]))
    return out


def reliability_steps(table: pd.DataFrame, *, bins: int = 10) -> pd.DataFrame:
    """Count how often the most probable genre is right, in bins of confidence.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table.
    bins : int
        Number of equal bins of confidence between 0 and 1. Default 10.

    Returns
    -------
    pd.DataFrame
        One row per bin that has clips, indexed by its number from 0: mean ``confidence``, share ``right``, number of
        ``clips``.

    Raises
    ------
    UsageError
        If the table is empty or no probability table, or `bins` is below 1.
    """
    if bins < 1:
        raise UsageError(f"bins is {bins}; at least one bin is needed")
    proba, y_true = _checked_arrays(table)
    clips = pd.DataFrame({"confidence": proba.max(axis=1), "right": proba.argmax(axis=1) == y_true, "clips": 1})
    steps = (clips["confidence"] * bins).astype(int).clip(upper=bins - 1)
    return clips.groupby(steps.to_numpy()).agg({"confidence": "mean", "right": "mean", "clips": "sum"})


def calibration_error(table: pd.DataFrame, *, bins: int = 10) -> float:
    """Compute the expected calibration error: mean distance of confidence and share of correct predictions, over clips.

    Parameters
    ----------
    table, bins
        As in `reliability_steps`.

    Returns
    -------
    float
        0 to 1. With few clips it is above 0 by chance alone: about 0.1 with fifty.

    Raises
    ------
    UsageError
        As in `reliability_steps`.
    """
    steps = reliability_steps(table, bins=bins)
    return float(np.average((steps["confidence"] - steps["right"]).abs(), weights=steps["clips"]))


def fit_threshold(table: pd.DataFrame, precision: float = TARGET_PRECISION, *, n_errors: float = 0.0) -> Threshold:
    """Fit the confidence threshold that reaches a precision, with its precision and coverage.

    The confidence of a clip is its largest probability. The threshold is the smallest confidence that occurs in the
    table at or above which at least `precision` of the clips are predicted right. If none reaches it, the threshold is
    the confidence with the highest precision, and the smallest of several, which keeps the most clips. A threshold for
    tracks is fitted on the table from `genre.probabilities.tables.per_track`, whose rows are tracks.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table of clips that no model was fitted on.
    precision : float
        Target share of correct predictions, above 0, at most 1. Default 0.8.
    n_errors : float
        Number of standard errors by which the precision must lie above the target, by Wilson's lower bound (1927): the
        smallest of many thresholds that reaches a target among few clips does so by luck. Default 0.

    Returns
    -------
    Threshold
        ``confidence`` from 0 to 1, to be compared with ``>=``; the ``precision`` at or above it on these clips; their
        share of all clips, ``coverage``; and ``reached``, true if the precision is at least the target.

    Raises
    ------
    UsageError
        If the table is empty or `precision` is out of range.
    """
    if not 0 < precision <= 1:
        raise UsageError(f"precision is {precision!r}; it must lie above 0 and be at most 1")
    proba, y_true = _checked_arrays(table)
    order = np.argsort(-proba.max(axis=1), kind="stable")
    confidence = proba.max(axis=1)[order]
    right = np.cumsum((proba.argmax(axis=1) == y_true)[order]) / np.arange(1, len(order) + 1)
    # A threshold keeps all clips of equal confidence, so the precision is taken at the last of each.
    last = np.flatnonzero(np.append(confidence[1:] < confidence[:-1], True))
    bound = _lower_bound(right[last], last + 1, n_errors)
    best = float(bound.max())
    position = last[bound >= min(precision, best)][-1]
    return Threshold(
        confidence=float(np.clip(confidence[position], 0.0, 1.0)),
        precision=float(right[position]),
        coverage=float(position + 1) / len(order),
        reached=best >= precision,
    )


def _lower_bound(share: np.ndarray, n: np.ndarray, n_errors: float) -> np.ndarray:
    """Return Wilson's lower bound of shares of `n`; the shares themselves for no standard error."""
    squared = n_errors**2
    spread = n_errors * np.sqrt(share * (1 - share) / n + squared / (4 * n**2))
    return (share + squared / (2 * n) - spread) / (1 + squared / n)


def selective_precision(table: pd.DataFrame, confidence: float) -> tuple[float, float]:
    """Compute precision and coverage at a confidence threshold, on clips it was not fitted on.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table.
    confidence : float
        Threshold below which the prediction is ``unknown``.

    Returns
    -------
    precision : float
        Share of correct predictions among those at or above the threshold; NaN without any.
    coverage : float
        Share of clips at or above the threshold.

    Raises
    ------
    UsageError
        If `table` is no probability table.
    """
    proba = proba_of(table)
    y_true = labels_of(table)
    confident = proba.max(axis=1) >= confidence
    right = (proba.argmax(axis=1) == y_true)[confident]
    return float(right.mean()) if len(right) else float("nan"), float(confident.mean())


def calibration_scores(held_out: pd.DataFrame, test: pd.DataFrame) -> dict[str, float]:
    """Fit temperature and threshold on held-out tracks, and measure them on test tracks.

    Parameters
    ----------
    held_out : pd.DataFrame
        Probability table of clips that the model was not fitted on.
    test : pd.DataFrame
        Probability table of clips that nothing was fitted on.

    Returns
    -------
    dict of str to float
        All of tracks, whose probabilities are the mean over their clips: ``temperature``; ``unknown_below``, the
        threshold for `TARGET_PRECISION`, with ``answered_precision`` and ``answered_coverage`` on `held_out`, and the
        same two on `test` with the prefix ``test_``; ``test_calibration_error`` before, and
        ``test_calibration_error_tempered`` and ``test_log_loss_tempered`` after applying the temperature.

    Raises
    ------
    UsageError
        If a table is empty or no probability table.
    """
    temperature = fit_temperature(held_out)
    threshold = fit_threshold(per_track(apply_temperature(held_out, temperature)))
    tempered = per_track(apply_temperature(test, temperature))
    precision, coverage = selective_precision(tempered, threshold["confidence"])
    return {
        "temperature": temperature,
        "unknown_below": threshold["confidence"],
        "answered_precision": threshold["precision"],
        "answered_coverage": threshold["coverage"],
        "test_answered_precision": precision,
        "test_answered_coverage": coverage,
        "test_calibration_error": calibration_error(per_track(test)),
        "test_calibration_error_tempered": calibration_error(tempered),
        "test_log_loss_tempered": float(table_metrics(tempered, genres_of(tempered))["log_loss"]),
    }


def _track_loss(
    weight: np.ndarray, *, logs: np.ndarray, log_of_true: np.ndarray, track: np.ndarray
) -> tuple[float, np.ndarray]:
    """Compute the penalised log-loss of tracks, and its derivative, at one over the temperature.

    The clips are in the order of their tracks; `log_of_true` holds the logarithm of each clip's true genre.
    """
    n_clips = np.bincount(track)
    norm = logsumexp(weight * logs, axis=1)
    fitted = weight * log_of_true - norm
    total = np.logaddexp.reduceat(fitted, np.cumsum(n_clips) - n_clips)  # over the clips of each track
    expected = (logs * np.exp(weight * logs - norm[:, None])).sum(axis=1)
    slope = np.exp(fitted - total[track]) @ (log_of_true - expected)
    distance = weight - 1
    return float((np.log(n_clips) - total).sum() + distance @ distance / 2), distance - slope


def _checked_arrays(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities and labels of a table that is not empty."""
    proba = proba_of(table)
    y_true = labels_of(table)
    check_labels(y_true, proba.shape[1])
    return proba, y_true
