"""Inputs of the models by name: what is computed of a clip, and how.

One registry, `INPUTS`, which the store, training, the ensemble and serving ask. The module of an input offers

- ``shape(config)``: shape of the values of one clip; a vector is stored as columns, anything else as an array;
- ``FRAME_SERIES``: attributes of `genre.inputs.stft.FrameBlock` that it needs of every frame;
- ``compute(analysis, rows)``: the values of one clip, from its `Analysis` and the series of all its frames;
- ``column_names()``, of a vector: name of each value, unique among all inputs;
- ``summarise(values)``: named numbers that show whether two installations compute the same;
- ``pack(values)`` and ``unpack(packed)``, optional: a form of the values of several clips that compresses well.

A new input is such a module and a line in `INPUTS`; a model names it in `genre.models.MODELS`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import numpy as np

from genre.audio.clips import validate_audio
from genre.config import FEATURES_VERSION, AudioConfig
from genre.errors import UsageError
from genre.inputs.backend import analyse_clip


@dataclass(frozen=True)
class Input:
    """Entry of one input.

    Attributes
    ----------
    name : str
        Name of the input, in letters and underscores.
    module_name : str
        Module that computes it, imported when the input is asked for.
    dtype : str
        NumPy's name of the type of its values.
    version : int
        Raised by hand whenever the same audio and configuration give other values.
    in_every_build : bool
        Whether every build computes it; otherwise it is computed when a model that takes it is trained. Default False.
    """

    name: str
    module_name: str
    dtype: str
    version: int
    in_every_build: bool = False

    @property
    def module(self) -> ModuleType:
        """Module that computes the input."""
        return import_module(self.module_name)

    def shape(self, config: AudioConfig) -> tuple[int, ...]:
        """Return the shape of the values of one clip."""
        shape: tuple[int, ...] = self.module.shape(config)
        return shape

    def is_vector(self, config: AudioConfig) -> bool:
        """Return whether the values of one clip are a vector, each value with a name."""
        return len(self.shape(config)) == 1


INPUTS: dict[str, Input] = {
    entry.name: entry
    for entry in (
        Input("features", "genre.inputs.features", "float32", FEATURES_VERSION, in_every_build=True),
        Input("spectrograms", "genre.inputs.spectrogram", "uint8", FEATURES_VERSION, in_every_build=True),
    )
}

#: Inputs that every build computes, from one transform.
BASE_INPUTS: tuple[str, ...] = tuple(name for name, entry in INPUTS.items() if entry.in_every_build)


def get_input(name: str) -> Input:
    """Return the entry of one input.

    Raises
    ------
    UsageError
        If there is no input of that name.
    """
    if name not in INPUTS:
        raise UsageError(f"unknown input {name!r}; choose from {', '.join(sorted(INPUTS))}")
    return INPUTS[name]


def compute_inputs(y: np.ndarray, config: AudioConfig, names: Iterable[str] = BASE_INPUTS) -> dict[str, np.ndarray]:
    """Compute some inputs of one clip, all from one transform of its frames.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
        Mono audio at ``config.sr``, finite, at most ``config.n_samples`` long; `genre.audio.prepare_clip` returns such.
    config : AudioConfig
        Frame, hop, bands and variant.
    names : iterable of str
        Names of inputs, by default those of every build.

    Returns
    -------
    dict of str to np.ndarray
        Input to its values, of its shape and type.

    Raises
    ------
    AudioError
        ``too_short`` without a sample, ``not_finite`` with NaN or infinity.
    UsageError
        If `y` is not one-dimensional or is too long, or an input is unknown.
    """
    modules = {name: get_input(name).module for name in names}
    analysis = analyse_clip(validate_audio(y), config)
    series = frozenset[str]().union(*(module.FRAME_SERIES for module in modules.values()))
    rows = analysis.by_frame(series) if series else {}
    return {name: module.compute(analysis, rows) for name, module in modules.items()}
