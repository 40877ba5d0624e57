"""MLflow's store, experiments and runs: connecting to the store, opening and ending runs, logging metrics."""

import errno
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib import import_module
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE, ErrorCode

from genre.errors import GenreError, first_line, hide_in_exception, hide_secrets
from genre.proxies import is_loopback
from genre.safety.logs import hide_in_logs
from genre.workspace import WorkspaceFolder, workspace_key
from tracking import cost, store

#: Error codes of MLflow when its server is unreachable, or its database locked or full.
OUTAGE_CODES = {ErrorCode.Name(INTERNAL_ERROR), ErrorCode.Name(TEMPORARILY_UNAVAILABLE)}

_log = logging.getLogger(__name__)

_current: ContextVar[tuple[WorkspaceFolder, str] | None] = ContextVar("experiment", default=None)


def connect() -> str:
    """Point MLflow at its store, use it once, and return its URI.

    The store is used here because several processes that make its first use at the same time corrupt it.

    Raises
    ------
    UsageError
        If the store is in a folder that MLflow itself would not find again, see `tracking.store.store_uri`.
    GenreError
        If the store does not respond.
    """
    hide_in_logs()
    uri = store.separate_credentials(store.store_uri())
    mlflow.set_tracking_uri(uri)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # `experiment_run` prints one link
    try:
        with short_timeouts():
            MlflowClient().search_experiments(max_results=1)
    except Exception as error:  # every store raises exceptions of its own
        reason = first_line(error)
        raise GenreError(f"MLflow at {uri} does not respond ({reason}); check MLFLOW_TRACKING_URI") from error
    return uri


def import_store() -> None:
    """Import what MLflow needs for a database, in a second, so that its first use need not wait for it."""
    if not store.store_uri().startswith("http"):
        import_module("mlflow.store.tracking.sqlalchemy_store")
        import_module("mlflow.store.model_registry.sqlalchemy_store")


@contextmanager
def short_timeouts() -> Iterator[None]:
    """Let MLflow's calls fail within seconds when its server does not respond; by default they retry for minutes."""
    limits = {MLFLOW_HTTP_REQUEST_MAX_RETRIES: 1, MLFLOW_HTTP_REQUEST_TIMEOUT: 10}
    before = {variable: variable.get_raw() for variable in limits}
    try:
        for variable, limit in limits.items():
            variable.set(limit)
        yield
    finally:
        for variable, value in before.items():
            variable.unset() if value is None else variable.set(value)


def _link_run(run_id: str) -> str:
    link = run_url(run_id)
    return f"MLflow: {link}" if link else ""


@contextmanager
def experiment_run(
    workspace: WorkspaceFolder,
    title: str,
    settings: Mapping[str, Any],
    describe_pages: Callable[[str], str] = _link_run,
) -> Iterator[str]:
    """Open one run for everything a flow does; inside another such block, use the run of that block.

    If the user named an experiment on the command line of ``mlflow run``, this is the project's own run. Otherwise it
    is a run in the data set's experiment, and the project's run, which MLflow opened before the data set was known,
    gets a note with a link to it. The caller holds the data set's lock, so a run of the data set that is still open
    was killed: it is ended, and its finished trainings are moved below the new run.

    Parameters
    ----------
    workspace : WorkspaceFolder
        Folder of the data set or of the music library.
    title : str
        Name of the run.
    settings : mapping
        Options of the flow; logged as ``settings.*``.
    describe_pages : callable, optional
        Called with the id of the run once all else is done; returns the lines about its pages that are printed last.

    Yields
    ------
    str
        Id of the run.

    Raises
    ------
    GenreError
        If MLflow does not respond, or stops responding, or the disk is full. Runs left open are ended by the next run.
    """
    if current := _current.get():
        yield current[1]
        return
    connect()
    with _explain_outages():
        killed = _end_open_runs(workspace, "KILLED", "killed")
        run_id, launcher = _open_parent(workspace, title)
    token = _current.set((workspace, run_id))
    try:
        with _explain_outages():
            _adopt_children(killed, run_id)
            for key, value in settings.items():
                MlflowClient().log_param(run_id, f"settings.{key}", hide_secrets(str(value)))
            with cost.measure_usage() as usage:
                yield run_id
            log_metrics(run_id, usage.metrics)
            cost.log_usage(title, usage)
            if pages := describe_pages(run_id):
                print(f"\n{pages}\n", flush=True)
    except BaseException as error:
        with suppress(MlflowException), short_timeouts():  # a failure here must not hide the first error
            _end_open_runs(workspace, "FAILED" if isinstance(error, Exception) else "KILLED", str(error))
        raise
    else:
        with _explain_outages():
            for finished in (run_id, launcher):
                if finished:
                    MlflowClient().set_terminated(finished, "FINISHED")
            _end_open_runs(workspace, "FAILED", "MLflow did not respond when this run ended")
    finally:
        _current.reset(token)


