"""Worker process that computes batches of inputs for a store: ``python -m genre.store.worker DESCRIPTOR``.

Its supervision and its messages are described in `genre.workers.pool`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from genre.config import AudioConfig
from genre.store import computing, parts, reference_clip
from genre.workers.worker_process import ComputeBatch, run_worker


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

    def on_crash(self, row: pd.DataFrame, reason: str) -> dict[str, str]:
        """Record a clip that crashes its worker process as ``crashed``; none is unread, unlike in `compute_part`."""
        why = f"the process that decoded it {reason}"
        computing.write_crashed_part(row, self.config, self.directory, why, self.families)
        return {}


def _prepare(message: tuple[AudioConfig, Path, tuple[str, ...]]) -> ComputeBatch:
    """Check that this process computes as the store's others did, and return the function that writes a part."""
    config, directory, families = message
    for family in families:
        reference_clip.check_reference(config, directory, family)
    return lambda batch, on_row: computing.compute_part(batch, config, directory, families, on_clip=on_row)


if __name__ == "__main__":
    run_worker(_prepare, "features cannot be written")
