"""Worker process that synthesises recordings of the demo corpus: ``python -m genre.datasets.demo_worker DESCRIPTOR``.

Its supervision and its messages are described in `genre.workers.pool`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from genre.datasets import demo
from genre.workers.worker_process import ComputeBatch, run_worker


def _prepare(message: tuple[Path, int]) -> ComputeBatch:
    return partial(_write_recordings, *message)


def _write_recordings(directory: Path, seed: int, batch: pd.DataFrame, on_row: Callable[[int], object]) -> None:
    """Write the recordings of a table."""
    for position, (genre, number) in enumerate(zip(batch["genre"], batch["number"], strict=True)):
        on_row(position)
        demo.write_recording(directory, genre, number, seed)


if __name__ == "__main__":
    run_worker(_prepare, "the demo corpus cannot be written")
