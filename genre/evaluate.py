"""Numbers from probability tables: metrics, bootstrap intervals, paired gains. No figures, no files.

A probability table is indexed by ``clip_id`` and holds ``split``, ``genre`` (categorical: its categories are the
genres, in order), ``recording`` and one column of probabilities per genre, rows summing to 1.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

from genre.errors import UsageError
from genre.splits import SPLITS

META_COLUMNS = ("split", "genre", "recording")

#: Rows whose sum is off by more are an error; anything nearer is float noise (half precision stays under it).
SUM_TOLERANCE = 1e-3

#: Weights held at once by the bootstrap: 32 MB of float64, whatever the table's length.
CHUNK_CELLS = 4_000_000


class PairedGain(TypedDict):
    """What `paired_gain` returns; every interval is (low, high)."""

    gain: float
    interval: tuple[float, float]
    genres: dict[str, tuple[float, float, float]]
    n_clips: int
    n_recordings: int


def probability_table(
    index: Sequence[str] | pd.Index,
    split: str | Sequence[str] | pd.Series,
    genre: Sequence[str] | pd.Series | pd.Categorical,
    recording: Sequence[str] | pd.Series,
    proba: np.ndarray,
    genres: Sequence[str],
) -> pd.DataFrame:
    """Probability table of one model, checked.

    Everything is matched by position, so pass columns in the order of `index`.

    Parameters
    ----------
    index : sequence of str [n]
        Clip ids, unique.
    split : str or sequence of str [n]
        ``train``, ``validation`` or ``test``; one word stands for all rows.
    genre : sequence of str [n]
        True genre of each clip, one of `genres`.
    recording : sequence of str [n]
        What each clip was cut from.
    proba : np.ndarray [shape=(n, k)]
        Probabilities, columns in the order of `genres`, rows summing to 1 within 1e-3; the rest is divided out.
    genres : sequence of str [k]
        The data set's genres, in order; at least two, none named like a column of the table.

    Returns
    -------
    pd.DataFrame
        The table, probabilities as float64, rows summing to 1 within 1e-6.

    Raises
    ------
    UsageError
        If lengths, genres, splits or ids do not fit, or a row is not finite, negative or does not sum to 1.
    """
    genres, ids = _checked_genres(genres), pd.Index(index, dtype=str, name="clip_id")
    if ids.has_duplicates:
        raise UsageError(f"clip id {ids[ids.duplicated()][0]!r} occurs more than once; ids must be unique")
    table = pd.DataFrame({"split": split if isinstance(split, str) else _column("split", split, ids)}, index=ids)
    columns = pd.Index(genres)
    codes = columns.get_indexer(pd.Index(_column("genre", genre, ids)))
    table["genre"] = pd.Categorical.from_codes(codes, categories=columns)
    table["recording"] = _column("recording", recording, ids)
    _check_meta(table, genre)
    return table.join(pd.DataFrame(_checked_proba(proba, genres, ids), index=ids, columns=columns))


def genres_of(table: pd.DataFrame) -> list[str]:
    """Genres of a probability table, in order.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table.

    Returns
    -------
    list of str [k]

    Raises
    ------
    UsageError
        If ``genre`` is missing or not categorical.
    """
    if "genre" not in table or not isinstance(table["genre"].dtype, pd.CategoricalDtype):
        raise UsageError("a probability table needs a categorical column 'genre'; build it with probability_table()")
    return [str(genre) for genre in table["genre"].cat.categories]


def proba_of(table: pd.DataFrame) -> np.ndarray:
    """Probabilities of a probability table.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table.

    Returns
    -------
    np.ndarray [shape=(n, k), dtype=float64]
        Columns in the order of `genres_of`.

    Raises
    ------
    UsageError
        If a genre has no column, or ``genre`` is not categorical.
    """
    genres = genres_of(table)
    missing = [genre for genre in genres if genre not in table]
    if missing:
        raise UsageError(f"the probability table has no column for {', '.join(map(repr, missing))}")
    return table[genres].to_numpy(dtype=np.float64)


def labels_of(table: pd.DataFrame) -> np.ndarray:
    """True genres of a probability table as integers.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=intp]
        Positions in `genres_of`, 0 to k - 1.

    Raises
    ------
    UsageError
        If a clip has no genre, or ``genre`` is not categorical.
    """
    genres_of(table)
    codes = table["genre"].cat.codes.to_numpy(dtype=np.intp)
    if (codes < 0).any():
        raise UsageError(f"clip {table.index[codes < 0][0]!r} has no genre; only labelled clips can be evaluated")
    return codes


def metrics(y_true: np.ndarray, proba: np.ndarray, genres: Sequence[str]) -> dict[str, float]:
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
    genres = _checked_genres(genres)
    y_true = np.asarray(y_true)
    proba = _checked_proba(proba, genres, pd.RangeIndex(len(y_true)))
    _check_labels(y_true, len(genres))
    predicted = proba.argmax(axis=1)
    aucs = {f"auc/{genre}": _auc(y_true == k, proba[:, k]) for k, genre in enumerate(genres)}
    return {
        "accuracy": float(accuracy_score(y_true, predicted)),
        "macro_f1": float(f1_score(y_true, predicted, average="macro", zero_division=0)),
        "macro_auc": float(_mean_of_defined(np.array(list(aucs.values())))),
        "log_loss": float(log_loss(y_true, proba, labels=np.arange(len(genres)))),
        **aucs,
    }


def summary(table: pd.DataFrame) -> dict[str, float]:
    """All scores of a table, per split, with 95 % intervals where nothing was fitted on the clips.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table.

    Returns
    -------
    dict of str to float
        ``<split>_<metric>`` for the keys of `metrics`; on validation and test ``…_low`` and ``…_high`` too, and
        ``<split>_recording_<metric>`` of the means over each recording's clips.

    Raises
    ------
    UsageError
        If `table` is no probability table.
    """
    scores: dict[str, float] = {}
    for split, part in table.groupby("split", observed=True):
        scores |= {f"{split}_{key}": value for key, value in _metrics_of(part, genres_of(table)).items()}
        if split == "train":
            continue
        for key, (low, high) in intervals(part).items():
            scores |= {f"{split}_{key}_low": low, f"{split}_{key}_high": high}
        whole = _metrics_of(per_recording(part), genres_of(table))
        scores |= {f"{split}_recording_{key}": float(whole[key]) for key in whole.index if "/" not in key}
    return scores


def per_recording(table: pd.DataFrame) -> pd.DataFrame:
    """Probability table with one row a recording: the mean over its clips.

    Clips of one recording that differ in split or genre (an artist who plays two genres) stay apart.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table.

    Returns
    -------
    pd.DataFrame
        Probability table; each row keeps the id of its first clip in the order of ids.

    Raises
    ------
    UsageError
        If `table` is no probability table.
    """
    proba_of(table)
    genres = genres_of(table)
    named = table.rename_axis("clip_id").reset_index()
    how = {"clip_id": "min", **dict.fromkeys(genres, "mean")}
    grouped = named.groupby(list(META_COLUMNS), observed=True, sort=True, as_index=False).agg(how)
    return grouped.set_index("clip_id")[[*META_COLUMNS, *genres]]


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
    _check_labels(y_true, proba.shape[1])
    order = np.argsort(-proba.max(axis=1), kind="stable")
    confidence = proba.max(axis=1)[order]
    reached = np.cumsum((proba.argmax(axis=1) == y_true)[order]) / np.arange(1, len(order) + 1)
    # A threshold keeps all clips of equal confidence, so precision is read at the last of each.
    last = np.flatnonzero(np.append(confidence[1:] < confidence[:-1], True))
    enough = last[reached[last] >= min(precision, reached[last].max())]
    return float(np.clip(confidence[enough[-1]], 0.0, 1.0))


def bootstrap(table: pd.DataFrame, *, n: int = 1000, seed: int = 0, groups: str | None = "recording") -> pd.DataFrame:
    """Metrics of resampled tables.

    Each resample draws as many recordings as there are, with replacement, and takes all their clips; it is held as a
    whole-number weight per clip. The weighted AUC is read from one sort per genre and cumulative sums of weights, equal
    scores counting half, which equals scikit-learn's on the resampled clips and takes a hundredth of its time.
    The draws depend on the sorted names in `groups` and on the seed, not on the order of the rows.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table.
    n : int
        Resamples. Default 1000.
    seed : int
        Default 0.
    groups : str or None
        Column whose values are drawn; None draws single clips. Default ``recording``.

    Returns
    -------
    pd.DataFrame [shape=(n, 4 + k)]
        Columns as the keys of `metrics`; NaN where a resample leaves a value undefined there.

    Raises
    ------
    UsageError
        If the table is empty, `n` is below 1 or `groups` is no column.
    """
    proba, y_true, genres = proba_of(table), labels_of(table), genres_of(table)
    _check_labels(y_true, len(genres))
    if n < 1:
        raise UsageError(f"the number of resamples must be at least 1, not {n}")
    if groups is not None and groups not in table:
        raise UsageError(f"no column {groups!r} to resample by; the table has {', '.join(map(str, table.columns))}")
    names = table.index if groups is None else table[groups]
    codes = pd.factorize(names.astype(str), sort=True)[0]
    parts = [_weighted_metrics(w, y_true, proba, genres) for w in _draws(codes, n, np.random.default_rng(seed))]
    return pd.concat(parts, ignore_index=True)


def intervals(
    table: pd.DataFrame, *, n: int = 1000, seed: int = 0, groups: str | None = "recording"
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of the metrics.

    Parameters
    ----------
    table, n, seed, groups
        As in `bootstrap`.

    Returns
    -------
    dict of str to (float, float)
        Low and high under the keys of `metrics`; NaN where no resample defines the metric.

    Raises
    ------
    UsageError
        As in `bootstrap`.
    """
    return _percentiles(bootstrap(table, n=n, seed=seed, groups=groups))


