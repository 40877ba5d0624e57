"""Filling a store on this machine: a process for each core, which may die of any file and take nothing with it.

A process computes a batch, and says of each clip when it begins it. When it dies, of a segmentation fault in a decoder
or for memory, the batch is tried once more in a new process; when that dies too, the clip it was at goes on alone, and
the others without it. A clip that twice ends a process that has nothing else to do is recorded as ``crashed``.

``python -m genre.building DESCRIPTOR`` is such a process; it ends by itself when whoever started it is gone.
"""

import os
import subprocess
import sys
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

import pandas as pd
from joblib import effective_n_jobs
from tqdm import tqdm

from genre import probe, store
from genre.config import AudioConfig
from genre.errors import GenreError, UsageError
from genre.workspace import PROJECT_DIR

#: Clips in a part: seconds of work, so that a kill loses little, and few enough files at a million clips.
MAX_BATCH = 256

#: A small build is cut finer: every core has something to do, and the progress bar moves.
MIN_BATCH, MIN_BATCHES = 16, 64

#: Seconds in which a process must come to its next clip; a decoder that hangs is a decoder that died.
CLIP_LIMIT_S = 120.0

#: Seconds that a process waits for its next batch before it ends by itself.
_IDLE_S = 60.0

_ATTEMPTS = 2

#: Have glibc keep the memory of one clip for the next: the computation is a third faster without the page faults.
HEAP = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_TOP_PAD_": str(2**26)}

#: One thread a process is twice as fast as all of them in each.
_ONE_THREAD = {f"{name}_THREADS": "1" for name in ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "NUMBA_NUM", "VECLIB_MAXIMUM")}


