"""Asking for segments in turn, at a rate that is tolerated, until there are enough of them or it is wiser to stop."""

import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from genre.acquisition.download import SegmentDownloader
from genre.acquisition.faults import DownloadError
from genre.acquisition.ledger import Ledger
from genre.errors import GenreError, UsageError

#: The longest delay before a segment is asked for again, and the longest rest, seconds.
DAY_S = 86_400.0

#: How long a run waits for the next segment that may be asked for again, before it leaves it to the next run, seconds.
MAX_IDLE_S = 600.0

_DISK_HINT = "see that the disk has room and may be written to, then run it again: it goes on from there"


@dataclass(frozen=True)
class Pace:
    """How many segments are asked for, and how fast.

    Attributes
    ----------
    max_clips : int
        Stop when the data set has so many clips; 0 for no bound.
    max_hours : float
        Stop after so many hours.
    interval_s : float
        Seconds between the starts of two segments, give or take a quarter. YouTube allows a guest about 300 videos an
        hour, whatever the number of workers.
    retry_s : float
        Delay before a segment is asked for a second time; doubled from time to time, give or take a half.
    rest_s : float
        How long to ask for nothing when the session is refused; doubled while it stays refused.
    failures : int
        So many transient failures in a row are taken for a refusal of the session.
    """

    max_clips: int = 1000
    max_hours: float = 12.0
    interval_s: float = 12.0
    retry_s: float = 60.0
    rest_s: float = 3600.0
    failures: int = 10

    def check_values(self) -> None:
        """See whether the numbers make sense.

        Raises
        ------
        UsageError
            If one is negative, or ``max_hours`` or ``failures`` not positive.
        """
        if (
            min(self.max_clips, self.interval_s, self.retry_s, self.rest_s) < 0
            or min(self.max_hours, self.failures) <= 0
        ):
            raise UsageError(f"{self}: none may be negative, and max_hours and failures must be positive")


#: Names of the reasons to stop: of the states that a run of the flow ``acquire`` ends in, too.
StopName = Literal["Complete", "Enough", "OutOfTime", "Waiting", "Resting"]


@dataclass(frozen=True)
class StopReason:
    """Why an acquisition stopped.

    Attributes
    ----------
    name : str
        ``Complete``, ``Enough``, ``OutOfTime``, ``Waiting`` or ``Resting``.
    message : str
        The same as a sentence, with the time at which to go on.
    """

    name: StopName
    message: str


