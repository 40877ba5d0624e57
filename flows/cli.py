"""A flow's signature as a command line, and errors as sentences."""

import inspect
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import typer
from prefect import Flow
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from genre.errors import GenreError
from genre.workspace import home


def main(flow: Flow[..., Any]) -> None:
    """Run a flow as a program: its parameters are the options; 1 is the exit status of every foreseen error."""
    quiet_foreseen_errors()
    with temporary_settings(_settings()):
        try:
            typer.run(_command(flow))
        except GenreError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)


def quiet_foreseen_errors() -> None:
    """Have Prefect log an error of ours as its sentence, without the traceback."""
    for name in ("prefect", "prefect.flow_runs", "prefect.task_runs"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, GenreError):
        record.exc_info, record.exc_text = None, None
    return True


def _command(flow: Flow[..., Any]) -> Callable[..., None]:
    """The flow as a function that Typer can read: same parameters, no result."""

    def command(**parameters: Any) -> None:
        flow(**parameters)

    command.__signature__ = inspect.signature(flow.fn)  # type: ignore[attr-defined]
    command.__annotations__ = dict(flow.fn.__annotations__)
    command.__doc__ = (flow.fn.__doc__ or "").split("Parameters")[0]
    return command


def _settings() -> dict[Any, Any]:
    """Where no server is named, Prefect's own temporary one: patient, silent, and out of the user's home."""
    settings: dict[Any, Any] = {
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 180,
    }
    if not PREFECT_API_URL.value() and "PREFECT_HOME" not in os.environ:
        settings[PREFECT_HOME] = home() / "prefect"
        settings[PREFECT_HOME].mkdir(parents=True, exist_ok=True)  # Prefect makes one level only
    return settings
