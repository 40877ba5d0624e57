"""Choice of an ensemble: candidates are scored on clips that no model was fitted on, and one is chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import log_softmax
from threadpoolctl import threadpool_limits

from genre import evaluate
from genre.ensemble import (
    FIXED_MEANS,
    LEARNT_MEANS,
    Mean,
    combine_probabilities,
    combine_tables,
    stack_log_probabilities,
)
from genre.errors import UsageError
from genre.folds import assign_folds
from genre.probabilities import pooling
from genre.probabilities.tables import align_tables, genres_of, labels_of, per_track, proba_of

#: Most members of an ensemble; more did not pay on the paper's published probabilities.
MAX_MEMBERS = 3

#: Subsets of each size, best first, for which weights are fitted as well; fitting them for all would take minutes.
N_SHORTLISTED = 3

#: Folds, by recording, over which fitted weights are scored.
N_FOLDS = 5

#: Pull of the stack towards the geometric mean, in units of one clip's log-loss: strong, as it has 150 coefficients
#: where the weighted mean has three.
STACK_PENALTY = 100.0

#: Number of tracks below which the precision at the threshold for ``unknown`` must lie above its target by one standard
#: error.
FEW_TRACKS = 50

#: Resamples for the standard error of a difference.
N_RESAMPLES = 500


class ChoiceReason(StrEnum):
    """Reason for which a candidate is chosen."""

    BEST = "best"
    FEWER_MEMBERS = "fewer members"


@dataclass(frozen=True)
class EnsembleSearch:
    """Candidates for an ensemble, scored, and the one chosen.

    Attributes
    ----------
    candidates : pd.DataFrame
        Best first: ``members`` (tuple of str), ``mean``, ``macro_auc`` and ``log_loss`` of the tracks, ``n_clips``,
        ``n_tracks``.
    chosen : int
        Position of the chosen candidate.
    reason : ChoiceReason
        Reason for the choice.
    explanation : str
        The reason for people, with its figures.
    """

    candidates: pd.DataFrame
    chosen: int
    reason: ChoiceReason
    explanation: str

    @property
    def best(self) -> pd.Series:
        """Row of the chosen candidate."""
        return self.candidates.iloc[self.chosen]

    def to_table(self) -> pd.DataFrame:
        """Return the candidates for people: members as text, and a column ``chosen`` with the explanation."""
        members = self.candidates["members"].map(", ".join)
        chosen = [self.explanation if row == self.chosen else "" for row in range(len(self.candidates))]
        return self.candidates.assign(members=members, chosen=chosen)


@dataclass(frozen=True)
class ChosenEnsemble:
    """Chosen ensemble, calibrated.

    Attributes
    ----------
    members : tuple of str
        Names of the models.
    mean : {"arithmetic", "geometric", "weighted", "stacked"}
        Rule by which they combine.
    weights : list or None
        As in `genre.ensemble.combine_probabilities`.
    temperature : float
        Temperature of the combined probabilities.
    threshold : Threshold
        Threshold of the confidence of a track, below which the prediction is unknown.
    n_clips, n_tracks : int
        Number of clips that the weights were fitted on, and of their tracks, for temperature and threshold.
    """

    members: tuple[str, ...]
    mean: Mean
    weights: list[Any] | None
    temperature: float
    threshold: evaluate.Threshold
    n_clips: int
    n_tracks: int

    def ensemble_table(self, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """Return the probability table of the ensemble, as served, from those of its members."""
        combined = combine_tables([tables[name] for name in self.members], self.mean, self.weights)
        return evaluate.apply_temperature(combined, self.temperature)


def search_ensembles(tables: Mapping[str, pd.DataFrame]) -> EnsembleSearch:
    """Score subsets of at most three members under every rule, and choose one.

    Scores are of tracks, the mean over their clips, since that is what is served; weights are fitted on clips, to which
    the ensemble applies them.

    All subsets are scored under the fixed means, and the best three of each size under the fitted rules as well, whose
    weights are fitted on four fifths of the recordings and scored on the fifth left out, in turn. The best candidate
    has the highest macro AUC, then the lowest log-loss. A candidate with fewer members is chosen instead if the best
    one gains no more over it than one standard error of that gain, from a paired bootstrap by recording.

    Parameters
    ----------
    tables : mapping
        Model name to probability table of clips that it was not fitted on; scored on those that all have.

    Returns
    -------
    EnsembleSearch
        Candidates and choice.

    Raises
    ------
    UsageError
        If there is no table, or the tables have no clip in common or different genres.
    """
    if not tables:
        raise UsageError("no models to choose from; train one first")
    aligned = _AlignedTables.from_tables(tables)
    with threadpool_limits(1):  # the matrices are small: threads would wait for each other
        rows = [aligned.score_candidate(members, mean) for members, mean in _fixed_candidates(sorted(tables))]
        plain = _rank_candidates(rows)
        several = plain[plain["members"].map(len) > 1].drop_duplicates("members")
        shortlist = several.groupby(several["members"].map(len)).head(N_SHORTLISTED)["members"]
        learnt = [aligned.score_candidate(members, mean) for members in shortlist for mean in LEARNT_MEANS]
        ranked = _rank_candidates(rows + learnt)
        chosen, reason, explanation = _choose_candidate(aligned, ranked)
    return EnsembleSearch(ranked, chosen, reason, explanation)


def fit_ensemble(
    tables: Mapping[str, pd.DataFrame],
    members: Sequence[str],
    mean: Mean,
    *,
    precision: float = evaluate.TARGET_PRECISION,
) -> ChosenEnsemble:
    """Fit weights, temperature and threshold of an ensemble on clips that its members were not fitted on.

    Temperature and threshold are fitted on probabilities whose weights were fitted without the clip.

    Parameters
    ----------
    tables : mapping
        Model name to probability table; the clips used are those that all members have.
    members : sequence of str
        Keys of `tables`.
    mean : {"arithmetic", "geometric", "weighted", "stacked"}
        Rule by which they combine.
    precision : float
        Share of right predictions wanted among those that are not ``unknown``. Default 0.8.

    Returns
    -------
    ChosenEnsemble
        Members with fitted weights, temperature and threshold.

    Raises
    ------
    UsageError
        If the members have no clip in common or different genres, or `precision` is out of range.
    """
    aligned = _AlignedTables.from_tables({name: tables[name] for name in members})
    with threadpool_limits(1):
        honest = aligned.held_out(members, mean)
        temperature = evaluate.fit_temperature(honest)
        weights = _fit_weights(list(aligned.tables.values()), mean) if mean in LEARNT_MEANS else None
    tracks = per_track(evaluate.apply_temperature(honest, temperature))
    n_errors = 1.0 if len(tracks) < FEW_TRACKS else 0.0
    return ChosenEnsemble(
        members=tuple(members),
        mean=mean,
        weights=None if weights is None else weights.tolist(),
        temperature=temperature,
        threshold=evaluate.fit_threshold(tracks, precision, n_errors=n_errors),
        n_clips=len(honest),
        n_tracks=len(tracks),
    )


def fit_stack_weights(probas: Sequence[np.ndarray], y_true: np.ndarray) -> np.ndarray:
    """Fit the weights of a softmax regression on the members' logarithms, held near the geometric mean.

    Parameters
    ----------
    probas : sequence of np.ndarray [shape=(n, k)]
        Probabilities of clips that no member was fitted on.
    y_true : np.ndarray [shape=(n,), integer]
        Positions of the true genres.

    Returns
    -------
    np.ndarray [shape=(members * k + 1, k)]
        For `genre.ensemble.combine_probabilities` with ``stacked``.
    """
    columns = stack_log_probabilities(probas)
    k = probas[0].shape[1]
    true = np.eye(k)[y_true]
    start = np.vstack([np.eye(k) / len(probas)] * len(probas) + [np.zeros((1, k))])

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        away = flat.reshape(start.shape) - start
        logs = log_softmax(columns @ (start + away), axis=1)
        gradient = columns.T @ (np.exp(logs) - true) + STACK_PENALTY * away
        return float(STACK_PENALTY * (away**2).sum() / 2 - (true * logs).sum()), gradient.ravel()

    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B")
    return np.asarray(found.x).reshape(start.shape)


@dataclass(frozen=True)
class _AlignedTables:
    """Tables of the same clips, and the fold of each clip, or None if there are too few recordings for folds."""

    tables: dict[str, pd.DataFrame]
    fold: np.ndarray | None

    @classmethod
    def from_tables(cls, tables: Mapping[str, pd.DataFrame]) -> "_AlignedTables":
        """Cut the tables to the clips that all of them have."""
        cut = dict(zip(tables, align_tables(list(tables.values())), strict=True))
        first = next(iter(cut.values()))
        return cls(cut, assign_folds(labels_of(first), first["recording"].to_numpy(str), N_FOLDS))

    def held_out(self, members: Sequence[str], mean: Mean) -> pd.DataFrame:
        """Combine the tables; fitted weights are fitted without the clip, if there are folds."""
        parts = [self.tables[name] for name in members]
        if mean not in LEARNT_MEANS:
            return combine_tables(parts, mean)
        if self.fold is None:
            return combine_tables(parts, mean, _fit_weights(parts, mean))
        out = parts[0].copy()
        for number in range(self.fold.max() + 1):
            left_out = self.fold == number
            weights = _fit_weights([table[~left_out] for table in parts], mean)
            probas = [proba_of(table[left_out]) for table in parts]
            out.loc[left_out, genres_of(out)] = combine_probabilities(probas, mean, weights)
        return out

    def score_candidate(self, members: Sequence[str], mean: Mean) -> dict[str, object]:
        """Score one candidate, a row of the search."""
        clips = self.held_out(members, mean)
        tracks = per_track(clips)
        scores = evaluate.compute_metrics(labels_of(tracks), proba_of(tracks), genres_of(tracks))
        kept = {key: scores[key] for key in ("macro_auc", "log_loss")}
        return {"members": tuple(members), "mean": mean, **kept, "n_clips": len(clips), "n_tracks": len(tracks)}

    def bootstrap_auc(self, row: pd.Series) -> np.ndarray:
        """Bootstrap the macro AUC of one candidate's tracks; the draws are the same for all."""
        tracks = per_track(self.held_out(row["members"], row["mean"]))
        drawn = evaluate.bootstrap_metrics(tracks, n=N_RESAMPLES)
        return drawn["macro_auc"].to_numpy()


