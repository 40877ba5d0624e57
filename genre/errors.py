"""Everything that can go wrong and is not a bug, each with a sentence a user can act on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: Advice where a data set was not built, for messages.
BUILD_FIRST = 'run "mlflow run . --env-manager local -e build" with the same -P dataset= and -P source= first'


class GenreError(Exception):
    """Base of this project's errors; the command line prints it without a traceback and exits with 1."""


class UsageError(GenreError, ValueError):
    """The caller's mistake: an unknown name, a value out of range, a missing argument."""


class AudioError(GenreError):
    """A fact about one piece of audio that keeps it out of the data set.

    Attributes
    ----------
    status : str
        What the clips table records: ``undecodable``, ``too_short``, ``silent`` or ``not_finite``. (A clip that no
        process survives is ``crashed`` there.) A served file may also be ``empty``, ``too_long``,
        ``too_large``, ``not_base64`` or ``failed``.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.status, self.reason)


class DataError(GenreError):
    """A fact about a data set: nothing there, one genre only, too few recordings, a table of another shape."""


class TrainingError(GenreError):
    """A model that could not be trained, with the reason."""


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Print a foreseen error as its sentence, and end the program with status 1."""
    try:
        yield
    except GenreError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
