"""Embeddings: what the music network musicnn, trained on the Million Song Dataset, makes of a clip, and its 50 tags."""

from __future__ import annotations

import numpy as np
import soxr

from genre.config import AudioConfig
from genre.inputs.musicnn import (
    MSD_TAGS,
    N_POOLED,
    SR,
    MusicnnWeights,
    cut_patches,
    forward,
    load_weights,
    log_mel,
)
from genre.inputs.stft import Analysis

__all__ = ["FRAME_SERIES", "TAG_COLUMNS", "column_names", "compute", "load_weights", "shape", "summarise"]

#: It needs nothing of the frames at the project's own sampling rate.
FRAME_SERIES: frozenset[str] = frozenset()

#: Column of each tag of `MSD_TAGS`, in their order.
TAG_COLUMNS: tuple[str, ...] = tuple("tag_" + tag.lower().replace(" ", "_").replace("-", "_") for tag in MSD_TAGS)


def shape(config: AudioConfig) -> tuple[int, ...]:
    """Return the shape of the values of one clip."""
    return (2 * N_POOLED + len(MSD_TAGS),)


def column_names() -> tuple[str, ...]:
    """Return the names of the values: both pools, numbered from 1, and the tags."""
    pools = [f"embedding_{name}_{n}" for name in ("max", "mean") for n in range(1, N_POOLED + 1)]
    return (*pools, *TAG_COLUMNS)


def compute(a: Analysis, rows: dict[str, np.ndarray], weights: MusicnnWeights) -> np.ndarray:
    """Compute the embedding of one clip.

    The clip is resampled from its own rate: decoding the file a second time, at the network's, gives the same to 1e-6
    of a tag and 1e-5 of a mean.

    Parameters
    ----------
    a : Analysis
        The clip.
    rows : dict of str to np.ndarray
        Not used.
    weights : MusicnnWeights
        From `load_weights`.

    Returns
    -------
    np.ndarray [shape=(1556,), dtype=float32]
        max_pool, mean_pool and tags, averaged over the clip's patches of three seconds, as `column_names` names them.
    """
    y = soxr.resample(a.y, a.config.sr, SR, quality=a.config.resampler)
    outputs = forward(cut_patches(log_mel(y)), weights)
    values: np.ndarray = np.hstack([outputs.max_pool, outputs.mean_pool, outputs.tags]).mean(axis=0)
    return values


def summarise(values: np.ndarray) -> dict[str, float]:
    """Return the means of both pools, and the tags."""
    pools = {"max": values[:N_POOLED], "mean": values[N_POOLED : 2 * N_POOLED]}
    means = {f"embedding_{name}": float(pool.mean()) for name, pool in pools.items()}
    return means | dict(zip(TAG_COLUMNS, map(float, values[2 * N_POOLED :]), strict=True))