@contextmanager
def _explain_outages() -> Iterator[None]:
    """Raise an outage of MLflow or a full disk as a `GenreError`, and any error without secrets in its text."""
    try:
        yield
    except BaseException as error:
        hide_in_exception(error)  # Prefect stores its text with the state of the flow
        if explained := _explain_outage(error):
            raise explained from error
        raise


def _explain_outage(error: BaseException) -> GenreError | None:
    """Return the error to show for an outage of MLflow or a full disk; None for any other error."""
    if isinstance(error, MlflowException) and error.error_code in OUTAGE_CODES:
        reason = first_line(error)
        return GenreError(f"MLflow stopped responding ({reason}); run the same command again to continue")
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return GenreError(f"a file would be larger than the system allows ({error}); raise the limit (ulimit -f)")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return GenreError(f"the disk is full ({error}); free some space and run the same command again to continue")
    return None


def end_own_runs() -> None:
    """End every run that this process has open, with the status ``KILLED``."""
    if current := _current.get():
        _end_open_runs(current[0], "KILLED", "interrupted")


def open_run(parent: str, workspace: WorkspaceFolder, name: str, key: str, *, is_done: bool) -> tuple[str, bool]:
    """Open the run of one piece of work below `parent`: a new run, or the one it already has.

    Parameters
    ----------
    parent : str
        Id of the flow's run.
    workspace : WorkspaceFolder
        Folder of the data set or of the music library.
    name : str
        Name of the run.
    key : str
        Identifier of the work, in letters, digits, ``-`` and ``_``.
    is_done : bool
        Whether the results of the work are on disk. If they are lost, a finished run is left alone and a new one is
        opened.

    Returns
    -------
    run_id : str
    is_logged : bool
        Whether the run is finished, with everything logged in it.
    """
    client = MlflowClient()
    experiment_id = client.get_run(parent).info.experiment_id
    query = f"tags.work = '{key}' and tags.workspace = '{workspace_id(workspace)}'"
    query += "" if is_done else " and attributes.status != 'FINISHED'"
    for run in client.search_runs([experiment_id], query, max_results=1):
        if run.info.status != "FINISHED":
            client.set_tag(run.info.run_id, "mlflow.parentRunId", parent)
            if "reason" in run.data.tags:
                client.delete_tag(run.info.run_id, "reason")
            client.update_run(run.info.run_id, status="RUNNING")
        return run.info.run_id, run.info.status == "FINISHED"
    tags = {"mlflow.parentRunId": parent, "work": key} | _origin_tags(workspace)
    return client.create_run(experiment_id, run_name=name, tags=tags).info.run_id, False


def finish_run(run_id: str) -> None:
    """Mark a run as finished, once everything is logged in it."""
    MlflowClient().set_terminated(run_id, "FINISHED")


