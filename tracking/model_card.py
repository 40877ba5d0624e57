"""Model card of a registered version, as Markdown: the description on its page in MLflow."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from genre import evaluate, models
from genre.datasets import SYNTHETIC_WARNING
from genre.ensemble import Ensemble
from genre.models import musicnn_tags
from genre.probabilities import tables
from genre.training.selection import ChosenEnsemble

#: Longest description of a version, characters: the length of its column in databases that enforce it.
MAX_LENGTH = 5000

#: Recall below which a genre is listed among the weaknesses.
POOR_RECALL = 0.5

#: Number of test clips, or of tracks where they have several, below which a genre is listed among the weaknesses.
FEW_CLIPS = 30

#: Largest number of genres listed one by one, the worst first, so that the description fits.
MAX_GENRES = 25


def render_model_card(
    table: pd.DataFrame,
    clips: pd.DataFrame,
    choice: ChosenEnsemble,
    *,
    label: str,
    data_set: str,
    synthetic: bool,
    uri: str,
    run_url: str,
    ms_per_clip: float,
    megabytes: float,
    n_earlier: float = 0.0,
) -> str:
    """Write the model card of a version.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table of the ensemble, as it is served.
    clips : pd.DataFrame
        The clips table it was trained on.
    choice : ChosenEnsemble
        Calibration of the ensemble.
    label : str
        Description of the ensemble, such as ``weighted mean of svm, catboost``.
    data_set : str
        Name of the data set.
    synthetic : bool
        Whether the data set is the demo.
    uri : str
        ``models:/NAME/VERSION``.
    run_url : str
        Address of the figures of its run, relative to MLflow's pages.
    ms_per_clip : float
        Time of a prediction, milliseconds.
    megabytes : float
        Size of the members' files.
    n_earlier : float
        Number of earlier comparisons on the same test music.

    Returns
    -------
    str
        At most 5,000 characters: first the scores of what is served, the data set, and whether that is synthetic.
    """
    test = table[table["split"] == "test"]
    level = tables.decision_level(test)
    scores = _list_scores(tables.per_track(test))
    genres = metrics_per_genre(tables.per_track(test))
    parts = [
        f"**Test scores per {level}: {scores['macro_auc']}, {scores['accuracy']}** "
        "(95 % intervals, bootstrap by recording).",
        _describe_data(clips, data_set),
        f"**{SYNTHETIC_WARNING}**" if synthetic else "",
        f"Model: {label}. {_describe_networks(choice.members)}".strip(),
        f"## Scores on {_count_tested(test)}\n\n{_format_other_scores(test, scores)}",
        _describe_selection(n_earlier),
        f"By genre, per {level}:\n\n{_genre_table(genres, level)}",
        f"Confusion matrix, ROC and reliability: [figures of the run]({run_url}).",
        f"## Confidence\n\n{_describe_confidence(test, choice)}",
        f"## Cost\n\n{ms_per_clip:.0f} ms per ten-second clip, decoding included, on the machine that promoted it; "
        f"{megabytes:.1f} MB.",
        f"## Known weaknesses\n\n{_list_weaknesses(genres, choice, level)}",
        f"## How to call it\n\n`mlflow models serve -m {uri} -p 5001 --env-manager local`, then "
        "`python -m serving.request FILE...`. A request has the column `audio`: each file's bytes in base64, any "
        "format, sampling rate and length.",
    ]
    return "\n\n".join(part for part in parts if part)[:MAX_LENGTH]


def render_pretrained_card(model: Ensemble) -> str:
    """Write the model card of the pretrained network's own genres.

    Parameters
    ----------
    model : Ensemble
        The network as an ensemble of one.

    Returns
    -------
    str
        At most 5,000 characters.
    """
    merged = [f"- {genre}: {', '.join(tags)}" for genre, tags in musicnn_tags.TAGS_BY_GENRE.items()]
    parts = [
        f"**Measured:** {musicnn_tags.MEASURED}",
        "Model: musicnn (Pons and Serra 2019, ISC licence, in the run's artifacts), a convolutional network that was "
        "trained on the Million Song Dataset with the tags that listeners of Last.fm gave. Nothing was trained here.",
        "## Genres, and the tags that count for them\n\n" + "\n".join(merged),
        f"## Confidence\n\nBelow a confidence of {model.min_confidence:.2f} the prediction is `unknown`. This and the "
        f"temperature of {model.temperature:.2f} were fitted on the music above.",
        "## Known weaknesses\n\n- it knows no classical music, reggae or world music, which should come out as "
        "`unknown`\n- pop with guitars is mostly named Rock, or `unknown`\n- your library may hold music that it was "
        "trained on",
    ]
    return "\n\n".join(parts)[:MAX_LENGTH]


def metrics_per_genre(test: pd.DataFrame) -> pd.DataFrame:
    """Compute AUC with interval, recall, precision and the most frequent confusion of each genre.

    Parameters
    ----------
    test : pd.DataFrame
        Probability table of clips or of tracks.

    Returns
    -------
    pd.DataFrame
        Indexed by genre: ``n`` (its rows), ``auc``, ``low``, ``high``, ``recall``, ``precision``, ``taken_for`` (a
        genre, or empty) and ``taken_share``; NaN where a genre has no row or is never predicted.
    """
    genres = tables.genres_of(test)
    y_true = tables.labels_of(test)
    proba = tables.proba_of(test)
    values = evaluate.compute_metrics(y_true, proba, genres)
    bounds = evaluate.confidence_intervals(test)
    counts = np.zeros((len(genres), len(genres)))  # confusion matrix: true genre by predicted genre
    np.add.at(counts, (y_true, proba.argmax(axis=1)), 1)
    n_true = counts.sum(axis=1)
    n_predicted = counts.sum(axis=0)
    hits = np.diag(counts)
    wrong = counts - np.diag(hits)
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(
            {
                "n": n_true.astype(int),
                "auc": [values[f"auc/{genre}"] for genre in genres],
                "low": [bounds[f"auc/{genre}"][0] for genre in genres],
                "high": [bounds[f"auc/{genre}"][1] for genre in genres],
                "recall": hits / n_true,
                "precision": hits / n_predicted,
                "taken_for": [genres[k] if row[k] else "" for row, k in zip(wrong, wrong.argmax(axis=1), strict=True)],
                "taken_share": wrong.max(axis=1) / n_true,
            },
            index=pd.Index(genres, name="genre"),
        )


def _describe_networks(members: Sequence[str]) -> str:
    """Name the pretrained music network if a member stands on it; empty otherwise."""
    inputs = {name for member in members for name in models.get_model(member).input_names}
    if not inputs & {"embeddings", "musicnn_mel"}:
        return ""
    return (
        "It stands on musicnn (Pons and Serra 2019, ISC licence), a network trained on the Million Song Dataset with "
        "tags of Last.fm."
    )


def _describe_data(clips: pd.DataFrame, data_set: str) -> str:
    counts = clips["genre"].value_counts(sort=False)
    listed = ", ".join(f"{genre} {n}" for genre, n in counts.head(MAX_GENRES).items())
    more = f" and {len(counts) - MAX_GENRES} more" if len(counts) > MAX_GENRES else ""
    splits = ", ".join(f"{name} {n}" for name, n in clips["split"].value_counts().items())
    n_recordings = clips["recording"].nunique()
    return f"Data: {data_set}, {len(clips)} clips of {n_recordings} recordings ({listed}{more}); {splits}."


def _count_tested(test: pd.DataFrame) -> str:
    """Return the number of test clips and recordings for people, and of tracks if any has several clips."""
    n_recordings = test["recording"].nunique()
    if tables.decision_level(test) == "clip":
        return f"{len(test)} test clips of {n_recordings} recordings"
    n_tracks = len(tables.per_track(test))
    return f"{n_tracks} test tracks ({len(test)} clips) of {n_recordings} recordings"


def _describe_selection(n_earlier: float) -> str:
    """Return how the scores are to be read where earlier versions were compared on the same music; empty otherwise."""
    if n_earlier < 1:
        return ""
    return (
        f"These are the scores as of its promotion or refusal. About {n_earlier:.0f} versions were judged on this test "
        "music before: of many, the best looks better than it is."
    )


def _format_other_scores(test: pd.DataFrame, scores: dict[str, str]) -> str:
    """Return the scores that the card does not begin with; a line of tracks and one of clips where tracks have several.

    `scores` are those of tracks, from `_list_scores`.
    """
    others = f"{scores['macro_f1']}, {scores['log_loss']}"
    if tables.decision_level(test) == "clip":
        return f"{others}."
    of_clips = ", ".join(_list_scores(test).values())
    return f"- per track, the mean over its clips, as served: {others}\n- per clip: {of_clips}"


def _list_scores(table: pd.DataFrame) -> dict[str, str]:
    """Return each score by its key, with its name and interval."""
    values = evaluate.compute_metrics(tables.labels_of(table), tables.proba_of(table), tables.genres_of(table))
    bounds = evaluate.confidence_intervals(table)
    names = {"macro_auc": "macro AUC", "accuracy": "accuracy", "macro_f1": "macro F1", "log_loss": "log-loss"}
    return {key: f"{name} {values[key]:.3f}{_format_interval(*bounds[key])}" for key, name in names.items()}


def _genre_table(genres: pd.DataFrame, level: tables.Level) -> str:
    lines = [
        f"| genre | {level}s | AUC | recall | precision | most often taken for |",
        "|---|---|---|---|---|---|",
    ]
    for genre, row in genres.sort_values("auc").head(MAX_GENRES).iterrows():
        taken = f"{row['taken_for']}, {row['taken_share']:.0%}" if row["taken_for"] else ""
        auc = f"{row['auc']:.3f}{_format_interval(row['low'], row['high'])}"
        shares = f"{_format_share(row['recall'])} | {_format_share(row['precision'])}"
        lines.append(f"| {genre} | {row['n']} | {auc} | {shares} | {taken} |")
    return "\n".join(lines)


def _describe_confidence(test: pd.DataFrame, choice: ChosenEnsemble) -> str:
    """Describe the calibration and the threshold for ``unknown``: as learnt, and on test, of what is served: tracks."""
    threshold = choice.threshold
    tracks = tables.per_track(test)
    precision, coverage = evaluate.selective_precision(tracks, threshold["confidence"])
    uncalibrated = evaluate.apply_temperature(test, 1 / choice.temperature)
    before = evaluate.calibration_error(tables.per_track(uncalibrated))
    after = evaluate.calibration_error(tracks)
    missed = "" if threshold["reached"] else " The requested precision could not be reached; this is the highest found."
    by_track = choice.n_tracks < choice.n_clips
    learnt = f"{choice.n_tracks} tracks ({choice.n_clips} clips)" if by_track else f"{choice.n_clips} clips"
    return (
        f"Temperature {choice.temperature:.2f}, learnt on {learnt} that no member was fitted on; "
        f"calibration error on test {before:.3f} before, {after:.3f} after. Below a confidence of "
        f"{threshold['confidence']:.2f} the prediction is `unknown`. On the {'tracks' if by_track else 'clips'} it was "
        f"learnt on, {threshold['coverage']:.0%} get a genre, which is right for {threshold['precision']:.0%} of "
        f"them.{missed} On test, {_format_share(coverage)} get a genre, which is right for {_format_share(precision)}."
    )


def _list_weaknesses(genres: pd.DataFrame, choice: ChosenEnsemble, level: tables.Level) -> str:
    poor = genres[genres["recall"] < POOR_RECALL]
    few = genres[genres["n"] < FEW_CLIPS]
    weaknesses = [f"{genre}: only {row['recall']:.0%} of its {level}s are recognised" for genre, row in poor.iterrows()]
    if len(few):
        weaknesses.append(f"tested on fewer than {FEW_CLIPS} {level}s: {', '.join(map(str, few.index))}")
    if not choice.threshold["reached"]:
        weaknesses.append("the requested precision is not reached at any confidence")
    weaknesses.append("music of any other genre is given one of these genres, or `unknown`")
    return "\n".join(f"- {weakness}" for weakness in weaknesses)


def _format_interval(low: float, high: float) -> str:
    """Return an interval in brackets; empty where there are too few recordings for one."""
    return "" if np.isnan(low) else f" [{low:.3f}, {high:.3f}]"


def _format_share(value: float) -> str:
    return "none" if np.isnan(value) else f"{value:.0%}"
