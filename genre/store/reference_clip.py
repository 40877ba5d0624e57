"""Check that two installations compute the same: the inputs of one short reference clip, and the library versions.

A store must not mix what two releases of a library compute, and a release that changes nothing must not cause a million
tracks to be computed anew. A store therefore keeps the reference values of the installation that began it, and every
process that adds to it compares its own.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import soundfile

from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.config import AudioConfig, library_versions
from genre.errors import DataError
from genre.files import read_json, write_json
from genre.inputs import compute_inputs, get_input, load_weights
from genre.store import parts

#: Relative or absolute difference up to which two numbers count as the same; parity with librosa is held to it too.
TOLERANCE = 1e-3


def compute_reference(
    config: AudioConfig, family: str = parts.BASE, weights: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, float]:
    """Compute the inputs of a sound that is the same everywhere, from a file at 44.1 kHz.

    Parameters
    ----------
    config : AudioConfig
        How to compute.
    family : str
        Family of parts, see `genre.store.parts`; by default the inputs of every build.
    weights : mapping
        From `genre.inputs.load_weights`, with those that the inputs need.

    Returns
    -------
    dict
        Name to value, as each input summarises itself: the 97 features, ``mel_0`` and so on for the spectrogram.
    """
    y = prepare_clip(decoding.decode_audio(_reference_wav(), sr=config.sr, resampler=config.resampler), config)
    values = dict[str, float]()
    for name, computed in compute_inputs(y, config, parts.family_inputs(family), weights).items():
        values |= get_input(name).module.summarise(computed)
    return values


def find_differences(values: dict[str, float], reference: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Find the values that differ by more than `TOLERANCE`, or that one of the two lacks.

    Parameters
    ----------
    values, reference : dict
        From `compute_reference`.

    Returns
    -------
    dict
        Name to (value, reference), NaN where one is missing; the largest difference first.
    """
    pairs = {name: (values.get(name, np.nan), reference.get(name, np.nan)) for name in values | reference}
    apart = {n: pair for n, pair in pairs.items() if not np.isclose(*pair, rtol=TOLERANCE, atol=TOLERANCE)}
    return dict(sorted(apart.items(), key=lambda item: -abs(np.subtract(*item[1])) / (1 + abs(item[1][1]))))


def check_reference(config: AudioConfig, directory: Path, family: str = parts.BASE) -> None:
    """Write the reference values into a new store, or check that this process computes those of an older one.

    This also warms up: whatever is compiled, is compiled here.

    Parameters
    ----------
    config : AudioConfig
        How to compute.
    directory : Path
        The store of that configuration.
    family : str
        Family of parts, see `genre.store.parts`; by default the inputs of every build.

    Raises
    ------
    DataError
        If this installation gives other numbers than the one that began the store.
    """
    weights = load_weights(directory, parts.family_inputs(family))
    current = current_reference(config, family, weights)
    if stored := read_json(reference_path(directory, family)):
        require_same_values(current, stored, directory, family)
    else:
        write_json(reference_path(directory, family), current)


def current_reference(config: AudioConfig, family: str, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the reference values of this installation, and its library versions; arguments as `compute_reference`."""
    return {"versions": library_versions(), "values": compute_reference(config, family, weights)}


def reference_path(directory: Path, family: str = parts.BASE) -> Path:
    """Return the path of the reference values of a family of a store."""
    return directory / ("-".join(["probe", *parts.family_identity(family, directory)]) + ".json")


def require_same_values(
    current: dict[str, Any],
    stored: dict[str, Any],
    directory: Path,
    family: str = parts.BASE,
    origin: str = "this installation",
) -> None:
    """Refuse values that differ from those of a store.

    Parameters
    ----------
    current, stored : dict
        ``values``, from `compute_reference`, and ``versions``: of what would be added, and of the store.
    directory : Path
        The store, for the message.
    family : str
        Family of parts, see `genre.store.parts`; by default the inputs of every build.
    origin : str
        What computed the current values, for the message.

    Raises
    ------
    DataError
        If they differ.
    """
    if apart := find_differences(current["values"], stored["values"]):
        name, (value, reference) = next(iter(apart.items()))
        n = len(current["values"] | stored["values"])
        raise DataError(
            f"{origin} computes other values than the store {directory}, {len(apart)} of {n}: reference clip "
            f"gives {name} = {value:g}, store has {reference:g}; "
            f"{_describe_changed_versions(current['versions'], stored['versions'])}; install the versions pinned in "
            f"requirements.txt, or {_version_advice(family)}"
        )


def _version_advice(family: str) -> str:
    """Return which version to raise, so that other values do not mix with those of the store."""
    if family:
        return f"raise the version of {family} in genre/inputs/__init__.py to compute it anew"
    return "raise FEATURES_VERSION in genre/config.py to build a new store beside it"


def _describe_changed_versions(current: dict[str, str], stored: dict[str, str]) -> str:
    """Describe the libraries whose versions have changed."""
    changed = [f"{name} {stored.get(name)} is now {now}" for name, now in current.items() if stored.get(name) != now]
    return ", ".join(changed) or "no library version has changed, so the code or the processor has"


def _reference_wav() -> bytes:
    """Return five seconds of stereo WAV: beats, a rising tone and noise, from whole numbers and sines alone."""
    sr = 44_100
    seconds = 5
    i = np.arange(sr * seconds, dtype=np.uint32)
    # A multiplicative hash (Knuth's constant), because the streams of numpy's generators may change.
    noise = (i * np.uint32(2654435761)) ^ (i * np.uint32(40503) >> np.uint32(7))
    t = i / sr
    beats = np.exp(-12 * (t % 0.48))
    y = 0.3 * beats * (noise / 2**31 - 1) + 0.3 * np.sin(2 * np.pi * (180 + 60 * t) * t) + 0.1 * np.sin(2764.6 * t)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([y, 0.8 * y], axis=1), sr, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
