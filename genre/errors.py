"""Errors that a user can act on: each message is one sentence with the next step."""

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: Advice where a data set was not built, for messages.
BUILD_FIRST = 'run "mlflow run . --env-manager local -e build" with the same -P dataset= and -P source= first'

#: Advice where what a build writes is damaged, for messages.
REBUILD = 'run "mlflow run . --env-manager local -e build" with the same -P dataset= and -P source= to write it anew'

#: Advice where the splits that recordings were assigned to are lost or damaged, for messages.
RESTORE_SPLITS = (
    'run "mlflow run . --env-manager local -e archive -P action=restore_splits" with the same -P dataset= and '
    "-P source= to take them from MLflow"
)


#: Address up to its host, where user and password stand before that. They should be escaped; where they are not, a
#: password may hold any character but a blank and a quotation mark. A number behind the host's colon is its port. The
#: numbers of characters are bounded, so that a long text takes no time that grows with its square.
_CREDENTIALS = re.compile(
    r"""([a-z][a-z0-9+.-]{0,30}://)            # the scheme
    (?: [^\s/?\#"<>]{0,999}@                   # user and password, escaped
      | [^\s/:@\["<>]{0,99}:(?!\d+(?:[/?\#\s]|$))[^\s@"<>]{0,999}+@ )""",
    re.IGNORECASE | re.VERBOSE,
)

#: Address from its scheme's end to the last character of its query; a sentence may go on behind it.
_QUERY = re.compile(r"""(://[^\s?"<>]{0,1999}+\?)(?!\.\.\.)[^\s"<>]+?(?=[.,;:!)\]}']*(?:[\s"<>]|$))""")


def hide_secrets(text: str) -> str:
    """Return a text without what may be secret in the addresses that it names.

    User and password are left out, and a query, such as the signature of a link to a file, becomes ``?...``. Scheme,
    host and path stay. Nothing else is changed: e-mail addresses, ``git@host:path`` and paths of files have no scheme.

    Parameters
    ----------
    text : str
        Any text, such as a message, a command or an address.
    """
    return _QUERY.sub(r"\1...", _CREDENTIALS.sub(r"\1", text))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without secrets, or its type if it has none."""
    return hide_secrets((str(error).strip().splitlines() or [type(error).__name__])[0])


def hide_in_exception(error: BaseException) -> None:
    """Apply `hide_secrets`, in place, to the texts of an exception and of all those that led to it."""
    pending: list[BaseException] = [error]
    done: set[int] = set()
    while pending:
        current = pending.pop()
        done.add(id(current))
        with suppress(Exception):  # a class may not let its arguments be replaced
            current.args = tuple(hide_secrets(value) if isinstance(value, str) else value for value in current.args)
        related = (current.__cause__, current.__context__, *current.args)
        pending += [other for other in related if isinstance(other, BaseException) and id(other) not in done]


class GenreError(Exception):
    """Base class of this project's errors; the command line prints the message without a traceback and exits with 1.

    The message is shown, logged and stored in many places: it passes `hide_secrets`.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(hide_secrets(str(message)))


class UsageError(GenreError, ValueError):
    """Mistake of the caller: an unknown name, a value out of range, a missing argument."""


class AudioError(GenreError):
    """Defect of one piece of audio that keeps it out of the data set.

    Attributes
    ----------
    status : str
        Value in the clips table: ``undecodable``, ``too_short``, ``silent`` or ``not_finite``. (A clip that crashes
        every worker process is ``crashed`` there, and one that the system does not let be read ``unread``.) A served
        file may also be ``empty``, ``too_long``, ``too_large``, ``not_base64`` or ``failed``.
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


#: What the system reports when a disk, a network or memory fails, whatever the file that was being read or written.
_OUTAGE_ERRNOS = frozenset(
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


#: What the system answers to a seek to an impossible position, which only the content of a damaged file leads to.
_CONTENT_ERRNOS = frozenset({errno.EINVAL, errno.EOVERFLOW})


def is_system_error(error: BaseException) -> bool:
    """Return whether the system did not let a file be read, which proves nothing about its content.

    A disk that is away for a moment shows as a missing file, one without permission or an error of input, according to
    how it is mounted.

    Parameters
    ----------
    error : exception
        Of an operation on a file. What FFmpeg reports, which uses the same numbers for damaged files, is none.
    """
    if type(error).__module__.partition(".")[0] == "av":
        return False
    is_from_system = isinstance(error, OSError) and error.errno is not None and error.errno not in _CONTENT_ERRNOS
    return isinstance(error, MemoryError) or is_from_system


def is_outage(error: BaseException) -> bool:
    """Return whether a disk, a network or memory fails, so that other files would fare no better; else as above."""
    is_memory = isinstance(error, MemoryError)
    return is_system_error(error) and (is_memory or getattr(error, "errno", None) in _OUTAGE_ERRNOS)


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


#: Status of a clip that the system did not let be read: nothing is stored of it, and the next build asks again.
UNREAD = "unread"


@contextmanager
def explain_system_errors(path: object) -> Iterator[None]:
    """Turn what the system reports while a file is read, see `is_system_error`, into a `DataError`."""
    try:
        yield
    except (OSError, MemoryError) as error:
        if is_system_error(error):
            raise DataError(describe_system_error(path, error)) from error
        raise


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Print a `GenreError` as its message, and exit with status 1; no other traceback shows a secret either."""
    try:
        yield
    except GenreError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        hide_in_exception(error)
        raise
