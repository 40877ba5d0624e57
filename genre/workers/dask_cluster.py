"""Batches on a Dask cluster: each thread of a Dask worker passes its batches to a worker process of its own.

The client of `distributed` is used directly: a task costs it milliseconds, whereas a Prefect task costs a tenth of a
second and a row in Prefect's database. Crashes of processes are handled by `genre.workers.pool` on the machine where
they happen. Dask only has to repeat a batch elsewhere if a machine is lost.
"""

import os
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import filelock
import pandas as pd

from genre.errors import DataError, GenreError, UsageError
from genre.workers.pool import BATCHES_PER_PROCESS, Work, Worker

#: Time within which the scheduler must answer, seconds.
CONNECT_S = 10

#: Processes of this Dask worker that wait for their next batch, by their work.
_idle_workers: dict[Work, SimpleQueue] = {}


def run_on_dask(batches: Iterable[pd.DataFrame], work: Work, address: str) -> Iterator[tuple[int, list[Any]]]:
    """Run batches on the worker processes of a Dask cluster.

    Parameters
    ----------
    batches : iterable of pd.DataFrame
        Rows in the form that the processes take, with a column ``path``.
    work : Work
        Work to do. Its directory and the files must be on a file system that every machine of the cluster sees.
    address : str
        Address of the scheduler, such as ``tcp://host:8786``.

    Yields
    ------
    n_rows : int
        Number of rows of a finished batch; batches finish in any order.
    results : list
        Results of the batch, see `genre.workers.pool.Worker.compute_batch`.

    Raises
    ------
    UsageError
        If Dask is not installed, or the address is not valid.
    GenreError
        If the cluster does not answer, has no workers, is lost, or does not see the files.
    """
    batches = iter(batches)
    with _connect(address) as client:
        from distributed import as_completed

        def submit(n: int) -> list[Any]:
            return [client.submit(compute_batch, batch, work, pure=False) for batch in islice(batches, n)]

        n_threads = sum(client.nthreads().values())
        running = as_completed(submit(BATCHES_PER_PROCESS * n_threads), loop=client.loop)
        for future in running:
            yield future.result()
            running.update(submit(1))


def compute_batch(batch: pd.DataFrame, work: Work) -> tuple[int, list[Any]]:
    """Run one batch on a worker process of this machine; this is the task that Dask executes.

    Parameters
    ----------
    batch : pd.DataFrame
        Rows in the form that the process takes, with a column ``path``.
    work : Work
        Work to do.

    Returns
    -------
    n_rows : int
        Number of rows of the batch.
    results : list
        Results of the batch.

    Raises
    ------
    DataError
        If this machine does not see the work's directory, or not one of the batch's files.
    """
    _check_files(batch, work)
    idle = _idle_workers.setdefault(work, SimpleQueue())
    try:
        worker = idle.get_nowait()
    except Empty:
        worker = Worker(work)
    # Processes of one machine start in turn: two that compile at once can spoil numba's cache for every later process.
    with filelock.FileLock(Path(tempfile.gettempdir()) / f"genre-building-{os.getuid()}.lock"):
        worker.start()
    try:
        return len(batch), worker.compute_batch(batch)
    finally:
        idle.put(worker)


def _check_files(batch: pd.DataFrame, work: Work) -> None:
    """Raise an error if this machine does not see the work's directory, or not one of the batch's files."""
    missing: str | Path
    if not work.directory.is_dir():
        missing = work.directory
    elif not any(Path(path).exists() for path in batch["path"]):
        missing = batch["path"].iloc[0]
    else:
        return
    raise DataError(
        f"{socket.gethostname()} has no {missing}; the music and GENRE_HOME must be on a file system that all "
        "machines of the cluster see, under the same paths"
    )


@contextmanager
def _connect(address: str) -> Iterator[Any]:
    """Connect to a scheduler that has workers, and turn errors of Dask into errors of this project."""
    try:
        import distributed
    except ImportError:
        raise UsageError('dask= needs Dask; install it with: pip install -c requirements.txt -e ".[cluster]"') from None
    try:
        # The address is checked first: a client with an invalid address logs a second error when it is collected.
        resolved = distributed.comm.resolve_address(address)
        client = distributed.Client(resolved, timeout=CONNECT_S, set_as_default=False)
    except ValueError as error:
        raise UsageError(f"dask={address}: {error}; use an address such as tcp://host:8786") from None
    except OSError as error:
        raise GenreError(
            f'Dask at {address} does not answer ({error}); start it with "python -m dask scheduler", '
            f'and workers with "python -m dask worker {address}", in the project\'s folder'
        ) from None
    try:
        if not client.nthreads():
            raise GenreError(f'Dask at {address} has no workers; start some: "python -m dask worker {address}"')
        yield client
    except (distributed.KilledWorker, distributed.client.FutureCancelledError) as error:
        raise GenreError(f"Dask at {address} lost the work: {error}; finished work is kept") from error
    finally:
        client.close(timeout=5)
