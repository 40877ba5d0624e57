"""Bootstrap by recording: how far a score would move if other music had been drawn."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from genre.errors import UsageError
from genre.evaluate.scores import table_metrics, weighted_metrics
from genre.probabilities.tables import check_labels, genres_of, labels_of, per_recording, proba_of

#: Weights held at once by the bootstrap: 1 MB of float32, so that they stay in a core's cache.
CHUNK_CELLS = 250_000


def bootstrap_metrics(
    table: pd.DataFrame, *, n: int = 2000, seed: int = 0, groups: str | None = "recording"
) -> pd.DataFrame:
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
        Resamples. Default 2000.
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
    check_labels(y_true, len(genres))
    if n < 1:
        raise UsageError(f"the number of resamples must be at least 1, not {n}")
    if groups is not None and groups not in table:
        raise UsageError(f"no column {groups!r} to resample by; the table has {', '.join(map(str, table.columns))}")
    names = table.index if groups is None else table[groups]
    codes = pd.factorize(names.astype(str), sort=True)[0]
    parts = [
        weighted_metrics(w, y_true, proba, genres) for w in _resample_weights(codes, n, np.random.default_rng(seed))
    ]
    return pd.concat(parts, ignore_index=True)


def confidence_intervals(
    table: pd.DataFrame, *, n: int = 2000, seed: int = 0, groups: str | None = "recording"
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of the metrics.

    Parameters
    ----------
    table, n, seed, groups
        As in `bootstrap_metrics`.

    Returns
    -------
    dict of str to (float, float)
        Low and high under the keys of `metrics`; NaN where no resample defines the metric.

    Raises
    ------
    UsageError
        As in `bootstrap_metrics`.
    """
    return percentile_intervals(bootstrap_metrics(table, n=n, seed=seed, groups=groups))


def summarise_scores(table: pd.DataFrame) -> dict[str, float]:
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
        scores |= {f"{split}_{key}": value for key, value in table_metrics(part, genres_of(table)).items()}
        if split == "train":
            continue
        for key, (low, high) in confidence_intervals(part).items():
            scores |= {f"{split}_{key}_low": low, f"{split}_{key}_high": high}
        whole = table_metrics(per_recording(part), genres_of(table))
        scores |= {f"{split}_recording_{key}": float(whole[key]) for key in whole.index if "/" not in key}
    return scores


def _resample_weights(codes: np.ndarray, n: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Weights per clip of the resamples, shape (clips, resamples), a bounded number of resamples at a time."""
    n_groups, size = int(codes.max()) + 1, max(1, CHUNK_CELLS // len(codes))
    for start in range(0, n, size):
        counts = [
            np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups) for _ in range(min(size, n - start))
        ]
        # whole numbers, of which float32 holds sums up to 16 million exactly
        yield np.stack(counts, axis=1).astype(np.float32)[codes]


def percentile_intervals(resampled: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Central 95 % of each column; NaN values are left out."""
    bounds = resampled.quantile([0.025, 0.975])
    return {str(name): (float(low), float(high)) for name, (low, high) in bounds.items()}
