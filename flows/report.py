"""A finished comparison as a table: printed, logged, as the run's description and as a Prefect artifact."""

import pandas as pd
from mlflow import MlflowClient
from prefect.artifacts import create_table_artifact

from flows import tracking


def publish(run_id: str, table: pd.DataFrame, name: str, note: str) -> None:
    """Print a table and log it.

    Parameters
    ----------
    run_id : str
        Run that it belongs to.
    table : pd.DataFrame
        Figures as numbers; rounded to three decimals for people, whole in the CSV.
    name : str
        Of the CSV and the artifact, in lower-case letters, digits and ``-``.
    note : str
        What the table says, in Markdown.
    """
    tracking.log_table(run_id, table, name)
    shown = readable(table)
    before = MlflowClient().get_run(run_id).data.tags.get("mlflow.note.content")
    parts = [before, note, markdown(shown)]
    MlflowClient().set_tag(run_id, "mlflow.note.content", "\n\n".join(part for part in parts if part))
    create_table_artifact(key=name, table={str(c): shown[c].tolist() for c in shown}, description=note)
    print(f"\n{note}\n\n{shown.to_string(index=False)}\n", flush=True)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text: three decimals, ``…_low`` and ``…_high`` as one interval, nothing for NaN."""
    shown = pd.DataFrame(index=table.index)
    for column in map(str, table.columns):
        if column.endswith("_low") and f"{column[:-4]}_high" in table:
            bounds = zip(table[column], table[f"{column[:-4]}_high"], strict=True)
            shown[f"{column[:-4]} 95 %"] = [f"[{low:.3f}, {high:.3f}]" if pd.notna(low) else "" for low, high in bounds]
        elif not (column.endswith("_high") and f"{column[:-5]}_low" in table):
            shown[column] = [_text(value) for value in table[column]]
    return shown.rename(columns=lambda c: c.replace("_", " "))


def markdown(shown: pd.DataFrame) -> str:
    """A table of texts in Markdown."""
    lines = [list(shown.columns), ["---"] * len(shown.columns), *shown.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
