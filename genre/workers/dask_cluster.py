"""Batches on a Dask cluster: as on one machine, each worked through by a process beside a Dask worker's thread.

The client of `distributed` is used directly: a task costs it milliseconds, and a Prefect task a tenth of a second and a
row in Prefect's database. What a file may do to a process is dealt with where it happens, by `genre.workers.pool`; Dask
only has to try a batch again elsewhere when a machine is lost.
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
from genre.workers.pool import Work, Worker

#: Seconds in which the scheduler must answer.
CONNECT_S = 10

#: Batches sent for each thread of the cluster: one to compute, one to go on with.
_BATCHES_PER_THREAD = 2

#: Processes of this Dask worker that wait for their next batch, by what they do.
_idle_workers: dict[Work, SimpleQueue] = {}


def run_on_dask(batches: Iterable[pd.DataFrame], work: Work, address: str) -> Iterator[tuple[int, list[Any]]]:
    """Work through batches on a Dask cluster.

    Parameters
    ----------
    batches : iterable of pd.DataFrame
        Rows, as the processes take them, with a column ``path``.
    work : Work
        What is to be done with them; its directory and the files lie on a file system that every worker sees.
    address : str
        Of the scheduler, such as ``tcp://host:8786``.

    Yields
    ------
    n_rows : int
        Of each batch as it is finished, in any order.
    answers : list
        To this batch; see `genre.workers.pool.Worker.compute`.

    Raises
    ------
    UsageError
        If Dask is not installed, or the address is none.
    GenreError
        If the cluster does not answer, has no workers, is lost, or does not have what is needed.
    """
    batches = iter(batches)
    with _connect(address) as client:
        from distributed import as_completed

        def send(n: int) -> list[Any]:
            return [client.submit(compute_batch, batch, work, pure=False) for batch in islice(batches, n)]

        running = as_completed(send(_BATCHES_PER_THREAD * sum(client.nthreads().values())), loop=client.loop)
        for future in running:
            yield future.result()
            running.update(send(1))


def compute_batch(batch: pd.DataFrame, work: Work) -> tuple[int, list[Any]]:
    """Work through one batch: what a Dask worker does.

    Parameters
    ----------
    batch : pd.DataFrame
        Rows, as the processes take them, with a column ``path``.
    work : Work
        What is to be done with them.

    Returns
    -------
    n_rows : int
    answers : list

    Raises
    ------
    DataError
        If this machine does not see the work's directory, or any of the batch's files.
    """
    seen = work.directory.is_dir() and any(Path(path).exists() for path in batch["path"])
    if not seen:
        lacking = batch["path"].iloc[0] if work.directory.is_dir() else work.directory
        raise DataError(
            f"{socket.gethostname()} has no {lacking}; the music and GENRE_HOME must lie on a file system that all "
            "machines of the cluster see, under the same names"
        )
    idle = _idle_workers.setdefault(work, SimpleQueue())
    try:
        worker = idle.get_nowait()
    except Empty:
        worker = Worker(work)
    # One at a time on each machine: two that compile at once can spoil numba's cache for every later process.
    with filelock.FileLock(Path(tempfile.gettempdir()) / f"genre-building-{os.getuid()}.lock"):
        worker.start()
    try:
        return len(batch), worker.compute_batch(batch)
    finally:
        idle.put(worker)


@contextmanager
def _connect(address: str) -> Iterator[Any]:
    """Client of a scheduler that answers and has workers; what fails in it, as a sentence."""
    try:
        import distributed
    except ImportError:
        raise UsageError('dask= needs Dask; install it with: pip install -c requirements.txt -e ".[cluster]"') from None
    try:
        # Asked beforehand, because a client that was given nonsense complains once more when it is collected.
        client = distributed.Client(distributed.comm.resolve_address(address), timeout=CONNECT_S, set_as_default=False)
    except ValueError as error:
        raise UsageError(f"dask={address}: {error}; give an address such as tcp://host:8786") from None
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
        raise GenreError(f"Dask at {address} lost the work: {error}; what is finished is kept") from error
    finally:
        client.close(timeout=5)