def _fixed_candidates(names: Sequence[str]) -> list[tuple[tuple[str, ...], Mean]]:
    """Return every subset under every rule without weights."""
    sizes = range(1, min(MAX_MEMBERS, len(names)) + 1)
    subsets = [members for size in sizes for members in combinations(names, size)]
    return [(members, mean) for members in subsets for mean in (FIXED_MEANS if len(members) > 1 else FIXED_MEANS[:1])]


def _rank_candidates(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    ranked = pd.DataFrame(rows).sort_values(["macro_auc", "log_loss"], ascending=[False, True], kind="stable")
    return ranked.reset_index(drop=True)


def _choose_candidate(aligned: _AlignedTables, ranked: pd.DataFrame) -> tuple[int, ChoiceReason, str]:
    """Choose the fewest members within one standard error of the best; return row, reason and explanation."""
    best = ranked.iloc[0]
    sizes = ranked["members"].map(len).tolist()
    the_best = (0, ChoiceReason.BEST, "the best")
    if sizes[0] == 1:
        return the_best
    top = aligned.bootstrap_auc(best)
    for at in (sizes.index(size) for size in range(1, sizes[0])):
        gain = best["macro_auc"] - ranked["macro_auc"].iloc[at]
        error = np.nanstd(top - aligned.bootstrap_auc(ranked.iloc[at]))
        if gain <= error:
            explanation = f"fewer members, and the best gains {gain:.4f} AUC, within one standard error, {error:.4f}"
            return at, ChoiceReason.FEWER_MEMBERS, explanation
    return the_best


def _fit_weights(parts: Sequence[pd.DataFrame], mean: Mean) -> np.ndarray:
    """Fit weights on tables of the same clips; those of the weighted mean sum to 1, since temperature is separate."""
    probas = [proba_of(table) for table in parts]
    y_true = labels_of(parts[0])
    if mean == "stacked":
        return fit_stack_weights(probas, y_true)
    weights = pooling.fit_pool_weights(probas, y_true)
    return weights / weights.sum()