def paired_gain(
    candidate: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    n: int = 1000,
    seed: int = 0,
    groups: str | None = "recording",
) -> PairedGain:
    """What a candidate gains over a reference on the clips they have in common.

    Both are resampled by the same draws, so that what is hard for both cancels out.

    Parameters
    ----------
    candidate, reference : pd.DataFrame
        Probability tables over the same genres, in any order; clips are joined by id.
    n, seed, groups
        As in `bootstrap`; the groups are the candidate's.

    Returns
    -------
    PairedGain
        ``gain`` in macro AUC (candidate minus reference) with its 95 % ``interval``; ``genres`` maps each genre to the
        change of its AUC, low and high; ``n_clips`` and ``n_recordings`` compared.

    Raises
    ------
    UsageError
        If the tables have other genres, no common clips, or disagree on the genre of a clip.
    """
    genres = genres_of(candidate)
    a, b = _common_clips(candidate, reference)
    change = _metrics_of(a, genres) - _metrics_of(b, genres)
    resampled = [bootstrap(table, n=n, seed=seed, groups=groups) for table in (a, b)]
    bounds = _percentiles(resampled[0] - resampled[1])
    return PairedGain(
        gain=float(change["macro_auc"]),
        interval=bounds["macro_auc"],
        genres={genre: (float(change[f"auc/{genre}"]), *bounds[f"auc/{genre}"]) for genre in genres},
        n_clips=len(a),
        n_recordings=int(a["recording"].nunique()),
    )


