"""How far a confidence can be believed: temperature, calibration error, and below what the answer is unknown."""

from typing import TypedDict

import numpy as np
import pandas as pd

from genre.errors import UsageError
from genre.evaluate.scores import table_metrics
from genre.probabilities.pooling import fit_pool_weights, pool_probabilities
from genre.probabilities.tables import check_labels, genres_of, labels_of, proba_of

#: Share of right answers wanted of those that are given.
TARGET_PRECISION = 0.8


class Threshold(TypedDict):
    """What `fit_threshold` returns."""

    confidence: float
    precision: float
    coverage: float
    reached: bool


def fit_temperature(table: pd.DataFrame) -> float:
    """Temperature that makes a model's confidence fit how often it is right (Guo et al. 2017).

    Parameters
    ----------
    table : pd.DataFrame
        Probability table of clips that the model was not fitted on.

    Returns
    -------
    float
        Above 1 where the model is too sure of itself, below where it is too modest; at most 20.

    Raises
    ------
    UsageError
        If the table is empty or no probability table.
    """
    proba, y_true = proba_of(table), labels_of(table)
    check_labels(y_true, proba.shape[1])
    return float(1 / fit_pool_weights([proba], y_true)[0])


def apply_temperature(table: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """Probability table at another temperature: the k-th root of each probability, normalised again.

    The most probable genre stays the same; its probability nears 1 / k above a temperature of 1, and 1 below.

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
        raise UsageError(f"a temperature must lie above 0, not {temperature!r}")
    out = table.copy()
    out[genres_of(table)] = pool_probabilities([proba_of(table)], np.array([1 / temperature]))
    return out


def reliability_steps(table: pd.DataFrame, *, bins: int = 10) -> pd.DataFrame:
    """How often the most probable genre is right, by steps of confidence.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table.
    bins : int
        Equal steps of confidence between 0 and 1. Default 10.

    Returns
    -------
    pd.DataFrame
        One row for each step that has clips, indexed by its number from 0: mean ``confidence``, share ``right``,
        number of ``clips``.

    Raises
    ------
    UsageError
        If the table is empty or no probability table, or `bins` is below 1.
    """
    if bins < 1:
        raise UsageError(f"at least one bin is needed, not {bins}")
    proba, y_true = proba_of(table), labels_of(table)
    check_labels(y_true, proba.shape[1])
    clips = pd.DataFrame({"confidence": proba.max(axis=1), "right": proba.argmax(axis=1) == y_true, "clips": 1})
    steps = (clips["confidence"] * bins).astype(int).clip(upper=bins - 1)
    return clips.groupby(steps.to_numpy()).agg({"confidence": "mean", "right": "mean", "clips": "sum"})


def calibration_error(table: pd.DataFrame, *, bins: int = 10) -> float:
    """Expected calibration error: mean distance between confidence and share of right answers, over clips.

    Parameters
    ----------
    table, bins
        As in `reliability_steps`.

    Returns
    -------
    float
        0 to 1. A small table has some by chance alone: about 0.1 at fifty clips.

    Raises
    ------
    UsageError
        As in `reliability_steps`.
    """
    steps = reliability_steps(table, bins=bins)
    return float(np.average((steps["confidence"] - steps["right"]).abs(), weights=steps["clips"]))


def fit_threshold(table: pd.DataFrame, precision: float = TARGET_PRECISION) -> Threshold:
    """Confidence from which the predicted genre is right often enough, and what asking for it costs.

    The confidence of a clip is its largest probability. Among the confidences that occur, the smallest one at or above
    which at least `precision` of the clips are predicted right; where none is, the one with the highest precision
    (the smallest of these, so that most clips are kept).

    Parameters
    ----------
    table : pd.DataFrame
        Probability table of clips that no model was fitted on.
    precision : float
        Wanted share of right answers, above 0, at most 1. Default 0.8.

    Returns
    -------
    Threshold
        ``confidence`` from 0 to 1, to compare with ``>=``; the ``precision`` at or above it on these clips; their share
        of all, ``coverage``; whether what was wanted is ``reached``.

    Raises
    ------
    UsageError
        If the table is empty or `precision` is out of range.
    """
    if not 0 < precision <= 1:
        raise UsageError(f"precision must lie above 0 and at most at 1, not {precision!r}")
    proba, y_true = proba_of(table), labels_of(table)
    check_labels(y_true, proba.shape[1])
    order = np.argsort(-proba.max(axis=1), kind="stable")
    confidence = proba.max(axis=1)[order]
    right = np.cumsum((proba.argmax(axis=1) == y_true)[order]) / np.arange(1, len(order) + 1)
    # A threshold keeps all clips of equal confidence, so precision is read at the last of each.
    last = np.flatnonzero(np.append(confidence[1:] < confidence[:-1], True))
    best = float(right[last].max())
    at = last[right[last] >= min(precision, best)][-1]
    return Threshold(
        confidence=float(np.clip(confidence[at], 0.0, 1.0)),
        precision=float(right[at]),
        coverage=float(at + 1) / len(order),
        reached=best >= precision,
    )


def selective_precision(table: pd.DataFrame, confidence: float) -> tuple[float, float]:
    """What a threshold does on other clips than it was learnt on.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table.
    confidence : float
        Below it the answer is ``unknown``.

    Returns
    -------
    precision : float
        Share of right answers among those given; NaN where none is.
    coverage : float
        Share of clips that are answered.

    Raises
    ------
    UsageError
        If `table` is no probability table.
    """
    proba, y_true = proba_of(table), labels_of(table)
    given = proba.max(axis=1) >= confidence
    right = (proba.argmax(axis=1) == y_true)[given]
    return float(right.mean()) if len(right) else float("nan"), float(given.mean())


def calibration_scores(held_out: pd.DataFrame, test: pd.DataFrame) -> dict[str, float]:
    """Temperature and threshold learnt on some clips, and what they do on others.

    Parameters
    ----------
    held_out : pd.DataFrame
        Probability table of clips that the model was not fitted on.
    test : pd.DataFrame
        Probability table of clips that nothing was learnt on.

    Returns
    -------
    dict of str to float
        ``temperature``; ``unknown_below``, the threshold for `TARGET_PRECISION`, with ``answered_precision`` and
        ``answered_coverage`` on `held_out`, and with ``test_`` before them on `test`; ``test_calibration_error`` and
        ``test_log_loss_tempered``, ``test_calibration_error_tempered`` after.

    Raises
    ------
    UsageError
        If a table is empty or no probability table.
    """
    temperature = fit_temperature(held_out)
    found, after = fit_threshold(apply_temperature(held_out, temperature)), apply_temperature(test, temperature)
    precision, coverage = selective_precision(after, found["confidence"])
    return {
        "temperature": temperature,
        "unknown_below": found["confidence"],
        "answered_precision": found["precision"],
        "answered_coverage": found["coverage"],
        "test_answered_precision": precision,
        "test_answered_coverage": coverage,
        "test_calibration_error": calibration_error(test),
        "test_calibration_error_tempered": calibration_error(after),
        "test_log_loss_tempered": float(table_metrics(after, genres_of(after))["log_loss"]),
    }
