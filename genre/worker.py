"""A process that computes batches, and whoever watches over it: it may die of any file and take nothing with it.

It says of each clip when it begins it. When it dies, of a segmentation fault in a decoder or for memory, the batch is
tried once more in a new process; when that dies too, the clip it was at goes on alone, and the others without it. A
clip that twice ends a process that has nothing else to do is recorded as ``crashed``.

``python -m genre.worker DESCRIPTOR`` is such a process; it ends by itself when whoever started it is gone.
"""

import os
import subprocess
import sys
import traceback
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import pandas as pd

from genre import probe, store
from genre.config import AudioConfig
from genre.errors import GenreError
from genre.workspace import PROJECT_DIR

#: Seconds in which a process must come to its next clip; a decoder that hangs is a decoder that died.
CLIP_LIMIT_S = 120.0

#: Seconds that a process waits for its next batch before it ends by itself.
_IDLE_S = 60.0

_ATTEMPTS = 2

#: Have glibc keep the memory of one clip for the next: the computation is a third faster without the page faults.
HEAP = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_TOP_PAD_": str(2**26)}

#: One thread a process is twice as fast as all of them in each.
_ONE_THREAD = {f"{name}_THREADS": "1" for name in ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "NUMBA_NUM", "VECLIB_MAXIMUM")}


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
        for _ in range(2):  # what killed it may not be there again
            answer = self._begin()
            if answer is None:
                return
            code = self._process.wait() if self._process else 0
            self._kill()
            if code >= 0:
                break
        if answer:
            raise answer

    def _begin(self) -> Exception | None:
        """Start a process; what it answers instead of being ready."""
        self._kill()
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "genre.worker", str(theirs.fileno())],
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
            return self._pipe.recv()
        except (EOFError, OSError):
            return GenreError(f"a process for features {self._death()} before it was ready; its last words are above")

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
