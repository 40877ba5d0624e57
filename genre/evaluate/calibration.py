"""How far a model's confidence can be believed."""

import numpy as np
import pandas as pd

from genre.errors import UsageError
from genre.evaluate.tables import check_labels, labels_of, proba_of


def min_confidence(table: pd.DataFrame, precision: float = 0.8) -> float:
    """Confidence from which the predicted genre is right often enough.

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
    float
        Between 0 and 1; compare with ``>=``.

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
    reached = np.cumsum((proba.argmax(axis=1) == y_true)[order]) / np.arange(1, len(order) + 1)
    # A threshold keeps all clips of equal confidence, so precision is read at the last of each.
    last = np.flatnonzero(np.append(confidence[1:] < confidence[:-1], True))
    enough = last[reached[last] >= min(precision, reached[last].max())]
    return float(np.clip(confidence[enough[-1]], 0.0, 1.0))
