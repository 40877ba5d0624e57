"""Comparison of models on the clips they have in common: paired bootstrap and McNemar's test."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import TypedDict

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from genre.errors import UsageError
from genre.evaluate.resampling import bootstrap_metrics, bound_differences, count_recordings
from genre.evaluate.scores import table_metrics
from genre.probabilities.tables import Level, align_tables, decision_level, genres_of, labels_of, per_track, proba_of

#: Loss of AUC of a single genre beyond which a gain in macro AUC no longer counts.
MAX_GENRE_LOSS = 0.02

#: Probability with which an equal model may be found better in the first comparison on some test music: that of lying
#: below a 95 % interval.
MAX_ERROR = 0.025

ScoreChange = tuple[float, float, float]


class PairedGain(TypedDict):
    """Result of `paired_gain`; an interval is (low, high), a change is (value, low, high)."""

    gain: float
    interval: tuple[float, float]
    lower: float
    accuracy: ScoreChange
    mcnemar: float
    genres: dict[str, ScoreChange]
    level: Level
    n_clips: int
    n_tracks: int
    n_recordings: int


def paired_gain(
    candidate: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    n: int = 2000,
    seed: int = 0,
    groups: str | None = "recording",
    level: Level = "clip",
    error: float = MAX_ERROR,
) -> PairedGain:
    """Compute the gain of a candidate over a reference on the clips they have in common, or on their tracks.

    Both are resampled by the same draws, so that the difficulty of the clips cancels out.

    Parameters
    ----------
    candidate, reference : pd.DataFrame
        Probability tables over the same genres, in any order; clips are joined by id.
    n, seed, groups
        As in `bootstrap_metrics`; the groups are the candidate's.
    level : {"clip", "track"}
        Whether to score clips, or tracks by the mean over their clips. Default ``clip``.
    error : float
        Probability that the gain is below its ``lower`` bound. Default 0.025.

    Returns
    -------
    PairedGain
        ``gain`` in macro AUC (candidate minus reference) with its 95 % ``interval``, see
        `genre.evaluate.resampling.bound_differences`, and its ``lower`` bound at the error asked for; the change of the
        ``accuracy``; ``mcnemar``, the p-value of `mcnemar_test`; ``genres``, from each genre to the change of its AUC;
        ``level``, ``clip`` also where no track has several clips; ``n_clips``, ``n_tracks`` and ``n_recordings``
        compared.

    Raises
    ------
    UsageError
        If the tables have other genres, no common clips, or disagree on the genre of a clip.
    """
    candidate, reference = align_tables([candidate, reference])
    scored = [_at_level(table, level) for table in (candidate, reference)]
    resamples = [bootstrap_metrics(table, n=n, seed=seed, groups=groups) for table in scored]
    return _gain_from_resamples(scored, resamples, candidate, level, groups=groups, error=error)


def mcnemar_test(first: pd.DataFrame, second: pd.DataFrame) -> float:
    """Compute the p-value of McNemar's exact test that two models are right equally often on their common clips.

    Only clips count that one model predicts right and the other wrong; under the null hypothesis either is as likely
    (McNemar 1947; the exact binomial form, two-sided). The test takes clips for independent. Where a recording has
    several clips, `paired_gain` is the safer comparison.

    Parameters
    ----------
    first, second : pd.DataFrame
        Probability tables over the same genres, in any order; clips are joined by id.

    Returns
    -------
    float
        0 to 1; 1 where the models never differ.

    Raises
    ------
    UsageError
        As in `paired_gain`.
    """
    return _mcnemar_p_value(*align_tables([first, second]))


def compare_models(
    tables: Mapping[str, pd.DataFrame], *, n: int = 2000, seed: int = 0, level: Level = "clip"
) -> pd.DataFrame:
    """Compare every pair of several models, on the clips that all of them have in common.

    Parameters
    ----------
    tables : mapping
        Model name to probability table, over the same genres.
    n, seed
        As in `bootstrap_metrics`, by recording; each model is resampled once.
    level : {"clip", "track"}
        As in `paired_gain`. Default ``clip``.

    Returns
    -------
    pd.DataFrame
        One row per pair: ``first``, ``second``, ``gain`` in macro AUC of the first over the second with ``low`` and
        ``high``, ``accuracy_gain`` with ``accuracy_low`` and ``accuracy_high``, the p-value ``mcnemar``, ``n_clips``,
        ``n_tracks``.

    Raises
    ------
    UsageError
        As in `paired_gain`.
    """
    aligned = dict(zip(tables, align_tables(list(tables.values())), strict=True)) if tables else {}
    scored = {name: _at_level(table, level) for name, table in aligned.items()}
    resamples = {name: bootstrap_metrics(table, n=n, seed=seed) for name, table in scored.items()}
    columns = ["first", "second", "gain", "low", "high"]
    columns += ["accuracy_gain", "accuracy_low", "accuracy_high", "mcnemar", "n_clips", "n_tracks"]
    rows = []
    for pair in combinations(aligned, 2):
        gain = _gain_from_resamples([scored[k] for k in pair], [resamples[k] for k in pair], aligned[pair[0]], level)
        changes = (gain["gain"], *gain["interval"], *gain["accuracy"])
        rows.append((*pair, *changes, gain["mcnemar"], gain["n_clips"], gain["n_tracks"]))
    return pd.DataFrame(rows, columns=columns)


def spend_error(n_earlier: float) -> float:
    """Return the probability with which an equal model may be found better after earlier comparisons on its music.

    Whoever tries often on one test set finds something by chance. The k-th comparison may err with 2.5 % / k², so that
    all of them together err with 4.1 % at most, however many there are.

    Parameters
    ----------
    n_earlier : float
        Number of earlier comparisons, 0 or more; one on a part of the music counts in part.

    Returns
    -------
    float
        `MAX_ERROR` for the first.

    Raises
    ------
    UsageError
        If the number is negative.
    """
    if not n_earlier >= 0:
        raise UsageError(f"n_earlier is {n_earlier}; it must be 0 or more")
    return MAX_ERROR / (1 + n_earlier) ** 2


def find_objections(
    gain: PairedGain,
    *,
    min_gain: float = 0.0,
    max_genre_loss: float = MAX_GENRE_LOSS,
    reference_name: str = "the champion",
) -> list[str]:
    """List the reasons why a gain does not justify changing models: it is uncertain, or one genre loses too much.

    Parameters
    ----------
    gain : PairedGain
        Gain of the candidate over the reference.
    min_gain : float
        Value that the lower bound of the gain in macro AUC must exceed. Default 0: without a true difference that
        happens with the probability of the bound's error.
    max_genre_loss : float
        Largest loss of AUC accepted of a genre; a loss is too large if its whole interval lies beyond. Default 0.02.
    reference_name : str
        Name of the reference in the reasons.

    Returns
    -------
    list of str
        Reasons as text; empty if the gain is sufficient.
    """
    low, high = gain["interval"]
    by_track = gain["level"] == "track"
    per = " per track" if by_track else ""
    reasons = []
    if not gain["lower"] > min_gain:
        requirement = f"above {min_gain:+.3f}" if min_gain else "certain"
        counted = f"{gain['n_tracks']} tracks of {gain['n_clips']} clips" if by_track else f"{gain['n_clips']} clips"
        reasons.append(
            f"the gain in macro AUC{per} over {reference_name}, {gain['gain']:+.3f} [{low:+.3f}, {high:+.3f}] on "
            f"{counted}, is not {requirement}{_describe_bound(gain)}"
        )
    for genre, (change, genre_low, genre_high) in gain["genres"].items():
        if genre_high < -max_genre_loss:
            reasons.append(f"{genre} loses {-change:.3f} AUC{per} [{-genre_high:.3f}, {-genre_low:.3f}]")
    return reasons


def _describe_bound(gain: PairedGain) -> str:
    """Return the lower bound of a gain in words, if it is not the end of the 95 % interval."""
    if np.isnan(gain["lower"]) or gain["lower"] >= gain["interval"][0]:
        return ""
    return f": after earlier comparisons on this test music the bound is {gain['lower']:+.3f}"


def _at_level(table: pd.DataFrame, level: Level) -> pd.DataFrame:
    """Return the table whose rows are scored: the clips, or their tracks."""
    return per_track(table) if level == "track" else table


def _gain_from_resamples(
    scored: Sequence[pd.DataFrame],
    resamples: Sequence[pd.DataFrame],
    clips: pd.DataFrame,
    level: Level,
    *,
    groups: str | None = "recording",
    error: float = MAX_ERROR,
) -> PairedGain:
    """Compute `paired_gain` of two aligned tables at their level, from their resampled metrics and the clips."""
    candidate, reference = scored
    genres = genres_of(candidate)
    change = table_metrics(candidate, genres) - table_metrics(reference, genres)
    bound = partial(bound_differences, change, resamples[0] - resamples[1], count_recordings(candidate, groups))
    intervals = {str(name): (float(low), float(high)) for name, low, high in bound(MAX_ERROR).itertuples()}
    return PairedGain(
        gain=float(change["macro_auc"]),
        interval=intervals["macro_auc"],
        lower=float(bound(error)["low"]["macro_auc"]),
        accuracy=(float(change["accuracy"]), *intervals["accuracy"]),
        mcnemar=_mcnemar_p_value(candidate, reference),
        genres={genre: (float(change[f"auc/{genre}"]), *intervals[f"auc/{genre}"]) for genre in genres},
        level=level if level == "clip" else decision_level(clips),
        n_clips=len(clips),
        n_tracks=len(per_track(clips)),
        n_recordings=int(clips["recording"].nunique()),
    )


def _mcnemar_p_value(first: pd.DataFrame, second: pd.DataFrame) -> float:
    """Compute McNemar's exact p-value of two aligned tables."""
    first_right, second_right = (proba_of(table).argmax(axis=1) == labels_of(table) for table in (first, second))
    n_first = int((first_right & ~second_right).sum())
    n_second = int((second_right & ~first_right).sum())
    return float(binomtest(n_first, n_first + n_second).pvalue) if n_first + n_second else 1.0
