"""All of MLflow's tracking: which store, which runs, what is logged. The registry is in `tracking.registry`."""

import errno
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE, ErrorCode

from genre.errors import GenreError
from genre.workspace import PROJECT_DIR, Workspace
from tracking import cost

if TYPE_CHECKING:
    pass

#: MLflow's store unless MLFLOW_TRACKING_URI names another: found from the project, not from the current folder.
DEFAULT_URI = f"sqlite:///{PROJECT_DIR / 'mlflow.db'}"

#: What MLflow calls it when its server is away, or its database locked or full.
OUTAGE_CODES = {ErrorCode.Name(INTERNAL_ERROR), ErrorCode.Name(TEMPORARILY_UNAVAILABLE)}

_current: ContextVar[tuple[Workspace, str] | None] = ContextVar("experiment", default=None)


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
        with short_timeouts():
            MlflowClient().search_experiments(max_results=1)
    except Exception as error:  # every store raises exceptions of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise GenreError(
            f"MLflow at {hide_credentials(uri)} does not answer ({reason}); check MLFLOW_TRACKING_URI"
        ) from error
    return uri


def hide_credentials(uri: str) -> str:
    """An address without the name and password in it."""
    return re.sub(r"//[^/@]*@", "//", uri)


@contextmanager
def short_timeouts() -> Iterator[None]:
    """Have MLflow say within seconds that its server does not answer; by default it goes on trying for minutes."""
    patience = {MLFLOW_HTTP_REQUEST_MAX_RETRIES: 1, MLFLOW_HTTP_REQUEST_TIMEOUT: 10}
    before = {variable: variable.get_raw() for variable in patience}
    try:
        for variable, value in patience.items():
            variable.set(value)
        yield
    finally:
        for variable, value in before.items():
            variable.unset() if value is None else variable.set(value)


