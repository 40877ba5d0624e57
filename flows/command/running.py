"""A flow run by a command: Prefect's settings, its log lines, its server, and what happens on Ctrl-C."""

import contextlib
import contextvars
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

import httpx
from prefect.flows import Flow
from prefect.logging.handlers import PrefectConsoleHandler
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_UI_URL,
    temporary_settings,
)

from flows.cli import exit_interrupted
from flows.command.signatures import FlowSource
from flows.command.temporary_server import TemporaryServer
from flows.readiness.servers import prefect_outage
from genre.errors import GenreError, first_line, hide_secrets
from genre.library import replacing
from genre.proxies import exempt_httpx, exempt_loopback, is_loopback
from genre.safety.logs import hide_in_logs
from tracking import runs

#: Beginnings of Prefect's log lines about a run that failed.
PREFECT_FAILURE_PREFIXES = (
    "Task run failed with exception",
    "Encountered exception during execution",
    "Finished in state Failed",
)


def import_flow(flow: FlowSource) -> Callable[..., Any]:
    """Import a flow, and what its first steps would import."""
    runs.import_store()
    function: Callable[..., Any] = getattr(import_module(flow.module), flow.function)
    return function


def run_flow(function: Callable[..., Any], parameters: Mapping[str, Any], server: TemporaryServer | None) -> None:
    """Run a flow.

    Parameters
    ----------
    function : callable
        The flow.
    parameters : mapping
        Its arguments.
    server : TemporaryServer or None
        Server for this run, which is stopped if Prefect's own settings name another.

    Raises
    ------
    GenreError
        If Prefect's server does not answer, or stops doing so, or the flow raises one.
    """
    if server and PREFECT_API_URL.value():  # named in a profile or a file of settings
        server.stop()
        server = None
    signal.signal(signal.SIGINT, _exit_on_interrupt)
    hide_in_logs()
    quiet_foreseen_errors()
    bypass_proxies()
    check_server()
    with temporary_settings(_settings(server)), _hidden_parameters():
        try:
            function(**parameters)
        except httpx.HTTPError as error:  # nothing but Prefect asks by this library
            raise explain_prefect_outage(error, server) from error


def explain_prefect_outage(error: httpx.HTTPError, server: TemporaryServer | None) -> GenreError:
    """Return the error to show for a request that Prefect's server failed on.

    That is the error by which the flow itself ended, if it did: Prefect fails once more when it reports that one, as
    where a full disk ends both.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, GenreError):
            return cause
        cause = cause.__context__
    reason = first_line(error)
    if server:
        name = "Prefect's temporary server"
        advice = f"see its messages above, check that the disk of {server.home} is not full"
    else:
        name = f"Prefect at {PREFECT_API_URL.value()}"
        advice = "check that server"
    return GenreError(f"{name} stopped responding ({reason}); {advice}, and run the same command again to continue")


@contextlib.contextmanager
def _hidden_parameters() -> Iterator[None]:
    """Have Prefect store the parameters of flows without the secrets in addresses; the flows get them whole."""
    serialize = Flow.serialize_parameters

    def serialize_hidden(flow: Flow[Any, Any], parameters: dict[str, Any]) -> dict[str, Any]:
        values = serialize(flow, parameters)
        return {name: hide_secrets(value) if isinstance(value, str) else value for name, value in values.items()}

    Flow.serialize_parameters = serialize_hidden  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Flow.serialize_parameters = serialize  # type: ignore[method-assign]


def bypass_proxies() -> None:
    """Keep requests to servers of this machine, such as the temporary one, from the environment's proxies."""
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


def _exit_on_interrupt(number: int, frame: Any) -> None:
    """Exit at once on Ctrl-C, after marking the open MLflow runs as killed.

    Returning to Prefect would wait for its server, and for the workers, which the terminal interrupts as well. The runs
    are ended in a thread, for ten seconds at most, because the interrupted frame may hold MLflow's connection. Runs
    that stay open are ended by the next command. A copy of a file whose tags were being written is removed; the file
    itself is as it was, or whole in its new state.
    """
    replacing.remove_own_copies()
    ending = threading.Thread(target=contextvars.copy_context().run, args=(runs.end_own_runs,), daemon=True)
    ending.start()
    ending.join(10)
    exit_interrupted()


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
        raise prefect_outage(url, error) from None
    except (ImportError, ValueError) as error:  # a SOCKS proxy without its package; a proxy of an unknown kind
        raise GenreError(
            f"Prefect at {url} cannot be asked through the proxy that the environment names ({error}); "
            "correct that, or add the server's host to NO_PROXY"
        ) from None


def _settings(server: TemporaryServer | None) -> dict[Any, Any]:
    """Return Prefect's settings for a run; on a temporary server, once it answers, its address among them.

    With a temporary server no heartbeats are sent: it ends with the flow, so that no one could miss them, and the
    thread that sends them takes a second to end. Nor is its address shown, since it has no pages.
    """
    if server is None:
        return {}
    settings: dict[Any, Any] = {
        PREFECT_API_URL: server.wait(),
        PREFECT_UI_URL: "",
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
    if "PREFECT_HOME" not in os.environ:
        settings[PREFECT_HOME] = server.home
    return settings
