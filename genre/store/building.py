"""Filling a store, with one process per core of this machine or on a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import effective_n_jobs
from tqdm import tqdm

from genre.config import AudioConfig
from genre.inputs import BASE_INPUTS
from genre.store import contents, parts, reference_clip
from genre.store.worker import BuildWork
from genre.workers import dask_cluster, pool

#: Clips in a part: seconds of work, so that a kill loses little, and few enough files at a million clips.
MAX_BATCH = 256

#: A small build is cut finer: every core has something to do, and the progress bar moves.
MIN_BATCH = 16
MIN_BATCHES = 64


@dataclass(frozen=True)
class BuildResult:
    """Result of filling a store.

    Attributes
    ----------
    n_computed : int
        Number of clips of which something was computed now; the others were there, or could not be read.
    unread : dict
        Id of each clip whose file the system did not let be read, as where its disk is away, to the reason. Nothing is
        stored of it, so that the next build asks again.
    """

    n_computed: int
    unread: dict[str, str]


def build_store(
    clips: pd.DataFrame,
    config: AudioConfig,
    directory: Path,
    *,
    names: Sequence[str] = BASE_INPUTS,
    n_jobs: int = -1,
    dask: str = "",
) -> BuildResult:
    """Compute what the store lacks of `clips`, with one process per core, here or on a cluster.

    A file is decoded once for all inputs that the store lacks of it.

    Parameters
    ----------
    clips : pd.DataFrame
        Clips table. Rows whose status is neither ``pending`` nor ``ok`` are passed over, and so are, for inputs that
        not every build computes, those that the store has as unusable.
    config : AudioConfig
        How to compute.
    directory : Path
        The store of that configuration, with the weights that an input needs. Its damaged parts are computed anew.
    names : sequence of str
        Inputs, by default those of every build.
    n_jobs : int
        Processes, -1 for one per core.
    dask : str
        Address of a Dask scheduler, such as ``tcp://host:8786``, whose workers compute instead, one process per
        thread; they must see `directory` and the clips' files under the same names. Empty for this machine.

    Returns
    -------
    BuildResult

    Raises
    ------
    UsageError
        If `n_jobs` is 0.
    DataError
        If this installation computes other numbers than those in the store.
    GenreError
        If processes cannot be started, a part cannot be written, or the cluster is not there or fails.
    """
    pool.check_n_jobs(n_jobs)
    contents.remove_damaged_parts(directory)
    clips = clips.reset_index(drop=True)
    n = 0
    unread = dict[str, str]()
    for families, positions in _group_missing(clips, directory, names):
        directory.mkdir(parents=True, exist_ok=True)
        unread |= _compute_missing(clips, positions, BuildWork(config, directory, families), n_jobs, dask)
        n += len(positions)
    return BuildResult(n - len(unread), unread)


def _group_missing(
    clips: pd.DataFrame, directory: Path, names: Sequence[str]
) -> list[tuple[tuple[str, ...], np.ndarray]]:
    """Return the positions of the clips that lack some of the inputs, by the families that they lack."""
    families = tuple(dict.fromkeys(parts.family_of(name) for name in names))
    lacks = pd.DataFrame({family: contents.is_missing(clips, directory, family) for family in families})
    return [
        (tuple(family for family, is_lacking in zip(families, key, strict=True) if is_lacking), rows.index.to_numpy())
        for key, rows in lacks[lacks.any(axis=1)].groupby(list(families))
    ]


def _compute_missing(
    clips: pd.DataFrame, positions: np.ndarray, work: BuildWork, n_jobs: int, dask: str
) -> dict[str, str]:
    """Compute the families of the clips at some positions, in batches; return those that could not be read."""
    n = len(positions)
    size = batch_size(n)
    batches = (clips.iloc[positions[start : start + size]] for start in range(0, n, size))
    if dask:
        # also fills numba's cache, before many processes begin at once and spoil it
        for family in work.families:
            reference_clip.check_reference(work.config, work.directory, family)
        done = dask_cluster.run_on_dask(batches, work, dask)
    else:
        done = pool.run_local(batches, work, min(effective_n_jobs(n_jobs), -(-n // size)))
    names = [name for family in work.families for name in parts.family_inputs(family)]
    unread = dict[str, str]()
    with tqdm(total=n, desc=", ".join(names), unit="clip", smoothing=0.1, disable=None) as bar:
        for n_rows, results in done:
            bar.update(n_rows)
            for clips_unread in results:
                unread |= clips_unread
    return unread


def batch_size(n: int) -> int:
    """Return the number of clips per batch in a build of n clips, so that parts are the same on every machine."""
    return min(max(-(-n // MIN_BATCHES), MIN_BATCH), MAX_BATCH)
