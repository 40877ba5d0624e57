"""Gate of promotion: a version is scored as it would be served, beside the champion, on the same test tracks."""

import logging
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import NamedTuple

import pandas as pd
from mlflow.entities.model_registry import ModelVersion

from genre import evaluate
from genre.config import AudioConfig
from genre.errors import GenreError
from genre.probabilities import tables
from tracking import registry, runs, scoring

#: Largest difference accepted between the logged probabilities and those of the packaged model in a fresh process. On
#: the same machine only the batch size differs, which moves a network's single precision by a few 1e-7.
MAX_DISAGREEMENT = 1e-5

#: Share of clips that must get the same genre if features were computed on another kind of machine. Their last digits
#: differ, and a tree may take the other branch.
MIN_GENRE_AGREEMENT = 0.99


class Finding(StrEnum):
    """Outcome of the gate: the first four let a version serve, the others do not."""

    FIRST_VERSION = "first version"
    UNCOMPARED = "uncompared"
    CHAMPION_FAILED = "champion failed"
    BETTER = "better"
    CHANGED = "changed since it was measured"
    CHANCE = "no better than chance"
    SAME_AS_CHAMPION = "same as the champion"
    NOT_BETTER = "not better"


#: Findings that let a version serve.
ACCEPTED = frozenset({Finding.FIRST_VERSION, Finding.UNCOMPARED, Finding.CHAMPION_FAILED, Finding.BETTER})


class SkipReason(StrEnum):
    """Reason for not comparing a version with the champion, as the remark on it."""

    OTHER_MUSIC = "over a champion that was not trained on music of yours, uncompared"


class Note(NamedTuple):
    """Line for the log, which the caller writes."""

    level: int
    text: str


@dataclass(frozen=True)
class Verdict:
    """Decision on a version.

    Attributes
    ----------
    finding : Finding
        Outcome of the gate.
    ms_per_clip : float
        Milliseconds per prediction of the version.
    reasons : list of str
        Reasons for which it must not serve, for people.
    remark : str
        Reason for which there was no comparison, for people, if there was a champion.
    gain : PairedGain or None
        Gain over the champion on tracks, if they were compared.
    notes : list of Note
        Lines for the log.
    """

    finding: Finding
    ms_per_clip: float
    reasons: list[str] = field(default_factory=list)
    remark: str = ""
    gain: evaluate.PairedGain | None = None
    notes: list[Note] = field(default_factory=list)

    @property
    def may_serve(self) -> bool:
        """True if the version may become the champion."""
        return self.finding in ACCEPTED


