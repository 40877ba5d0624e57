"""Drift: comparison of the music that a model classifies with the music that it was trained on.

The music classified is read from the log of predictions, see `genre.answer_log`.
"""

import numpy as np
import pandas as pd
from scipy.stats import chi2

from genre.inputs import features

#: Population stability index from which a shift counts as small, and from which it calls for action: N. Siddiqi,
#: Credit Risk Scorecards (2006), chapter 10.
SMALL_SHIFT = 0.1
LARGE_SHIFT = 0.25

#: Classes of a feature: the deciles of what the model was trained on.
N_BINS = 10

#: Relative difference up to which two numbers count as equal: the log has six digits, and tempo takes few values.
SAME_RTOL = 1e-5

#: Probability that any of the comparisons made together exceeds its chance level without a shift.
ALPHA = 0.05


def psi(expected: np.ndarray, observed: np.ndarray) -> float:
    """Compute the population stability index of counts in the same classes.

    Parameters
    ----------
    expected, observed : np.ndarray [shape=(k,)]
        Counts per class, in training and now. Half a case is added to each, since an empty class would be infinite.

    Returns
    -------
    float
        0 for equal shares; see `SMALL_SHIFT` and `LARGE_SHIFT`.
    """
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (expected, observed))
    return float(((q - p) * np.log(q / p)).sum())


def chance_level(n_classes: int, n_expected: int, n_observed: int, *, n_tests: int = 1) -> float:
    """Return the upper bound of the index for two samples of one population, at confidence 1 - `ALPHA` over `n_tests`.

    Without a shift the index is about chi-square with k - 1 degrees of freedom, times 1/n + 1/m (Yurdakul and Naranjo,
    Statistical properties of the population stability index, Journal of Risk Model Validation, 2020).
    """
    quantile = chi2.ppf(1 - ALPHA / n_tests, max(n_classes - 1, 1))
    return float(quantile * (1 / max(n_expected, 1) + 1 / max(n_observed, 1)))


def measure_shift(reference: pd.DataFrame, observed: pd.DataFrame) -> pd.DataFrame:
    """Measure the shift of every feature, and of the genres predicted, against the training music.

    Parameters
    ----------
    reference : pd.DataFrame
        Training clips of the model: ``genre``, as it predicts them, and features.
    observed : pd.DataFrame
        Table from `genre.answer_log.read_log`. A file that was classified many times counts once.

    Returns
    -------
    pd.DataFrame
        Largest shift first: ``what`` (``genre answered`` or a feature), ``psi``, ``chance`` (its upper bound without a
        shift), ``shift`` (``no``, ``small`` or ``yes``). Empty if nothing was classified.
    """
    names = [name for name in features.FEATURE_NAMES if name in reference]
    observed = observed[observed[names].isna().any(axis=1) | ~observed.duplicated(names)]
    if observed.empty:
        return pd.DataFrame(columns=["what", "psi", "chance", "shift"])
    counted = {
        name: _count_in_deciles(reference[name].to_numpy(), observed[name].dropna().to_numpy()) for name in names
    }
    counted = {"genre answered": _count_by_class(reference["genre"], observed["genre"])} | counted
    rows = []
    for what, (then, now) in counted.items():
        index = psi(then, now)
        floor = chance_level(len(then), int(then.sum()), int(now.sum()), n_tests=len(counted))
        rows.append({"what": what, "psi": index, "chance": floor, "shift": _grade_shift(index, floor)})
    return pd.DataFrame(rows).sort_values("psi", ascending=False, kind="stable", ignore_index=True)


def select_shifted(table: pd.DataFrame, limit: float = LARGE_SHIFT) -> pd.DataFrame:
    """Return the rows of `measure_shift` whose index is above `limit` and above the chance level."""
    return table[(table["psi"] > limit) & (table["psi"] > table["chance"])]


def _grade_shift(index: float, floor: float) -> str:
    if index <= floor or index < SMALL_SHIFT:
        return "no"
    return "small" if index < LARGE_SHIFT else "yes"


def _count_in_deciles(reference: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count both samples between the deciles of the first; there are fewer classes where values repeat."""
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, N_BINS + 1)[1:-1]))
    edges += SAME_RTOL * abs(edges)
    then, now = (np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1) for x in (reference, observed))
    return then, now


def _count_by_class(reference: pd.Series, observed: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    names = sorted({*reference.astype(str), *observed.astype(str)})
    then, now = (x.astype(str).value_counts().reindex(names, fill_value=0).to_numpy() for x in (reference, observed))
    return then, now
