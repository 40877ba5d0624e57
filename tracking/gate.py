"""Gate of promotion: a version is scored as it would be served, beside the champion, on the same test tracks."""

import logging
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion

from genre import evaluate
from genre.config import AudioConfig
from genre.errors import GenreError
from genre.probabilities import tables
from genre.splits.sounds import find_learnt_recordings
from tracking import registry, results, runs, scoring

#: Largest difference accepted between the logged probabilities and those of the packaged model in a fresh process. On
#: the same machine only the batch size differs, which moves a network's single precision by a few 1e-7.
MAX_DISAGREEMENT = 1e-5

#: Share of clips that must get the same genre if features were computed on another kind of machine. Their last digits
#: differ, and a tree may take the other branch.
MIN_GENRE_AGREEMENT = 0.99

#: Largest share of the test clips that the champion may refuse; they are left out of the comparison.
MAX_REFUSED = 0.05


class Finding(StrEnum):
    """Outcome of the gate."""

    FIRST_VERSION = "first version"
    UNCOMPARED = "uncompared"
    BETTER = "better"
    TOO_FEW = "too few recordings"
    CHAMPION_FAILED = "champion failed"
    CHAMPION_LOST = "champion lost"
    CHANGED = "changed since it was measured"
    CHANCE = "no better than chance"
    SAME_AS_CHAMPION = "same as the champion"
    NOT_BETTER = "not better"


#: Findings that let a version serve.
ACCEPTED = frozenset({Finding.FIRST_VERSION, Finding.UNCOMPARED, Finding.BETTER})

#: Findings that count as a comparison on the test music, so that later versions must be better with less error.
SPENT = frozenset({Finding.BETTER, Finding.NOT_BETTER})

#: Findings on the champion and not on the version, which the next promotion makes anew.
UNDECIDED = frozenset({Finding.CHAMPION_FAILED, Finding.CHAMPION_LOST})

#: Tag of a version whose run has fingerprints of the clips that it learnt: their name.
SOUNDS = "sounds"

#: Advice where the champion cannot be compared with.
REPLACE_ADVICE = "to promote without a comparison, use -P replace=true"


class SkipReason(StrEnum):
    """Reason for not comparing a version with the champion, as the remark on it."""

    OTHER_MUSIC = "over a champion that was not trained on music of yours, uncompared"
    REPLACED = "uncompared, as replace=true asks"


class PredictionError(GenreError):
    """Probabilities of a packaged model that cannot be used."""


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

    @property
    def is_undecided(self) -> bool:
        """True if nothing was decided."""
        return self.finding in UNDECIDED