def set_tags(run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run, without the secrets in addresses that they name."""
    for key, value in tags.items():
        MlflowClient().set_tag(run_id, key, hide_secrets(value))


def fail_run(run_id: str, reason: str) -> None:
    """Mark a run as failed, with the reason as a tag."""
    set_tags(run_id, {"reason": reason})
    MlflowClient().set_terminated(run_id, "FAILED")


def failed_models(parent: str) -> dict[str, str]:
    """Return the models below `parent` whose run failed, each with the reason."""
    client = MlflowClient()
    query = f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'FAILED'"
    runs = client.search_runs([client.get_run(parent).info.experiment_id], query)
    return {run.info.run_name: run.data.tags.get("reason", "no reason known") for run in runs}


def log_metrics(run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
    """Log many metrics in one call, leaving out undefined ones."""
    now = int(pd.Timestamp.now().timestamp() * 1000)
    defined = [Metric(_metric_name(k), float(v), now, step) for k, v in metrics.items() if pd.notna(v)]
    MlflowClient().log_batch(run_id, metrics=defined)


def pages_url() -> str:
    """Return the address of MLflow's pages; empty if MLflow is only a database, without a server that has pages."""
    uri = mlflow.get_tracking_uri()
    return hide_secrets(uri).rstrip("/") if uri.startswith("http") else ""


def run_path(run_id: str) -> str:
    """Return the address of a run's page, relative to MLflow's pages."""
    return f"#/experiments/{MlflowClient().get_run(run_id).info.experiment_id}/runs/{run_id}"


def run_url(run_id: str) -> str:
    """Return the address of a run's page; empty if MLflow has no pages, see `pages_url`."""
    return f"{pages_url()}/{run_path(run_id)}" if pages_url() else ""


def workspace_id(workspace: WorkspaceFolder) -> str:
    """Return an identifier of a data set in a workspace, for the tags of its runs, that reveals no path."""
    return hashlib.sha256(f"{workspace_key()}/{workspace.name}".encode()).hexdigest()[:12]


def _open_parent(workspace: WorkspaceFolder, title: str) -> tuple[str, str | None]:
    """Return the id of the project's run, or of a new run in the data set's experiment, and then the project's too."""
    client = MlflowClient()
    launcher = os.environ.pop("MLFLOW_RUN_ID", None)  # set by ``mlflow run``
    launched = _run_or_none(launcher) if launcher else None
    if launched:
        set_tags(launched.info.run_id, _origin_tags(workspace))
        if launched.info.experiment_id != "0":
            return launched.info.run_id, None
    run = client.create_run(_experiment_id(workspace.name), run_name=title, tags=_origin_tags(workspace))
    if launched:
        note = f"The results are in experiment **{workspace.name}**, run [{title}]({run_path(run.info.run_id)})."
        client.set_tag(launched.info.run_id, "mlflow.note.content", note)
    return run.info.run_id, launched.info.run_id if launched else None


def _experiment_id(name: str) -> str:
    """Return the id of an experiment, which is created if it is missing and restored if it was deleted."""
    client = MlflowClient()
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        location = store.artifact_location(mlflow.get_tracking_uri(), name)
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return client.create_experiment(name, artifact_location=location, tags=tags)
    if experiment.lifecycle_stage != "active":
        client.restore_experiment(experiment.experiment_id)
    uri = mlflow.get_tracking_uri()
    if uri.startswith("http") and not is_loopback(uri) and experiment.artifact_location.startswith(("file:", "/")):
        _log.warning(
            "experiment %s keeps its models in a folder of the machine where it began, %s, and not on the MLflow "
            "server: other machines cannot load them; start the server with a database of its own to change that",
            name,
            experiment.artifact_location,
        )
    return experiment.experiment_id


def _end_open_runs(workspace: WorkspaceFolder, status: str, reason: str) -> list[Run]:
    """End all runs of a data set that are still open, and return them as they were before."""
    client = MlflowClient()
    query = f"attributes.status = 'RUNNING' and tags.workspace = '{workspace_id(workspace)}'"
    open_runs = list(client.search_runs([e.experiment_id for e in client.search_experiments()], query))
    for run in open_runs:
        set_tags(run.info.run_id, {"reason": reason})
        client.set_terminated(run.info.run_id, status)
    return open_runs


def _adopt_children(killed: list[Run], run_id: str) -> None:
    """Move the model runs of killed flows below the run that continues their work."""
    client = MlflowClient()
    for run in killed:
        query = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
        for child in client.search_runs([run.info.experiment_id], query):
            client.set_tag(child.info.run_id, "mlflow.parentRunId", run_id)


def _run_or_none(run_id: str) -> Run | None:
    """Return a run, or None if the store does not have it."""
    try:
        return MlflowClient().get_run(run_id)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        return None


def _origin_tags(workspace: WorkspaceFolder) -> dict[str, str]:
    """Return the tags of a run's origin: data set and workspace; user, file and git commit as MLflow finds them."""
    source = dict(mlflow.tracking.context.registry.resolve_tags())
    tags = source | {"data_set": workspace.name, "workspace": workspace_id(workspace)}
    return {key: hide_secrets(str(value)) for key, value in tags.items()}


def _metric_name(name: str) -> str:
    """Return a valid name for a metric of a genre: genres may have any name, MLflow's metrics may not.

    A name that had to be changed gets a hash, so that different genres keep different names.
    """
    metric, slash, genre = name.partition("/")
    plain = re.sub(r"[^\w\- ]", "_", genre)[:100]
    if plain != genre:
        plain += "-" + hashlib.sha256(genre.encode()).hexdigest()[:4]
    return metric + slash + plain