@contextmanager
def experiment_run(workspace: Workspace, title: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """One run that holds everything a flow does; inside another such block, that one.

    Under ``mlflow run`` it is the project's own run where the user named an experiment. Otherwise it is a run of the
    data set's experiment, and the project's run, which MLflow opened before knowing the data set, points to it. The
    caller holds the data set's lock, so any run of it that is still open was killed: it is ended, and what it had
    trained is taken over.

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
        If MLflow does not answer, or stops to, or the disk is full. What is open then is ended by the next run.
    """
    if current := _current.get():
        yield current[1]
        return
    connect()
    killed = _end_open_runs(workspace, "KILLED", "killed")
    run_id = _open_parent(workspace, title)
    token = _current.set((workspace, run_id))
    try:
        _adopt_children(killed, run_id)
        for key, value in settings.items():
            MlflowClient().log_param(run_id, f"settings.{key}", str(value))
        with cost.measure_usage() as bill:
            yield run_id
        log_metrics(run_id, bill.metrics)
        print(f"\n{title}\n\n{bill.text}\n", flush=True)
    except BaseException as error:
        with suppress(MlflowException), short_timeouts():  # the first error is the one to tell
            _end_open_runs(workspace, "FAILED" if isinstance(error, Exception) else "KILLED", str(error))
        if isinstance(error, MlflowException) and error.error_code in OUTAGE_CODES:
            reason = str(error).splitlines()[0]
            raise GenreError(f"MLflow stopped answering ({reason}); the same command goes on from there") from error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise GenreError(f"the disk is full ({error}); make room, the same command goes on from there") from error
        raise
    else:
        MlflowClient().set_terminated(run_id, "FINISHED")
        _end_open_runs(workspace, "FAILED", "MLflow did not answer when this ended")
    finally:
        _current.reset(token)


def end_own_runs() -> None:
    """End every run that this process has open, as killed."""
    if current := _current.get():
        _end_open_runs(current[0], "KILLED", "interrupted")


def open_run(parent: str, workspace: Workspace, name: str, key: str, *, is_done: bool) -> tuple[str, bool]:
    """Run below `parent` for one piece of work: the one it has where it has one, and whether all is logged in that.

    Parameters
    ----------
    parent : str
        Id of the experiment's run.
    workspace : Workspace
        Of the data set.
    name : str
        Name of the run.
    key : str
        What the work is known by, in letters, digits, ``-`` and ``_``.
    is_done : bool
        Whether its results are at hand; where they are lost, a finished run is left alone and a new one opened.

    Returns
    -------
    run_id : str
    is_logged : bool
    """
    client = MlflowClient()
    experiment_id = client.get_run(parent).info.experiment_id
    query = f"tags.work = '{key}' and tags.workspace = '{_workspace_id(workspace)}'"
    query += "" if is_done else " and attributes.status != 'FINISHED'"
    if found := client.search_runs([experiment_id], query, max_results=1):
        run = found[0]
        if run.info.status != "FINISHED":
            client.set_tag(run.info.run_id, "mlflow.parentRunId", parent)
            if "reason" in run.data.tags:
                client.delete_tag(run.info.run_id, "reason")
            client.update_run(run.info.run_id, status="RUNNING")
        return run.info.run_id, run.info.status == "FINISHED"
    tags = {"mlflow.parentRunId": parent, "work": key} | _origin_tags(workspace)
    return client.create_run(experiment_id, run_name=name, tags=tags).info.run_id, False


def finish_run(run_id: str) -> None:
    """Mark a run as finished: everything is logged in it."""
    MlflowClient().set_terminated(run_id, "FINISHED")


def set_tags(run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run."""
    for key, value in tags.items():
        MlflowClient().set_tag(run_id, key, value)


def fail_run(run_id: str, reason: str) -> None:
    """Mark a run as failed, with the reason as a tag."""
    client = MlflowClient()
    client.set_tag(run_id, "reason", reason)
    client.set_terminated(run_id, "FAILED")


def failed_models(parent: str) -> dict[str, str]:
    """Models below `parent` whose run failed, each with the reason in words."""
    client = MlflowClient()
    query = f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'FAILED'"
    runs = client.search_runs([client.get_run(parent).info.experiment_id], query)
    return {run.info.run_name: run.data.tags.get("reason", "no reason known") for run in runs}


def log_metrics(run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
    """Log many metrics in one call; undefined ones are left out."""
    now = int(pd.Timestamp.now().timestamp() * 1000)
    defined = [Metric(_metric_name(k), float(v), now, step) for k, v in metrics.items() if pd.notna(v)]
    MlflowClient().log_batch(run_id, metrics=defined)


def run_url(run_id: str) -> str:
    """Address of a run's page; empty where MLflow is a database and has no pages of its own."""
    uri = mlflow.get_tracking_uri()
    if not uri.startswith("http"):
        return ""
    experiment_id = MlflowClient().get_run(run_id).info.experiment_id
    return f"{hide_credentials(uri).rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"


def _open_parent(workspace: Workspace, title: str) -> str:
    """The project's run, or a new one in the data set's experiment."""
    client, launcher = MlflowClient(), os.environ.pop("MLFLOW_RUN_ID", None)
    launched = _run_or_none(launcher) if launcher else None
    if launched:
        set_tags(launched.info.run_id, _origin_tags(workspace))
        if launched.info.experiment_id != "0":
            return launched.info.run_id
    run = client.create_run(_experiment_id(workspace.dataset_id), run_name=title, tags=_origin_tags(workspace))
    if launched:
        note = f"The results are in experiment **{workspace.dataset_id}**, run **{title}** (`{run.info.run_id}`)."
        client.set_tag(launched.info.run_id, "mlflow.note.content", note)
    return run.info.run_id


def _experiment_id(name: str) -> str:
    client = MlflowClient()
    found = client.get_experiment_by_name(name)
    if found is None:
        # beside the database; MLflow's own choice would be below whatever folder the command was started in
        database = re.fullmatch(r"sqlite:///(.+)", mlflow.get_tracking_uri())
        location = (Path(database[1]).resolve().parent / "mlruns" / name).as_uri() if database else None
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return client.create_experiment(name, artifact_location=location, tags=tags)
    if found.lifecycle_stage != "active":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def _end_open_runs(workspace: Workspace, status: str, reason: str) -> list[Run]:
    """End all runs of a data set that are still open, and return them as they were."""
    client = MlflowClient()
    query = f"attributes.status = 'RUNNING' and tags.workspace = '{_workspace_id(workspace)}'"
    found = list(client.search_runs([e.experiment_id for e in client.search_experiments()], query))
    for run in found:
        client.set_tag(run.info.run_id, "reason", reason)
        client.set_terminated(run.info.run_id, status)
    return found


def _adopt_children(killed: list[Run], run_id: str) -> None:
    """Move what killed experiments had trained below the run that goes on with it."""
    client = MlflowClient()
    for run in killed:
        query = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
        for child in client.search_runs([run.info.experiment_id], query):
            client.set_tag(child.info.run_id, "mlflow.parentRunId", run_id)


def _run_or_none(run_id: str) -> Run | None:
    try:
        return MlflowClient().get_run(run_id)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        return None


def _workspace_id(workspace: Workspace) -> str:
    """What tells the runs of one data set in one workspace from all others, without naming a path."""
    return hashlib.sha256(str(workspace.directory).encode()).hexdigest()[:12]


def _origin_tags(workspace: Workspace) -> dict[str, str]:
    """Data set and workspace; user, file and git commit as MLflow finds them."""
    source = dict(mlflow.tracking.context.registry.resolve_tags())
    return source | {"data_set": workspace.dataset_id, "workspace": _workspace_id(workspace)}


def _metric_name(name: str) -> str:
    """A genre may be called anything; MLflow's metric names may not. What had to change gets a hash, to stay apart."""
    metric, slash, genre = name.partition("/")
    plain = re.sub(r"[^\w\- ]", "_", genre)[:100]
    if plain != genre:
        plain += "-" + hashlib.sha256(genre.encode()).hexdigest()[:4]
    return metric + slash + plain
