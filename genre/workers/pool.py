"""Process pool that survives crashing workers: a file that kills its decoder costs one process, not the run.

A worker process reports each row before it begins it. If the process dies, of a segmentation fault in a decoder or for
lack of memory, the batch is tried once more in a new process. If that dies too, the row it was working on is split off
into a batch of its own. A row that, alone in its batch, ends two processes is left to `Work.on_crash`.

A worker process is a Python program whose last argument is the descriptor of a pipe. It receives
`Work.initial_message` and sends ``("ready", None)``. Then, for each table of rows it receives, it sends
``("at", position)`` before each row and ``("done", result)`` at the end. At any time it may end itself with
``("refused", reason)``, where `reason` is an exception or a sentence. It also ends when nothing arrives for a long
time or its parent process is gone. The program may use code that the parent process must not load.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from multiprocessing import Pipe
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import pandas as pd

from genre.errors import GenreError, UsageError
from genre.workers.environment import MALLOC_ENV
from genre.workspace import PROJECT_DIR

#: A process that does not reach its next row within this time is killed, seconds: its decoder hangs.
ROW_LIMIT_S = 120.0

#: Attempts at a batch before the row that crashes is split off.
_MAX_ATTEMPTS = 2

#: Batches made ahead per process: one to compute, and one that follows without a pause. All of a large build would take
#: a kilobyte per row.
BATCHES_PER_PROCESS = 2

#: One thread per process is twice as fast as all threads in each. LOKY_MAX_CPU_COUNT is what joblib reads.
_ONE_THREAD_ENV = {
    f"{name}_THREADS": "1" for name in ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "NUMBA_NUM", "VECLIB_MAXIMUM")
}
_ONE_THREAD_ENV |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"}


class Work(Protocol):
    """Work that processes do with batches: a small frozen dataclass, which can be sent to another machine."""

    @property
    def python_args(self) -> tuple[str, ...]:
        """Arguments with which Python is run in the project's folder; the pipe's descriptor is appended."""

    @property
    def initial_message(self) -> Any:
        """First message sent to a process."""

    @property
    def directory(self) -> Path:
        """Folder that must exist, under this path, on every machine that runs a process."""

    @property
    def name(self) -> str:
        """Name of the work in messages such as "a process for ``name``"."""

    def on_crash(self, row: pd.DataFrame, reason: str) -> Any:
        """Return the result for a table of one row that no process survives; `reason` is how they ended, in words."""


class Worker:
    """Process that works through batches, started when first needed and replaced when it dies; for one thread.

    Parameters
    ----------
    work : Work
        Work to do.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._process: subprocess.Popen | None = None
        self._is_ended = False

    def start(self) -> None:
        """Start the process, if it is not running, and wait until it is ready.

        Raises
        ------
        GenreError
            If the process cannot be started, or refuses to work.
        """
        if self._process and self._process.poll() is None:
            return
        for _ in range(2):  # the cause of a kill, such as lack of memory, may be gone the second time
            try:
                self._launch()
                return
            except (EOFError, OSError):
                exit_reason = self._describe_exit()
                was_killed = self._process is not None and self._process.returncode < 0
                self._kill()
            if not was_killed:
                break
        raise GenreError(f"a process for {self._work.name} {exit_reason} before it was ready; see its output above")

    def _launch(self) -> None:
        """Start a process and wait until it is ready."""
        self._kill()
        self._pipe, worker_end = Pipe()
        with worker_end:
            self._process = subprocess.Popen(
                [sys.executable, *self._work.python_args, str(worker_end.fileno())],
                cwd=PROJECT_DIR,
                env=_worker_environment(),
                stdin=subprocess.DEVNULL,
                pass_fds=[worker_end.fileno()],
                process_group=0,  # Ctrl-C goes to the parent process only
            )
        if self._is_ended:  # by another thread, while the process was started
            self._kill()
        self._pipe.send(self._work.initial_message)
        self._receive()

    def compute_batch(self, batch: pd.DataFrame) -> list[Any]:
        """Work through a batch, replacing the process each time a row kills it.

        Parameters
        ----------
        batch : pd.DataFrame
            Rows in the form that the process takes.

        Returns
        -------
        list
            One result or, if a process died, one for each of the pieces into which the batch was cut, in any order.

        Raises
        ------
        GenreError
            If no process can be started, or it refuses to work.
        """
        waiting = [batch]
        results = []
        while waiting:
            rows = waiting.pop()
            for _ in range(_MAX_ATTEMPTS):
                position, exit_reason, result = self._try_batch(rows)
                if exit_reason is None:
                    results.append(result)
                    break
            else:  # every attempt ended with a dead process
                if len(rows) == 1:
                    results.append(self._work.on_crash(rows, str(exit_reason)))
                else:
                    waiting += [rows.drop(rows.index[position]), rows.iloc[[position]]]
        return results

    def end(self) -> None:
        """End the process for good, from any thread."""
        self._is_ended = True
        self._kill()

    def _try_batch(self, rows: pd.DataFrame) -> tuple[int, str | None, Any]:
        """Try a batch once.

        Returns
        -------
        position : int
            The last row begun.
        exit_reason : str or None
            How the process ended; None if it finished the batch.
        result
            Result of the batch, None if the process ended.
        """
        position = 0
        try:
            self.start()
            self._pipe.send(rows)
            while self._pipe.poll(ROW_LIMIT_S):
                message, value = self._receive()
                if message == "done":
                    return position, None, value
                position = value
            exit_reason = f"took more than {ROW_LIMIT_S:g} s"
        except (EOFError, OSError):
            exit_reason = self._describe_exit()
        self._kill()
        if self._is_ended:
            raise GenreError("interrupted; finished work is kept")
        return position, exit_reason, None

    def _receive(self) -> tuple[str, Any]:
        """Return the next message of the process and its value; raise an error if it refuses to work."""
        message, value = self._pipe.recv()
        if message == "refused":
            self._kill()
            raise value if isinstance(value, GenreError) else GenreError(str(value))
        return message, value

    def _describe_exit(self) -> str:
        """Wait for the end of the process and describe it in words."""
        status = self._process.wait() if self._process else 0
        return f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"

    def _kill(self) -> None:
        process = self._process
        self._process = None
        if process:
            process.kill()
            process.wait()


