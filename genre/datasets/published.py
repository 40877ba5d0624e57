"""The features table as published with the paper: 98 columns, the file name first, the label in it."""

from pathlib import Path

import numpy as np
import pandas as pd

from genre.errors import DataError
from genre.inputs.features import FEATURE_NAMES


def load_clips(source: Path, directory: Path) -> pd.DataFrame:
    """One clip per row of the table; the genre is what stands behind the number in the file name.

    Names have the form ``NUMBER_Genre_name.wav`` (PAPER: the published scripts read the label back from there, and it
    is nowhere else). Each AudioSet video gave one clip, so each file is a recording of its own.

    Parameters
    ----------
    source : Path
        CSV, gzip allowed.
    directory : Path
        Not used.

    Raises
    ------
    DataError
        If the table has other columns, or a name no genre.
    """
    names = _read(source).index.to_series()
    genre = parse_genres(names)
    return pd.DataFrame(
        {
            "clip_id": names,
            "path": "",
            "genre": pd.Categorical(genre, categories=sorted(genre.unique())),
            "recording": names,
            "dataset": "published",
            "start_s": 0.0,
            "end_s": 10.0,
            "split": None,
            "stamp": "",
            "status": "ok",
            "reason": "",
        }
    )


def parse_genres(names: pd.Series) -> pd.Series:
    """Genre of each published file name ``NUMBER_Genre_name.wav``, blanks for underscores.

    Raises
    ------
    DataError
        If a name has none.
    """
    genre = names.str.extract(r"^[^_]+_(.+?)(?:\.\w+)?$", expand=False)
    if genre.isna().any():
        raise DataError(f"no genre in the file name {names[genre.isna()].iloc[0]!r}; expected NUMBER_Genre.wav")
    return genre.str.replace("_", " ")


def load_features(source: Path) -> pd.DataFrame:
    """The 97 columns, float32, indexed by file name.

    Raises
    ------
    DataError
        If the table has other columns or values that are not finite numbers.
    """
    return _read(source)


def _read(source: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(source)
        table = table.set_index(table.columns[0])
        table.index = table.index.astype(str)
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise DataError(f"{source} cannot be read as CSV: {error}") from None
    if list(table.columns) != list(FEATURE_NAMES):
        odd = [c for c in table.columns if c not in FEATURE_NAMES][:3]
        raise DataError(
            f"{source} has {len(table.columns) + 1} columns{', among them ' + ', '.join(odd) if odd else ''}; "
            f"expected 98: the file name, then {FEATURE_NAMES[0]} to {FEATURE_NAMES[-1]}"
        )
    try:
        table = table.astype("float32")
    except ValueError as error:
        raise DataError(f"{source} holds something that is no number: {error}") from None
    bad = table.index[~np.isfinite(table.to_numpy()).all(axis=1)]
    if len(bad):
        raise DataError(f"{source}: {len(bad)} rows have missing or infinite values, {bad[0]!r} the first; remove them")
    # a row that stands twice is one clip; the same name over other values stays and is refused as a clip listed twice
    return table.rename_axis("clip_id").reset_index().drop_duplicates().set_index("clip_id")
