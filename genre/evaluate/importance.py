"""Importance of features: permutation importance, the paper's ablations, and CatBoost's SHAP values."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from genre.errors import DataError, UsageError
from genre.inputs.features import FAMILIES

#: Families computed from the waveform itself, not from its spectrum (Bahuleyan 2018, section 3.2.1).
TIME_DOMAIN = {"signal", "zcr", "rmse", "tempo"}

#: Rows predicted in one call of `permutation_importances`, if a group has fewer: tens of megabytes. Half of a forest's
#: time for 300 rows does not depend on their number.
MAX_ROWS = 4096

#: Numbers of most important features that the paper trained on alone (its figure of the ablation study).
TOP_SIZES = (10, 20, 30)


def permutation_importances(
    predict: Callable[[np.ndarray], np.ndarray],
    X: np.ndarray,
    y: np.ndarray,
    *,
    columns: Sequence[str],
    groups: Mapping[str, str] | None = None,
    n_repeats: int = 5,
    max_clips: int = 300,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute the drop in macro one-vs-rest AUC when a feature, or a group of features together, is permuted.

    Redundant features hide each other when they are permuted one at a time, since the model uses the other one.
    Permuting a whole group, its columns in the same order, shows what the group is worth. scikit-learn predicts and
    scores each permutation by itself; here the permutations of a group are scored together, and those of several groups
    predicted in one call.

    Parameters
    ----------
    predict : callable
        Features [shape=(n, m)] to probabilities [shape=(n, k)].
    X : np.ndarray [shape=(n, m)]
        Features of clips that the model was not trained on.
    y : np.ndarray [shape=(n,), dtype=int]
        Genre codes of the clips: columns of the probabilities. A genre without clips does not count in the mean.
    columns : sequence of str
        Names of the m features.
    groups : mapping of str to str, optional
        Column to group, such as `group_by_feature` or `genre.inputs.features.FAMILIES`; by default every column is a
        group of its own.
    n_repeats : int
        Permutations of each feature, at least 1.
    max_clips : int
        Maximum number of clips used; of more, so many are drawn at random.
    seed : int
        Seed of the draw and of the permutations, which are the same for all features.

    Returns
    -------
    pd.DataFrame
        Index ``feature``, columns ``mean`` and ``std`` over the repeats, most important first.

    Raises
    ------
    DataError
        If the clips are all of one genre, so that the AUC is undefined.
    UsageError
        If a column has no group.
    """
    positions = _group_positions(columns, groups)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(y))[:max_clips])
    X = np.asarray(X)[rows]
    y = np.asarray(y)[rows]
    if len(np.unique(y)) < 2:
        raise DataError("permutation importance needs clips of two genres or more; the validation split has fewer")
    orders = np.stack([rng.permutation(len(y)) for _ in range(n_repeats)])
    baseline = _macro_auc(predict(X)[None], y)
    groups_together = max(1, MAX_ROWS // (n_repeats * len(y)))
    columns_of = list(positions.values())
    aucs = [
        _permuted_aucs(predict, X, y, orders, columns_of[start : start + groups_together])
        for start in range(0, len(columns_of), groups_together)
    ]
    drops = baseline - np.concatenate(aucs)
    index = pd.Index(list(positions), name="feature")
    table = pd.DataFrame({"mean": drops.mean(axis=1), "std": drops.std(axis=1)}, index=index)
    return table.sort_values("mean", ascending=False, kind="stable")


def group_by_feature(columns: Sequence[str]) -> dict[str, str]:
    """Map each column to its feature: mean and deviation to what they summarise, blocks of bands to their pattern.

    Parameters
    ----------
    columns : sequence of str
        Names of features and modulations.

    Returns
    -------
    dict
        Column to feature: ``mfccs_4_mean`` and ``mfccs_4_std``, for example, both to ``mfccs_4``, and
        ``modulation_4hz_flat_block_3`` to ``modulation_4hz_flat``. Other columns are features by themselves.
    """
    return {column: re.sub(r"_(mean|std|block_\d+)$", "", column) for column in columns}


def ablation_subsets(ranking: Sequence[str]) -> dict[str, list[str]]:
    """Return the features of the paper's ablations: time domain, frequency domain, and the most important ones.

    Parameters
    ----------
    ranking : sequence of str
        Features among `genre.inputs.features.FEATURE_NAMES`, most important first.

    Returns
    -------
    dict
        ``all features``, ``time domain``, ``frequency domain``, ``top 10``, ``top 20`` and ``top 30`` to the columns of
        each, in the order of the features table.

    Raises
    ------
    UsageError
        If the ranking contains a feature twice, or an unknown one.
    """
    ranked = set(ranking)
    if unknown := ranked - set(FAMILIES):
        raise UsageError(f"the ranking contains {min(unknown)!r}, which is no feature")
    if len(ranked) < len(ranking):
        raise UsageError("the ranking contains a feature twice; each must be in it once")
    time_domain = {column for column in ranking if FAMILIES[column] in TIME_DOMAIN}
    subsets = {
        "all features": ranked,
        "time domain": time_domain,
        "frequency domain": ranked - time_domain,
        **{f"top {n}": set(ranking[:n]) for n in TOP_SIZES},
    }
    return {name: [column for column in FAMILIES if column in subset] for name, subset in subsets.items()}


def shap_values(model: Any, X: np.ndarray, *, columns: Sequence[str], genres: Sequence[str]) -> pd.DataFrame:
    """Compute the mean magnitude of each feature's SHAP values for each genre, with CatBoost's own implementation.

    A SHAP value is the amount that one feature of one clip adds to the score (a logit, before the softmax) of one
    genre, relative to the mean over clips (Lundberg and Lee 2017; exact for trees, Lundberg et al. 2020).

    Parameters
    ----------
    model : catboost.CatBoostClassifier
        Fitted with the loss ``MultiClass``.
    X : np.ndarray [shape=(n, m)]
        Features of the clips to explain.
    columns : sequence of str
        Names of the m features.
    genres : sequence of str
        Names of the model's k classes.

    Returns
    -------
    pd.DataFrame [shape=(m, k)]
        Index ``feature``, one column per genre; most important first by the sum over genres.

    Raises
    ------
    UsageError
        If the number of the model's classes is not that of the genres.
    """
    from catboost import Pool

    values = np.asarray(model.get_feature_importance(Pool(np.asarray(X, dtype=np.float64)), type="ShapValues"))
    if values.ndim != 3 or values.shape[1] != len(genres):
        raise UsageError(f"{len(genres)} genres for SHAP values of shape {values.shape}; pass the model's genres")
    # The last column is the mean score, not a feature.
    magnitudes = np.abs(values[:, :, :-1]).mean(axis=0).T
    table = pd.DataFrame(magnitudes, index=pd.Index(columns, name="feature"), columns=list(genres))
    return table.loc[table.sum(axis=1).sort_values(ascending=False, kind="stable").index]


def _group_positions(columns: Sequence[str], groups: Mapping[str, str] | None) -> dict[str, np.ndarray]:
    """Return the positions of each group's columns, groups in the order of their first column."""
    names = pd.Series(columns if groups is None else [groups.get(column) for column in columns], dtype=object)
    if names.isna().any():
        raise UsageError(f"feature {columns[int(names.isna().to_numpy().argmax())]!r} is in no group; put it into one")
    return {str(name): np.flatnonzero(names == name) for name in names.unique()}


def _permuted_aucs(
    predict: Callable[[np.ndarray], np.ndarray],
    X: np.ndarray,
    y: np.ndarray,
    orders: np.ndarray,
    groups: Sequence[np.ndarray],
) -> np.ndarray:
    """Compute the macro AUC with the columns of each group permuted in each order, shape (groups, orders)."""
    tables = np.broadcast_to(X, (len(groups), len(orders), *X.shape)).copy()
    for table, columns in zip(tables, groups, strict=True):
        table[:, :, columns] = X[:, columns][orders]
    proba = predict(tables.reshape(-1, X.shape[1]))
    return _macro_auc(proba.reshape(-1, len(y), proba.shape[1]), y).reshape(len(groups), len(orders))


def _macro_auc(proba: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Compute the one-vs-rest AUC of each of r tables [shape=(r, n, k)], averaged over the genres present."""
    present = np.unique(y)
    positive = y[:, None] == present
    n_positive = positive.sum(axis=0)
    # The rank-sum identity: number of pairs with the positive above the negative, ties counting half.
    above = (rankdata(proba[:, :, present], axis=1) * positive).sum(axis=1) - n_positive * (n_positive + 1) / 2
    return (above / (n_positive * (len(y) - n_positive))).mean(axis=1)
