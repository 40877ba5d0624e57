"""Two models on the clips that both have answered."""

from typing import TypedDict

import pandas as pd

from genre.evaluate.resampling import bootstrap, percentiles
from genre.evaluate.scores import metrics_of
from genre.evaluate.tables import common_clips, genres_of


class PairedGain(TypedDict):
    """What `paired_gain` returns; every interval is (low, high)."""

    gain: float
    interval: tuple[float, float]
    genres: dict[str, tuple[float, float, float]]
    n_clips: int
    n_recordings: int


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
    a, b = common_clips(candidate, reference)
    change = metrics_of(a, genres) - metrics_of(b, genres)
    resampled = [bootstrap(table, n=n, seed=seed, groups=groups) for table in (a, b)]
    bounds = percentiles(resampled[0] - resampled[1])
    return PairedGain(
        gain=float(change["macro_auc"]),
        interval=bounds["macro_auc"],
        genres={genre: (float(change[f"auc/{genre}"]), *bounds[f"auc/{genre}"]) for genre in genres},
        n_clips=len(a),
        n_recordings=int(a["recording"].nunique()),
    )
