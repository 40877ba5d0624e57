"""Errors that a user can act on: each message is one sentence with the next step."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: Advice where a data set was not built, for messages.
BUILD_FIRST = 'run "mlflow run . --env-manager local -e build" with the same -P dataset= and -P source= first'


class GenreError(Exception):
    """Base class of this project's errors; the command line prints the message without a traceback and exits with 1."""


class UsageError(GenreError, ValueError):
    """Mistake of the caller: an unknown name, a value out of range, a missing argument."""


class AudioError(GenreError):
    """Defect of one piece of audio that keeps it out of the data set.

    Attributes
    ----------
    status : str
        Value in the clips table: ``undecodable``, ``too_short``, ``silent`` or ``not_finite``. (A clip that crashes
        every worker process is ``crashed`` there.) A served file may also be ``empty``, ``too_long``, ``too_large``,
        ``not_base64`` or ``failed``.
    reason : str
        Message.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason

    # Without it an error of two arguments cannot be pickled on its way back from a worker process.
    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.status, self.reason)


class DataError(GenreError):
    """Defect of a data set: no clips, a single genre, too few recordings, an unexpected table."""


class TrainingError(GenreError):
    """Failure to train a model, with the reason."""


#: What the system reports when a disk, a network or memory fails, whatever the file that was being read.
_SYSTEM_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "ENXIO", "ENODEV", "ENOSPC", "EDQUOT", "ENOMEM", "EMFILE", "ENFILE", "ESTALE", "EREMOTEIO"),
        *(
            "ETIMEDOUT",
            "ENOTCONN",
            "ECONNRESET",
            "ECONNABORTED",
            "EHOSTDOWN",
            "EHOSTUNREACH",
            "ENETDOWN",
            "ENETUNREACH",
        ),
    )
    if hasattr(errno, name)
)


def is_system_error(error: BaseException) -> bool:
    """Return whether an error is one of the system, such as a disk that is away, and so no fault of the file.

    Parameters
    ----------
    error : exception
        Of an operation on a file. What FFmpeg reports, which uses the same numbers for damaged files, is none.
    """
    if type(error).__module__.partition(".")[0] == "av":
        return False
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _SYSTEM_ERRNOS)


def describe_system_error(path: object, error: BaseException) -> str:
    """Return the sentence about a file that the system fails to read.

    Parameters
    ----------
    path : str or Path
        The file.
    error : exception
        One of the system, see `is_system_error`.
    """
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{path} cannot be read at the moment ({reason}); see that its disk and the memory are there, then run again"


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Print a `GenreError` as its message, and exit with status 1."""
    try:
        yield
    except GenreError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
