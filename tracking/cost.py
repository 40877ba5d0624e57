"""What a flow costs: how long each stage took, how many clips a second, and the peak of its memory."""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

import pandas as pd
import psutil

P = ParamSpec("P")
R = TypeVar("R")

#: Seconds between two looks at the memory.
SAMPLE_INTERVAL_S = 1.0


@dataclass
class ResourceUsage:
    """What was measured of one flow, with all that it started.

    Attributes
    ----------
    seconds : dict
        Stage to its duration; what is done several times is added up.
    clips : dict
        Stage to how many clips it worked on, where it said so.
    peak_mb : float
        Largest resident memory of this process and all below it together, MB. What they share counts in each.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    clips: dict[str, int] = field(default_factory=dict)
    peak_mb: float = 0.0

    @property
    def metrics(self) -> dict[str, float]:
        """As MLflow's metrics."""
        rates = {f"clips_per_second_{k}": n / self.seconds[k] for k, n in self.clips.items() if self.seconds.get(k)}
        return {f"seconds_{k}": v for k, v in self.seconds.items()} | rates | {"peak_memory_mb": self.peak_mb}

    @property
    def text(self) -> str:
        """For a terminal."""
        memory = f"memory at most {self.peak_mb:,.0f} MB, all processes together"
        rows = [(k, f"{v:.1f}", self._clips_per_second(k)) for k, v in self.seconds.items()]
        if not rows:
            return memory
        table = pd.DataFrame(rows, columns=["stage", "seconds", "clips/s"]).to_string(index=False)
        return f"{table}\n\n{memory}"

    def _clips_per_second(self, stage: str) -> str:
        return f"{self.clips[stage] / self.seconds[stage]:.1f}" if self.clips.get(stage) else ""


_usage: ContextVar[ResourceUsage | None] = ContextVar("bill", default=None)
_stage: ContextVar[str] = ContextVar("stage", default="")


@contextmanager
def measure_usage() -> Iterator[ResourceUsage]:
    """Measure what is done inside, until it ends or fails."""
    bill, stop_event = ResourceUsage(), threading.Event()
    watcher = threading.Thread(target=_sample_memory, args=(bill, stop_event), daemon=True)
    token = _usage.set(bill)
    watcher.start()
    try:
        yield bill
    finally:
        _usage.reset(token)
        stop_event.set()
        watcher.join()


def timed(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function a stage of the flow that calls it, known by its name; to be put below ``@task``."""

    @functools.wraps(function)
    def stage(*args: P.args, **kwargs: P.kwargs) -> R:
        name, token, started = function.__name__, _stage.set(function.__name__), time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            _stage.reset(token)
            if bill := _usage.get():
                bill.seconds[name] = bill.seconds.get(name, 0.0) + time.perf_counter() - started

    return stage


def count_clips(n_clips: int) -> None:
    """Say that the stage under way worked on some clips."""
    if (bill := _usage.get()) and (stage := _stage.get()):
        bill.clips[stage] = bill.clips.get(stage, 0) + n_clips


def _sample_memory(bill: ResourceUsage, stop_event: threading.Event) -> None:
    """Look at the memory now and then."""
    this = psutil.Process()
    while True:
        sizes = []
        for process in [this, *this.children(recursive=True)]:
            with suppress(psutil.Error):  # it has ended
                sizes.append(process.memory_info().rss / 1e6)
        bill.peak_mb = max(bill.peak_mb, sum(sizes))
        if stop_event.wait(SAMPLE_INTERVAL_S):
            return
