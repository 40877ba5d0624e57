"""Command line of a flow, made from its signature; foreseen errors are printed as one sentence.

Options are read, and mistakes answered, before Prefect and MLflow are imported, which takes seconds. Each entry point
therefore calls `main` above its other imports.
"""

import gc
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from flows.command import temporary_server
from flows.command.signatures import FlowSource, read_flow
from flows.readiness import folders, servers
from genre import datasets
from genre.errors import exit_on_error
from genre.workspace import Workspace
from tracking import store

#: Option of every command.
_VERBOSE = inspect.Parameter(
    "verbose",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool, typer.Option("--verbose", "-v", help="Show all that is logged, not only in the log file.")
    ],
)


def main(path: str, check: Callable[[Mapping[str, Any]], object], *, needs_workspace: bool = True) -> None:
    """Run a flow as a program and exit: its parameters are the options, and foreseen errors have the status 1.

    Parameters
    ----------
    path : str
        File of the flow.
    check : callable
        Check of the parameters, by name, from `flows.checks`.
    needs_workspace : bool
        Whether the flow itself writes to the workspace.
    """

    def run(*, verbose: bool, **parameters: Any) -> None:
        parameters = recognise_dataset(parameters)
        check(parameters)
        check_surroundings(needs_workspace=needs_workspace)
        check_unlocked(parameters)
        run_flow(flow, parameters, verbose=verbose)

    flow = read_flow(Path(path))
    with exit_on_error():
        program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        program.command()(make_command(flow.signature, flow.docstring, run))
        program()


def recognise_dataset(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a flow with the data set that the source is, where only the source was given.

    Parameters
    ----------
    parameters : mapping
        Arguments of a flow. ``demo``, the default data set, has no source.

    Raises
    ------
    DataError
        If the source is none that can be recognised.
    """
    source = parameters.get("source")
    if parameters.get("dataset") != "demo" or not source:
        return dict(parameters)
    from genre.datasets.recognise import recognise_source  # with pandas, in a second

    name, reason = recognise_source(Path(source).expanduser().resolve())
    print(f"data set {name}: {source} {reason}; for another, add -P dataset=NAME", flush=True)
    return {**parameters, "dataset": name}


def check_surroundings(*, needs_workspace: bool) -> None:
    """Check the servers and folders that the environment names, before anything is started.

    Only the command line does so. A run that Prefect starts waits for a server that is being restarted.

    Parameters
    ----------
    needs_workspace : bool
        Whether the flow itself writes to the workspace, as Prefect's temporary server does.

    Raises
    ------
    GenreError
        If a server does not answer, or a folder cannot be written to.
    """
    uri = store.store_uri()
    prefect = os.environ.get("PREFECT_API_URL")
    if needs_workspace or not (prefect or os.environ.get("PREFECT_HOME")):
        folders.check_workspace()
    folders.check_database(uri)
    servers.check_mlflow(uri)
    if prefect:
        servers.check_prefect(prefect)


def check_unlocked(parameters: Mapping[str, Any]) -> None:
    """Check that no other command is working on the data set, which is known here and seconds later by the flow.

    Parameters
    ----------
    parameters : mapping
        Arguments of a flow. Those with a data set lock its workspace.

    Raises
    ------
    GenreError
        If one is, and does not end in ten seconds.
    """
    if "dataset" in parameters:
        Workspace(datasets.dataset_id(parameters["dataset"], parameters.get("source", ""))).check_unlocked()


def run_flow(flow: FlowSource, parameters: Mapping[str, Any], *, verbose: bool) -> None:
    """Import and run a flow, on the Prefect server of the user or a temporary one.

    Parameters
    ----------
    flow : FlowSource
        The flow.
    parameters : mapping
        Its arguments, which have been checked.
    verbose : bool
        Whether the screen shows all that is logged.

    Raises
    ------
    GenreError
        If the server does not answer, or the flow raises one.
    """
    signal.signal(signal.SIGINT, _exit_on_interrupt)  # until `flows.command.running` does more on it
    server = temporary_server.start_unless_named()  # it needs as long as the imports
    with _collection_paused():
        running = import_module("flows.command.running")
        function = running.import_flow(flow)
    with import_module("flows.command.log_file").command_log(flow.function, verbose=verbose):
        running.run_flow(function, parameters, server)


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Collect no garbage during imports, where its passes take a fifth of the time, nor later what they made."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def make_command(signature: inspect.Signature, docstring: str, run: Callable[..., None]) -> Callable[..., None]:
    """Return a function with the parameters of a flow that Typer can read.

    Parameters
    ----------
    signature : inspect.Signature
        Signature of the flow.
    docstring : str
        Docstring of the flow, whose paragraphs above the sections are the help.
    run : callable
        Called with the parameters and `verbose` by name.
    """

    def command(**parameters: Any) -> None:
        run(**parameters)

    parameters = [*map(_typer_parameter, signature.parameters.values()), _VERBOSE]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = _help_text(docstring)
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


def exit_interrupted() -> None:
    """Exit at once, with the status and the message of an interrupted command."""
    message = "interrupted: finished work is kept; run the same command again to continue"
    print(f"\n{message}", file=sys.stderr, flush=True)
    os._exit(130)


def _exit_on_interrupt(number: int, frame: Any) -> None:
    """Exit at once on Ctrl-C, before there is anything to end."""
    exit_interrupted()
