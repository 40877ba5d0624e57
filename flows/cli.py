"""A flow's signature as a command line, and errors as sentences."""

import contextvars
import inspect
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Annotated, Any, get_args

import httpx
import typer
from prefect import Flow
from prefect.logging.handlers import PrefectConsoleHandler
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from genre.errors import GenreError, exit_on_error
from genre.files import make_directory
from genre.workspace import data_home
from tracking import runs

#: How Prefect begins what it says of a run that failed.
PREFECT_FAILURE_PREFIXES = (
    "Task run failed with exception",
    "Encountered exception during execution",
    "Finished in state Failed",
)


def main(flow: Flow[..., Any]) -> None:
    """Run a flow as a program: its parameters are the options; 1 is the exit status of every foreseen error."""
    quiet_foreseen_errors()
    with exit_on_error(), temporary_settings(_settings()):
        program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        program.command()(_command(flow))
        program()


def quiet_foreseen_errors() -> None:
    """Have Prefect log an error of ours as its sentence, without the traceback, and print it once."""
    is_news = _repetition_filter()
    for name in ("", "prefect", "prefect.flow_runs", "prefect.task_runs"):  # "": Prefect prints by the root
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_without_traceback)
            if isinstance(handler, PrefectConsoleHandler):  # each run's own page keeps all of its lines
                handler.addFilter(is_news)


def _without_traceback(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, GenreError):
        record.foreseen = str(error)  # for the handlers after this one
        record.exc_info, record.exc_text = None, None
    return True


def _repetition_filter() -> Callable[[logging.LogRecord], bool]:
    """A filter of what Prefect says again of a sentence: the task's, its flow's and each outer flow's, twice each."""
    told: set[str] = set()

    def is_news(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        is_again = text.startswith(PREFECT_FAILURE_PREFIXES) and any(sentence in text for sentence in told)
        told.update(filter(None, [getattr(record, "foreseen", "")]))
        return not is_again

    return is_news


def _command(flow: Flow[..., Any]) -> Callable[..., None]:
    """The flow as a function that Typer can read: same parameters, no result."""

    def command(**parameters: Any) -> None:
        signal.signal(signal.SIGINT, _exit_on_interrupt)
        check_server()
        flow(**parameters)

    parameters = [_typer_parameter(p) for p in inspect.signature(flow.fn).parameters.values()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = _help_text(inspect.getdoc(flow.fn) or "")
    return command


def _help_text(docstring: str) -> str:
    """The paragraphs above the sections of a docstring, without markup; Typer would keep the line breaks."""
    prose = docstring.split("\n\nReturns\n")[0].replace("`", "")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in prose.split("\n\n"))


def _typer_parameter(parameter: inspect.Parameter) -> inspect.Parameter:
    """A parameter of a flow, annotated as in `flows.parameters`, with the annotation that Typer reads."""
    kind, option = get_args(parameter.annotation)
    if kind is not bool:
        return parameter.replace(annotation=Annotated[kind, typer.Option(help=option.description)])
    # Typer would make two flags of a yes or no, and MLproject can only pass values.
    as_value = typer.Option(help=option.description, parser=_parse_bool, metavar="true|false")
    return parameter.replace(annotation=Annotated[str, as_value])


def _parse_bool(text: object) -> bool:
    values = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if (word := str(text).lower()) not in values:
        raise typer.BadParameter(f"{text!r} is neither true nor false")
    return values[word]


def _exit_on_interrupt(number: int, frame: Any) -> None:
    """End at once on Ctrl-C: the terminal has interrupted Prefect's temporary server too, and its client would wait.

    The frame interrupted may hold MLflow's connection, hence a thread and not for long; the next run ends what is left.
    """
    ending = threading.Thread(target=contextvars.copy_context().run, args=(runs.end_own_runs,), daemon=True)
    ending.start()
    ending.join(10)
    print("\ninterrupted; what is finished is kept, the same command goes on from there", file=sys.stderr, flush=True)
    os._exit(130)


def check_server() -> None:
    """See whether the Prefect server that is named answers; Prefect's own complaint is a traceback.

    Raises
    ------
    GenreError
        If it does not.
    """
    if not (url := PREFECT_API_URL.value()):
        return
    try:
        httpx.get(f"{url.rstrip('/')}/health", timeout=30)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise GenreError(
            f"Prefect at {url} does not answer ({error}); "
            'start it with "prefect server start", or unset PREFECT_API_URL'
        ) from None


def _settings() -> dict[Any, Any]:
    """Where no server is named, Prefect's own temporary one: patient, silent, and out of the user's home.

    It ends with the flow, so nobody would see that heartbeats stop, and what sends them takes a second to end.
    """
    settings: dict[Any, Any] = {
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 180,
    }
    if PREFECT_API_URL.value():
        return settings
    settings[PREFECT_FLOWS_HEARTBEAT_FREQUENCY] = None
    if "PREFECT_HOME" not in os.environ:
        settings[PREFECT_HOME] = make_directory(data_home() / "prefect")  # Prefect makes one level only
    return settings
