"""Cost of a flow: duration of each stage, clips per second, and peak memory."""

import functools
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

import pandas as pd
import psutil

from genre.errors import hide_in_exception

P = ParamSpec("P")
R = TypeVar("R")

#: Seconds between two samples of the memory.
SAMPLE_INTERVAL_S = 1.0


@dataclass
class ResourceUsage:
    """Time and memory of one flow and of all processes it started.

    Attributes
    ----------
    seconds : dict
        Stage to its duration; the sum if it ran several times. Time in which it ran several times at once, in threads,
        counts once.
    clips : dict
        Stage to the number of clips it processed, for stages that call `count_clips`.
    peak_mb : float
        Largest resident memory of this process and all its descendants together, MB. Memory that they share is counted
        in each.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    clips: dict[str, int] = field(default_factory=dict)
    peak_mb: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _running: Counter[str] = field(default_factory=Counter, repr=False)
    _started: dict[str, float] = field(default_factory=dict, repr=False)

    @contextmanager
    def measure_stage(self, name: str) -> Iterator[None]:
        """Add the time of a block, or what of it no other thread is measuring, to the duration of a stage."""
        with self._lock:
            if not self._running[name]:
                self._started[name] = time.perf_counter()
            self._running[name] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[name] -= 1
                if not self._running[name]:
                    elapsed = time.perf_counter() - self._started[name]
                    self.seconds[name] = self.seconds.get(name, 0.0) + elapsed

    @property
    def metrics(self) -> dict[str, float]:
        """Measurements as metrics for MLflow."""
        rates = {f"clips_per_second_{k}": n / self.seconds[k] for k, n in self.clips.items() if self.seconds.get(k)}
        return {f"seconds_{k}": v for k, v in self.seconds.items()} | rates | {"peak_memory_mb": self.peak_mb}

    @property
    def text(self) -> str:
        """Measurements as a table for the terminal."""
        memory = f"peak memory {self.peak_mb:,.0f} MB, all processes together"
        rows = [(k, f"{v:.1f}", self._clips_per_second(k)) for k, v in self.seconds.items()]
        if not rows:
            return memory
        table = pd.DataFrame(rows, columns=["stage", "seconds", "clips/s"]).to_string(index=False)
        return f"{table}\n\n{memory}"

    def _clips_per_second(self, stage: str) -> str:
        return f"{self.clips[stage] / self.seconds[stage]:.1f}" if self.clips.get(stage) else ""


def log_usage(title: str, usage: ResourceUsage) -> None:
    """Log the measurements of a flow."""
    _log.info("%s\n\n%s", title, usage.text)


_log = logging.getLogger(__name__)
_log.setLevel(logging.INFO)

_usage: ContextVar[ResourceUsage | None] = ContextVar("usage", default=None)
_stage: ContextVar[str] = ContextVar("stage", default="")


@contextmanager
def measure_usage() -> Iterator[ResourceUsage]:
    """Measure time and memory of everything inside the block, until it ends or fails."""
    usage = ResourceUsage()
    stop_event = threading.Event()
    watcher = threading.Thread(target=_sample_memory, args=(usage, stop_event), daemon=True)
    token = _usage.set(usage)
    watcher.start()
    try:
        yield usage
    finally:
        _usage.reset(token)
        stop_event.set()
        watcher.join()


def timed(function: Callable[P, R]) -> Callable[P, R]:
    """Measure a function as a stage, named after it, of the flow that calls it; a decorator to put below ``@task``."""

    @functools.wraps(function)
    def stage(*args: P.args, **kwargs: P.kwargs) -> R:
        usage = _usage.get()
        token = _stage.set(function.__name__)
        try:
            with usage.measure_stage(function.__name__) if usage else nullcontext():
                return function(*args, **kwargs)
        except Exception as error:
            hide_in_exception(error)  # Prefect stores its text with the state of the task
            raise
        finally:
            _stage.reset(token)

    return stage


def count_clips(n_clips: int) -> None:
    """Add to the number of clips that the current stage has processed."""
    if (usage := _usage.get()) and (stage := _stage.get()):
        usage.clips[stage] = usage.clips.get(stage, 0) + n_clips


def _sample_memory(usage: ResourceUsage, stop_event: threading.Event) -> None:
    """Record the peak memory every `SAMPLE_INTERVAL_S` seconds, until the event is set."""
    this = psutil.Process()
    while True:
        sizes = []
        for process in [this, *this.children(recursive=True)]:
            with suppress(psutil.Error):  # the process has ended
                sizes.append(process.memory_info().rss / 1e6)
        usage.peak_mb = max(usage.peak_mb, sum(sizes))
        if stop_event.wait(SAMPLE_INTERVAL_S):
            return
