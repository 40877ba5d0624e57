"""Checks of an archive before anything of it is put into a store: it may be damaged, or written by other means."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from genre.config import AudioConfig
from genre.errors import DataError
from genre.files import read_json
from genre.inputs import load_weights
from genre.store import parts, reference_clip


def check_columns(found: pa.Schema, expected: pa.Schema, path: Path) -> None:
    """Refuse an archive that lacks a column, or has one of another type or another number of bytes.

    Raises
    ------
    DataError
        With the first such column.
    """
    for field in expected:
        at = found.get_field_index(field.name)
        if at < 0:
            raise DataError(f"{path} lacks the column {field.name}; nothing was read; export it again")
        if not found.field(at).type.equals(field.type):
            raise DataError(
                f"the column {field.name} of {path} is {found.field(at).type}, and must be {field.type}; "
                "nothing was read; export it again"
            )


def check_rows(table: pd.DataFrame, path: Path) -> None:
    """Refuse rows without an id or a stamp, or with a feature that is not a finite number.

    Raises
    ------
    DataError
        With the first such clip.
    """
    is_nameless = table[["clip_id", "stamp"]].isna().any(axis=1)
    if is_nameless.any():
        raise DataError(f"{is_nameless.sum()} clips of {path} have no clip_id or no stamp; export it again")
    refuse_not_finite(table["clip_id"], table[parts.vector_columns(parts.BASE)].to_numpy(np.float32), path)


def refuse_not_finite(clip_ids: pd.Series, values: np.ndarray, path: Path) -> None:
    """Refuse values, one row per clip, that are not all finite numbers.

    Raises
    ------
    DataError
        With the first such clip.
    """
    if not np.issubdtype(values.dtype, np.floating):
        return
    is_finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not is_finite.all():
        first = clip_ids.iloc[int(is_finite.argmin())]
        raise DataError(
            f"{(~is_finite).sum()} clips of {path} have values that are not finite, {first!r} the first; "
            "what was read before them is kept; export it again"
        )


def check_probe(probe: Mapping[str, Any], config: AudioConfig, directory: Path, family: str, path: Path) -> None:
    """Refuse reference values that are not those of the store or, where it has none yet, of this installation.

    A store that began with other values would accept nothing that is computed here.

    Parameters
    ----------
    probe : mapping
        Reference values of the archive.
    config : AudioConfig
        Configuration of the store.
    directory : Path
        The store.
    family : str
        Family of parts, see `genre.store.parts`.
    path : Path
        The archive.

    Raises
    ------
    DataError
        If they are not complete, or differ.
    """
    values = probe.get("values")
    if not isinstance(values, dict) or not isinstance(probe.get("versions"), dict) or not _are_numbers(values):
        raise DataError(f"the reference values in {path} are not complete; nothing was read; export it again")
    stored = read_json(reference_clip.reference_path(directory, family))
    if stored is None:
        weights = load_weights(directory, parts.family_inputs(family))
        stored = reference_clip.current_reference(config, family, weights)
    origin = f"the installation that wrote {path}"
    reference_clip.require_same_values(dict(probe), stored, directory, family, origin)


def _are_numbers(values: Mapping[str, Any]) -> bool:
    """Return whether all values are finite numbers."""
    return all(isinstance(value, int | float) and np.isfinite(value) for value in values.values())
