"""All of MLflow's tracking: which store, which runs, what is logged. The registry is in `flows.registry`."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import requests
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.entities import Metric, RunStatus
from mlflow.exceptions import MlflowException

from genre import plots, training
from genre.errors import GenreError
from genre.workspace import PROJECT_DIR, Workspace, read_json, write_json

#: MLflow's store unless MLFLOW_TRACKING_URI names another: found from the project, not from the current folder.
DEFAULT_URI = f"sqlite:///{PROJECT_DIR / 'mlflow.db'}"

_current: ContextVar[str | None] = ContextVar("experiment_run", default=None)


def connect() -> str:
    """Point MLflow at its store and use it once, since first uses by several processes spoil it; returns its URI.

    Raises
    ------
    GenreError
        If the store does not answer.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    mlflow.set_tracking_uri(uri)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        if uri.startswith("http"):
            # MLflow's own client would go on trying for minutes
            requests.get(f"{uri.rstrip('/')}/health", timeout=10).raise_for_status()
        MlflowClient().search_experiments(max_results=1)
    except Exception as error:  # every store raises exceptions of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise GenreError(f"MLflow at {uri} does not answer ({reason}); check MLFLOW_TRACKING_URI") from error
    return uri


@contextmanager
def experiment(workspace: Workspace, title: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """One run that holds everything a flow does; inside another such block, that one.

    Under ``mlflow run`` it is the project's own run where the user named an experiment. Otherwise it is a run of the
    data set's experiment, and the project's run, which MLflow opened before knowing the data set, points to it. What
    an experiment that was killed had logged is taken over.

    Parameters
    ----------
    workspace : Workspace
        Of the data set.
    title : str
        Name of the run.
    settings : mapping
        What the flow was asked for; logged as ``settings.*``.

    Yields
    ------
    str
        Id of the run.

    Raises
    ------
    GenreError
        If MLflow does not answer.
    """
    if current := _current.get():
        yield current
        return
    uri = connect()
    run_id = _open_parent(workspace, title)
    client = MlflowClient()
    for key, value in settings.items():
        client.log_param(run_id, f"settings.{key}", str(value))
    _take_over(workspace, uri, run_id)
    token = _current.set(run_id)
    try:
        yield run_id
    except BaseException as error:
        client.set_tag(run_id, "reason", str(error) or type(error).__name__)
        client.set_terminated(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    else:
        client.set_terminated(run_id, "FINISHED")
    finally:
        _current.reset(token)
        workspace.experiment_path.unlink(missing_ok=True)


def open_training(parent: str, directory: Path, name: str) -> tuple[str, bool]:
    """Run of a training, the one it had before where there is one; and whether everything is logged in it already."""
    known, uri, client = read_json(directory / "run.json") or {}, mlflow.get_tracking_uri(), MlflowClient()
    if entry := known.get(uri):
        run = _run_or_none(entry["run_id"])
        if run and run.info.lifecycle_stage == "active":
            if not entry["logged"]:
                client.set_tag(entry["run_id"], "mlflow.parentRunId", parent)
                client.update_run(entry["run_id"], status="RUNNING")
            return entry["run_id"], entry["logged"]
    run_id = new_run(parent, name)
    write_json(directory / "run.json", known | {uri: {"run_id": run_id, "logged": False}})
    return run_id, False


def close_training(directory: Path, run_id: str) -> None:
    """Mark a training's run as finished and wholly logged."""
    MlflowClient().set_terminated(run_id, "FINISHED")
    known = read_json(directory / "run.json")
    write_json(directory / "run.json", known | {mlflow.get_tracking_uri(): {"run_id": run_id, "logged": True}})


def training_run_id(directory: Path) -> str | None:
    """Id of the run that a training was logged in at this store."""
    known = read_json(directory / "run.json") or {}
    return known.get(mlflow.get_tracking_uri(), {}).get("run_id")


def new_run(parent: str, name: str) -> str:
    """Open a run below `parent`, in its experiment; returns its id."""
    client = MlflowClient()
    experiment_id = client.get_run(parent).info.experiment_id
    tags = {"mlflow.parentRunId": parent} | _source_tags()
    return client.create_run(experiment_id, run_name=name, tags=tags).info.run_id


def fail(run_id: str, reason: str) -> None:
    """Mark a run as failed, with the reason as a tag."""
    client = MlflowClient()
    client.set_tag(run_id, "reason", reason)
    client.set_terminated(run_id, "FAILED")


def failures(parent: str) -> dict[str, str]:
    """Models below `parent` whose run failed, each with the reason."""
    client = MlflowClient()
    query = f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'FAILED'"
    runs = client.search_runs([client.get_run(parent).info.experiment_id], query)
    return {run.info.run_name: f"failed: {run.data.tags.get('reason', 'no reason known')}" for run in runs}


def log_epoch(run_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
    """Log one epoch's metrics in one call, so that the curve grows while the training runs."""
    log_metrics(run_id, {f"epoch_{k}": v for k, v in metrics.items()}, step=epoch)


def log_metrics(run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
    """Log many metrics in one call; undefined ones are left out."""
    now = int(pd.Timestamp.now().timestamp() * 1000)
    defined = [Metric(_metric_name(k), float(v), now, step) for k, v in metrics.items() if pd.notna(v)]
    MlflowClient().log_batch(run_id, metrics=defined)


def log_training(run_id: str, directory: Path) -> None:
    """Log a finished training: what it was asked for, how it went, its scores, figures and tables."""
    job, result, client = training.job_of(directory), training.finished(directory) or {}, MlflowClient()
    client.log_param(run_id, "model", job.model)
    client.log_param(run_id, "seed", job.seed)
    for prefix, values in (("hp", job.params), ("audio", job.config)):
        for key, value in values.items():
            client.log_param(run_id, f"{prefix}.{key}", value)
    digests = {k: v for k, v in asdict(job).items() if k.endswith("_digest")}
    for key, value in (digests | {k: v for k, v in result.items() if isinstance(v, str)}).items():
        client.set_tag(run_id, key, value)
    log_metrics(run_id, {k: v for k, v in result.items() if not isinstance(v, str)})
    log_evaluation(run_id, pd.read_parquet(directory / "probabilities.parquet"), read_json(directory / "scores.json"))
    _log_importances(run_id, directory, job.model)
    history = directory / "history.parquet"
    if history.exists():
        log_figure(run_id, plots.learning_curve(pd.read_parquet(history)), "learning_curve")


def log_evaluation(run_id: str, table: pd.DataFrame, scores: Mapping[str, float]) -> None:
    """Log the scores of a probability table, its figures on the test split, and the table."""
    log_metrics(run_id, scores)
    test = table[table["split"] == "test"]
    for figure, name in (
        (plots.roc_curves(test), "roc"),
        (plots.precision_recall_curves(test), "precision_recall"),
        (plots.confusion_matrix(test), "confusion_matrix"),
        (plots.reliability(test), "reliability"),
    ):
        log_figure(run_id, figure, f"{name}_test")
    log_table(run_id, table.reset_index(), "probabilities")


def log_dataset(run_id: str, clips: pd.DataFrame, name: str, digest: str) -> None:
    """Log the clips that an experiment works on as MLflow's data set, by digest; no audio and no path."""
    table = clips[["clip_id", "genre", "recording", "split"]].astype(str)
    source = mlflow.data.pandas_dataset.from_pandas(table, targets="genre", name=name, digest=digest)
    with mlflow.start_run(run_id=run_id):
        mlflow.log_input(source, context="training")
    MlflowClient().update_run(run_id, status="RUNNING")
    log_table(run_id, table, "clips")


def log_figure(run_id: str, figure: Figure, name: str) -> None:
    """Log a figure as ``figures/NAME.png``."""
    MlflowClient().log_figure(run_id, figure, f"figures/{name}.png", save_kwargs={"dpi": 110, "bbox_inches": "tight"})


def log_table(run_id: str, table: pd.DataFrame, name: str) -> None:
    """Log a table as ``tables/NAME.csv``, to read and to download."""
    MlflowClient().log_text(run_id, table.to_csv(index=False), f"tables/{name}.csv")


def url(run_id: str) -> str:
    """Where a person sees the run: the page of a server, or the id where the store has none."""
    uri = mlflow.get_tracking_uri()
    if not uri.startswith("http"):
        return f"run {run_id}"
    return f"{uri.rstrip('/')}/#/experiments/{MlflowClient().get_run(run_id).info.experiment_id}/runs/{run_id}"


def _log_importances(run_id: str, directory: Path, model: str) -> None:
    path = directory / "importances.parquet"
    if not path.exists():
        return
    table = pd.read_parquet(path)
    log_table(run_id, table.rename_axis("feature").reset_index(), "importances")
    if "own" in table:
        log_figure(run_id, plots.importances(table["own"], f"{model}: its own importances"), "importances")
    title = f"{model}: loss of macro AUC on validation when a feature is shuffled"
    figure = plots.importances(table["mean"], title, spread=table["std"], unit="Drop of macro AUC")
    log_figure(run_id, figure, "permutation_importances")


def _open_parent(workspace: Workspace, title: str) -> str:
    """The project's run, or a new one in the data set's experiment."""
    client, launcher = MlflowClient(), os.environ.pop("MLFLOW_RUN_ID", None)
    launched = _run_or_none(launcher) if launcher else None
    if launched and launched.info.experiment_id != "0":
        client.set_tag(launched.info.run_id, "data_set", workspace.dataset_id)
        return launched.info.run_id
    tags = {"data_set": workspace.dataset_id} | _source_tags()
    run = client.create_run(_experiment_id(workspace.dataset_id), run_name=title, tags=tags)
    if launched:
        note = f"The results are in experiment **{workspace.dataset_id}**, run **{title}** (`{run.info.run_id}`)."
        client.set_tag(launched.info.run_id, "mlflow.note.content", note)
        client.set_tag(launched.info.run_id, "experiment_run_id", run.info.run_id)
    return run.info.run_id


def _experiment_id(name: str) -> str:
    client = MlflowClient()
    found = client.get_experiment_by_name(name)
    if found is None:
        is_default = mlflow.get_tracking_uri() == DEFAULT_URI
        location = (PROJECT_DIR / "mlruns" / name).as_uri() if is_default else None
        return client.create_experiment(
            name, artifact_location=location, tags={"mlflow.experimentKind": "custom_model_development"}
        )
    if found.lifecycle_stage != "active":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def _take_over(workspace: Workspace, uri: str, run_id: str) -> None:
    """End the run that a killed experiment left open, move its trainings below `run_id`, and note `run_id` as open."""
    left = read_json(workspace.experiment_path)
    write_json(workspace.experiment_path, {"uri": uri, "run_id": run_id})
    old = _run_or_none(left["run_id"]) if left and left["uri"] == uri and left["run_id"] != run_id else None
    if old is None:
        return
    client = MlflowClient()
    if RunStatus.from_string(old.info.status) == RunStatus.RUNNING:
        client.set_terminated(old.info.run_id, "KILLED")
    client.set_tag(old.info.run_id, "continued_by", run_id)
    query = f"tags.`mlflow.parentRunId` = '{old.info.run_id}'"
    for child in client.search_runs([old.info.experiment_id], query):
        client.set_tag(child.info.run_id, "mlflow.parentRunId", run_id)


def _run_or_none(run_id: str) -> Any:
    try:
        return MlflowClient().get_run(run_id)
    except MlflowException:
        return None


def _source_tags() -> dict[str, str]:
    """User, file and git commit, as MLflow finds them."""
    return dict(mlflow.tracking.context.registry.resolve_tags())


def _metric_name(name: str) -> str:
    """A genre may be called anything; MLflow's metric names may not."""
    return re.sub(r"[^\w\-. /]", "_", name)
