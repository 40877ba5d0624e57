"""Whether a version may serve: scored now, as it would be served, beside the champion on the same test clips."""

from dataclasses import dataclass

import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from prefect import get_run_logger

from genre import evaluate
from genre.config import AudioConfig
from genre.errors import GenreError
from genre.probabilities import tables
from tracking import runs, scoring

#: Largest difference between the logged probabilities and those of the packaged model in a fresh process: on the same
#: machine only the size of a batch is another, which moves a network's single precision by a few 1e-7.
MAX_DISAGREEMENT = 1e-5

#: Share of clips that must be given the same genre where features were computed on another kind of machine, whose last
#: digits are others: a tree may take the other branch.
MIN_GENRE_AGREEMENT = 0.99


@dataclass(frozen=True)
class Verdict:
    """What is to become of a version.

    Attributes
    ----------
    reasons : list of str
        Why it must not serve; empty where it may.
    remark : str
        Why there was no comparison, if there was a champion.
    gain : PairedGain or None
        Over the champion, where they were compared.
    ms_per_clip : float
        What an answer of the version takes, in milliseconds.
    """

    reasons: list[str]
    ms_per_clip: float
    remark: str = ""
    gain: evaluate.PairedGain | None = None


def evaluate_version(
    version: ModelVersion,
    champion: ModelVersion | None,
    test: pd.DataFrame,
    clips: pd.DataFrame,
    config: AudioConfig,
    *,
    min_gain: float,
    skip_reason: str = "",
    computed_here: bool = True,
) -> Verdict:
    """Score a version and the champion, each in a fresh process with the code it was logged with, and compare them.

    Parameters
    ----------
    version : ModelVersion
        The candidate.
    champion : ModelVersion or None
        What serves now, if anything does.
    test : pd.DataFrame
        Probability table that the candidate was measured with, test clips only.
    clips : pd.DataFrame
        The clips table; those of `test` are scored.
    config : AudioConfig
        Rate at which the clips are handed over.
    min_gain : float
        As in `genre.evaluate.find_objections`.
    skip_reason : str
        Why the champion need not be compared with; empty where it must.
    computed_here : bool
        Whether the clips' features were computed by what computes here: then the answers must be those of `test` to
        `MAX_DISAGREEMENT`, else the genres must, but for one in a hundred.

    Returns
    -------
    Verdict
        A first version may serve if its macro AUC is above chance with confidence.
    """
    clips = clips[clips["clip_id"].isin(test.index)]
    served = scoring.score_clips(_model_uri(version), clips, config)
    ms_per_clip = served.attrs["ms_per_clip"]
    if objection := _disagreement(served, test, computed_here=computed_here):
        return Verdict([f"served, it answers otherwise than when it was measured: {objection}"], ms_per_clip)
    low = evaluate.confidence_intervals(test)["macro_auc"][0]
    if not low > 0.5:
        reason = f"its test macro AUC may be no better than chance: the interval begins at {low:.3f}"
        return Verdict([reason], ms_per_clip)
    if champion is None or skip_reason:
        return Verdict([], ms_per_clip, skip_reason)
    try:
        answers = scoring.score_clips(_model_uri(champion), clips, config)
    except GenreError as error:
        get_run_logger().warning("the champion cannot be compared with and gives way: %s", error)
        return Verdict([], ms_per_clip, f"over version {champion.version}, which cannot be scored: {error}")
    if _max_difference(answers, test) <= MAX_DISAGREEMENT:
        return Verdict([f"it answers as version {champion.version}, the champion, does"], ms_per_clip)
    gain = evaluate.paired_gain(test, test.assign(**{genre: answers[genre] for genre in tables.genres_of(test)}))
    return Verdict(evaluate.find_objections(gain, min_gain=min_gain), ms_per_clip, gain=gain)


def log_gain(version: ModelVersion, champion: ModelVersion | None, verdict: Verdict) -> None:
    """Log to the version's run what it gains over the champion, if they were compared."""
    if champion is None or verdict.gain is None or not version.run_id:
        return
    gain = verdict.gain
    values = [gain["gain"], *gain["interval"], *gain["accuracy"], gain["mcnemar"]]
    names = ("gain", "gain_low", "gain_high", "accuracy_gain", "accuracy_gain_low", "accuracy_gain_high", "mcnemar")
    found = dict(zip(names, values, strict=True))
    runs.log_metrics(version.run_id, {f"champion_{name}": value for name, value in found.items()})
    runs.set_tags(version.run_id, {"compared_with": f"version {champion.version} of {champion.name}"})


def _disagreement(served: pd.DataFrame, test: pd.DataFrame, *, computed_here: bool) -> str:
    """In what the answers of a packaged model are not those that it was measured with; empty where they are."""
    apart, genres = _max_difference(served, test), tables.genres_of(test)
    if computed_here:
        return "" if apart <= MAX_DISAGREEMENT else f"probabilities differ by up to {apart:.1e}"
    same = (served.loc[test.index, genres].idxmax(axis=1) == test[genres].idxmax(axis=1)).mean()
    message = "features are of another kind of machine: probabilities differ by up to %.1e, genres agree for %.1f %%"
    get_run_logger().info(message, apart, 100 * same)
    return "" if same >= MIN_GENRE_AGREEMENT else f"it gives {1 - same:.1%} of the clips another genre"


def _max_difference(answers: pd.DataFrame, test: pd.DataFrame) -> float:
    """Largest difference of a probability between answers and a table, clip by clip."""
    genres = tables.genres_of(test)
    return float((answers.loc[test.index, genres] - test[genres]).abs().to_numpy().max())


def _model_uri(version: ModelVersion) -> str:
    return f"models:/{version.name}/{version.version}"
