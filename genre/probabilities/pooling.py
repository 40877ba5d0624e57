"""Pooling of several models' probabilities as a weighted product, and the weights of least log-loss."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

#: Value that replaces a probability of 0, so that one model alone cannot rule out a genre that all others predict.
MIN_PROBABILITY = 1e-12

#: Lower bound of the weights fitted by `fit_pool_weights`, so that a temperature is at most twenty.
MIN_WEIGHT = 0.05


def pool_probabilities(probas: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Multiply models' probabilities, each raised to the power of its weight, and normalise the product.

    Equal weights that sum to 1 give the geometric mean. For a single model the weight is 1 / temperature.

    Parameters
    ----------
    probas : sequence of np.ndarray [shape=(n, k)]
        Rows sum to 1; a zero counts as 1e-12.
    weights : np.ndarray [shape=(len(probas),)]
        At least 0.

    Returns
    -------
    np.ndarray [shape=(n, k)]
        Rows sum to 1.
    """
    logits = np.tensordot(weights, [np.log(np.maximum(p, MIN_PROBABILITY)) for p in probas], 1)
    return np.exp(logits - logsumexp(logits, axis=1, keepdims=True))


def fit_pool_weights(probas: Sequence[np.ndarray], y_true: np.ndarray) -> np.ndarray:
    """Fit the weights of least log-loss for `pool_probabilities`, kept near equal weights where there are few clips.

    There are no local minima: the log-loss is convex in the weights, and so is the penalty, half the squared distance
    from equal weights. The penalty weighs as much as the log-loss of one clip. It matters with ten clips, keeps a few
    separable ones from driving the weights to certainty, and is negligible with two thousand.

    Parameters
    ----------
    probas : sequence of np.ndarray [shape=(n, k)]
        Probabilities of clips that no model was fitted on.
    y_true : np.ndarray [shape=(n,), integer]
        Positions of the true genres.

    Returns
    -------
    np.ndarray [shape=(len(probas),)]
        At least 0.05; their sum is one over the temperature of the pooled probabilities.
    """
    logs = np.stack([np.log(np.maximum(p, MIN_PROBABILITY)) for p in probas])
    log_of_true = logs[:, np.arange(len(y_true)), y_true].sum(axis=1)
    equal_weights = np.full(len(probas), 1 / len(probas))

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute the penalised log-loss and its gradient."""
        pooled = np.tensordot(weights, logs, 1)
        norm = logsumexp(pooled, axis=1)
        expected = (logs * np.exp(pooled - norm[:, None])).sum(axis=(1, 2))
        distance = weights - equal_weights
        value = float(norm.sum() - weights @ log_of_true + distance @ distance / 2)
        return value, expected - log_of_true + distance

    bounds = [(MIN_WEIGHT, None)] * len(probas)
    return np.asarray(minimize(loss, equal_weights, jac=True, method="L-BFGS-B", bounds=bounds).x)