class Acquisition:
    """One run over the ledger.

    Parameters
    ----------
    ledger : Ledger
        Segments wanted, and what is known of them.
    fetchers : sequence of Fetcher
        One for each worker.
    folder : Path
        Of the clips.
    pace : Pace
        How many and how fast.
    on_progress : callable
        Called in the calling thread whenever something became of a segment.
    """

    def __init__(
        self,
        ledger: Ledger,
        fetchers: Sequence[SegmentDownloader],
        folder: Path,
        pace: Pace,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger, self._folder, self._pace, self._on_progress = ledger, folder, pace, on_progress
        self._free_workers = list(fetchers)
        self._in_flight: dict[Future[dict[str, Any]], tuple[dict[str, Any], SegmentDownloader]] = {}
        self._n_done_by_genre = ledger.done_by_genre()
        self._deadline = time.time() + 3600 * pace.max_hours
        self._next_start = self._failures = 0.0
        self._stop_reason: StopReason | None = None
        self._machine_error: DownloadError | None = None

    def run(self) -> StopReason:
        """Ask until there is a reason to stop; what is under way is waited for.

        Raises
        ------
        GenreError
            If the disk takes no more.
        """
        try:
            if rest := self._ledger.current_break(time.time()):
                return _resting_reason(rest["until"], rest["message"])
            return self._run_until_stopped()
        except sqlite3.OperationalError as error:
            raise GenreError(f"the ledger cannot be written ({error}); {_DISK_HINT}") from None

    def _run_until_stopped(self) -> StopReason:
        with ThreadPoolExecutor(len(self._free_workers)) as pool:
            while True:
                pause_s = self._submit_segments(pool)
                if self._in_flight:
                    finished, _ = wait(self._in_flight, timeout=pause_s, return_when=FIRST_COMPLETED)
                    for future in finished:
                        self._record_outcome(future)
                elif self._machine_error:
                    raise GenreError(f"{self._machine_error}; {_DISK_HINT}")
                elif self._stop_reason:
                    return self._stop_reason
                else:
                    time.sleep(pause_s or 0)

    def _submit_segments(self, pool: ThreadPoolExecutor) -> float | None:
        """Give free workers their segments; returns seconds until there may be one for another worker."""
        while self._free_workers and not self._stop_reason and not self._machine_error:
            now = time.time()
            self._stop_reason = self._reached_limit(now)
            if self._stop_reason or self._is_enough_in_flight():
                return None
            if now < self._next_start:
                return self._next_start - now
            segment = self._ledger.next_due(
                self._genres_by_need(), now, [s["clip_id"] for s, _ in self._in_flight.values()]
            )
            if segment is None:
                return None if self._in_flight else self._wait_time_s(now)
            fetcher = self._free_workers.pop()
            self._in_flight[pool.submit(fetcher.download_segment, segment, self._folder)] = (segment, fetcher)
            self._next_start = now + self._pace.interval_s * random.uniform(0.75, 1.25)
        return None

    def _reached_limit(self, now: float) -> StopReason | None:
        n, most = sum(self._n_done_by_genre.values()), self._pace.max_clips
        if most and n >= most:
            return StopReason("Enough", f"the data set has the {most} clips asked for; a larger max_clips gets more")
        if now >= self._deadline:
            return StopReason("OutOfTime", f"{self._pace.max_hours:g} hours are over; the next run goes on")
        return None

    def _is_enough_in_flight(self) -> bool:
        """Whether what is under way may be the last that is needed."""
        return 0 < self._pace.max_clips <= sum(self._n_done_by_genre.values()) + len(self._in_flight)

    def _genres_by_need(self) -> list[str]:
        """Genres by the clips they have or may soon have, so that losses in one do not leave it behind."""
        n = dict(self._n_done_by_genre)
        for segment, _ in self._in_flight.values():
            n[segment["genre"]] += 1
        return sorted(n, key=n.__getitem__)

    def _wait_time_s(self, now: float) -> float:
        """How long to wait where no segment may be asked for now; ends the run where that is too long."""
        at = self._ledger.next_try_time()
        if at is None:
            self._stop_reason = StopReason("Complete", "every segment is there or gone")
        elif at - now > MAX_IDLE_S:
            self._stop_reason = StopReason(
                "Waiting", f"the rest may be asked for again from {_format_time(at)}; the next run goes on"
            )
        return 0 if self._stop_reason or at is None else max(0.0, at - now)

    def _record_outcome(self, future: Future[dict[str, Any]]) -> None:
        """Write down what became of a segment."""
        segment, fetcher = self._in_flight.pop(future)
        self._free_workers.append(fetcher)
        now = time.time()
        seen = {"last_try": now, "first_try": segment["first_try"] or now}
        error = future.exception()
        if error is None:
            values = future.result() | {
                "status": "done",
                "error": "",
                "message": "",
                "attempts": segment["attempts"] + 1,
            }
            self._ledger.update_segment(segment["clip_id"], **values, **seen)
            self._n_done_by_genre[segment["genre"]] += 1
            self._failures = 0
        elif isinstance(error, DownloadError):
            self._ledger.update_segment(segment["clip_id"], error=error.fault.name, message=str(error), **seen)
            self._handle_failure(segment, error, now)
        else:
            raise error
        self._on_progress()

    def _handle_failure(self, segment: dict[str, Any], error: DownloadError, now: float) -> None:
        """Draw the consequence of a failure: for the session, for the machine, or for the segment."""
        fault, attempts = error.fault, segment["attempts"] + 1
        if fault.kind == "machine":
            self._machine_error = error
        elif fault.kind == "session":
            self._start_break(fault.name, str(error), now)
        elif fault.kind == "permanent" or attempts >= fault.attempts:
            self._ledger.update_segment(segment["clip_id"], status="gone", attempts=attempts)
            self._failures = 0 if fault.kind == "permanent" else self._failures + 1
        else:
            delay_s = min(DAY_S, self._pace.retry_s * 2 ** (attempts - 1)) * random.uniform(0.5, 1.5)
            self._ledger.update_segment(segment["clip_id"], attempts=attempts, next_try=now + delay_s)
            self._failures += 1
        if self._failures >= self._pace.failures:
            self._start_break(fault.name, f"{self._failures:.0f} failures in a row, the last: {error}", now)

    def _start_break(self, fault: str, message: str, now: float) -> None:
        """Open the circuit: ask for nothing for a while, longer each time."""
        if self._stop_reason and self._stop_reason.name == "Resting":  # the other worker met the same refusal
            return
        until = now + min(DAY_S, self._pace.rest_s * 2 ** self._ledger.n_breaks_since_success())
        self._ledger.add_break(until, fault, message)
        self._stop_reason = _resting_reason(until, message)
        self._failures = 0


def _resting_reason(until: float, message: str) -> StopReason:
    return StopReason("Resting", f"asking for nothing until {_format_time(until)}: {message}; a run after that goes on")


def _format_time(at: float) -> str:
    """Local date and time to the minute, rounded up."""
    return datetime.fromtimestamp(at + 59).astimezone().strftime("%Y-%m-%d %H:%M %Z")