def build(clips: pd.DataFrame, config: AudioConfig, directory: Path, *, n_jobs: int = -1, dask: str = "") -> int:
    """Compute what the store lacks of `clips`, in a process for each core, here or on a cluster.

    Parameters
    ----------
    clips : pd.DataFrame
        Clips table. Rows whose status is neither ``pending`` nor ``ok`` are passed over.
    config : AudioConfig
        How to compute.
    directory : Path
        The store of that configuration. Its damaged parts are computed anew.
    n_jobs : int
        Processes, -1 for one per core.
    dask : str
        Address of a Dask scheduler, such as ``tcp://host:8786``, whose workers compute instead, a process for each
        of their threads; they must see `directory` and the clips' files under the same names. Empty for this machine.

    Returns
    -------
    int
        Number of clips computed now; the others were there.

    Raises
    ------
    UsageError
        If `n_jobs` is 0.
    DataError
        If this installation computes other numbers than those in the store.
    GenreError
        If processes cannot be started, a part cannot be written, or the cluster is not there or fails.
    """
    if n_jobs == 0:
        raise UsageError("n_jobs must be a number of processes, or -1 for one per core; got 0")
    store.repair(directory)
    todo = store.missing(clips, directory)
    if todo.empty:
        return 0
    directory.mkdir(parents=True, exist_ok=True)
    # Also the warm-up: two processes that write numba's cache at once can spoil it for every later one.
    probe.check(config, directory)
    size = batch_size(len(todo))
    batches = (todo.iloc[start : start + size] for start in range(0, len(todo), size))
    if dask:
        from genre import cluster

        done = cluster.computed(batches, config, directory, dask)
    else:
        done = computed(batches, config, directory, min(effective_n_jobs(n_jobs), -(-len(todo) // size)))
    with tqdm(total=len(todo), desc="features and spectrograms", unit="clip", smoothing=0.1) as bar:
        for n in done:
            bar.update(n)
    return len(todo)


def batch_size(n: int) -> int:
    """Clips in each batch of a build of n, whoever computes it, so that the parts are the same everywhere."""
    return min(max(-(-n // MIN_BATCHES), MIN_BATCH), MAX_BATCH)


def computed(batches: Iterable[pd.DataFrame], config: AudioConfig, directory: Path, n_jobs: int) -> Iterator[int]:
    """Compute batches in processes of this machine.

    Parameters
    ----------
    batches : iterable of pd.DataFrame
        Rows of the clips table.
    config : AudioConfig
        How to compute.
    directory : Path
        The store, with its probe.
    n_jobs : int
        Number of processes.

    Yields
    ------
    int
        Number of clips of each batch as it is finished, in any order.

    Raises
    ------
    GenreError
        If a process cannot be started or a part cannot be written.
    """
    workers = [Worker(config, directory) for _ in range(n_jobs)]
    idle: SimpleQueue[Worker] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def compute(batch: pd.DataFrame) -> int:
        worker = idle.get()
        try:
            return worker.compute(batch)
        finally:
            idle.put(worker)

    threads = ThreadPoolExecutor(n_jobs)
    try:
        for future in as_completed([threads.submit(compute, batch) for batch in batches]):
            yield future.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.end()
        threads.shutdown()


class Worker:
    """A process that computes batches, started when first needed and replaced when it dies; for one thread at a time.

    Parameters
    ----------
    config : AudioConfig
        How to compute.
    directory : Path
        The store, with its probe.
    """

    def __init__(self, config: AudioConfig, directory: Path) -> None:
        self._config, self._directory = config, directory
        self._process: subprocess.Popen | None = None
        self._ended = False

    def start(self) -> None:
        """Have a process that is ready.

        Raises
        ------
        GenreError
            If it cannot be started, or computes other numbers than those in the store.
        """
        if self._process and self._process.poll() is None:
            return
        self._kill()
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "genre.building", str(theirs.fileno())],
                cwd=PROJECT_DIR,
                env=HEAP | {k: v for k, v in os.environ.items() if k != "MLFLOW_RUN_ID"} | _ONE_THREAD,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,  # Ctrl-C is for whoever started it
            )
        if self._ended:  # meanwhile
            self._kill()
        try:
            self._pipe.send((self._config, self._directory))
            answer = self._pipe.recv()
        except (EOFError, OSError):
            answer = GenreError(f"a process for features {self._death()} before it was ready; its last words are above")
        if isinstance(answer, Exception):
            self._kill()
            raise answer

    def compute(self, batch: pd.DataFrame) -> int:
        """Write the part of a batch, whatever its files do to the process.

        Parameters
        ----------
        batch : pd.DataFrame
            Rows of the clips table.

        Returns
        -------
        int
            Number of clips.

        Raises
        ------
        GenreError
            If no process can be started, or the part cannot be written.
        """
        waiting = [batch]
        while waiting:
            rows = waiting.pop()
            for _ in range(_ATTEMPTS):
                at, death = self._attempt(rows)
                if not death:
                    break
            else:
                if len(rows) == 1:
                    store.write_crashed(rows, self._config, self._directory, f"the process that decoded it {death}")
                else:
                    waiting += [rows.drop(rows.index[at]), rows.iloc[[at]]]
        return len(batch)

    def end(self) -> None:
        """End the process for good, from any thread."""
        self._ended = True
        self._kill()

    def _attempt(self, rows: pd.DataFrame) -> tuple[int, str]:
        """Try a batch once: the position of the last clip begun, and how the process died, if it did."""
        at = 0
        try:
            self.start()
            self._pipe.send(rows)
            while self._pipe.poll(CLIP_LIMIT_S):
                answer = self._pipe.recv()
                if isinstance(answer, Exception):
                    raise answer
                if answer is None:
                    return at, ""
                at = answer
            death = f"took more than {CLIP_LIMIT_S:g} s"
        except (EOFError, OSError):
            death = self._death()
        self._kill()
        if self._ended:
            raise GenreError("the build was interrupted; what is finished is kept")
        return at, death

    def _death(self) -> str:
        """How the process ended."""
        code = self._process.wait() if self._process else 0
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit status {code}"

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()


def _serve(pipe: Connection) -> None:
    """Compute what comes through the pipe; None for a batch that is done, else the position of each clip begun."""
    config, directory = pipe.recv()
    probe.check(config, directory)
    pipe.send(None)
    while pipe.poll(_IDLE_S):
        store.write_part(pipe.recv(), config, directory, on_clip=pipe.send)
        pipe.send(None)


def _main(pipe: Connection) -> None:
    try:
        _serve(pipe)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # whoever started this is gone
    except GenreError as error:
        pipe.send(error)
    except Exception as error:
        traceback.print_exc()
        pipe.send(
            GenreError(f"features cannot be written ({type(error).__name__}: {error}); see whether the disk is full")
        )


if __name__ == "__main__":
    os.dup2(2, 1)  # what decoders print
    _main(Connection(int(sys.argv[1])))
