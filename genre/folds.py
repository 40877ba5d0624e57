"""Cross-validation folds that never divide a recording."""

import numpy as np
import pandas as pd


def assign_folds(genre: np.ndarray, recording: np.ndarray, n: int) -> np.ndarray | None:
    """Assign clips to folds that never divide a recording, with every genre in the training part of each fold.

    The same clips in the same order are always assigned to the same folds.

    Parameters
    ----------
    genre : np.ndarray [shape=(n_clips,)]
        Genre of each clip.
    recording : np.ndarray [shape=(n_clips,)]
        Recording that each clip was cut from.
    n : int
        Number of folds, at least 2; there are fewer folds where a genre has fewer recordings.

    Returns
    -------
    np.ndarray [shape=(n_clips,), dtype=int] or None
        Fold of each clip, from 0; None where a genre has too few recordings for two folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    genre = np.asarray(genre)
    recording = np.asarray(recording)
    pairs = pd.DataFrame({"genre": genre, "recording": recording}).drop_duplicates()
    for n_folds in range(min(n, int(pairs["genre"].value_counts().min())), 1, -1):
        fold = np.empty(len(genre), dtype=int)
        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
        for k, (_, held_out) in enumerate(splitter.split(genre, genre, recording)):
            fold[held_out] = k
        if all(set(genre[fold != k]) == set(genre) for k in range(n_folds)):
            return fold
    return None
