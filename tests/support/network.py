"""Weights of the music network: random ones of the right shapes, which let signals through."""

import numpy as np

from genre.inputs.musicnn import KERNELS, MSD_TAGS, SHAPES, MusicnnWeights


def random_weights(seed: int = 0) -> MusicnnWeights:
    """Weights as He et al. (2015) scale them; a third of the normalisations turn their channel's sign."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in SHAPES.items():
        if name.endswith("_kernel"):
            values = rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
        elif name.endswith("_gamma"):
            values = rng.uniform(0.5, 1.5, shape) * rng.choice([1, 1, -1], shape)
        elif name.endswith("_variance"):
            values = rng.uniform(0.5, 2, shape)
        else:
            values = rng.normal(0, 0.3, shape)
        arrays[name] = values.astype(np.float32)
    return MusicnnWeights(arrays, MSD_TAGS, "terms of the test")


def sparse_weights(n_live: int = 3) -> MusicnnWeights:
    """The same with few filters in each layer of the front end, the others zero, as in the published weights."""
    weights = random_weights()
    for name in list(KERNELS)[:5]:
        weights.arrays[f"{name}_kernel"][..., n_live:] = 0
    return weights
