"""The probability table: the result of every model, whatever its kind."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from genre.config import SPLITS
from genre.errors import UsageError

#: Columns of every table beside the probabilities; those of trainings have ``track`` as well.
META_COLUMNS = ("split", "genre", "recording")

#: Unit that scores count: a clip, or a track, whose probabilities are the mean over its clips.
Level = Literal["clip", "track"]

#: Largest deviation of a row's sum from 1 that counts as rounding, which stays below it even in half precision.
SUM_TOLERANCE = 1e-3


def probability_table(
    index: Sequence[str] | pd.Index,
    split: str | Sequence[str] | pd.Series,
    genre: Sequence[str] | pd.Series | pd.Categorical,
    recording: Sequence[str] | pd.Series,
    proba: np.ndarray,
    genres: Sequence[str],
    *,
    track: Sequence[str] | pd.Series | None = None,
) -> pd.DataFrame:
    """Build the probability table of one model, and check it.

    Everything is matched by position: pass all columns in the order of `index`.

    Parameters
    ----------
    index : sequence of str [n]
        Clip ids, unique.
    split : str or sequence of str [n]
        ``train``, ``validation`` or ``test``; a single string applies to all rows.
    genre : sequence of str [n]
        True genre of each clip, one of `genres`.
    recording : sequence of str [n]
        Recording that each clip was cut from.
    proba : np.ndarray [shape=(n, k)]
        Probabilities, columns in the order of `genres`, rows summing to 1 within 1e-3; they are normalised.
    genres : sequence of str [k]
        Genres of the data set, in order: at least two, and none named like another column of the table.
    track : sequence of str [n], optional
        Track that each clip was cut from, from `name_tracks`. Without it the recording counts as the track.

    Returns
    -------
    pd.DataFrame
        Probability table; probabilities as float64, rows summing to 1 within 1e-6.

    Raises
    ------
    UsageError
        If lengths, genres, splits or ids do not fit, or a row is not finite, negative or does not sum to 1.
    """
    genres = validate_genres(genres)
    ids = pd.Index(index, dtype=str, name="clip_id")
    if ids.has_duplicates:
        raise UsageError(f"clip id {ids[ids.duplicated()][0]!r} occurs more than once; ids must be unique")
    splits = split if isinstance(split, str) else _check_column("split", split, ids)
    table = pd.DataFrame({"split": splits}, index=ids)
    table["genre"] = _categorical(_check_column("genre", genre, ids), genres)
    table["recording"] = _check_column("recording", recording, ids)
    if track is not None:
        table["track"] = _check_column("track", track, ids)
    _check_split_and_genre(table, genre)
    return table.join(pd.DataFrame(validate_proba(proba, genres, ids), index=ids, columns=genres))


def genres_of(table: pd.DataFrame) -> list[str]:
    """Return the genres of a probability table, in order.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table.

    Returns
    -------
    list of str [k]
        Categories of the column ``genre``.

    Raises
    ------
    UsageError
        If ``genre`` is missing or not categorical.
    """
    if "genre" not in table or not isinstance(table["genre"].dtype, pd.CategoricalDtype):
        raise UsageError("a probability table needs a categorical column 'genre'; build it with probability_table()")
    return [str(genre) for genre in table["genre"].cat.categories]


def proba_of(table: pd.DataFrame) -> np.ndarray:
    """Return the probabilities of a probability table.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table.

    Returns
    -------
    np.ndarray [shape=(n, k), dtype=float64]
        Columns in the order of `genres_of`.

    Raises
    ------
    UsageError
        If a genre has no column, ``genre`` is not categorical, or a probability is not finite or negative.
    """
    genres = genres_of(table)
    missing = [genre for genre in genres if genre not in table]
    if missing:
        raise UsageError(
            f"the probability table has no column for {', '.join(map(repr, missing))}; "
            "build it with probability_table()"
        )
    proba = table[genres].to_numpy(dtype=np.float64)
    _check_finite(proba, table.index)
    return proba


def labels_of(table: pd.DataFrame) -> np.ndarray:
    """Return the true genres of a probability table as integers.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=intp]
        Positions in `genres_of`, 0 to k - 1.

    Raises
    ------
    UsageError
        If a clip has no genre, or ``genre`` is not categorical.
    """
    genres_of(table)
    codes = table["genre"].cat.codes.to_numpy(dtype=np.intp)
    if (codes < 0).any():
        raise UsageError(f"clip {table.index[codes < 0][0]!r} has no genre; only labelled clips can be evaluated")
    return codes


def name_tracks(clips: pd.DataFrame) -> pd.Series:
    """Name the track of each clip: the audio file it was cut from, which is what a served model answers for.

    A recording may be more than that: an artist, an album, or several copies of a track in different files.

    Parameters
    ----------
    clips : pd.DataFrame
        Columns ``clip_id``, ``recording`` and, if there is audio, ``path``, empty for a clip without a file.

    Returns
    -------
    pd.Series
        In the order of `clips`: the first of the ids of the file's clips, because results hold no paths; the recording
        where there is no file.
    """
    recordings = clips["recording"].astype(str)
    if "path" not in clips:
        return recordings
    paths = clips["path"].astype(str)
    first_ids = clips["clip_id"].astype(str).groupby(paths).transform("min")
    return first_ids.where(paths != "", recordings)


def track_codes(table: pd.DataFrame) -> np.ndarray:
    """Assign each clip of a probability table the number of its track.

    Clips of one track that differ in split, genre or recording belong to different ones.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=intp]
        Number of the track of each clip, from 0, in the order of split, genre, recording and name of the track.

    Raises
    ------
    UsageError
        If a clip has no genre, or ``genre`` is not categorical.
    """
    labels_of(table)
    columns = [name for name in (*META_COLUMNS, "track") if name in table]
    return table.groupby(columns, observed=True, sort=True).ngroup().to_numpy(dtype=np.intp)


def decision_level(table: pd.DataFrame) -> Level:
    """Return the level at which a table decides: ``track`` if any track has several clips, else ``clip``.

    Raises
    ------
    UsageError
        As in `track_codes`.
    """
    codes = track_codes(table)
    return "track" if len(np.unique(codes)) < len(codes) else "clip"


def per_track(table: pd.DataFrame) -> pd.DataFrame:
    """Average a probability table over the clips of each track, as a served model averages the windows of a file.

    Parameters
    ----------
    table : pd.DataFrame
        Probability table.

    Returns
    -------
    pd.DataFrame
        Probability table with a row per track, which has the first of its clips' ids in alphabetical order; `table`
        itself if no track has several clips.

    Raises
    ------
    UsageError
        If `table` is no probability table.
    """
    genres = genres_of(table)
    proba = proba_of(table)
    codes = track_codes(table)
    n_clips = np.bincount(codes)
    if (n_clips == 1).all():
        return table
    order = np.lexsort((table.index.astype(str), codes))
    first = np.cumsum(n_clips) - n_clips
    tracks = table.iloc[order[first]].copy()
    tracks[genres] = np.add.reduceat(proba[order], first) / n_clips[:, None]
    return tracks


def align_tables(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Align probability tables on their common clips.

    Parameters
    ----------
    tables : sequence of pd.DataFrame
        Probability tables over the same genres, in any order; clips are joined by id.

    Returns
    -------
    list of pd.DataFrame
        One aligned table per input, clips in the order of their ids; splits, recordings and the order of the genre
        columns are those of the first.

    Raises
    ------
    UsageError
        If the tables have other genres, no common clips, repeated ids, or disagree on the genre of a clip.
    """
    first = tables[0]
    genres = genres_of(first)
    common = first.index
    for table in tables:
        if set(genres_of(table)) != set(genres):
            raise UsageError(f"the tables have different genres: {', '.join(genres)} and {', '.join(genres_of(table))}")
        if not table.index.is_unique:
            raise UsageError("a clip id occurs more than once in a probability table; ids must be unique")
        common = common.intersection(table.index)
    if common.empty:
        raise UsageError("the tables have no clip in common; score the models on the same clips first")
    base = first.loc[common.sort_values()]
    return [base.assign(**_matching_probabilities(table, base, genres)) for table in tables]


