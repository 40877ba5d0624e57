"""Bootstrap by recording: how much a score would vary with another sample of music."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from genre.errors import UsageError
from genre.evaluate.scores import table_metrics, weighted_metrics
from genre.probabilities.tables import check_labels, genres_of, labels_of, per_track, proba_of

#: Number of weights that the bootstrap has in memory at once: 1 MB of float32, which fits into a core's cache.
CHUNK_CELLS = 250_000


def bootstrap_metrics(
    table: pd.DataFrame, *, n: int = 2000, seed: int = 0, groups: str | None = "recording"
) -> pd.DataFrame:
    """Compute the metrics of bootstrap resamples of a table.

    Each resample draws as many recordings as there are, with replacement, and takes all their clips. It is represented
    by an integer weight per clip. The weighted AUC needs one sort per genre and cumulative sums of weights, equal
    scores counting half; it equals scikit-learn's on the resampled clips and takes a hundredth of the time.
    The draws depend on the sorted names in `groups` and on the seed, not on the order of the rows.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table.
    n : int
        Number of resamples. Default 2000.
    seed : int
        Seed of the draws. Default 0.
    groups : str or None
        Column whose values are drawn, by default ``recording``; None draws single clips.

    Returns
    -------
    pd.DataFrame [shape=(n, 4 + k)]
        Columns named like the keys of `compute_metrics`; NaN where a metric is undefined on the resample.

    Raises
    ------
    UsageError
        If the table is empty, `n` is below 1 or `groups` is not a column.
    """
    proba = proba_of(table)
    y_true = labels_of(table)
    genres = genres_of(table)
    check_labels(y_true, len(genres))
    if n < 1:
        raise UsageError(f"n is {n}; at least 1 resample is needed")
    if groups is not None and groups not in table:
        raise UsageError(f"no column {groups!r} to resample by; choose from {', '.join(map(str, table.columns))}")
    names = table.index if groups is None else table[groups]
    codes = pd.factorize(names.astype(str), sort=True)[0]
    chunks = _resample_weights(codes, n, np.random.default_rng(seed))
    return pd.concat([weighted_metrics(w, y_true, proba, genres) for w in chunks], ignore_index=True)


def confidence_intervals(
    table: pd.DataFrame, *, n: int = 2000, seed: int = 0, groups: str | None = "recording"
) -> dict[str, tuple[float, float]]:
    """Compute 95 % percentile intervals of the metrics.

    Parameters
    ----------
    table, n, seed, groups
        As in `bootstrap_metrics`.

    Returns
    -------
    dict of str to (float, float)
        Lower and upper end under the keys of `compute_metrics`; NaN where the metric is undefined on all resamples.

    Raises
    ------
    UsageError
        As in `bootstrap_metrics`.
    """
    return percentile_intervals(bootstrap_metrics(table, n=n, seed=seed, groups=groups))


def summarise_scores(table: pd.DataFrame) -> dict[str, float]:
    """Compute all scores of a table, per split, by clip and by track, with 95 % intervals on validation and test.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table.

    Returns
    -------
    dict of str to float
        ``<split>_<metric>`` for the keys of `compute_metrics`, and ``<split>_track_<metric>`` for those that are of no
        single genre, of the mean probabilities of each track; on validation and test also ``…_low`` and ``…_high``.
        Where every track has one clip, the two are equal.

    Raises
    ------
    UsageError
        If `table` is no probability table.
    """
    scores: dict[str, float] = {}
    for split, part in table.groupby("split", observed=True):
        tracks = per_track(part)
        of_clips = _scores_with_intervals(part, is_train=split == "train")
        of_tracks = of_clips if tracks is part else _scores_with_intervals(tracks, is_train=split == "train")
        scores |= {f"{split}_{key}": value for key, value in of_clips.items()}
        scores |= {f"{split}_track_{key}": value for key, value in of_tracks.items() if "/" not in key}
    return scores


def _scores_with_intervals(part: pd.DataFrame, *, is_train: bool) -> dict[str, float]:
    """Return the scores of a split's rows; without intervals on train, where they would mislead: models know it."""
    scores = {str(key): float(value) for key, value in table_metrics(part, genres_of(part)).items()}
    if not is_train:
        for key, (low, high) in confidence_intervals(part).items():
            scores |= {f"{key}_low": low, f"{key}_high": high}
    return scores


def _resample_weights(codes: np.ndarray, n: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield weights per clip, shape (clips, resamples), for a bounded number of resamples at a time."""
    n_groups = int(codes.max()) + 1
    chunk_size = max(1, CHUNK_CELLS // len(codes))
    for start in range(0, n, chunk_size):
        n_resamples = min(chunk_size, n - start)
        draws = [rng.integers(n_groups, size=n_groups) for _ in range(n_resamples)]
        counts = [np.bincount(draw, minlength=n_groups) for draw in draws]
        # Whole numbers, of which float32 represents sums up to 16 million exactly.
        yield np.stack(counts, axis=1).astype(np.float32)[codes]


def percentile_intervals(resampled: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Return the central 95 % of each column; NaN values are left out."""
    bounds = resampled.quantile([0.025, 0.975])
    return {str(name): (float(low), float(high)) for name, (low, high) in bounds.items()}
