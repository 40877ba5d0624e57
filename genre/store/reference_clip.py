"""Whether two installations compute the same: one short sound, taken all the way, and the versions that took it.

A store must not mix what two releases of a library compute, and a release that changes nothing must not have a million
tracks computed anew. So a store keeps the probe of whoever began it, and every process that adds to it compares.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.config import AudioConfig, library_versions
from genre.errors import DataError
from genre.files import read_json, write_json
from genre.inputs import compute_inputs, get_input
from genre.store import parts

#: Relative or absolute difference up to which two numbers are the same: what parity with librosa is measured by.
TOLERANCE = 1e-3


def compute_reference(config: AudioConfig, family: str = parts.BASE) -> dict[str, float]:
    """Compute the inputs of a sound that is the same everywhere, from a file at 44.1 kHz.

    Parameters
    ----------
    config : AudioConfig
        How to compute.
    family : str
        Family of parts, see `genre.store.parts`; by default the inputs of every build.

    Returns
    -------
    dict
        Name to value, as each input summarises itself: the 97 features, ``mel_0`` and so on for the spectrogram.
    """
    y = prepare_clip(decoding.decode_audio(_reference_wav(), sr=config.sr, resampler=config.resampler), config)
    values = dict[str, float]()
    for name, computed in compute_inputs(y, config, parts.family_inputs(family)).items():
        values |= get_input(name).module.summarise(computed)
    return values


def find_differences(values: dict[str, float], reference: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Names whose values differ by more than `TOLERANCE`, or that one side lacks, with both values.

    Parameters
    ----------
    values, reference : dict
        From `compute_reference`.

    Returns
    -------
    dict
        Name to (value, reference), NaN where there is none; the furthest apart first.
    """
    pairs = {name: (values.get(name, np.nan), reference.get(name, np.nan)) for name in values | reference}
    apart = {n: pair for n, pair in pairs.items() if not np.isclose(*pair, rtol=TOLERANCE, atol=TOLERANCE)}
    return dict(sorted(apart.items(), key=lambda item: -abs(np.subtract(*item[1])) / (1 + abs(item[1][1]))))


def check_reference(config: AudioConfig, directory: Path, family: str = parts.BASE) -> None:
    """Leave the probe in a new store; in an older one, make sure that this process computes the same.

    It is also a warm-up: whatever compiles does so here.

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
    mine: dict[str, Any] = {"versions": library_versions(), "values": compute_reference(config, family)}
    if theirs := read_json(reference_path(directory, family)):
        require_same_values(mine, theirs, directory)
    else:
        write_json(reference_path(directory, family), mine)


def reference_path(directory: Path, family: str = parts.BASE) -> Path:
    """Return the path of the reference values of whoever began a family of a store."""
    return directory / (f"probe-{family}-v{get_input(family).version}.json" if family else "probe.json")


def require_same_values(current: dict[str, Any], stored: dict[str, Any], directory: Path) -> None:
    """Refuse numbers that are not those of a store.

    Parameters
    ----------
    current, stored : dict
        ``values``, from `compute_reference`, and ``versions``, of what would be added and of the store.
    directory : Path
        The store, for the message.

    Raises
    ------
    DataError
        If they differ.
    """
    if apart := find_differences(current["values"], stored["values"]):
        name, (value, reference) = next(iter(apart.items()))
        raise DataError(
            f"{len(apart)} features would not be those of the store {directory}: {name} of the probe is {value:g}, "
            f"there {reference:g}; {_describe_changed_versions(current['versions'], stored['versions'])}; "
            "install what requirements.txt pins, or raise FEATURES_VERSION in genre/config.py to build a new store "
            "beside it"
        )


def _describe_changed_versions(mine: dict[str, str], theirs: dict[str, str]) -> str:
    """Which versions are not those of then."""
    changed = [f"{name} {theirs.get(name)} is now {now}" for name, now in mine.items() if theirs.get(name) != now]
    return ", ".join(changed) or "no library has another version, so the code or the processor has changed"


def _reference_wav() -> bytes:
    """Five seconds of stereo WAV: beats, a rising tone and noise, from whole numbers and sines alone."""
    sr, seconds = 44_100, 5
    i = np.arange(sr * seconds, dtype=np.uint32)
    # A multiplicative hash (Knuth's constant), because the streams of numpy's generators may change.
    noise = (i * np.uint32(2654435761)) ^ (i * np.uint32(40503) >> np.uint32(7))
    t = i / sr
    beats = np.exp(-12 * (t % 0.48))
    y = 0.3 * beats * (noise / 2**31 - 1) + 0.3 * np.sin(2 * np.pi * (180 + 60 * t) * t) + 0.1 * np.sin(2764.6 * t)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([y, 0.8 * y], axis=1), sr, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
