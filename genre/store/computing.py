"""Computing the parts of a store from audio."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.config import AudioConfig
from genre.errors import AudioError
from genre.inputs import compute_inputs, get_input
from genre.store import parts


def read_clip(clip: Any, config: AudioConfig) -> np.ndarray:
    """Decode the audio of one row of the clips table, as inputs are computed from it.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=float32]
        Mono, at ``config.sr``.

    Raises
    ------
    AudioError
        If it cannot be decoded, or is too short, not finite or silent.
    """
    y = decoding.decode_audio(
        str(clip.path),
        sr=config.sr,
        start_s=clip.start_s,
        duration_s=clip.end_s - clip.start_s,
        resampler=config.resampler,
    )
    return prepare_clip(y, config)


def compute_part(
    batch: pd.DataFrame,
    config: AudioConfig,
    directory: Path,
    family: str = parts.BASE,
    on_clip: Callable[[int], object] = lambda position: None,
) -> int:
    """Compute the inputs of one family for the clips of one batch, and write them as one part.

    Parameters
    ----------
    batch : pd.DataFrame
        Rows of the clips table.
    config : AudioConfig
        How to compute.
    directory : Path
        The store of that configuration.
    family : str
        Family of parts, see `genre.store.parts`; by default the inputs of every build.
    on_clip : callable, optional
        Called with the position of each clip before it is begun.

    Returns
    -------
    int
        Number of clips.
    """
    array_name = parts.array_input(family)
    rows = []
    arrays = list[np.ndarray]()
    for position, clip in enumerate(batch.itertuples()):
        on_clip(position)
        row = {"clip_id": clip.clip_id, "stamp": clip.stamp, "status": "ok", "reason": "", "row": -1}
        try:
            values = compute_inputs(read_clip(clip, config), config, parts.family_inputs(family))
            row |= _vector_values(values)
            if array_name:
                row["row"] = len(arrays)
                arrays.append(values[array_name])
        except AudioError as error:
            row |= {"status": error.status, "reason": error.reason}
        except Exception as error:  # one file must not stop the other million
            row |= {"status": "undecodable", "reason": f"{clip.path}: {type(error).__name__}: {error}"}
        rows.append(row)
    parts.save_part(pd.DataFrame(rows), _stack_arrays(arrays, config, family), directory, family=family)
    return len(batch)


def write_crashed_part(
    clip: pd.DataFrame, config: AudioConfig, directory: Path, reason: str, family: str = parts.BASE
) -> None:
    """Write the part of a clip, a table of one row, that no process has survived."""
    row = clip[["clip_id", "stamp"]].assign(status="crashed", reason=f"{clip['path'].iloc[0]}: {reason}", row=-1)
    parts.save_part(row, _stack_arrays([], config, family), directory, family=family)


def _vector_values(values: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the values of the inputs that are vectors, by column."""
    row = dict[str, float]()
    for name in filter(parts.is_vector, values):
        row |= zip(get_input(name).module.column_names(), values[name], strict=True)
    return row


def _stack_arrays(arrays: list[np.ndarray], config: AudioConfig, family: str) -> np.ndarray | None:
    """Stack the arrays of a part, which may be empty; return None where the family has vectors only."""
    name = parts.array_input(family)
    if name is None:
        return None
    entry = get_input(name)
    return np.stack(arrays) if arrays else np.empty((0, *entry.shape(config)), entry.dtype)
