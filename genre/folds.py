"""Cross-validation folds that never divide a recording."""

import numpy as np
import pandas as pd


def assign_folds(
    genre: np.ndarray | pd.Series, recording: np.ndarray | pd.Series, n: int, seed: int = 0
) -> np.ndarray | None:
    """Assign clips to folds that never divide a recording, with every genre in the training part of each fold.

    The same clips in the same order are always assigned to the same folds.

    Parameters
    ----------
    genre : array-like [shape=(n_clips,)]
        Genre of each clip. The categories of a categorical count even where no clip has them.
    recording : array-like [shape=(n_clips,)]
        Recording that each clip was cut from.
    n : int
        Number of folds, at least 2; fewer where a genre has fewer recordings, or where the training part of a fold
        would lack a genre.
    seed : int
        Of the assignment. Default 0.

    Returns
    -------
    np.ndarray [shape=(n_clips,), dtype=int] or None
        Fold of each clip, from 0; None where a genre has too few recordings for two folds.
    """
    n_recordings = count_recordings(genre, recording)
    codes = _genre_codes(genre)
    for n_folds in range(min(n, int(n_recordings.iloc[0])), 1, -1):
        fold = draw_folds(genre, recording, n_folds, seed)
        if all(len(np.unique(codes[fold != number])) == len(n_recordings) for number in range(n_folds)):
            return fold
    return None


def draw_folds(genre: np.ndarray | pd.Series, recording: np.ndarray | pd.Series, n_folds: int, seed: int) -> np.ndarray:
    """Assign clips to exactly `n_folds` folds that divide no recording, genres stratified as well as that allows.

    Unlike `assign_folds`, it leaves a genre with few recordings where it falls, perhaps in a single fold.

    Parameters
    ----------
    genre, recording
        As for `assign_folds`.
    n_folds : int
        At least 2, at most the recordings of the rarest genre.
    seed : int
        Of the assignment.

    Returns
    -------
    np.ndarray [shape=(n_clips,), dtype=int]
        Fold of each clip, from 0.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    codes = _genre_codes(genre)
    fold = np.empty(len(codes), dtype=int)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    for number, (_, left_out) in enumerate(splitter.split(codes, codes, np.asarray(recording))):
        fold[left_out] = number
    return fold


def count_recordings(genre: np.ndarray | pd.Series, recording: np.ndarray | pd.Series) -> pd.Series:
    """Count the recordings of each genre, the genre with the fewest first.

    Parameters
    ----------
    genre, recording
        As for `assign_folds`.

    Returns
    -------
    pd.Series
        Indexed by genre; of genres with equally many, in their order.
    """
    clips = pd.DataFrame({"genre": pd.Categorical(genre), "recording": np.asarray(recording)})
    return clips.groupby("genre", observed=False)["recording"].nunique().sort_values(kind="stable")


def _genre_codes(genre: np.ndarray | pd.Series) -> np.ndarray:
    """Return the codes of the genres, in the order of their categories or, without any, of their names."""
    return pd.Categorical(genre).codes.astype(int)
