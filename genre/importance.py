"""Permutation importance: what a model loses when one feature is dealt out anew among the clips."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from genre.errors import DataError


def permutation_importances(
    predict: Callable[[np.ndarray], np.ndarray],
    X: np.ndarray,
    y: np.ndarray,
    *,
    columns: Sequence[str],
    n_repeats: int = 5,
    max_clips: int = 300,
    seed: int = 0,
) -> pd.DataFrame:
    """Drop in macro one-vs-rest AUC when a feature is permuted.

    Unlike scikit-learn's, which predicts and scores each permutation by itself, a feature's permutations are predicted
    in one call and scored together.

    Parameters
    ----------
    predict : callable
        Features [shape=(n, m)] to probabilities [shape=(n, k)].
    X : np.ndarray [shape=(n, m)]
        Features of clips the model has not seen in training.
    y : np.ndarray [shape=(n,), dtype=int]
        Their codes, columns of the probabilities. A genre that is absent does not count in the mean.
    columns : sequence of str
        Names of the m features.
    n_repeats : int
        Permutations of each feature, at least 1.
    max_clips : int
        Of more clips, so many are drawn.
    seed : int
        Of the draw and the permutations; the same permutations serve all features.

    Returns
    -------
    pd.DataFrame
        Index ``feature``, columns ``mean`` and ``std`` over the repeats, most important first.

    Raises
    ------
    DataError
        If the clips are all of one genre: there is no AUC.
    """
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(len(y))[:max_clips])
    X, y = np.asarray(X)[drawn], np.asarray(y)[drawn]
    if len(np.unique(y)) < 2:
        raise DataError("permutation importance needs clips of two genres or more; the validation split has fewer")
    orders = np.stack([rng.permutation(len(y)) for _ in range(n_repeats)])
    whole = _macro_auc(predict(X)[None], y)
    drops = np.empty((X.shape[1], n_repeats))
    for j in range(X.shape[1]):
        copies = np.tile(X, (n_repeats, 1))
        copies[:, j] = X[orders, j].ravel()
        drops[j] = whole - _macro_auc(predict(copies).reshape(n_repeats, len(y), -1), y)
    index = pd.Index(columns, name="feature")
    table = pd.DataFrame({"mean": drops.mean(axis=1), "std": drops.std(axis=1)}, index=index)
    return table.sort_values("mean", ascending=False, kind="stable")


def _macro_auc(proba: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean over the genres present of the one-vs-rest AUC, of each of r tables [shape=(r, n, k)]."""
    present = np.unique(y)
    positive = y[:, None] == present
    n_positive = positive.sum(axis=0)
    # The rank-sum identity: how often a positive stands above a negative, ties counting half.
    above = (rankdata(proba[:, :, present], axis=1) * positive).sum(axis=1) - n_positive * (n_positive + 1) / 2
    return (above / (n_positive * (len(y) - n_positive))).mean(axis=1)
