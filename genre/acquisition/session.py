"""One run of downloads: segments in turn, at a rate that YouTube tolerates, until a limit or a refusal ends it."""

import math
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

#: Longest delay before a segment is requested again, and longest break, seconds.
DAY_S = 86_400.0

#: Longest time a run waits until the next segment is due, seconds; if it is longer, the next run does the rest.
MAX_IDLE_S = 600.0

#: Bounds of the share of gone segments that is nothing unusual, whatever the ledger shows: one video in six is gone on
#: the whole, and more of some genres. The lower bound also counts as much as this many segments.
MIN_GONE = 1 / 3
MAX_GONE = 0.8
N_ASSUMED = 30

#: Denials in a row that would come by chance less often than this are no chance: YouTube denies the session.
DENIAL_CHANCE = 1e-6

_DISK_HINT = "make sure that the disk has space and is writable, then run it again: finished clips are kept"


@dataclass(frozen=True)
class Pace:
    """Limits and rate of the downloads.

    Attributes
    ----------
    max_clips : int
        Stop when the data set has this many clips; 0 for no limit.
    max_hours : float
        Stop after this many hours.
    interval_s : float
        Seconds between the starts of two downloads, give or take a quarter. Without an account YouTube allows about 300
        videos per hour, regardless of the number of workers.
    retry_s : float
        Delay before the second attempt at a segment, seconds; doubled with each further attempt, give or take a half.
    rest_s : float
        Break after the session is refused, seconds; doubled each time as long as it stays refused.
    failures : int
        This many transient failures in a row count as a refusal of the session.
    """

    max_clips: int = 1000
    max_hours: float = 12.0
    interval_s: float = 12.0
    retry_s: float = 60.0
    rest_s: float = 3600.0
    failures: int = 10

    def check_values(self) -> None:
        """Check the numbers.

        Raises
        ------
        UsageError
            If one is negative, or ``max_hours`` or ``failures`` not positive.
        """
        if (
            min(self.max_clips, self.interval_s, self.retry_s, self.rest_s) < 0
            or min(self.max_hours, self.failures) <= 0
        ):
            raise UsageError(f"{self}: no number may be negative, and max_hours and failures must be positive")


#: Names of the reasons to stop: of the states that a run of the flow ``acquire`` ends in, too.
StopName = Literal["Complete", "Enough", "OutOfTime", "Waiting", "Resting"]


@dataclass(frozen=True)
class StopReason:
    """Reason why an acquisition stopped.

    Attributes
    ----------
    name : str
        ``Complete``, ``Enough``, ``OutOfTime``, ``Waiting`` or ``Resting``.
    message : str
        The same as a sentence, with the time from which it can continue.
    """

    name: StopName
    message: str