def _worker_environment() -> dict[str, str]:
    """Return the environment of a worker process: one thread, and no MLflow run, which is the parent's."""
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_RUN_ID"}
    return MALLOC_ENV | inherited | _ONE_THREAD_ENV


def check_n_jobs(n_jobs: int) -> None:
    """Check a number of worker processes.

    Raises
    ------
    UsageError
        If it is 0.
    """
    if n_jobs == 0:
        raise UsageError("n_jobs must be a number of processes, or -1 for one per core; got 0")


def run_local(batches: Iterable[pd.DataFrame], work: Work, n_jobs: int) -> Iterator[tuple[int, list[Any]]]:
    """Run batches on worker processes of this machine.

    Parameters
    ----------
    batches : iterable of pd.DataFrame
        Rows in the form that the processes take.
    work : Work
        Work to do.
    n_jobs : int
        Number of processes. The first is ready before the others start, because two that write numba's cache at once
        can spoil it for every later one.

    Yields
    ------
    n_rows : int
        Number of rows of a finished batch; batches finish in any order.
    results : list
        Results of the batch, see `Worker.compute_batch`.

    Raises
    ------
    GenreError
        If a process cannot be started, or refuses to work.
    """
    batches = iter(batches)
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

    def submit(n: int) -> set[Future]:
        return {threads.submit(compute, batch) for batch in islice(batches, n)}

    try:
        if workers:
            workers[0].start()
        running = submit(BATCHES_PER_PROCESS * n_jobs)
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= submit(len(done))
            for future in done:
                yield future.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.end()
        threads.shutdown()
