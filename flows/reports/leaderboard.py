"""Leaderboard, the models of an experiment side by side: as a table, as text, in MLflow and in Prefect."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient
from prefect.artifacts import create_table_artifact

from flows.material import Material
from flows.reports import tables
from flows.reports.tables import is_subflow
from genre import evaluate
from genre.files import read_json, read_or_make_table
from genre.plots import training
from genre.probabilities.tables import Level, decision_level
from genre.training.job import read_result, table_digest
from genre.workspace import Workspace
from tracking import experiment_page, results, runs

#: Scores in the leaderboard, with the titles of their columns.
SCORE_COLUMNS = {
    "validation_macro_auc": "validation AUC",
    "test_macro_auc": "test AUC",
    "test_accuracy": "accuracy",
    "test_macro_f1": "macro F1",
    "test_log_loss": "log-loss",
    "fit_seconds": "fit, s",
}

#: The same where models are judged by track, each title naming what it counts; beside them two scores of clips.
TRACK_COLUMNS = {
    "validation_track_macro_auc": "validation AUC",
    "test_track_macro_auc": "track AUC",
    "test_track_accuracy": "track accuracy",
    "test_macro_auc": "clip AUC",
    "test_accuracy": "clip accuracy",
    "test_track_macro_f1": "macro F1",
    "test_track_log_loss": "log-loss",
    "fit_seconds": "fit, s",
}

#: Sentence on the columns of `TRACK_COLUMNS`, for people.
TRACK_NOTE = "A track has the mean probabilities of its clips; validation AUC, macro F1 and log-loss are of tracks."

#: Sentence on a chosen model that is not the first, for people.
CHOICE_NOTE = (
    "The chosen one is the best, or as good with fewer members, on all clips held out in turn, not on validation."
)

#: Titles of the columns that compare the first model with each other one: lead in macro AUC, McNemar's test.
LEAD_COLUMNS = ("first leads by", "McNemar")


class ModelStatus(StrEnum):
    """State in which an experiment leaves a model."""

    TRAINED = "trained"
    REUSED = "reused"
    #: Best of all models and ensembles on a data set.
    CHOSEN = "chosen"
    LEFT_OUT = "left out"
    FAILED = "failed"


@dataclass(frozen=True)
class ModelOutcome:
    """Status of a model, and the reason where it has no scores.

    Attributes
    ----------
    status : ModelStatus
        State in which the experiment leaves the model.
    reason : str
        Why it has no scores, for people.
    """

    status: ModelStatus
    reason: str = ""

    def __str__(self) -> str:
        """Text of the column ``outcome``."""
        return f"{self.status}: {self.reason}" if self.reason else self.status.value

    @property
    def is_trained(self) -> bool:
        """True if there is a finished training, of this experiment or an earlier one."""
        return self.status in (ModelStatus.TRAINED, ModelStatus.REUSED)


def read_scores(folder: Path) -> dict[str, float]:
    """Read the scores of a finished training, with the seconds it took."""
    return read_json(folder / "scores.json") | {"fit_seconds": (read_result(folder) or {}).get("fit_seconds")}


def publish_leaderboard(
    run_id: str,
    material: Material,
    folders: Mapping[str, Path],
    outcomes: Mapping[str, ModelOutcome],
    ensemble: Mapping[str, pd.DataFrame] | None = None,
) -> None:
    """Print the leaderboard, log it to the experiment's run, and log each model's comparison with the first to its run.

    That of a training which another flow goes on from is not printed: that flow prints its own.

    Parameters
    ----------
    run_id : str
        Run of the experiment.
    material : Material
        The data set.
    folders : mapping of str to Path
        Model to the folder of its finished training.
    outcomes : mapping of str to ModelOutcome
        Every model, and the ensemble if any, to its outcome.
    ensemble : mapping of str to pd.DataFrame, optional
        Name of an ensemble to its probability table; None if none has been chosen.
    """
    is_shown = ensemble is not None or not is_subflow()
    ensemble = ensemble or {}
    probabilities = {name: pd.read_parquet(folder / "probabilities.parquet") for name, folder in folders.items()}
    probabilities |= ensemble
    scored = {name: read_scores(folder) for name, folder in folders.items()}
    scored |= {name: evaluate.summarise_scores(table) for name, table in ensemble.items()}
    test = {name: table[table["split"] == "test"] for name, table in probabilities.items()}
    level: Level = "track" if any(decision_level(table) == "track" for table in test.values()) else "clip"
    board = rank_models(scored, outcomes, level=level)
    pairs = compare_models(material.workspace, {name: test[name] for name in board.index if name in test}, level)
    board = add_leads(board, pairs)
    for name in board.index[1:].intersection(list(folders)):
        results.log_lead(material.workspace, folders[name].name, str(board.index[0]), board.loc[name])
    note = f"Data set {material.workspace.dataset_id}: {len(material.clips)} clips, {', '.join(material.genres)}."
    if material.synthetic:
        note += " **Synthetic demo corpus: the scores say nothing about real music.**"
    if level == "track":
        note += f" {TRACK_NOTE}"
    log_leaderboard(run_id, material.workspace, board, scored, note)
    results.log_table(run_id, pairs, "comparisons")
    if is_shown:
        print(f"\n{to_text(board)}\n", flush=True)


def compare_models(workspace: Workspace, test: Mapping[str, pd.DataFrame], level: Level) -> pd.DataFrame:
    """Compare every pair of models as `genre.evaluate.compare_models` does, once for the same tables."""
    names = json.dumps([level, {name: list(table) for name, table in test.items()}]).encode()
    digests = [table_digest(table).encode() for table in test.values()]
    key = results.derived_key(["evaluate", "probabilities"], names, *digests)
    path = workspace.derived_path(key, "comparisons.parquet")
    return read_or_make_table(path, lambda: evaluate.compare_models(test, level=level))


def rank_models(
    scores: Mapping[str, Mapping[str, float]], outcomes: Mapping[str, ModelOutcome], *, level: Level = "clip"
) -> pd.DataFrame:
    """Return the leaderboard: one row per model, the best on validation first.

    Parameters
    ----------
    scores : mapping
        Model name to its scores, as `genre.evaluate.summarise_scores` names them, with ``fit_seconds``.
    outcomes : mapping
        Model name to its `ModelOutcome`.
    level : {"clip", "track"}
        Level at which the models are judged, and by whose macro AUC on validation they are ordered. Default ``clip``.

    Returns
    -------
    pd.DataFrame
        Indexed by model: the columns of `SCORE_COLUMNS` or `TRACK_COLUMNS`, the interval of the test AUC at this level,
        ``outcome`` (a `ModelOutcome`).
    """
    columns = TRACK_COLUMNS if level == "track" else SCORE_COLUMNS
    validation_auc, test_auc = list(columns)[:2]
    rows = {name: scores.get(name, {}) for name in outcomes}
    out = pd.DataFrame.from_dict(rows, orient="index")
    out = out.reindex(columns=[*columns, f"{test_auc}_low", f"{test_auc}_high"])
    out = out.assign(outcome=pd.Series(outcomes)).sort_values(validation_auc, ascending=False)
    return out.rename_axis("model")


def add_leads(board: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Add the lead of the first model over each other one, on their common test clips.

    Parameters
    ----------
    board : pd.DataFrame
        From `rank_models`.
    pairs : pd.DataFrame
        From `genre.evaluate.compare_models`.

    Returns
    -------
    pd.DataFrame
        The leaderboard with ``lead`` in macro AUC, ``lead_low``, ``lead_high``, and McNemar's p-value as
        ``lead_mcnemar``.
    """
    leads = pairs[pairs["first"] == board.index[0]].set_index("second")
    leads = leads.rename(columns={"gain": "lead", "low": "lead_low", "high": "lead_high", "mcnemar": "lead_mcnemar"})
    return board.join(leads[["lead", "lead_low", "lead_high", "lead_mcnemar"]])