def evaluate_version(
    version: ModelVersion,
    champion: ModelVersion | None,
    test: pd.DataFrame,
    clips: pd.DataFrame,
    config: AudioConfig,
    *,
    min_gain: float,
    skip_reason: SkipReason | None = None,
    computed_here: bool = True,
) -> Verdict:
    """Score a version and the champion, each in a fresh process with the code it was logged with, and compare them.

    Parameters
    ----------
    version : ModelVersion
        The candidate.
    champion : ModelVersion or None
        The version that serves now, if any.
    test : pd.DataFrame
        Probability table that the candidate was measured with, test clips only.
    clips : pd.DataFrame
        The clips table; those of `test` are scored.
    config : AudioConfig
        Configuration with which the clips are decoded.
    min_gain : float
        As in `genre.evaluate.find_objections`.
    skip_reason : SkipReason or None
        Reason for not comparing with the champion; None if it must be compared with.
    computed_here : bool
        Whether this installation computed the features of the clips. If so, the probabilities must equal those of
        `test` to `MAX_DISAGREEMENT`; otherwise the genres must, but for one in a hundred.

    Returns
    -------
    Verdict
        A first version may serve if its macro AUC is above chance with confidence. Decided on tracks, the mean over
        their clips, where they have several.
    """
    clips = clips[clips["clip_id"].isin(test.index)]
    served = scoring.score_clips(registry.version_uri(version.name, version.version), clips, config)
    measured = _compare_with_measured(served, test, computed_here=computed_here)
    verdict = partial(Verdict, ms_per_clip=served.attrs["ms_per_clip"], notes=measured.notes)
    if not measured.is_same:
        reason = f"its predictions have changed since it was measured: {measured.difference}"
        return verdict(Finding.CHANGED, reasons=[reason])
    low = evaluate.confidence_intervals(tables.per_track(test))["macro_auc"][0]
    if not low > 0.5:
        per = " per track" if tables.decision_level(test) == "track" else ""
        reason = f"its test macro AUC{per} may be no better than chance: the interval begins at {low:.3f}"
        return verdict(Finding.CHANCE, reasons=[reason])
    if champion is None:
        return verdict(Finding.FIRST_VERSION)
    if skip_reason is not None:
        return verdict(Finding.UNCOMPARED, remark=skip_reason.value)
    try:
        predicted = scoring.score_clips(registry.version_uri(champion.name, champion.version), clips, config)
    except GenreError as error:
        note = Note(logging.WARNING, f"the champion cannot be scored and is replaced without comparison: {error}")
        remark = f"over version {champion.version}, which cannot be scored: {error}"
        return verdict(Finding.CHAMPION_FAILED, remark=remark, notes=[*measured.notes, note])
    if _max_difference(predicted, test) <= MAX_DISAGREEMENT:
        reason = f"it predicts the same as version {champion.version}, the champion"
        return verdict(Finding.SAME_AS_CHAMPION, reasons=[reason])
    champions = test.assign(**{genre: predicted[genre] for genre in tables.genres_of(test)})
    gain = evaluate.paired_gain(test, champions, level="track")
    objections = evaluate.find_objections(gain, min_gain=min_gain)
    return verdict(Finding.NOT_BETTER if objections else Finding.BETTER, reasons=objections, gain=gain)


def log_gain(version: ModelVersion, champion: ModelVersion | None, verdict: Verdict) -> None:
    """Log the gain over the champion to the version's run, if they were compared."""
    if champion is None or verdict.gain is None or not version.run_id:
        return
    gain = verdict.gain
    values = [gain["gain"], *gain["interval"], *gain["accuracy"], gain["mcnemar"]]
    names = ("gain", "gain_low", "gain_high", "accuracy_gain", "accuracy_gain_low", "accuracy_gain_high", "mcnemar")
    gains = dict(zip(names, values, strict=True))
    runs.log_metrics(version.run_id, {f"champion_{name}": value for name, value in gains.items()})
    compared_with = f"version {champion.version} of {champion.name}"
    runs.set_tags(version.run_id, {"compared_with": compared_with, "compared_by": gain["level"]})


class _Comparison(NamedTuple):
    """Comparison of a packaged model's predictions with those that it was measured with."""

    is_same: bool
    difference: str
    notes: list[Note]


def _compare_with_measured(served: pd.DataFrame, test: pd.DataFrame, *, computed_here: bool) -> _Comparison:
    """Compare the predictions of a packaged model with those that it was measured with."""
    apart = _max_difference(served, test)
    differ = f"probabilities differ by up to {apart:.1e}"
    if computed_here:
        return _Comparison(apart <= MAX_DISAGREEMENT, differ, [])
    genres = tables.genres_of(test)
    same = (served.loc[test.index, genres].idxmax(axis=1) == test[genres].idxmax(axis=1)).mean()
    text = f"features were computed on another kind of machine: {differ}, genres agree for {100 * same:.1f} %"
    difference = f"{1 - same:.1%} of the clips get another genre"
    return _Comparison(bool(same >= MIN_GENRE_AGREEMENT), difference, [Note(logging.INFO, text)])


def _max_difference(predicted: pd.DataFrame, test: pd.DataFrame) -> float:
    """Return the largest difference between predicted probabilities and those of a table."""
    genres = tables.genres_of(test)
    return float((predicted.loc[test.index, genres] - test[genres]).abs().to_numpy().max())
