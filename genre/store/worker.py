"""Worker process that computes batches of inputs for a store: ``python -m genre.store.worker DESCRIPTOR``.

Its supervision and its messages are described in `genre.workers.pool`.
"""

import os
import sys
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import ClassVar

import pandas as pd

from genre.config import AudioConfig
from genre.errors import GenreError
from genre.store import computing, parts, reference_clip

#: Seconds that a worker process waits for its next batch before it ends by itself.
_IDLE_S = 60.0


@dataclass(frozen=True)
class BuildWork:
    """Filling of a store, as `genre.workers.pool.Work`.

    Attributes
    ----------
    config : AudioConfig
        How to compute.
    directory : Path
        The store.
    families : tuple of str
        Families of parts, see `genre.store.parts`; by default the inputs of every build.
    """

    config: AudioConfig
    directory: Path
    families: tuple[str, ...] = (parts.BASE,)
    name: ClassVar[str] = "features"
    python_args: ClassVar[tuple[str, ...]] = ("-m", "genre.store.worker")

    @property
    def initial_message(self) -> tuple[AudioConfig, Path, tuple[str, ...]]:
        """Configuration, store and families."""
        return self.config, self.directory, self.families

    def on_crash(self, row: pd.DataFrame, reason: str) -> None:
        """Record a clip that crashes its worker process as ``crashed``."""
        why = f"the process that decoded it {reason}"
        computing.write_crashed_part(row, self.config, self.directory, why, self.families)


def _compute_batches(pipe: Connection) -> None:
    """Write a part of each table of clips that comes through the pipe."""
    config, directory, families = pipe.recv()
    for family in families:
        reference_clip.check_reference(config, directory, family)
    pipe.send(("ready", None))
    while pipe.poll(_IDLE_S):
        computing.compute_part(pipe.recv(), config, directory, families, on_clip=lambda at: pipe.send(("at", at)))
        pipe.send(("done", None))


def _main(pipe: Connection) -> None:
    try:
        _compute_batches(pipe)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # the process that started this one is gone
    except GenreError as error:
        pipe.send(("refused", error))
    except Exception as error:
        traceback.print_exc()
        why = f"features cannot be written ({type(error).__name__}: {error}); see whether the disk is full"
        pipe.send(("refused", why))


if __name__ == "__main__":
    os.dup2(2, 1)  # decoders print to the standard output
    _main(Connection(int(sys.argv[1])))
