"""What a person reads on the page of a registered version, in Markdown."""

import numpy as np
import pandas as pd

from genre import evaluate
from genre.probabilities import tables
from genre.training.selection import ChosenEnsemble

#: The registry's description column is this long in the databases that enforce it.
MAX_LENGTH = 5000

#: Below these a genre is named among the weaknesses: share of its clips found, clips to judge it by.
POOR_RECALL, FEW_CLIPS = 0.5, 30

#: As many genres are listed one by one, the worst first, so that the description fits.
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
    """Description of a version.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table of the ensemble, as it is served.
    clips : pd.DataFrame
        The clips table it was trained on.
    choice : Choice
        How the ensemble was calibrated.
    label : str
        What the ensemble is, in words.
    data_set : str
        Name of the data set.
    synthetic : bool
        Whether that is the demo.
    uri : str
        ``models:/NAME/VERSION``.
    run_url : str
        Page of its run below the address of MLflow's pages.
    ms_per_clip, megabytes : float
        What an answer takes, and the size of the members' files.

    Returns
    -------
    str
        At most 5,000 characters.
    """
    test = table[table["split"] == "test"]
    genres = metrics_per_genre(test)
    parts = [
        "**Trained on the synthetic demo corpus: it has heard no real music.**" if synthetic else "",
        f"{label[0].upper()}{label[1:]}. {_describe_data(clips, data_set)}",
        f"## On {len(test)} test clips of {test['recording'].nunique()} recordings\n\n{_format_scores(test)}",
        _genre_table(genres),
        f"Confusion matrix, ROC and reliability: [figures of the run]({run_url}).",
        f"## Confidence\n\n{_describe_confidence(test, choice)}",
        f"## Cost\n\n{ms_per_clip:.0f} ms a clip of ten seconds, decoding and all, where it was promoted; "
        f"{megabytes:.1f} MB.",
        f"## Known weaknesses\n\n{_list_weaknesses(genres, choice, synthetic)}",
        f"## How to call it\n\n`mlflow models serve -m {uri} -p 5001 --env-manager local`, then "
        "`python -m serving.request FILE...`. Column `audio`: a file's bytes in base64, any format, rate and length.",
    ]
    return "\n\n".join(part for part in parts if part)[:MAX_LENGTH]


def metrics_per_genre(test: pd.DataFrame) -> pd.DataFrame:
    """AUC with interval, recall, precision and the commonest confusion of each genre.

    Parameters
    ----------
    test : pd.DataFrame
        Probability table.

    Returns
    -------
    pd.DataFrame
        Indexed by genre: ``clips``, ``auc``, ``low``, ``high``, ``recall``, ``precision``, ``taken_for`` (a genre, or
        empty) and ``taken_share``; NaN where a genre has no clip or is never answered.
    """
    genres, y_true = tables.genres_of(test), tables.labels_of(test)
    predicted = tables.proba_of(test).argmax(axis=1)
    values, bounds = (
        evaluate.compute_metrics(y_true, tables.proba_of(test), genres),
        evaluate.confidence_intervals(test),
    )
    counts = np.zeros((len(genres), len(genres)))
    np.add.at(counts, (y_true, predicted), 1)
    n_true, n_predicted, hits = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts)
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
    return f"Data set {data_set}: {len(clips)} clips of {n_recordings} recordings ({listed}{more}); {splits}."


def _format_scores(test: pd.DataFrame) -> str:
    values = evaluate.compute_metrics(tables.labels_of(test), tables.proba_of(test), tables.genres_of(test))
    bounds = evaluate.confidence_intervals(test)
    names = {"macro_auc": "macro AUC", "accuracy": "accuracy", "macro_f1": "macro F1", "log_loss": "log-loss"}
    listed = [f"{name} {values[key]:.3f} [{_format_interval(*bounds[key])}]" for key, name in names.items()]
    return f"{', '.join(listed)} (95 % intervals, bootstrap by recording)."


def _genre_table(genres: pd.DataFrame) -> str:
    lines = [
        "| genre | clips | AUC | found | right when answered | most often taken for |",
        "|---|---|---|---|---|---|",
    ]
    for genre, row in genres.sort_values("auc").head(MAX_GENRES).iterrows():
        taken = f"{row['taken_for']}, {row['taken_share']:.0%}" if row["taken_for"] else ""
        auc = f"{row['auc']:.3f} [{_format_interval(row['low'], row['high'])}]"
        cells = [
            str(genre),
            str(row["clips"]),
            auc,
            _format_share(row["recall"]),
            _format_share(row["precision"]),
            taken,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _describe_confidence(test: pd.DataFrame, choice: ChosenEnsemble) -> str:
    """What the threshold promises and keeps."""
    found, error = choice.threshold, evaluate.calibration_error(test)
    precision, coverage = evaluate.selective_precision(test, found["confidence"])
    reached = "" if found["reached"] else " That is the highest that could be reached; what was wanted is higher."
    before = evaluate.calibration_error(evaluate.apply_temperature(test, 1 / choice.temperature))
    return (
        f"Temperature {choice.temperature:.2f}, learnt on {choice.n_clips} clips that no member was fitted on; "
        f"calibration error on test {before:.3f} before, {error:.3f} after. Below a confidence of "
        f"{found['confidence']:.2f} the answer is `unknown`: {found['coverage']:.0%} of those clips were answered, "
        f"{found['precision']:.0%} of the answers right.{reached} On test: {_format_share(coverage)} answered, "
        f"{_format_share(precision)} right."
    )


def _list_weaknesses(genres: pd.DataFrame, choice: ChosenEnsemble, synthetic: bool) -> str:
    poor, few = genres[genres["recall"] < POOR_RECALL], genres[genres["clips"] < FEW_CLIPS]
    found = [f"{genre}: only {row['recall']:.0%} are found" for genre, row in poor.iterrows()]
    if len(few):
        found.append(f"judged by fewer than {FEW_CLIPS} test clips: {', '.join(map(str, few.index))}")
    if not choice.threshold["reached"]:
        found.append("never as often right as was wanted, however sure it is")
    if synthetic:
        found.append("says nothing about real music")
    found.append("music of a genre that is not on its list gets one that is, or `unknown`")
    return "\n".join(f"- {weakness}" for weakness in found)


def _format_interval(low: float, high: float) -> str:
    return f"{low:.3f}, {high:.3f}"


def _format_share(value: float) -> str:
    return "none" if np.isnan(value) else f"{value:.0%}"
