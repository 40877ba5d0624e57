"""What matters to a model: the loss when features are dealt out anew among the clips, and CatBoost's SHAP values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from genre.errors import DataError, UsageError
from genre.inputs.features import FAMILIES

#: Families computed from the waveform itself, not from its spectrum (Bahuleyan 2018, section 3.2.1).
TIME_DOMAIN = {"signal", "zcr", "rmse", "tempo"}

#: How many of the most important features the paper tried alone (its figure of the ablation study).
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
    """Drop in macro one-vs-rest AUC when a feature, or a group of features together, is permuted.

    Features that say the same hide each other when permuted one at a time: the model reads the other one. A group that
    is permuted whole, its columns in one order, shows what all of it is worth. Unlike scikit-learn's, which predicts
    and scores each permutation by itself, a group's permutations are predicted in one call and scored together.

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
    groups : mapping of str to str, optional
        Column to its group, such as `group_by_feature` or `genre.inputs.features.FAMILIES`; by default each is its own.
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
    UsageError
        If a column has no group.
    """
    members = _group_positions(columns, groups)
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(len(y))[:max_clips])
    X, y = np.asarray(X)[drawn], np.asarray(y)[drawn]
    if len(np.unique(y)) < 2:
        raise DataError("permutation importance needs clips of two genres or more; the validation split has fewer")
    orders = np.stack([rng.permutation(len(y)) for _ in range(n_repeats)])
    whole = _macro_auc(predict(X)[None], y)
    drops = np.empty((len(members), n_repeats))
    for row, together in enumerate(members.values()):
        copies = np.tile(X, (n_repeats, 1))
        copies[:, together] = X[:, together][orders].reshape(-1, len(together))
        drops[row] = whole - _macro_auc(predict(copies).reshape(n_repeats, len(y), -1), y)
    index = pd.Index(list(members), name="feature")
    table = pd.DataFrame({"mean": drops.mean(axis=1), "std": drops.std(axis=1)}, index=index)
    return table.sort_values("mean", ascending=False, kind="stable")


def group_by_feature(columns: Sequence[str]) -> dict[str, str]:
    """Column to the feature that it is the mean or the deviation of; any other column is a feature of its own.

    Parameters
    ----------
    columns : sequence of str
        Names as in `genre.inputs.features.FEATURE_NAMES`.

    Returns
    -------
    dict
        For ``mfccs_4_mean`` and ``mfccs_4_std``, ``mfccs_4``.
    """
    return {column: column.removesuffix("_mean").removesuffix("_std") for column in columns}


def ablation_subsets(ranking: Sequence[str]) -> dict[str, list[str]]:
    """The paper's ablations: features of the time domain, of the frequency domain, and the most important ones.

    Parameters
    ----------
    ranking : sequence of str
        All features of `genre.inputs.features.FEATURE_NAMES`, most important first.

    Returns
    -------
    dict
        ``all features``, ``time domain``, ``frequency domain``, ``top 10``, ``top 20`` and ``top 30`` to the columns of
        each, in the table's order.

    Raises
    ------
    UsageError
        If the ranking does not hold each feature once.
    """
    if sorted(ranking) != sorted(FAMILIES):
        raise UsageError(f"a ranking of {len(ranking)} features; it must hold each of the {len(FAMILIES)} once")
    best = {f"top {n}": set(ranking[:n]) for n in TOP_SIZES}
    time = {column for column, family in FAMILIES.items() if family in TIME_DOMAIN}
    chosen = {"all features": set(FAMILIES), "time domain": time, "frequency domain": set(FAMILIES) - time} | best
    return {name: [column for column in FAMILIES if column in members] for name, members in chosen.items()}


def shap_values(model: Any, X: np.ndarray, *, columns: Sequence[str], genres: Sequence[str]) -> pd.DataFrame:
    """Mean size of each feature's SHAP value for each genre, by CatBoost itself.

    A SHAP value is what one feature of one clip adds to the score (a logit, before the softmax) of one genre, relative
    to the mean over clips (Lundberg and Lee 2017; exact for trees, Lundberg et al. 2020).

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
        If the model's classes are not as many as the genres.
    """
    from catboost import Pool

    values = np.asarray(model.get_feature_importance(Pool(np.asarray(X, dtype=np.float64)), type="ShapValues"))
    if values.ndim != 3 or values.shape[1] != len(genres):
        raise UsageError(f"{len(genres)} genres for SHAP values of shape {values.shape}; pass those of the model")
    # the last column is the mean score itself
    size = pd.DataFrame(
        np.abs(values[:, :, :-1]).mean(axis=0).T, index=pd.Index(columns, name="feature"), columns=list(genres)
    )
    return size.loc[size.sum(axis=1).sort_values(ascending=False, kind="stable").index]


def _group_positions(columns: Sequence[str], groups: Mapping[str, str] | None) -> dict[str, np.ndarray]:
    """Positions of each group's columns, groups in the order of their first."""
    names = pd.Series(columns if groups is None else [groups.get(column) for column in columns], dtype=object)
    if names.isna().any():
        raise UsageError(f"feature {columns[int(names.isna().to_numpy().argmax())]!r} is in no group; give each one")
    return {str(name): np.flatnonzero(names == name) for name in names.unique()}


def _macro_auc(proba: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean over the genres present of the one-vs-rest AUC, of each of r tables [shape=(r, n, k)]."""
    present = np.unique(y)
    positive = y[:, None] == present
    n_positive = positive.sum(axis=0)
    # The rank-sum identity: how often a positive stands above a negative, ties counting half.
    above = (rankdata(proba[:, :, present], axis=1) * positive).sum(axis=1) - n_positive * (n_positive + 1) / 2
    return (above / (n_positive * (len(y) - n_positive))).mean(axis=1)