def _metrics_of(table: pd.DataFrame, genres: list[str]) -> pd.Series:
    """Metrics of a whole table, as a series."""
    return pd.Series(metrics(labels_of(table), proba_of(table), genres))


def _common_clips(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables cut to their common clips, in one order, with the genres, splits and recordings of the first."""
    genres = genres_of(a)
    if set(genres) != set(genres_of(b)):
        raise UsageError(f"the tables have different genres: {', '.join(genres)} and {', '.join(genres_of(b))}")
    common = a.index.intersection(b.index).sort_values()
    if common.empty:
        raise UsageError("the two tables have no clip in common; score both models on the same clips first")
    a, b = a.loc[common], b.loc[common]
    if len(a) != len(common) or len(b) != len(common):
        raise UsageError("a clip id occurs more than once in a probability table; ids must be unique")
    differ = a["genre"].astype(str).to_numpy() != b["genre"].astype(str).to_numpy()
    if differ.any():
        clip = common[differ][0]
        raise UsageError(f"the tables disagree on the genre of {differ.sum()} clips, the first of them {clip!r}")
    return a, a.assign(**{genre: b[genre] for genre in genres})


def _draws(codes: np.ndarray, n: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Weights per clip of the resamples, shape (clips, resamples), a bounded number of resamples at a time."""
    n_groups, size = int(codes.max()) + 1, max(1, CHUNK_CELLS // len(codes))
    for start in range(0, n, size):
        counts = [
            np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups) for _ in range(min(size, n - start))
        ]
        yield np.stack(counts, axis=1)[codes].astype(np.float64)


def _weighted_metrics(weights: np.ndarray, y_true: np.ndarray, proba: np.ndarray, genres: list[str]) -> pd.DataFrame:
    """Metrics of each resample, `weights` being (clips, resamples)."""
    true, predicted = (np.eye(len(genres))[codes] for codes in (y_true, proba.argmax(axis=1)))
    hits, actual, guessed = (weights.T @ flags for flags in (true * predicted, true, predicted))
    total = weights.sum(axis=0)
    aucs = np.stack([_weighted_auc(weights, true[:, k] == 1, proba[:, k]) for k in range(len(genres))], axis=1)
    eps = np.finfo(proba.dtype).eps  # scikit-learn's bound for the logarithm of 0
    surprise = -np.log(np.clip(proba[np.arange(len(y_true)), y_true], eps, 1 - eps))
    values = {
        "accuracy": hits.sum(axis=1) / total,
        "macro_f1": _mean_of_defined(_ratio(2 * hits, actual + guessed)),
        "macro_auc": _mean_of_defined(aucs),
        "log_loss": surprise @ weights / total,
    }
    return pd.DataFrame({**values, **{f"auc/{genre}": aucs[:, k] for k, genre in enumerate(genres)}})


def _weighted_auc(weights: np.ndarray, positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """ROC AUC under each column of weights: the chance that a positive scores above a negative, ties counting half."""
    order = np.argsort(score, kind="stable")
    weights, positive = weights[order], positive[order, None]
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    up = np.add.reduceat(weights * positive, starts, axis=0)
    down = np.add.reduceat(weights * ~positive, starts, axis=0)
    below = np.cumsum(down, axis=0) - down / 2
    return _ratio((up * below).sum(axis=0), up.sum(axis=0) * down.sum(axis=0))


def _auc(positive: np.ndarray, score: np.ndarray) -> float:
    """ROC AUC, NaN where one of the two classes is empty."""
    return float(roc_auc_score(positive, score)) if positive.any() and not positive.all() else float("nan")


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full_like(denominator, np.nan), where=denominator > 0)


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean of what is not NaN along the last axis; NaN, and no warning, where nothing is left."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1).astype(np.float64))


def _percentiles(resampled: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Central 95 % of each column; NaN values are left out."""
    bounds = resampled.quantile([0.025, 0.975])
    return {str(name): (float(low), float(high)) for name, (low, high) in bounds.items()}


def _checked_genres(genres: Sequence[str]) -> list[str]:
    """Genres as a list, if they can be the columns of a table."""
    genres = [str(genre) for genre in genres]
    if len(genres) < 2 or len(set(genres)) < len(genres):
        raise UsageError(f"at least two different genres are needed, not {genres}")
    reserved = sorted(set(genres) & set(META_COLUMNS))
    if reserved:
        raise UsageError(f"a genre cannot be called {reserved[0]!r}: the table has a column of that name; rename it")
    return genres


def _column(name: str, values: Any, ids: pd.Index) -> np.ndarray:
    """One descriptive column, if it is as long as the index and every clip has a value."""
    column = np.asarray(values, dtype=object)
    if column.shape != ids.shape:
        raise UsageError(f"{name} has shape {column.shape}, but there are {len(ids)} clip ids")
    if pd.isna(column).any():
        raise UsageError(f"clip {ids[pd.isna(column)][0]!r} has no {name}; every clip needs one")
    return column


def _check_meta(table: pd.DataFrame, genre: Any) -> None:
    """Refuse a split or a genre that is not on the list."""
    wrong = set(table["split"]) - set(SPLITS)
    if wrong:
        raise UsageError(f"unknown split {sorted(map(str, wrong))[0]!r}; choose from {', '.join(SPLITS)}")
    unknown = table["genre"].isna().to_numpy()
    if unknown.any():
        came = np.asarray(genre, dtype=object)[unknown][0]
        raise UsageError(
            f"clip {table.index[unknown][0]!r} has the genre {came!r}; the genres are {', '.join(genres_of(table))}"
        )


def _check_labels(y_true: np.ndarray, n_genres: int) -> None:
    """Refuse nothing at all, and labels that are no genre's position."""
    if len(y_true) == 0:
        raise UsageError("no clips to evaluate; the table, or the split taken from it, is empty")
    if y_true.ndim != 1 or y_true.dtype.kind not in "iu" or y_true.min() < 0 or y_true.max() >= n_genres:
        raise UsageError(f"labels must be whole numbers from 0 to {n_genres - 1}, one a clip")


def _checked_proba(proba: np.ndarray, genres: list[str], ids: pd.Index) -> np.ndarray:
    """Probabilities as float64 with rows summing to 1."""
    proba = np.asarray(proba, dtype=np.float64)
    if proba.shape != (len(ids), len(genres)):
        raise UsageError(f"probabilities have shape {proba.shape}, but clips and genres need {(len(ids), len(genres))}")
    bad = ~np.isfinite(proba).all(axis=1) | (proba < 0).any(axis=1)
    if bad.any():
        raise UsageError(f"the probabilities of clip {ids[bad][0]!r} are not finite or are negative: {proba[bad][0]}")
    total = proba.sum(axis=1, keepdims=True)
    off = np.abs(total[:, 0] - 1) > SUM_TOLERANCE
    if off.any():
        raise UsageError(f"the probabilities of clip {ids[off][0]!r} sum to {total[off][0, 0]:.6g}, not to 1")
    return proba / total


def mcnemar(first: pd.DataFrame, second: pd.DataFrame) -> float:
    """Probability that two equally accurate models differ as much as these on the clips they have in common.

    The exact test (McNemar 1947, with the binomial distribution): of the clips that only one of the two gets right,
    each may get half.

    Parameters
    ----------
    first, second : pd.DataFrame
        Probability tables over the same genres, in any order; clips are joined by id.

    Returns
    -------
    float
        Two-sided p-value, 0 to 1; 1 where they are right on the same clips.

    Raises
    ------
    UsageError
        If the tables have other genres, no common clips, or disagree on the genre of a clip.
    """
    from scipy.stats import binomtest

    a, b = _common_clips(first, second)
    right = [proba_of(table).argmax(axis=1) == labels_of(table) for table in (a, b)]
    only_first, only_second = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    n = only_first + only_second
    return float(binomtest(only_first, n).pvalue) if n else 1.0
