"""Cross-validation folds that keep every recording in one piece."""

import numpy as np
import pandas as pd


def assign_folds(genre: np.ndarray, recording: np.ndarray, n: int) -> np.ndarray | None:
    """Deal clips to folds that no recording straddles, with every genre in the training part of each.

    The same clips in the same order are always dealt alike.

    Parameters
    ----------
    genre : np.ndarray [shape=(n_clips,)]
        Genre of each clip.
    recording : np.ndarray [shape=(n_clips,)]
        What each clip was cut from.
    n : int
        Folds, at least 2; fewer where a genre has fewer recordings.

    Returns
    -------
    np.ndarray [shape=(n_clips,), dtype=int] or None
        Fold of each clip, from 0; None where a genre has too few recordings for two folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    genre, recording = np.asarray(genre), np.asarray(recording)
    pairs = pd.DataFrame({"genre": genre, "recording": recording}).drop_duplicates()
    for n_folds in range(min(n, int(pairs["genre"].value_counts().min())), 1, -1):
        fold = np.empty(len(genre), dtype=int)
        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
        for number, (_, left_out) in enumerate(splitter.split(genre, genre, recording)):
            fold[left_out] = number
        if all(set(genre[fold != number]) == set(genre) for number in range(n_folds)):
            return fold
    return None