def _matching_probabilities(table: pd.DataFrame, base: pd.DataFrame, genres: list[str]) -> dict[str, pd.Series]:
    """Return the probabilities of the clips of `base`, after checking that the table agrees on their genres."""
    table = table.loc[base.index]
    differ = (base["genre"].astype(str) != table["genre"].astype(str)).to_numpy()
    if differ.any():
        clip = base.index[differ][0]
        raise UsageError(
            f"the tables disagree on the genre of {differ.sum()} clips, the first of them {clip!r}; "
            "score the models on the same labels"
        )
    return {genre: table[genre] for genre in genres}


def validate_genres(genres: Sequence[str]) -> list[str]:
    """Check that genres can be the columns of a table; return them as a list.

    Raises
    ------
    UsageError
        If there are fewer than two, one occurs twice, or one is named like a column of the table.
    """
    genres = [str(genre) for genre in genres]
    if len(genres) < 2 or len(set(genres)) < len(genres):
        raise UsageError(f"the genres are {genres}; at least two different genres are needed, each once")
    reserved = sorted(set(genres) & {*META_COLUMNS, "track"})
    if reserved:
        raise UsageError(f"a genre cannot be called {reserved[0]!r}: the table has a column of that name; rename it")
    return genres


def check_labels(y_true: np.ndarray, n_genres: int) -> None:
    """Check that labels are positions of genres, and that there is at least one.

    Raises
    ------
    UsageError
        If there are no labels, or one is not a whole number from 0 to `n_genres` - 1.
    """
    if len(y_true) == 0:
        raise UsageError("no clips to evaluate; the table, or the split taken from it, is empty")
    if y_true.ndim != 1 or y_true.dtype.kind not in "iu" or y_true.min() < 0 or y_true.max() >= n_genres:
        raise UsageError(f"labels must be whole numbers from 0 to {n_genres - 1}, one per clip")