def to_text(board: pd.DataFrame) -> str:
    """Format the leaderboard for a terminal, without what would not fit.

    There is no lead, nor by track F1 and log-loss, nor an empty column. The reason why a model has no scores has a line
    of its own below.
    """
    left_out = [*LEAD_COLUMNS, *(("macro F1", "log-loss") if _columns_of(board) is TRACK_COLUMNS else ())]
    shown = format_leaderboard(board).drop(columns=left_out, errors="ignore")
    shown["outcome"] = [outcome.status.value for outcome in board["outcome"]]
    shown = shown.loc[:, (shown != "").any()]
    without_scores = (ModelStatus.LEFT_OUT, ModelStatus.FAILED)
    notes = [f"{model} {outcome}" for model, outcome in board["outcome"].items() if outcome.status in without_scores]
    if ModelStatus.CHOSEN in [outcome.status for outcome in board["outcome"].iloc[1:]]:
        notes.append(CHOICE_NOTE)
    return "\n".join([shown.to_string(index=False, na_rep=""), *notes])


def log_leaderboard(
    run_id: str, workspace: Workspace, board: pd.DataFrame, scores: Mapping[str, Mapping[str, float]], note: str
) -> None:
    """Log the leaderboard and its figure to a run, and set them as its description and as a Prefect artifact.

    A leaderboard with a chosen model has all models of the data set, and becomes the page of the experiment too.
    """
    shown = format_leaderboard(board)
    chosen = [name for name, outcome in board["outcome"].items() if outcome.status is ModelStatus.CHOSEN]
    results.log_table(run_id, board.assign(outcome=board["outcome"].map(str)).reset_index(), "leaderboard")
    best = scores.get(str([*chosen, board.index[0]][0]), {})
    runs.log_metrics(run_id, {f"best_{key}": best[key] for key in _columns_of(board) if key in best})
    level: Level = "track" if _columns_of(board) is TRACK_COLUMNS else "clip"
    long = _long_format(scores, level)
    if len(long):
        key = results.derived_key(["plots"], long.to_json().encode(), level.encode())
        path = workspace.derived_path(key, "leaderboard.png")
        results.log_derived_figure(run_id, path, lambda: training.leaderboard_plot(long, level=level))
    description = f"{note}\n\n{tables.to_markdown(shown)}"
    MlflowClient().set_tag(run_id, "mlflow.note.content", description)
    experiment_page.set_experiment_page(run_id, description, replace=len(chosen) > 0, level=level)
    create_table_artifact(key="leaderboard", table={str(c): shown[c].tolist() for c in shown}, description=note)


