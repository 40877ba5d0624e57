"""The other end of `genre.workers.pool`: a worker process whose program is a module of this package."""

import os
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import pandas as pd

from genre.errors import GenreError

#: Function that works through a batch, and calls another one with the position of each row before it begins it.
ComputeBatch = Callable[[pd.DataFrame, Callable[[int], object]], object]

#: Seconds that a worker process waits for its next batch before it ends by itself.
_IDLE_S = 60.0


def run_worker(prepare: Callable[[Any], ComputeBatch], failure: str) -> None:
    """Work through the batches that come through a pipe, whose descriptor is the program's last argument.

    Parameters
    ----------
    prepare : callable
        Called with `Work.initial_message` of `genre.workers.pool`; returns the function that works through a batch,
        whose result is sent.
    failure : str
        What to report, before the reason, of an error that is no `GenreError`.
    """
    os.dup2(2, 1)  # decoders print to the standard output
    pipe = Connection(int(sys.argv[-1]))
    try:
        _compute_batches(pipe, prepare)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # the process that started this one is gone
    except GenreError as error:
        pipe.send(("refused", error))
    except Exception as error:
        traceback.print_exc()
        advice = "see whether the disk is full" if isinstance(error, OSError) else "the traceback above says where"
        pipe.send(("refused", f"{failure} ({type(error).__name__}: {error}); {advice}"))


def _compute_batches(pipe: Connection, prepare: Callable[[Any], ComputeBatch]) -> None:
    compute = prepare(pipe.recv())
    pipe.send(("ready", None))
    while pipe.poll(_IDLE_S):
        pipe.send(("done", compute(pipe.recv(), lambda position: pipe.send(("at", position)))))
