"""The paper's use of AudioSet's unbalanced list: row numbers, dropped Techno rows, published test clips."""

import numpy as np
import pandas as pd

from genre.acquisition.ontology import PAPER_GENRES, mids_pattern
from genre.errors import DataError

#: The paper's 2,027 test clips, ``NUMBER_Genre.wav``, as its author published them (MIT).
TEST_LIST_URL = (
    "https://raw.githubusercontent.com/HareeshBahuleyan/music-genre-classification/master/"
    "pred_probas/testset_filenames.txt"
)

#: The first five seven-genre rows of the list, as the author's notebook 1 prints them.
FIRST_ROWS = (
    ("--1rvyPa8UM", "Hip hop music"),
    ("--4kp9W7cNY", "Reggae"),
    ("--6HJzEIsFs", "Rhythm and blues"),
    ("--AQ3p3ymeE", "Rock music"),
    ("--BMVWju1-w", "Rhythm and blues"),
)

#: Number of seven-genre rows that the same notebook prints.
N_ROWS = 52_107

#: Genres by their first word, which is what the paper's file names hold.
_GENRES_BY_TOKEN = {name.split()[0]: name for name in PAPER_GENRES}

#: Genre of which the published code drops rows, how many, and the seed with which it draws them.
_DROPPED_GENRE = "Techno"
_N_DROPPED = 10_000
_SEED = 10


def number_rows(rows: pd.DataFrame) -> pd.Series:
    """Return the number of each row in the paper's file names: its position among the list's seven-genre rows.

    Only rows of the unbalanced list count.

    Parameters
    ----------
    rows : pd.DataFrame
        Columns ``mids`` and ``list``, in the order of the list, with at least every row of the seven genres.

    Returns
    -------
    pd.Series
        Whole numbers from 0, and -1 for other rows.
    """
    is_unbalanced = rows["list"].str.startswith("unbalanced")
    is_numbered = is_unbalanced & rows["mids"].str.contains(mids_pattern([*PAPER_GENRES.values()]))
    return (is_numbered.cumsum() - 1).where(is_numbered, -1)


def mark_dropped(genres: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Mark the 10,000 Techno rows of the unbalanced list that the published code drops, or all if there are fewer.

    Parameters
    ----------
    genres : np.ndarray [shape=(n,)]
        Name of each row's genre.
    numbers : np.ndarray [shape=(n,)]
        As returned by `number_rows`.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=bool]
        True for a dropped row.
    """
    techno = np.flatnonzero((genres == _DROPPED_GENRE) & (numbers >= 0))
    drawn = np.random.RandomState(_SEED).choice(techno, size=min(_N_DROPPED, techno.size), replace=False)
    return np.isin(np.arange(len(genres)), drawn)


def is_test(rows: pd.DataFrame, path: str = "") -> pd.Series:
    """Mark the paper's published test clips, after checking that the lists are those the paper used.

    Parameters
    ----------
    rows : pd.DataFrame
        Columns ``ytid``, ``mids``, ``number``.
    path : str
        Path or URL of the names of the test clips, one per line; empty for the author's.

    Returns
    -------
    pd.Series
        True for a row that is a test clip.

    Raises
    ------
    DataError
        If the names cannot be read, or the lists are not those of the paper. The message counts what agrees.
    """
    test = read_test_clips(path or TEST_LIST_URL)
    numbered = rows[rows["number"] >= 0].set_index("number")
    printed = pd.DataFrame(FIRST_ROWS, columns=["ytid", "genre"])
    same_video = numbered["ytid"].reindex(printed.index).eq(printed["ytid"])
    n_same_rows = int((same_video & _has_label(numbered, printed["genre"])).sum())
    n_same_labels = int(_has_label(numbered, test).sum())
    if n_same_rows < len(printed) or len(numbered) != N_ROWS or n_same_labels < len(test):
        raise DataError(
            f"the paper's split cannot be rebuilt from these lists: {n_same_rows} of the {len(printed)} rows that the "
            f"paper prints agree, {len(numbered)} of {N_ROWS} seven-genre rows are present, and {n_same_labels} of "
            f"{len(test)} test clips have their label; use AudioSet's unbalanced_train_segments.csv, or split=dealt"
        )
    return rows["number"].isin(test.index)


def read_test_clips(path: str) -> pd.Series:
    """Return the genres of the paper's test clips, indexed by their numbers.

    Parameters
    ----------
    path : str
        Path or URL of a list of names ``NUMBER_Genre.wav``, one per line.

    Raises
    ------
    DataError
        If the list cannot be read, or a line is not such a name.
    """
    try:
        names = pd.read_csv(path, names=["name"], dtype=str)["name"]
    except (ValueError, OSError) as error:
        raise DataError(
            f"{path} cannot be read as the paper's list of test clips ({error}); "
            "set -P test_list= to the path or URL of such a list"
        ) from None
    parts = names.str.extract(r"^(\d+)_([A-Za-z]+)")
    genres = parts[1].map(_GENRES_BY_TOKEN)
    if genres.isna().any():
        raise DataError(
            f"{path}: {names[genres.isna()].iloc[0]!r} is not NUMBER_Genre.wav with a genre of the paper; "
            f"the genres are {', '.join(_GENRES_BY_TOKEN)}"
        )
    return pd.Series(genres.to_numpy(), index=parts[0].astype(int))


def _has_label(numbered: pd.DataFrame, genres: pd.Series) -> pd.Series:
    """Mark the numbers (the index of `genres`) whose row in `numbered` has the label of that genre."""
    mids = numbered["mids"].reindex(genres.index).fillna("")
    has_label = [mid in labels.split(",") for mid, labels in zip(genres.map(PAPER_GENRES), mids, strict=True)]
    return pd.Series(has_label, index=genres.index)
