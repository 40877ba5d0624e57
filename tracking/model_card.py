"""Model card of a registered version, as Markdown: the description on its page in MLflow."""

import numpy as np
import pandas as pd

from genre import evaluate
from genre.datasets import SYNTHETIC_WARNING
from genre.probabilities import tables
from genre.training.selection import ChosenEnsemble

#: Longest description of a version, characters: the length of its column in databases that enforce it.
MAX_LENGTH = 5000

#: Recall below which a genre is listed among the weaknesses.
POOR_RECALL = 0.5

#: Number of test clips below which a genre is listed among the weaknesses.
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

    Returns
    -------
    str
        At most 5,000 characters.
    """
    test = table[table["split"] == "test"]
    genres = metrics_per_genre(test)
    n_recordings = test["recording"].nunique()
    parts = [
        f"**{SYNTHETIC_WARNING}**" if synthetic else "",
        f"Model: {label}. {_describe_data(clips, data_set)}",
        f"## Scores on {len(test)} test clips of {n_recordings} recordings\n\n{_format_scores(test)}",
        _genre_table(genres),
        f"Confusion matrix, ROC and reliability: [figures of the run]({run_url}).",
        f"## Confidence\n\n{_describe_confidence(test, choice)}",
        f"## Cost\n\n{ms_per_clip:.0f} ms per ten-second clip, decoding included, on the machine that promoted it; "
        f"{megabytes:.1f} MB.",
        f"## Known weaknesses\n\n{_list_weaknesses(genres, choice)}",
        f"## How to call it\n\n`mlflow models serve -m {uri} -p 5001 --env-manager local`, then "
        "`python -m serving.request FILE...`. A request has the column `audio`: each file's bytes in base64, any "
        "format, sampling rate and length.",
    ]
    return "\n\n".join(part for part in parts if part)[:MAX_LENGTH]


def metrics_per_genre(test: pd.DataFrame) -> pd.DataFrame:
    """Compute AUC with interval, recall, precision and the most frequent confusion of each genre.

    Parameters
    ----------
    test : pd.DataFrame
        Probability table.

    Returns
    -------
    pd.DataFrame
        Indexed by genre: ``clips``, ``auc``, ``low``, ``high``, ``recall``, ``precision``, ``taken_for`` (a genre, or
        empty) and ``taken_share``; NaN where a genre has no clip or is never predicted.
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
                "clips": n_true.astype(int),
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


def _describe_data(clips: pd.DataFrame, data_set: str) -> str:
    counts = clips["genre"].value_counts(sort=False)
    listed = ", ".join(f"{genre} {n}" for genre, n in counts.head(MAX_GENRES).items())
    more = f" and {len(counts) - MAX_GENRES} more" if len(counts) > MAX_GENRES else ""
    splits = ", ".join(f"{name} {n}" for name, n in clips["split"].value_counts().items())
    n_recordings = clips["recording"].nunique()
    return f"Data: {data_set}, {len(clips)} clips of {n_recordings} recordings ({listed}{more}); {splits}."


def _format_scores(test: pd.DataFrame) -> str:
    values = evaluate.compute_metrics(tables.labels_of(test), tables.proba_of(test), tables.genres_of(test))
    bounds = evaluate.confidence_intervals(test)
    names = {"macro_auc": "macro AUC", "accuracy": "accuracy", "macro_f1": "macro F1", "log_loss": "log-loss"}
    listed = [f"{name} {values[key]:.3f} [{_format_interval(*bounds[key])}]" for key, name in names.items()]
    return f"{', '.join(listed)} (95 % intervals, bootstrap by recording)."


def _genre_table(genres: pd.DataFrame) -> str:
    lines = [
        "| genre | clips | AUC | recall | precision | most often taken for |",
        "|---|---|---|---|---|---|",
    ]
    for genre, row in genres.sort_values("auc").head(MAX_GENRES).iterrows():
        taken = f"{row['taken_for']}, {row['taken_share']:.0%}" if row["taken_for"] else ""
        auc = f"{row['auc']:.3f} [{_format_interval(row['low'], row['high'])}]"
        shares = f"{_format_share(row['recall'])} | {_format_share(row['precision'])}"
        lines.append(f"| {genre} | {row['clips']} | {auc} | {shares} | {taken} |")
    return "\n".join(lines)


def _describe_confidence(test: pd.DataFrame, choice: ChosenEnsemble) -> str:
    """Describe the calibration and the threshold for ``unknown``: as learnt, and on test."""
    threshold = choice.threshold
    precision, coverage = evaluate.selective_precision(test, threshold["confidence"])
    before = evaluate.calibration_error(evaluate.apply_temperature(test, 1 / choice.temperature))
    after = evaluate.calibration_error(test)
    missed = "" if threshold["reached"] else " The requested precision could not be reached; this is the highest found."
    return (
        f"Temperature {choice.temperature:.2f}, learnt on {choice.n_clips} clips that no member was fitted on; "
        f"calibration error on test {before:.3f} before, {after:.3f} after. Below a confidence of "
        f"{threshold['confidence']:.2f} the prediction is `unknown`. On the clips it was learnt on, "
        f"{threshold['coverage']:.0%} get a genre, which is right for {threshold['precision']:.0%} of them.{missed} "
        f"On test, {_format_share(coverage)} get a genre, which is right for {_format_share(precision)}."
    )


def _list_weaknesses(genres: pd.DataFrame, choice: ChosenEnsemble) -> str:
    poor = genres[genres["recall"] < POOR_RECALL]
    few = genres[genres["clips"] < FEW_CLIPS]
    weaknesses = [f"{genre}: only {row['recall']:.0%} of its clips are recognised" for genre, row in poor.iterrows()]
    if len(few):
        weaknesses.append(f"tested on fewer than {FEW_CLIPS} clips: {', '.join(map(str, few.index))}")
    if not choice.threshold["reached"]:
        weaknesses.append("the requested precision is not reached at any confidence")
    weaknesses.append("music of any other genre is given one of these genres, or `unknown`")
    return "\n".join(f"- {weakness}" for weakness in weaknesses)


def _format_interval(low: float, high: float) -> str:
    return f"{low:.3f}, {high:.3f}"


def _format_share(value: float) -> str:
    return "none" if np.isnan(value) else f"{value:.0%}"
