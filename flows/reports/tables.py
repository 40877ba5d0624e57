"""Tables of results: printed, logged, in the run's description and as Prefect artifacts."""

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext

from tracking import results, runs


def publish_table(run_id: str, table: pd.DataFrame, name: str, note: str) -> None:
    """Print a table and log it.

    Parameters
    ----------
    run_id : str
        Run that the table belongs to.
    table : pd.DataFrame
        Numbers are rounded to three decimals for people, and not in the CSV.
    name : str
        Name of the CSV and the artifact, in lower-case letters, digits and ``-``.
    note : str
        Caption in Markdown.
    """
    results.log_table(run_id, table, name)
    shown = format_table(table)
    description = MlflowClient().get_run(run_id).data.tags.get("mlflow.note.content")
    parts = [description, note, to_markdown(shown)]
    MlflowClient().set_tag(run_id, "mlflow.note.content", "\n\n".join(part for part in parts if part))
    create_table_artifact(key=name, table={str(c): shown[c].tolist() for c in shown}, description=note)
    print(f"\n{note}\n\n{shown.to_string(index=False)}\n", flush=True)


def is_subflow() -> bool:
    """Return whether the current flow is a step of another one."""
    context = FlowRunContext.get()
    return bool(context and context.flow_run and context.flow_run.parent_task_run_id)


def publish_retraining(
    name: str, before: ModelVersion | None, after: ModelVersion | None, outcome: str, decision: str, run_id: str
) -> None:
    """Publish the page of a retraining on Prefect's server: decision, champions, leaderboard, figure, links.

    Parameters
    ----------
    name : str
        Name of the registered model.
    before, after : ModelVersion or None
        Champion when the retraining began, and now.
    outcome, decision : str
        Outcome in a word, and in a sentence.
    run_id : str
        Run of the retraining, whose description is the leaderboard.
    """
    champions = pd.DataFrame([_champion_row("before", before), _champion_row("after", after)])
    page = runs.run_url(run_id)
    link = f"[Run {run_id} in MLflow]({page})" if page else f"Run `{run_id}` in MLflow."
    board = MlflowClient().get_run(run_id).data.tags.get("mlflow.note.content", "")
    figures = {f.path for f in MlflowClient().list_artifacts(run_id, "figures")}
    if page and "figures/leaderboard.png" in figures:
        source = f"{page.split('/#/')[0]}/get-artifact?path=figures%2Fleaderboard.png&run_uuid={run_id}"
        board += f"\n\n![Macro AUC of each model]({source})"
    text = f"# {name}: {outcome}\n\n{decision}\n\n{to_markdown(format_table(champions))}\n\n{link}\n\n{board}\n"
    create_markdown_artifact(key="retraining", markdown=text, description=decision)


def _champion_row(when: str, version: ModelVersion | None) -> dict[str, object]:
    """Return a row of the table of champions."""
    row: dict[str, object] = {"champion": when, "version": "none", "test AUC as of promotion": None, "run": ""}
    if version is None:
        return row
    run_id = str(version.run_id)
    page = runs.run_url(run_id)
    metrics = MlflowClient().get_run(run_id).data.metrics
    link = f"[{run_id[:8]}]({page})" if page else f"`{run_id[:8]}`"
    auc = metrics.get("test_track_macro_auc", metrics.get("test_macro_auc"))  # older versions have that of clips only
    return row | {"version": version.version, "test AUC as of promotion": auc, "run": link}


def format_table(table: pd.DataFrame) -> pd.DataFrame:
    """Format a table as text: three decimals, ``…_low`` and ``…_high`` as one interval, nothing for NaN."""
    shown = pd.DataFrame(index=table.index)
    for column in map(str, table.columns):
        if column.endswith("_low") and f"{column[:-4]}_high" in table:
            bounds = zip(table[column], table[f"{column[:-4]}_high"], strict=True)
            shown[f"{column[:-4]} 95 %"] = [f"[{low:.3f}, {high:.3f}]" if pd.notna(low) else "" for low, high in bounds]
        elif not (column.endswith("_high") and f"{column[:-5]}_low" in table):
            shown[column] = [_format_value(value) for value in table[column]]
    return shown.rename(columns=lambda c: c.replace("_", " "))


def to_markdown(shown: pd.DataFrame) -> str:
    """Return a table of texts in Markdown."""
    lines = [list(shown.columns), ["---"] * len(shown.columns), *shown.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _format_value(value: object) -> str:
    """Format a cell: nothing for a missing value, three decimals for a float."""
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