def format_leaderboard(board: pd.DataFrame) -> pd.DataFrame:
    """Format the leaderboard for people: numbers rounded, intervals in brackets."""
    shown = pd.DataFrame({"model": board.index})
    for column, title in _columns_of(board).items():
        digits = 1 if column == "fit_seconds" else 3
        shown[title] = [f"{v:.{digits}f}" if pd.notna(v) else "" for v in board[column]]
        if f"{column}_low" in board:
            bounds = zip(board[f"{column}_low"], board[f"{column}_high"], strict=True)
            shown["95 %"] = [f"[{low:.3f}, {high:.3f}]" if pd.notna(low) else "" for low, high in bounds]
    if "lead" in board:
        leads = board[["lead", "lead_low", "lead_high"]].itertuples(index=False)
        lead_title, mcnemar_title = LEAD_COLUMNS
        shown[lead_title] = [_format_lead(*lead) for lead in leads]
        shown[mcnemar_title] = [f"p {p:.2g}" if pd.notna(p) else "" for p in board["lead_mcnemar"]]
    return shown.assign(outcome=board["outcome"].map(str).to_numpy())


def _format_lead(lead: float, low: float, high: float) -> str:
    """Format a lead with its interval, or without one where there are too few recordings."""
    if pd.isna(lead):
        return ""
    return f"{lead:+.3f} [{low:+.3f}, {high:+.3f}]" if pd.notna(low) else f"{lead:+.3f}"


def _columns_of(board: pd.DataFrame) -> dict[str, str]:
    """Return the scores of a leaderboard with their titles, by the level at which its models are judged."""
    return TRACK_COLUMNS if "test_track_macro_auc" in board else SCORE_COLUMNS


def _long_format(scores: Mapping[str, Mapping[str, float]], level: Level) -> pd.DataFrame:
    """Return one row per model and split, the form that the figure takes."""
    name_of_auc = "track_macro_auc" if level == "track" else "macro_auc"
    return pd.DataFrame(
        {
            "model": name,
            "split": split,
            "macro_auc": values[f"{split}_{name_of_auc}"],
            "low": values[f"{split}_{name_of_auc}_low"],
            "high": values[f"{split}_{name_of_auc}_high"],
        }
        for name, values in scores.items()
        for split in ("validation", "test")
    )
