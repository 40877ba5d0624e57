"""Computing the parts of a store from audio."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.config import AudioConfig
from genre.errors import AudioError, DataError, describe_system_error, is_system_error
from genre.inputs import compute_inputs, derive_inputs, get_input, is_vector, load_weights
from genre.store import contents, parts

#: Function from the position and the row of a clip to its inputs.
_Compute = Callable[[int, Any], dict[str, np.ndarray]]


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
    families: Sequence[str] = (parts.BASE,),
    on_clip: Callable[[int], object] = lambda position: None,
) -> dict[str, str]:
    """Compute the inputs of some families for the clips of one batch, and write one part of each.

    Each file is decoded once for all of them, and not at all where they follow from what the store has. Of a file that
    the system does not let be read, as where its disk is away, nothing is written: that is no fault of the file.

    Parameters
    ----------
    batch : pd.DataFrame
        Rows of the clips table.
    config : AudioConfig
        How to compute.
    directory : Path
        The store of that configuration, with the weights that an input needs.
    families : sequence of str
        Families of parts, see `genre.store.parts`; by default the inputs of every build.
    on_clip : callable, optional
        Called with the position of each clip before it is begun.

    Returns
    -------
    dict
        Id of each clip whose file could not be read to the reason.

    Raises
    ------
    DataError
        If a part that an input is derived from is damaged.
    """
    names = [name for family in families for name in parts.family_inputs(family)]
    read_values = _derive_stored if _are_derivable(families) else _compute_decoded
    compute = read_values(batch, config, directory, names)
    outcomes = []
    unread = dict[str, str]()
    values: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for position, clip in enumerate(batch.itertuples()):
        on_clip(position)
        outcome = {"clip_id": clip.clip_id, "stamp": clip.stamp, "status": "ok", "reason": ""}
        try:
            for name, computed in compute(position, clip).items():
                values[name].append(computed)
        except AudioError as error:
            outcome |= {"status": error.status, "reason": error.reason}
        except DataError:  # of the store, not of the file
            raise
        except Exception as error:  # one file must not stop the other million
            if is_system_error(error):
                unread[str(clip.clip_id)] = describe_system_error(clip.path, error)
                continue
            outcome |= {"status": "undecodable", "reason": f"{clip.path}: {type(error).__name__}: {error}"}
        outcomes.append(outcome)
    if outcomes:
        index = pd.DataFrame(outcomes)
        for family in families:
            _save_part(index, values, config, directory, family)
    return unread


def write_crashed_part(
    clip: pd.DataFrame, config: AudioConfig, directory: Path, reason: str, families: Sequence[str] = (parts.BASE,)
) -> None:
    """Write the parts of a clip, a table of one row, that no process has survived.

    Its status is ``crashed`` the first time, which may have been for lack of memory, and ``crashed_twice`` in a later
    build.
    """
    index = clip[["clip_id", "stamp"]].assign(reason=f"{clip['path'].iloc[0]}: {reason}")
    for family in families:
        status = contents.crash_status(clip, directory, family)
        values: dict[str, list[np.ndarray]] = {name: [] for name in parts.family_inputs(family)}
        _save_part(index.assign(status=status), values, config, directory, family)


def _are_derivable(families: Sequence[str]) -> bool:
    """Return whether all inputs of some families are derived from stored ones that none of them holds."""
    return all(family != parts.BASE and get_input(family).derived_from for family in families)


def _compute_decoded(batch: pd.DataFrame, config: AudioConfig, directory: Path, names: list[str]) -> _Compute:
    """Return a function that decodes a clip and computes its inputs."""
    weights = load_weights(directory, names)
    return lambda position, clip: compute_inputs(read_clip(clip, config), config, names, weights)


def _derive_stored(batch: pd.DataFrame, config: AudioConfig, directory: Path, names: list[str]) -> _Compute:
    """Return a function that derives the inputs of a clip from what the store has of it."""
    sources = {get_input(name).derived_from for name in names}
    stored = {source: contents.InputReader(batch, directory, source) for source in sources}
    return lambda position, clip: derive_inputs({s: reader[position] for s, reader in stored.items()}, config, names)


def _save_part(
    index: pd.DataFrame, values: dict[str, list[np.ndarray]], config: AudioConfig, directory: Path, family: str
) -> None:
    """Write the part of one family: the outcome of every clip, and the values of those that have some."""
    is_ok = index["status"] == "ok"
    index = index.assign(row=np.where(is_ok, is_ok.cumsum() - 1, -1))
    for name in filter(is_vector, parts.family_inputs(family) if family == parts.BASE else ()):
        columns = get_input(name).module.column_names()
        table = pd.DataFrame(_stack(values[name], config, name), index.index[is_ok], columns)
        index = index.join(table)
    name = parts.array_input(family)
    parts.save_part(index, _stack(values[name], config, name), directory, family=family)


def _stack(arrays: list[np.ndarray], config: AudioConfig, name: str) -> np.ndarray:
    """Stack the values of an input of several clips, of which there may be none."""
    entry = get_input(name)
    return np.stack(arrays) if arrays else np.empty((0, *entry.shape(config)), entry.dtype)
