"""Trials: models that are fitted for comparison and not served, each a run whose probability table is kept."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from prefect import task
from prefect.cache_policies import NO_CACHE

from genre import evaluate
from genre.files import read_or_make_table
from genre.plots import evaluation
from genre.workspace import Workspace
from tracking import results, runs

Fit = Callable[[], pd.DataFrame]


@task(cache_policy=NO_CACHE, task_run_name="{name}")
def run_trial(workspace: Workspace, parent: str, name: str, identity: Mapping[str, Any], fit: Fit) -> pd.DataFrame:
    """Fit one trial and log it as a run of its own, or read its table if it was fitted before.

    Trials are fitted in this process, one after another. All are models on features, which release their memory.

    Parameters
    ----------
    workspace : Workspace
        Workspace of the data set.
    parent : str
        Id of the parent run.
    name : str
        Name of the run.
    identity : mapping
        Everything the table depends on, as JSON values: data, split, code, parameters. Logged as the run's parameters.
    fit : callable
        Trains the model and returns the probability table.

    Returns
    -------
    pd.DataFrame
        Probability table.
    """
    identity = {"trial": name, **identity}
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    path = workspace.trial_path(key)
    run_id, is_logged = runs.open_run(parent, workspace, name, f"trial-{key}", is_done=path.exists())
    if is_logged:
        return read_or_make_table(path, fit)
    try:
        table = read_or_make_table(path, fit)
        for key_name, value in identity.items():
            MlflowClient().log_param(run_id, key_name, value)
        _log_trial(run_id, table)
    except Exception as error:
        runs.fail_run(run_id, str(error))
        raise
    runs.finish_run(run_id)
    return table


def _log_trial(run_id: str, table: pd.DataFrame) -> None:
    """Log the scores, the figures that the paper shows, and the probability table."""
    runs.log_metrics(run_id, evaluate.summarise_scores(table))
    test = table[table["split"] == "test"]
    results.log_figure(run_id, evaluation.roc_curves(test), "roc_test")
    results.log_figure(run_id, evaluation.confusion_matrix(test), "confusion_matrix_test")
    results.log_table(run_id, table.reset_index(), "probabilities")
