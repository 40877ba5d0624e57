"""What the paper did to AudioSet's unbalanced list: its numbering, its draw, its published test clips."""

import numpy as np
import pandas as pd

from genre.acquisition.ontology import PAPER_GENRES, mids_pattern
from genre.errors import DataError

#: The paper's 2,027 test clips, ``NUMBER_Genre.wav``, as its author published them (MIT).
TEST_LIST_URL = (
    "https://raw.githubusercontent.com/HareeshBahuleyan/music-genre-classification/master/"
    "pred_probas/testset_filenames.txt"
)

#: What the author's notebook 1 prints of the seven-genre rows of the list: the first five, and their number.
FIRST_ROWS = (
    ("--1rvyPa8UM", "Hip hop music"),
    ("--4kp9W7cNY", "Reggae"),
    ("--6HJzEIsFs", "Rhythm and blues"),
    ("--AQ3p3ymeE", "Rock music"),
    ("--BMVWju1-w", "Rhythm and blues"),
)
N_ROWS = 52_107

#: Genres by the first word that stands for them in file names.
_GENRES_BY_TOKEN = {name.split()[0]: name for name in PAPER_GENRES}

#: What the published code drops, and the seed of its draw.
_DROPPED_GENRE, _N_DROPPED, _SEED = "Techno", 10_000, 10


def number_rows(rows: pd.DataFrame) -> pd.Series:
    """Number of each row in the paper's file names: its ordinal among the seven-genre rows of the unbalanced list.

    Parameters
    ----------
    rows : pd.DataFrame
        Columns ``mids`` and ``list``, in the list's order, with at least every row of the seven genres.

    Returns
    -------
    pd.Series
        Whole numbers from 0, and -1 for other rows.
    """
    counted = rows["list"].str.startswith("unbalanced") & rows["mids"].str.contains(
        mids_pattern([*PAPER_GENRES.values()])
    )
    return (counted.cumsum() - 1).where(counted, -1)


def mark_dropped(genres: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Mark the 10,000 Techno rows of the unbalanced list that the published code's draw takes away, or all there are.

    Parameters
    ----------
    genres : np.ndarray [shape=(n,)]
        Name of each row's genre.
    numbers : np.ndarray [shape=(n,)]
        As `number_rows` gives them.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=bool]
    """
    techno = np.flatnonzero((genres == _DROPPED_GENRE) & (numbers >= 0))
    drawn = np.random.RandomState(_SEED).choice(techno, size=min(_N_DROPPED, techno.size), replace=False)
    return np.isin(np.arange(len(genres)), drawn)


def is_test(rows: pd.DataFrame, path: str = "") -> pd.Series:
    """Whether each row is one of the paper's published test clips, once the lists are found to be those it used.

    Parameters
    ----------
    rows : pd.DataFrame
        Columns ``ytid``, ``mids``, ``number``.
    path : str
        Path or URL of the names of the test clips, one a line; empty for the author's.

    Raises
    ------
    DataError
        If the names cannot be read, or the lists are not those of the paper: the message counts what agrees.
    """
    test = read_test_clips(path or TEST_LIST_URL)
    numbered = rows[rows["number"] >= 0].set_index("number")
    printed = pd.DataFrame(FIRST_ROWS, columns=["ytid", "genre"])
    same_video = numbered["ytid"].reindex(printed.index).eq(printed["ytid"])
    n_printed = int((same_video & _has_label(numbered, printed["genre"])).sum())
    n_labels = int(_has_label(numbered, test).sum())
    if n_printed < len(printed) or len(numbered) != N_ROWS or n_labels < len(test):
        raise DataError(
            f"the paper's split cannot be rebuilt from these lists: {n_printed} of the {len(printed)} rows that it "
            f"prints agree, {len(numbered)} of {N_ROWS} seven-genre rows are there, and {n_labels} of {len(test)} test "
            "clips bear their label; give AudioSet's unbalanced_train_segments.csv, or use split=dealt"
        )
    return rows["number"].isin(test.index)


def read_test_clips(path: str) -> pd.Series:
    """Genres of the paper's test clips by number, read from their names, ``NUMBER_Genre.wav``, one a line.

    Raises
    ------
    DataError
        If the list cannot be read, or a line is not such a name.
    """
    try:
        names = pd.read_csv(path, names=["name"], dtype=str)["name"]
    except (ValueError, OSError) as error:
        raise DataError(
            f"{path} cannot be read as the paper's test clips ({error}); give -P test_list=PATH of them"
        ) from None
    parts = names.str.extract(r"^(\d+)_([A-Za-z]+)")
    genres = parts[1].map(_GENRES_BY_TOKEN)
    if genres.isna().any():
        raise DataError(f"{path}: {names[genres.isna()].iloc[0]!r} is not NUMBER_Genre.wav with a genre of the paper")
    return pd.Series(genres.to_numpy(), index=parts[0].astype(int))


def _has_label(numbered: pd.DataFrame, genres: pd.Series) -> pd.Series:
    """Whether each of these numbers is a row that bears the label."""
    mids = numbered["mids"].reindex(genres.index).fillna("")
    found = [genre_id in text.split(",") for genre_id, text in zip(genres.map(PAPER_GENRES), mids, strict=True)]
    return pd.Series(found, index=genres.index)