class Acquisition:
    """One run over the ledger.

    Parameters
    ----------
    ledger : Ledger
        Wanted segments and their state.
    downloaders : sequence of SegmentDownloader
        One per worker.
    folder : Path
        Folder of the clips.
    pace : Pace
        Limits and rate.
    on_progress : callable
        Called in the calling thread after each attempt at a segment.
    """

    def __init__(
        self,
        ledger: Ledger,
        downloaders: Sequence[SegmentDownloader],
        folder: Path,
        pace: Pace,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._folder = folder
        self._pace = pace
        self._on_progress = on_progress
        self._free_workers = list(downloaders)
        self._in_flight: dict[Future[dict[str, Any]], tuple[dict[str, Any], SegmentDownloader]] = {}
        self._n_done_by_genre = ledger.done_by_genre()
        self._deadline = time.time() + 3600 * pace.max_hours
        self._next_start = 0.0
        self._n_failures = 0
        self._stop_reason: StopReason | None = None
        self._machine_error: DownloadError | None = None

    def run(self) -> StopReason:
        """Download until there is a reason to stop, and wait for downloads that have begun.

        Returns
        -------
        StopReason

        Raises
        ------
        GenreError
            If the clips or the ledger cannot be written.
        """
        try:
            if current_break := self._ledger.current_break(time.time()):
                return _resting_reason(current_break["until"], current_break["message"])
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
        """Give segments to free workers; return the seconds until another can start, or None to wait for a result."""
        while self._free_workers and not self._stop_reason and not self._machine_error:
            now = time.time()
            self._stop_reason = self._reached_limit(now)
            if self._stop_reason or self._is_enough_in_flight():
                return None
            if now < self._next_start:
                return self._next_start - now
            busy = [active["clip_id"] for active, _ in self._in_flight.values()]
            segment = self._ledger.next_due(self._genres_by_need(), now, busy)
            if segment is None:
                return None if self._in_flight else self._wait_time_s(now)
            downloader = self._free_workers.pop()
            future = pool.submit(downloader.download_segment, segment, self._folder)
            self._in_flight[future] = (segment, downloader)
            self._next_start = now + self._pace.interval_s * random.uniform(0.75, 1.25)
        return None

    def _reached_limit(self, now: float) -> StopReason | None:
        max_clips = self._pace.max_clips
        if max_clips and sum(self._n_done_by_genre.values()) >= max_clips:
            return StopReason("Enough", f"the data set has the requested {max_clips} clips; raise max_clips for more")
        if now >= self._deadline:
            return StopReason("OutOfTime", f"{self._pace.max_hours:g} hours are over; the next run continues")
        return None

    def _is_enough_in_flight(self) -> bool:
        """Return whether the downloads that have begun would, if they succeed, reach the limit."""
        return 0 < self._pace.max_clips <= sum(self._n_done_by_genre.values()) + len(self._in_flight)

    def _genres_by_need(self) -> list[str]:
        """Sort the genres by their number of clips, including those in flight, so that genres with losses catch up."""
        n_clips = dict(self._n_done_by_genre)
        for segment, _ in self._in_flight.values():
            n_clips[segment["genre"]] += 1
        return sorted(n_clips, key=n_clips.__getitem__)

    def _wait_time_s(self, now: float) -> float:
        """Return the seconds until a segment is due, or set the reason to stop if none waits or that is too long."""
        next_try = self._ledger.next_try_time()
        if next_try is None:
            self._stop_reason = StopReason("Complete", "every segment is downloaded or unavailable")
            return 0
        if next_try - now > MAX_IDLE_S:
            message = f"the remaining segments can be requested again from {_format_time(next_try)}; run it again then"
            self._stop_reason = StopReason("Waiting", message)
            return 0
        return max(0.0, next_try - now)

    def _record_outcome(self, future: Future[dict[str, Any]]) -> None:
        """Record the result of a download in the ledger."""
        segment, downloader = self._in_flight.pop(future)
        self._free_workers.append(downloader)
        now = time.time()
        times = {"last_try": now, "first_try": segment["first_try"] or now}
        error = future.exception()
        if error is None:
            values = future.result() | {
                "status": "done",
                "error": "",
                "message": "",
                "attempts": segment["attempts"] + 1,
            }
            self._ledger.update_segment(segment["clip_id"], **values, **times)
            self._n_done_by_genre[segment["genre"]] += 1
            self._n_failures = 0
        elif isinstance(error, DownloadError):
            self._ledger.update_segment(segment["clip_id"], error=error.fault.name, message=str(error), **times)
            self._handle_failure(segment, error, now)
        else:
            raise error
        self._on_progress()

    def _handle_failure(self, segment: dict[str, Any], error: DownloadError, now: float) -> None:
        """Apply the consequence of a fault to the run, the session or the segment."""
        fault = error.fault
        attempts = segment["attempts"] + 1
        if fault.kind == "machine":
            self._machine_error = error
        elif fault.kind == "session":
            self._start_break(fault.name, str(error), now)
        elif fault.kind == "permanent":
            self._ledger.update_segment(segment["clip_id"], status="gone", attempts=attempts)
            self._n_failures = 0
            self._doubt_denials(error, now)
        elif attempts >= fault.attempts:
            self._ledger.update_segment(segment["clip_id"], status="gone", attempts=attempts)
            self._n_failures += 1
        else:
            delay_s = min(DAY_S, self._pace.retry_s * 2 ** (attempts - 1)) * random.uniform(0.5, 1.5)
            self._ledger.update_segment(segment["clip_id"], attempts=attempts, next_try=now + delay_s)
            self._n_failures += 1
        if self._n_failures >= self._pace.failures:
            self._start_break(fault.name, f"{self._n_failures} failures in a row, the last: {error}", now)

    def _doubt_denials(self, error: DownloadError, now: float) -> None:
        """Take back what too long a row of denials marked as gone, and pause; a second denial on another day counts."""
        denied = self._ledger.denied_since_success()
        counts = self._ledger.count_by_status()
        if len(denied) < _longest_row(counts["gone"] - len(denied), counts["done"]):
            return
        self._ledger.ask_again(denied, now + DAY_S)
        message = f"{len(denied)} segments in a row are denied, which are asked for again in a day; the last: {error}"
        self._start_break(error.fault.name, message, now)

    def _start_break(self, fault: str, message: str, now: float) -> None:
        """Stop all requests for a while, longer each time, and end the run."""
        if self._stop_reason and self._stop_reason.name == "Resting":  # another worker got the same refusal
            return
        until = now + min(DAY_S, self._pace.rest_s * 2 ** self._ledger.n_breaks_since_success())
        self._ledger.add_break(until, fault, message)
        self._stop_reason = _resting_reason(until, message)
        self._n_failures = 0


def _longest_row(n_gone: int, n_done: int) -> int:
    """Return how many denials in a row are too many to be chance, where so many other segments are gone and done."""
    seen = (n_gone + MIN_GONE * N_ASSUMED) / (n_gone + n_done + N_ASSUMED)
    share = min(MAX_GONE, max(MIN_GONE, seen))
    return math.ceil(math.log(DENIAL_CHANCE) / math.log(share))


def _resting_reason(until: float, message: str) -> StopReason:
    return StopReason("Resting", f"no requests until {_format_time(until)}: {message}; a run after that continues")


def _format_time(time_s: float) -> str:
    """Format a Unix time as local date and time, rounded up to the minute."""
    return datetime.fromtimestamp(time_s + 59).astimezone().strftime("%Y-%m-%d %H:%M %Z")
