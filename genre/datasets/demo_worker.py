"""Worker process that synthesises recordings of the demo corpus: ``python -m genre.datasets.demo_worker DESCRIPTOR``.

Its supervision and its messages are described in `genre.workers.pool`.
"""

import os
import sys
import traceback
from multiprocessing.connection import Connection

from genre.datasets import demo

#: Seconds that a worker process waits for its next batch before it ends by itself.
_IDLE_S = 60.0


def _write_batches(pipe: Connection) -> None:
    """Write the recordings of each table that comes through the pipe."""
    directory, seed = pipe.recv()
    pipe.send(("ready", None))
    while pipe.poll(_IDLE_S):
        for position, row in enumerate(pipe.recv().itertuples()):
            pipe.send(("at", position))
            demo.write_recording(directory, row.genre, row.number, seed)
        pipe.send(("done", None))


def _main(pipe: Connection) -> None:
    try:
        _write_batches(pipe)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # the process that started this one is gone
    except Exception as error:
        traceback.print_exc()
        why = f"the demo corpus cannot be written ({type(error).__name__}: {error}); see whether the disk is full"
        pipe.send(("refused", why))


if __name__ == "__main__":
    _main(Connection(int(sys.argv[1])))
