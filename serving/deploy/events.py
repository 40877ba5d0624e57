"""The deployment's log, and what it does about problems that repeat: log them once, and try again after a delay."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pandas as pd

from genre.errors import first_line

#: First and longest delay before another attempt, seconds; it doubles with each failure.
RETRY_DELAY_S = 1.0
MAX_RETRY_DELAY_S = 60.0


def log_event(text: str) -> None:
    """Print what happened, with the time; a log that cannot be written, such as on a full disk, ends nothing."""
    with suppress(OSError):
        print(f"{pd.Timestamp.now():%Y-%m-%d %H:%M:%S} {text}", flush=True)


class ProblemLog:
    """Problems of things that are tried again and again; each is logged when it appears or changes."""

    def __init__(self) -> None:
        self._problems: dict[str, str] = {}

    @contextmanager
    def attempt(self, what: str, *, but: tuple[type[Exception], ...] | type[Exception] = ()) -> Iterator[None]:
        """Log an exception of the block instead of raising it.

        Parameters
        ----------
        what : str
            What the block does, after the word "cannot"; problems of the same block are compared.
        but : type of exception
            Exceptions that are raised all the same.
        """
        try:
            yield
        except but:
            raise
        except Exception as error:  # whatever it is, the deployment goes on
            problem = first_line(error)
            if problem != self._problems.get(what):
                log_event(f"cannot {what}, trying again: {problem}")
            self._problems[what] = problem
        else:
            self._problems.pop(what, None)


class Backoff:
    """Delay between attempts: `RETRY_DELAY_S` after the first failure, then doubled up to `MAX_RETRY_DELAY_S`."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all failures."""
        self._delay_s = RETRY_DELAY_S
        self._due_at = 0.0
        self._failing_since: float | None = None

    def is_due(self) -> bool:
        """Return whether it is time for another attempt."""
        return time.monotonic() >= self._due_at

    def count_failure(self) -> None:
        """Put off the next attempt."""
        now = time.monotonic()
        self._due_at = now + self._delay_s
        self._delay_s = min(2 * self._delay_s, MAX_RETRY_DELAY_S)
        self._failing_since = now if self._failing_since is None else self._failing_since

    def failing_s(self) -> float:
        """Return the seconds since the first failure; 0 if there was none since the last `reset`."""
        return 0.0 if self._failing_since is None else time.monotonic() - self._failing_since
