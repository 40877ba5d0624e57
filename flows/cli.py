"""Command line of a flow, made from its signature; foreseen errors are printed as one sentence."""

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
from genre.proxies import exempt_httpx, exempt_loopback, is_loopback
from genre.workspace import data_home
from tracking import runs, store

#: Beginnings of Prefect's log lines about a run that failed.
PREFECT_FAILURE_PREFIXES = (
    "Task run failed with exception",
    "Encountered exception during execution",
    "Finished in state Failed",
)


def main(flow: Flow[..., Any]) -> None:
    """Run a flow as a program: its parameters are the options, and every foreseen error exits with status 1."""
    quiet_foreseen_errors()
    bypass_proxies()
    with exit_on_error(), temporary_settings(_settings()):
        program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        program.command()(_command(flow))
        program()


def bypass_proxies() -> None:
    """Keep requests to servers of this machine, such as Prefect's temporary one, from the environment's proxies."""
    url = PREFECT_API_URL.value()
    if url and not is_loopback(url):
        exempt_loopback()
    else:
        exempt_httpx()  # it asks Prefect's server only


def quiet_foreseen_errors() -> None:
    """Have Prefect log a `GenreError` without its traceback, and print its message only once."""
    is_first = _repetition_filter()
    # "" is the root logger, by which Prefect prints
    for name in ("", "prefect", "prefect.flow_runs", "prefect.task_runs"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_without_traceback)
            if isinstance(handler, PrefectConsoleHandler):  # the log on each run's page stays complete
                handler.addFilter(is_first)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Remove the traceback of a `GenreError` from a log record, and keep its message as ``record.foreseen``."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, GenreError):
        record.foreseen = str(error)  # later handlers see the record without its exception
        record.exc_info = None
        record.exc_text = None
    return True


def _repetition_filter() -> Callable[[logging.LogRecord], bool]:
    """Return a filter that lets Prefect's lines about a foreseen error pass once.

    Prefect repeats an error of a task for the task, its flow and each outer flow, twice each.
    """
    shown: set[str] = set()

    def is_first(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        is_repeated = text.startswith(PREFECT_FAILURE_PREFIXES) and any(message in text for message in shown)
        if message := getattr(record, "foreseen", ""):
            shown.add(message)
        return not is_repeated

    return is_first


def _command(flow: Flow[..., Any]) -> Callable[..., None]:
    """Return a function with the parameters of the flow that Typer can read; it returns nothing."""

    def command(**parameters: Any) -> None:
        signal.signal(signal.SIGINT, _exit_on_interrupt)
        store.store_uri()  # a store that cannot be used is refused before anything is started
        check_server()
        flow(**parameters)

    parameters = [_typer_parameter(p) for p in inspect.signature(flow.fn).parameters.values()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = _help_text(inspect.getdoc(flow.fn) or "")
    return command


def _help_text(docstring: str) -> str:
    """Return the paragraphs above the sections of a docstring, without markup and line breaks."""
    prose = docstring.split("\n\nReturns\n")[0].replace("`", "")  # every flow has this section, and it comes first
    # Typer would keep the line breaks within a paragraph
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in prose.split("\n\n"))


def _typer_parameter(parameter: inspect.Parameter) -> inspect.Parameter:
    """Replace the annotation of a flow's parameter, from `flows.parameters`, by one that Typer reads."""
    kind, option = get_args(parameter.annotation)
    if kind is not bool:
        return parameter.replace(annotation=Annotated[kind, typer.Option(help=option.description)])
    # Typer would make two flags of a bool (--x and --no-x), but MLproject can only pass values
    as_value = typer.Option(help=option.description, parser=_parse_bool, metavar="true|false")
    return parameter.replace(annotation=Annotated[str, as_value])


def _parse_bool(text: object) -> bool:
    values = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if (word := str(text).lower()) not in values:
        raise typer.BadParameter(f"{text!r} is neither true nor false")
    return values[word]


def _exit_on_interrupt(number: int, frame: Any) -> None:
    """Exit at once on Ctrl-C, after marking the open MLflow runs as killed.

    Returning to Prefect would hang: the terminal interrupts its temporary server as well, and its client waits for that
    server. The runs are ended in a thread, for ten seconds at most, because the interrupted frame may hold MLflow's
    connection. Runs that stay open are ended by the next command.
    """
    ending = threading.Thread(target=contextvars.copy_context().run, args=(runs.end_own_runs,), daemon=True)
    ending.start()
    ending.join(10)
    message = "interrupted: finished work is kept; run the same command again to continue"
    print(f"\n{message}", file=sys.stderr, flush=True)
    os._exit(130)


def check_server() -> None:
    """Check that the Prefect server in ``PREFECT_API_URL`` responds, because Prefect's own error is a traceback.

    Raises
    ------
    GenreError
        If the server does not respond, or cannot be asked through the environment's proxy.
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
    except (ImportError, ValueError) as error:  # a SOCKS proxy without its package; a proxy of an unknown kind
        raise GenreError(
            f"Prefect at {url} cannot be asked through the proxy that the environment names ({error}); "
            "correct that, or add the server's host to NO_PROXY"
        ) from None


def _settings() -> dict[Any, Any]:
    """Return Prefect's settings for a run; without ``PREFECT_API_URL``, those of a temporary server.

    The temporary server may take three minutes to start and keeps its files in the workspace. It sends no heartbeats:
    it ends with the flow, so that no one could miss them, and the thread that sends them takes a second to end.
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
