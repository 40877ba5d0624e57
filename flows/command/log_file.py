"""The log of a command: all of it in a file, and on the screen what a person waits for."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from genre.errors import GenreError
from genre.files import make_directory
from genre.workspace import logs_dir
from tracking import cost

#: Files kept; the oldest are removed.
MAX_FILES = 100

#: Beginnings of Prefect's lines about a run that does what it should. The last is a warning, of each command whose
#: events take longer than a moment to be sent at its end.
_ENGINE_LINES = (
    "Beginning ",
    "Finished in state Completed",
    "Finished in state Cached",
    "Created ",
    "Still processing items",
)


class _LogFile(logging.FileHandler):
    """File of log records, which stops nothing when it cannot be written."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Do nothing: on a full disk the flow fails by itself, with a sentence."""


@contextmanager
def command_log(name: str, *, verbose: bool) -> Iterator[Path | None]:
    """Write a file with all that is logged, show less of it on the screen, and print the file's path at the end.

    Where it cannot be written the screen shows everything: a flow that needs no workspace runs without one.

    Parameters
    ----------
    name : str
        Name of the flow, and part of the file's name.
    verbose : bool
        Whether the screen shows everything.

    Yields
    ------
    Path or None
        The file, if there is one.
    """
    file = _open_file(name)
    if file is None:
        yield None
        return
    path = Path(file.baseFilename)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in ("", "mlflow", "prefect._internal")]  # the others reach the first
    if not verbose:
        _quiet_screen()
    for logger in loggers:
        logger.addHandler(file)
    try:
        yield path
    finally:
        for logger in loggers:
            logger.removeHandler(file)
        file.close()
        print(f"log: {path}", file=sys.stderr, flush=True)


def _open_file(name: str) -> _LogFile | None:
    """Open a new file, and remove the oldest ones beyond `MAX_FILES`; None where nothing can be written."""
    try:
        folder = make_directory(logs_dir())
        for old in sorted(folder.glob("*.log"))[: -MAX_FILES + 1]:
            old.unlink(missing_ok=True)
        path = folder / f"{datetime.now():%Y-%m-%d-%H%M%S-%f}-{name}.log"
        return _LogFile(path, encoding="utf-8", errors="backslashreplace")
    except (OSError, GenreError):
        return None


def _quiet_screen() -> None:
    """Show neither Prefect's lines about runs without a fault nor MLflow's progress."""
    for handler in [*logging.getLogger().handlers, *logging.getLogger("prefect._internal").handlers]:
        handler.addFilter(_is_for_screen)
    for handler in logging.getLogger("mlflow").handlers:
        handler.setLevel(logging.WARNING)


def _is_for_screen(record: logging.LogRecord) -> bool:
    """Return whether a record is about more than the beginning, the good end or the cost of a run."""
    if record.name == cost.__name__:
        return False
    message = record.getMessage()
    return not message.startswith(_ENGINE_LINES) and not message.endswith(", type=COMPLETED)")  # a state with a name