def validate_proba(proba: np.ndarray, genres: list[str], ids: pd.Index) -> np.ndarray:
    """Check probabilities; return them as float64, rows normalised to sum to 1.

    Raises
    ------
    UsageError
        If the shape is not that of clips and genres, or a row is not finite, negative or does not sum to 1.
    """
    proba = np.asarray(proba, dtype=np.float64)
    if proba.shape != (len(ids), len(genres)):
        raise UsageError(f"probabilities have shape {proba.shape}; clips and genres need {(len(ids), len(genres))}")
    _check_finite(proba, ids)
    total = proba.sum(axis=1, keepdims=True)
    wrong = np.abs(total[:, 0] - 1) > SUM_TOLERANCE
    if wrong.any():
        raise UsageError(f"the probabilities of clip {ids[wrong][0]!r} sum to {total[wrong][0, 0]:.6g}, not to 1")
    return proba / total


def _check_finite(proba: np.ndarray, ids: pd.Index) -> None:
    """Refuse probabilities that are not finite or are negative, naming the clip."""
    bad = ~np.isfinite(proba).all(axis=1) | (proba < 0).any(axis=1)
    if bad.any():
        raise UsageError(f"the probabilities of clip {ids[bad][0]!r} are not finite or are negative: {proba[bad][0]}")


def _check_column(name: str, values: Any, ids: pd.Index) -> np.ndarray:
    """Check that a column is as long as the index and every clip has a value; return it as an array."""
    column = np.asarray(values, dtype=object)
    if column.shape != ids.shape:
        raise UsageError(f"{name} has shape {column.shape}; {len(ids)} clip ids need one value each")
    if pd.isna(column).any():
        raise UsageError(f"clip {ids[pd.isna(column)][0]!r} has no {name}; every clip needs one")
    return column


def _categorical(values: np.ndarray, genres: list[str]) -> "pd.Categorical[str]":
    """Convert genres to a categorical with the categories in order; unknown ones become missing."""
    categories = pd.Index(genres)
    return pd.Categorical.from_codes(categories.get_indexer(pd.Index(values)), categories=categories)


def _check_split_and_genre(table: pd.DataFrame, genre: Any) -> None:
    """Refuse a split that is unknown, and a genre that is not one of the table's."""
    wrong = set(table["split"]) - set(SPLITS)
    if wrong:
        raise UsageError(f"unknown split {sorted(map(str, wrong))[0]!r}; choose from {', '.join(SPLITS)}")
    unknown = table["genre"].isna().to_numpy()
    if unknown.any():
        value = np.asarray(genre, dtype=object)[unknown][0]
        raise UsageError(
            f"clip {table.index[unknown][0]!r} has the genre {value!r}; the genres are {', '.join(genres_of(table))}"
        )
