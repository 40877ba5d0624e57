"""Processes that work through batches, and whoever watches over them: one may die of any file and take nothing with it.

A process says of each row when it begins it. When it dies, of a segmentation fault in a decoder or for memory, the
batch is tried once more in a new process; when that dies too, the row it was at goes on alone, and the others without
it. A row that twice ends a process that has nothing else to do is given up.

A process is a Python program that is handed the descriptor of a pipe. It receives `Work.initial_message`, answers
``("ready", None)``, and then, for each table of rows, ``("at", position)`` before each row and ``("done", answer)``;
``("refused", why)`` at any time ends it, `why` being an exception or a sentence. It ends by itself when nothing comes
for long, or when whoever started it is gone. What a process computes may need code that this one must not load.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing import Pipe
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import pandas as pd

from genre.errors import GenreError
from genre.workspace import PROJECT_DIR

#: Seconds in which a process must come to its next row; a decoder that hangs is a decoder that died.
ROW_LIMIT_S = 120.0

_MAX_ATTEMPTS = 2

#: Have glibc keep the memory of one clip for the next: the computation is a third faster without the page faults.
MALLOC_ENV = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_TOP_PAD_": str(2**26)}

#: One thread a process is twice as fast as all of them in each. (The last one is what joblib counts cores by.)
_ONE_THREAD_ENV = {
    f"{name}_THREADS": "1" for name in ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "NUMBA_NUM", "VECLIB_MAXIMUM")
}
_ONE_THREAD_ENV |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"}


class Work(Protocol):
    """What processes are to do with batches: a small frozen dataclass, which can be sent to another machine."""

    @property
    def python_args(self) -> tuple[str, ...]:
        """Arguments of Python, from the project's folder; the pipe's descriptor is added."""

    @property
    def initial_message(self) -> Any:
        """What a process is told first."""

    @property
    def directory(self) -> Path:
        """What must be there, under this name, wherever a process runs."""

    @property
    def name(self) -> str:
        """What it is, for messages: a process for ``name``."""

    def on_crash(self, row: pd.DataFrame, reason: str) -> Any:
        """Answer for a table of one row that no process survives; `reason` says how they ended."""


class Worker:
    """A process that works through batches, started when first needed and replaced when it dies; for one thread.

    Parameters
    ----------
    work : Work
        What it is to do.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._process: subprocess.Popen | None = None
        self._is_ended = False

    def start(self) -> None:
        """Have a process that is ready.

        Raises
        ------
        GenreError
            If it cannot be started, or refuses.
        """
        if self._process and self._process.poll() is None:
            return
        for _ in range(2):  # what killed it may not be there again
            try:
                self._launch()
                return
            except (EOFError, OSError):
                death = self._describe_exit()
                was_killed = self._process is not None and self._process.returncode < 0
                self._kill()
            if not was_killed:
                break
        raise GenreError(f"a process for {self._work.name} {death} before it was ready; its last words are above")

    def _launch(self) -> None:
        """Start a process and wait until it is ready."""
        self._kill()
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *self._work.python_args, str(theirs.fileno())],
                cwd=PROJECT_DIR,
                env=MALLOC_ENV | {k: v for k, v in os.environ.items() if k != "MLFLOW_RUN_ID"} | _ONE_THREAD_ENV,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,  # Ctrl-C is for whoever started it
            )
        if self._is_ended:  # meanwhile
            self._kill()
        self._pipe.send(self._work.initial_message)
        self._receive()

    def compute_batch(self, batch: pd.DataFrame) -> list[Any]:
        """Work through a batch, whatever its rows do to the process.

        Parameters
        ----------
        batch : pd.DataFrame
            Rows, as the process takes them.

        Returns
        -------
        list
            The process's answer, or, where it died, one for each of the pieces the batch was cut into, in any order.

        Raises
        ------
        GenreError
            If no process can be started, or it refuses.
        """
        waiting, answers = [batch], []
        while waiting:
            rows = waiting.pop()
            for _ in range(_MAX_ATTEMPTS):
                at, death, answer = self._try_batch(rows)
                if death is None:
                    answers.append(answer)
                    break
            else:
                if len(rows) == 1:
                    answers.append(self._work.on_crash(rows, str(death)))
                else:
                    waiting += [rows.drop(rows.index[at]), rows.iloc[[at]]]
        return answers

    def end(self) -> None:
        """End the process for good, from any thread."""
        self._is_ended = True
        self._kill()

    def _try_batch(self, rows: pd.DataFrame) -> tuple[int, str | None, Any]:
        """Try a batch once: the position of the last row begun, how the process died, if it did, and its answer."""
        at = 0
        try:
            self.start()
            self._pipe.send(rows)
            while self._pipe.poll(ROW_LIMIT_S):
                word, value = self._receive()
                if word == "done":
                    return at, None, value
                at = value
            death = f"took more than {ROW_LIMIT_S:g} s"
        except (EOFError, OSError):
            death = self._describe_exit()
        self._kill()
        if self._is_ended:
            raise GenreError("this was interrupted; what is finished is kept")
        return at, death, None

    def _receive(self) -> tuple[str, Any]:
        """Next message of the process, if it is no refusal."""
        word, value = self._pipe.recv()
        if word == "refused":
            self._kill()
            raise value if isinstance(value, GenreError) else GenreError(str(value))
        return word, value

    def _describe_exit(self) -> str:
        """How the process ended."""
        code = self._process.wait() if self._process else 0
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit status {code}"

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()


def run_local(batches: Iterable[pd.DataFrame], work: Work, n_jobs: int) -> Iterator[tuple[int, list[Any]]]:
    """Work through batches in processes of this machine.

    Parameters
    ----------
    batches : iterable of pd.DataFrame
        Rows, as the processes take them.
    work : Work
        What is to be done with them.
    n_jobs : int
        Number of processes. The first is ready before the others start: two that write numba's cache at once can
        spoil it for every later one.

    Yields
    ------
    n_rows : int
        Of each batch as it is finished, in any order.
    answers : list
        To this batch; see `Worker.compute`.

    Raises
    ------
    GenreError
        If a process cannot be started, or refuses.
    """
    workers = [Worker(work) for _ in range(n_jobs)]
    idle: SimpleQueue[Worker] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def compute(batch: pd.DataFrame) -> tuple[int, list[Any]]:
        worker = idle.get()
        try:
            return len(batch), worker.compute_batch(batch)
        finally:
            idle.put(worker)

    threads = ThreadPoolExecutor(n_jobs)
    try:
        if workers:
            workers[0].start()
        for future in as_completed([threads.submit(compute, batch) for batch in batches]):
            yield future.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.end()
        threads.shutdown()
