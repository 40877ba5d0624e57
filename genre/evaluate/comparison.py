"""Models against each other on the clips that all of them have answered: paired bootstrap and McNemar."""

from collections.abc import Mapping
from itertools import combinations
from typing import TypedDict

import pandas as pd
from scipy.stats import binomtest

from genre.evaluate.resampling import bootstrap_metrics, percentile_intervals
from genre.evaluate.scores import table_metrics
from genre.probabilities.tables import align_tables, genres_of, labels_of, proba_of

#: A genre may lose so much AUC, with confidence, before a gain elsewhere no longer counts.
MAX_GENRE_LOSS = 0.02

ScoreChange = tuple[float, float, float]


class PairedGain(TypedDict):
    """What `paired_gain` returns; an interval is (low, high), a change is (value, low, high)."""

    gain: float
    interval: tuple[float, float]
    accuracy: ScoreChange
    mcnemar: float
    genres: dict[str, ScoreChange]
    n_clips: int
    n_recordings: int


def paired_gain(
    candidate: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    n: int = 2000,
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
        As in `bootstrap_metrics`; the groups are the candidate's.

    Returns
    -------
    PairedGain
        ``gain`` in macro AUC (candidate minus reference) with its 95 % ``interval``; the same of the ``accuracy``, with
        the p-value of `mcnemar_test`; ``genres`` maps each genre to the change of its AUC; ``n_clips`` and
        ``n_recordings`` compared.

    Raises
    ------
    UsageError
        If the tables have other genres, no common clips, or disagree on the genre of a clip.
    """
    a, b = align_tables([candidate, reference])
    return _gain_from_resamples(a, b, *(bootstrap_metrics(table, n=n, seed=seed, groups=groups) for table in (a, b)))


def mcnemar_test(first: pd.DataFrame, second: pd.DataFrame) -> float:
    """p-value of McNemar's exact test: whether two models are right equally often on the clips they have in common.

    Only clips that one of them has right and the other wrong count; under equal skill each falls to either side like a
    coin (McNemar 1947; the exact binomial form, two-sided). It takes clips for independent: where a recording has
    several, `paired_gain` is the safer judge.

    Parameters
    ----------
    first, second : pd.DataFrame
        Probability tables over the same genres, in any order; clips are joined by id.

    Returns
    -------
    float
        0 to 1; 1 where they never differ.

    Raises
    ------
    UsageError
        As in `paired_gain`.
    """
    return _mcnemar_p_value(*align_tables([first, second]))


def compare_models(tables: Mapping[str, pd.DataFrame], *, n: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Every pair of several models, on the clips that all of them have answered.

    Parameters
    ----------
    tables : mapping
        Model name to probability table, over the same genres.
    n, seed
        As in `bootstrap_metrics`, by recording; each model is resampled once.

    Returns
    -------
    pd.DataFrame
        One row a pair: ``first``, ``second``, ``gain`` in macro AUC of the first over the second with ``low`` and
        ``high``, ``accuracy_gain`` with its own, the p-value ``mcnemar``, and ``n_clips``.

    Raises
    ------
    UsageError
        As in `paired_gain`.
    """
    cut = dict(zip(tables, align_tables(list(tables.values())), strict=True)) if tables else {}
    drawn = {name: bootstrap_metrics(table, n=n, seed=seed) for name, table in cut.items()}
    columns = ["first", "second", "gain", "low", "high"]
    columns += ["accuracy_gain", "accuracy_low", "accuracy_high", "mcnemar", "n_clips"]
    rows = []
    for first, second in combinations(cut, 2):
        found = _gain_from_resamples(cut[first], cut[second], drawn[first], drawn[second])
        gains = (found["gain"], *found["interval"], *found["accuracy"])
        rows.append((first, second, *gains, found["mcnemar"], found["n_clips"]))
    return pd.DataFrame(rows, columns=columns)


def find_objections(
    gain: PairedGain,
    *,
    min_gain: float = 0.0,
    max_genre_loss: float = MAX_GENRE_LOSS,
    reference_name: str = "the champion",
) -> list[str]:
    """Why a gain does not suffice to change models: not certain, or paid for by one genre.

    Parameters
    ----------
    gain : PairedGain
        Of the candidate.
    min_gain : float
        What the lower end of the 95 % interval of the gain in macro AUC must exceed. Default 0: under no difference
        that happens once in forty comparisons.
    max_genre_loss : float
        Most that the AUC of a genre may fall; more counts where its whole interval lies beyond. Default 0.02.
    reference_name : str
        Name of the reference, for the sentences.

    Returns
    -------
    list of str
        Reasons in words; empty where there is none.
    """
    low, high = gain["interval"]
    reasons = []
    if not low > min_gain:
        wanted = f"above {min_gain:+.3f}" if min_gain else "certain"
        reasons.append(
            f"the gain in macro AUC over {reference_name}, {gain['gain']:+.3f} [{low:+.3f}, {high:+.3f}] on "
            f"{gain['n_clips']} clips, is not {wanted}"
        )
    for genre, (change, genre_low, upper) in gain["genres"].items():
        if upper < -max_genre_loss:
            reasons.append(f"{genre} loses {-change:.3f} AUC [{-upper:.3f}, {-genre_low:.3f}]")
    return reasons


def _gain_from_resamples(a: pd.DataFrame, b: pd.DataFrame, drawn_a: pd.DataFrame, drawn_b: pd.DataFrame) -> PairedGain:
    """The gain of `a` over `b`, two tables of the same clips with their resamples."""
    genres = genres_of(a)
    change = table_metrics(a, genres) - table_metrics(b, genres)
    bounds = percentile_intervals(drawn_a - drawn_b)
    return PairedGain(
        gain=float(change["macro_auc"]),
        interval=bounds["macro_auc"],
        accuracy=(float(change["accuracy"]), *bounds["accuracy"]),
        mcnemar=_mcnemar_p_value(a, b),
        genres={genre: (float(change[f"auc/{genre}"]), *bounds[f"auc/{genre}"]) for genre in genres},
        n_clips=len(a),
        n_recordings=int(a["recording"].nunique()),
    )


def _mcnemar_p_value(a: pd.DataFrame, b: pd.DataFrame) -> float:
    """McNemar's exact p-value of two tables of the same clips."""
    right_a, right_b = (proba_of(table).argmax(axis=1) == labels_of(table) for table in (a, b))
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
