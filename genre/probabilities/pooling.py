"""Several models' probabilities as one product, and the weights of least log-loss."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

#: A probability of 0 counts as this, so that one model's certainty cannot forbid what all others say.
MIN_PROBABILITY = 1e-12

#: The exponent found by `fit_pool_weights` stays above this, so that a temperature is never more than twenty.
MIN_WEIGHT = 0.05


def pool_probabilities(probas: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Product of models' probabilities, each raised to its weight, normalised again.

    Equal weights that sum to 1 give the geometric mean; one model's alone, a temperature of one over it.

    Parameters
    ----------
    probas : sequence of np.ndarray [shape=(n, k)]
        Rows sum to 1; a zero counts as 1e-12.
    weights : np.ndarray [shape=(len(probas),)]
        From 0 up.

    Returns
    -------
    np.ndarray [shape=(n, k)]
        Rows sum to 1.
    """
    logits = np.tensordot(weights, [np.log(np.maximum(p, MIN_PROBABILITY)) for p in probas], 1)
    return np.exp(logits - logsumexp(logits, axis=1, keepdims=True))


def fit_pool_weights(probas: Sequence[np.ndarray], y_true: np.ndarray) -> np.ndarray:
    """Weights for `pool_probabilities` of least log-loss, held near equal ones where there are few clips.

    A problem without local minima: the log-loss is convex in the weights, and so is the penalty, half the squared
    distance from equal weights. The penalty counts like one clip's log-loss, so it decides where ten clips do, keeps a
    separable handful from certainty, and is nothing beside two thousand.

    Parameters
    ----------
    probas : sequence of np.ndarray [shape=(n, k)]
        Of clips that no model was fitted on.
    y_true : np.ndarray [shape=(n,), integer]
        Positions of the true genres.

    Returns
    -------
    np.ndarray [shape=(len(probas),)]
        From 0.05 up; their sum is one over the temperature of the whole.
    """
    logs = np.stack([np.log(np.maximum(p, MIN_PROBABILITY)) for p in probas])
    true = logs[:, np.arange(len(y_true)), y_true].sum(axis=1)
    equal = np.full(len(probas), 1 / len(probas))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        pooled = np.tensordot(weights, logs, 1)
        norm = logsumexp(pooled, axis=1)
        expected = (logs * np.exp(pooled - norm[:, None])).sum(axis=(1, 2))
        away = weights - equal
        return float(norm.sum() - weights @ true + away @ away / 2), expected - true + away

    found = minimize(loss, equal, jac=True, method="L-BFGS-B", bounds=[(MIN_WEIGHT, None)] * len(probas))
    return np.asarray(found.x)
