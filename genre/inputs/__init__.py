"""Inputs of the models by name: what is computed of a clip, and how.

One registry, `INPUTS`, which the store, training, the ensemble and serving ask. The module of an input offers

- ``shape(config)``: shape of the values of one clip; a vector is stored as columns, anything else as an array;
- ``FRAME_SERIES``: attributes of `genre.inputs.stft.FrameBlock` that it needs of every frame, unless it is derived;
- ``compute(analysis, rows)``: the values of one clip, from its `Analysis` and the series of all its frames; of an input
  with a weights file ``compute(analysis, rows, weights)``, with what its ``load_weights(path)`` returns; of an input
  derived from another one ``derive(values, config)`` in place of both, from the values of that one;
- ``column_names()``, of a vector: name of each value, unique among all inputs;
- ``summarise(values)``: named numbers that show whether two installations compute the same;
- ``pack(values)`` and ``unpack(packed)``, optional: a form of the values of several clips that compresses well.

A new input is such a module and a line in `INPUTS`; a model names it in `genre.models.MODELS`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

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
        Whether every build computes it; otherwise only where a model takes it. Default False.
    derived_from : str
        Name of the stored input, an array, from whose values alone it is computed, without audio; by default none.
    weights_file : str
        Name of the file of a network's weights that it is computed with, beside the values; by default none.
    """

    name: str
    module_name: str
    dtype: str
    version: int
    in_every_build: bool = False
    derived_from: str = ""
    weights_file: str = ""

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
        Input("modulations", "genre.inputs.modulations", "float32", 1, derived_from="spectrograms"),
        Input("embeddings", "genre.inputs.embeddings", "float32", 1, weights_file="musicnn.npz"),
        Input("musicnn_mel", "genre.inputs.musicnn_mel", "float16", 1),
    )
}

#: Inputs that every build computes, from one transform.
BASE_INPUTS: tuple[str, ...] = tuple(name for name, entry in INPUTS.items() if entry.in_every_build)

#: Shapes depend on the configuration, whether an input is a vector does not.
_ANY_CONFIG = AudioConfig()


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


def is_vector(name: str) -> bool:
    """Return whether an input is a vector, each of its values with a name."""
    return get_input(name).is_vector(_ANY_CONFIG)


def column_names(names: Iterable[str]) -> list[str]:
    """Return the names of the values of inputs that are vectors, side by side."""
    return [column for name in names for column in get_input(name).module.column_names()]


def combine_vectors(values: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return what a model takes: one input as it is, or several that are vectors side by side.

    Parameters
    ----------
    values : mapping of str to array-like [shape=(n, ...)]
        Input to its values of some clips.
    names : sequence of str
        Inputs that the model takes, in its order.

    Returns
    -------
    array-like [shape=(n, ...)] or np.ndarray [shape=(n, sum of columns), dtype=float32]
        One row per clip.
    """
    if len(names) == 1:
        return values[names[0]]
    return np.concatenate([np.asarray(values[name], dtype=np.float32) for name in names], axis=1)


def load_weights(directory: Path, names: Iterable[str]) -> dict[str, Any]:
    """Load the weights that some inputs are computed with, from the files in a folder.

    Parameters
    ----------
    directory : Path
        Folder of a store or of a saved ensemble.
    names : iterable of str
        Names of inputs.

    Returns
    -------
    dict
        Name of a weights file to its content, as `compute_inputs` takes them.

    Raises
    ------
    DataError
        If a file is missing or damaged.
    """
    entries = [get_input(name) for name in names]
    return {e.weights_file: e.module.load_weights(directory / e.weights_file) for e in entries if e.weights_file}


def compute_inputs(
    y: np.ndarray,
    config: AudioConfig,
    names: Iterable[str] = BASE_INPUTS,
    weights: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """Compute some inputs of one clip, all from one transform of its frames.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
        Mono audio at ``config.sr``, finite, at most ``config.n_samples`` long; `genre.audio.prepare_clip` returns such.
    config : AudioConfig
        Frame, hop, bands and variant.
    names : iterable of str
        Names of inputs, by default those of every build.
    weights : mapping
        From `load_weights`, with those that the inputs need.

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
    entries = [get_input(name) for name in names]
    direct = {get_input(entry.derived_from or entry.name) for entry in entries}
    analysis = analyse_clip(validate_audio(y), config)
    series = frozenset[str]().union(*(entry.module.FRAME_SERIES for entry in direct))
    rows = analysis.by_frame(series) if series else {}
    values: dict[str, np.ndarray] = {}
    for entry in direct:
        extra = (weights[entry.weights_file],) if entry.weights_file else ()
        values[entry.name] = entry.module.compute(analysis, rows, *extra)
    return derive_inputs(values, config, [entry.name for entry in entries])


def derive_inputs(values: Mapping[str, np.ndarray], config: AudioConfig, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return some inputs of one clip, each taken from `values` or derived from them.

    Parameters
    ----------
    values : mapping of str to np.ndarray
        Inputs that are not derived.
    config : AudioConfig
        As they were computed with.
    names : iterable of str
        Names of inputs that are among `values`, or derived from one of these.

    Returns
    -------
    dict of str to np.ndarray
        Input to its values.
    """
    entries = [get_input(name) for name in names]
    return {
        entry.name: entry.module.derive(values[entry.derived_from], config)
        if entry.derived_from
        else values[entry.name]
        for entry in entries
    }