def evaluate_version(
    version: ModelVersion,
    champion: ModelVersion | None,
    test: pd.DataFrame,
    clips: pd.DataFrame,
    config: AudioConfig,
    *,
    min_gain: float,
    error: float = evaluate.MAX_ERROR,
    skip_reason: SkipReason | None = None,
    lost_champion: str | None = None,
    sounds: pd.DataFrame | None = None,
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
    error : float
        Probability with which a version that is no better than the champion may pass, see
        `genre.evaluate.spend_error`.
    skip_reason : SkipReason or None
        Reason for not comparing with the champion; None if it must be compared with.
    lost_champion : str or None
        As `tracking.registry.find_lost_champion` returns, where there is no champion.
    sounds : pd.DataFrame or None
        Fingerprints of the test clips, see `genre.splits.sounds`. With them, recordings of which either version learnt
        a clip are left out of the comparison.
    computed_here : bool
        Whether this installation computed the features of the clips. If so, the probabilities must equal those of
        `test` to `MAX_DISAGREEMENT`; otherwise the genres must, but for one in a hundred.

    Returns
    -------
    Verdict
        A first version may serve if its macro AUC is above chance with confidence. Decided on tracks, the mean over
        their clips, where they have several. Where the champion cannot be scored, nothing is decided.

    Raises
    ------
    GenreError
        If the version itself cannot be scored.
    """
    clips = clips[clips["clip_id"].isin(test.index)]
    served = scoring.score_clips(registry.version_uri(version.name, version.version), clips, config)
    measured = _compare_with_measured(served, test, computed_here=computed_here)
    verdict = partial(Verdict, ms_per_clip=served.attrs["ms_per_clip"], notes=measured.notes)
    if not measured.is_same:
        reason = f"its predictions have changed since it was measured: {measured.difference}"
        return verdict(Finding.CHANGED, reasons=[reason])
    if few := describe_few(evaluate.count_recordings(test)):
        return verdict(Finding.TOO_FEW, reasons=[f"{few}; {_describe_use(version)}"])
    if chance := _describe_chance(test):
        return verdict(Finding.CHANCE, reasons=[chance])
    if skip_reason is not None:
        return verdict(Finding.UNCOMPARED, remark=skip_reason.value)
    if champion is None:
        return verdict(**_judge_without_champion(version.name, lost_champion))
    try:
        champions = _score_champion(champion, test, clips, config)
        learnt = _find_learnt([version, champion], champions, sounds)
    except GenreError as failure:
        reason = f"the champion, version {champion.version}, cannot be scored; nothing is decided: {failure}"
        return verdict(Finding.CHAMPION_FAILED, reasons=[f"{reason}; {REPLACE_ADVICE}"])
    notes = [*measured.notes, *_note_refused(champion, champions), *learnt.notes]
    return verdict(**_compare_with_champion(champion, test, champions, learnt.recordings, min_gain, error), notes=notes)


def _compare_with_champion(
    champion: ModelVersion,
    test: pd.DataFrame,
    champions: pd.DataFrame,
    learnt: list[str],
    min_gain: float,
    error: float,
) -> dict[str, Any]:
    """Return finding, reasons and gain of a version, from its predictions and the champion's.

    `learnt` are the recordings that one of them learnt.
    """
    champions = champions[~champions["recording"].isin(learnt)]
    test = test.loc[champions.index]
    if few := describe_few(evaluate.count_recordings(test)):
        left_out = f"; {len(learnt)} recordings are left out, as one of both learnt them" if learnt else ""
        reason = f"it cannot be compared with the champion: {few}{left_out}; add music, or {REPLACE_ADVICE}"
        return {"finding": Finding.TOO_FEW, "reasons": [reason]}
    if _max_difference(champions, test) <= MAX_DISAGREEMENT:
        reason = f"it predicts the same as version {champion.version}, the champion"
        return {"finding": Finding.SAME_AS_CHAMPION, "reasons": [reason]}
    gain = evaluate.paired_gain(test, champions, level="track", error=error)
    objections = evaluate.find_objections(gain, min_gain=min_gain)
    return {"finding": Finding.NOT_BETTER if objections else Finding.BETTER, "reasons": objections, "gain": gain}


def _describe_chance(test: pd.DataFrame) -> str:
    """Return why a version may be no better than chance; empty if it is."""
    p = evaluate.chance_p_value(tables.per_track(test))
    if p <= evaluate.MAX_ERROR:  # not spent over comparisons: two genres of four recordings show no less than 1.4 %
        return ""
    per = " per track" if tables.decision_level(test) == "track" else ""
    return (
        f"its test macro AUC{per} may be no better than chance, which reaches it in {p:.1%} of cases; at most "
        f"{evaluate.MAX_ERROR:.1%} are accepted"
    )


def _judge_without_champion(name: str, lost_champion: str | None) -> dict[str, Any]:
    """Return finding and reasons for a version of a registered model that has no champion."""
    if lost_champion is None:
        return {"finding": Finding.FIRST_VERSION}
    reason = f"{registry.describe_lost_champion(name, lost_champion)}; {REPLACE_ADVICE}"
    return {"finding": Finding.CHAMPION_LOST, "reasons": [reason]}


def _score_champion(
    champion: ModelVersion, test: pd.DataFrame, clips: pd.DataFrame, config: AudioConfig
) -> pd.DataFrame:
    """Return the champion's probability table of the test clips, without those that it refuses.

    Raises
    ------
    GenreError
        If it cannot be scored, or refuses more than `MAX_REFUSED` of the clips.
    """
    uri = registry.version_uri(champion.name, champion.version)
    predicted = scoring.score_clips(uri, clips, config, max_refused=MAX_REFUSED)
    genres = tables.genres_of(test)
    check_predictions(predicted, genres)
    test = test[test.index.isin(predicted.index)]
    champions = test.assign(**{genre: predicted.loc[test.index, genre] for genre in genres})
    champions.attrs["n_refused"] = predicted.attrs.get("n_refused", 0)
    return champions


class _Learnt(NamedTuple):
    """Test recordings that versions have learnt, with lines for the log."""

    recordings: list[str]
    notes: list[Note]


def _find_learnt(versions: list[ModelVersion], test: pd.DataFrame, sounds: pd.DataFrame | None) -> _Learnt:
    """Find the test recordings of which one of the versions learnt a clip, whatever it was called then.

    Raises
    ------
    GenreError
        If the fingerprints of a version cannot be downloaded.
    """
    learnt: list[str] = []
    notes: list[Note] = []
    if sounds is None:
        return _Learnt(learnt, notes)
    for version in versions:
        if version.tags.get(SOUNDS) != sounds.attrs["name"]:
            text = (
                f"version {version.version} has no fingerprints to compare: it may have learnt some of the test clips"
            )
            notes.append(Note(logging.WARNING, text))
            continue
        known = results.read_sounds(str(version.run_id), version.tags[SOUNDS])
        found = find_learnt_recordings(test, sounds, known)
        if found:
            text = f"version {version.version} learnt {len(found)} of the test recordings, which are left out"
            notes.append(Note(logging.INFO, text))
        learnt += found
    return _Learnt(sorted(set(learnt)), notes)


def describe_few(counts: pd.Series) -> str:
    """Return which genres have fewer test recordings than a verdict needs, of their numbers; empty without any."""
    few = ", ".join(f"{genre} {n}" for genre, n in counts.items() if n < evaluate.MIN_RECORDINGS)
    return f"each genre needs {evaluate.MIN_RECORDINGS} test recordings, and there are: {few}" if few else ""


def _describe_use(version: ModelVersion) -> str:
    """Return what can be done with a version on which no verdict is possible."""
    return (
        f"add music, or use it all the same: -e tag -P registry_name={version.name} -P version={version.version}, or "
        f"mlflow models serve -m models:/{version.name}/{version.version}"
    )


def _note_refused(champion: ModelVersion, champions: pd.DataFrame) -> list[Note]:
    """Return a line about the clips that the champion refused, if there are any."""
    if not (n := champions.attrs["n_refused"]):
        return []
    text = f"version {champion.version}, the champion, refuses {n} of {n + len(champions)} clips, which are left out"
    return [Note(logging.WARNING, text)]


def check_predictions(predicted: pd.DataFrame, genres: list[str]) -> None:
    """Check that a packaged model gave a number for each genre of each clip.

    Raises
    ------
    PredictionError
        If a genre is missing, or a probability is not a finite number.
    """
    if missing := [genre for genre in genres if genre not in predicted]:
        raise PredictionError(f"its predictions lack {', '.join(missing)}; the genres needed are {', '.join(genres)}")
    is_number = np.isfinite(predicted[genres].to_numpy(float)).all(axis=1)
    if not is_number.all():
        first = predicted.index[~is_number][0]
        raise PredictionError(f"its probabilities of {(~is_number).sum()} clips are not numbers, the first {first!r}")


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
    try:
        check_predictions(served, tables.genres_of(test))
    except PredictionError as error:
        return _Comparison(False, str(error), [])
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
