"""Features table published with the paper: 98 columns, of which the first is the file name, which holds the label."""

from pathlib import Path

import numpy as np
import pandas as pd

from genre.errors import DataError
from genre.inputs.features import PUBLISHED_FEATURE_NAMES


def load_clips(source: Path, directory: Path) -> pd.DataFrame:
    """List one clip per row of the table; the genre is read from the file name.

    Names have the form ``NUMBER_Genre_name.wav`` (PAPER: the published scripts read the label from there, and the table
    has no other). Each AudioSet video gave one clip, so each file is a recording of its own.

    Parameters
    ----------
    source : Path
        CSV, which may be compressed with gzip.
    directory : Path
        Not used.

    Raises
    ------
    DataError
        If the table has other columns, or a name has no genre.
    """
    names = _read_table(source).index.to_series()
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
    """Return the genre of each published file name ``NUMBER_Genre_name.wav``, with spaces for underscores.

    Raises
    ------
    DataError
        If a name has no genre.
    """
    genre = names.str.extract(r"^[^_]+_(.+?)(?:\.\w+)?$", expand=False)
    if genre.isna().any():
        raise DataError(f"no genre in the file name {names[genre.isna()].iloc[0]!r}; expected NUMBER_Genre.wav")
    return genre.str.replace("_", " ")


def load_features(source: Path) -> pd.DataFrame:
    """Load the 97 features, float32, indexed by file name.

    Raises
    ------
    DataError
        If the table has other columns or values that are not finite numbers.
    """
    return _read_table(source)


def _read_table(source: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(source)
        table = table.set_index(table.columns[0])
        table.index = table.index.astype(str)
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise DataError(f"{source} cannot be read as CSV: {error}") from None
    _check_columns(source, table)
    try:
        table = table.astype("float32")
    except ValueError as error:
        raise DataError(f"{source} holds a value that is not a number: {error}; correct or remove its row") from None
    bad = table.index[~np.isfinite(table.to_numpy()).all(axis=1)]
    if len(bad):
        raise DataError(f"{source}: {len(bad)} rows have missing or infinite values, {bad[0]!r} the first; remove them")
    # identical rows are one clip; rows of one name with different values are kept, and `load_clips` refuses them
    return table.rename_axis("clip_id").reset_index().drop_duplicates().set_index("clip_id")


def _check_columns(source: Path, table: pd.DataFrame) -> None:
    expected = list(PUBLISHED_FEATURE_NAMES)
    if list(table.columns) != expected:
        unknown = [column for column in table.columns if column not in expected][:3]
        among_them = f", among them {', '.join(unknown)}" if unknown else ""
        raise DataError(
            f"{source} has {len(table.columns) + 1} columns{among_them}; "
            f"expected {len(expected) + 1}: the file name, then {expected[0]} to {expected[-1]}"
        )
