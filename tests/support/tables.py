"""Probability tables made by the tests, and their scores."""

import numpy as np
import pandas as pd

from genre import evaluate
from genre.probabilities import tables

GENRES = ["Rock", "Hip hop", "Æther & noise"]


def random_table(seed: int = 0, n: int = 60, per_recording: int = 3, genres: list[str] = GENRES) -> pd.DataFrame:
    """Probability table in which the true genre is favoured; three clips per recording."""
    rng = np.random.default_rng(seed)
    recordings = np.arange(n) // per_recording
    y = (recordings % len(genres)).astype(int)
    proba = rng.dirichlet(np.ones(len(genres)) + 0.5, size=n) + 0.3 * np.eye(len(genres))[y]
    proba /= proba.sum(axis=1, keepdims=True)
    ids = [f"c{i:03d}" for i in range(n)]
    return tables.probability_table(ids, "test", [genres[k] for k in y], [f"r{r}" for r in recordings], proba, genres)


def disputed_tracks() -> pd.DataFrame:
    """Probability table of eight tracks of two genres, three clips each, two wrong with low confidence and one right.

    The right clip is so sure that the mean over the track is right.
    """
    return _table_of_tracks(np.array([0.45, 0.4, 0.95] * 8) - 0.01 * (np.arange(24) // 3))


def consistent_tracks() -> pd.DataFrame:
    """Probability table of the same clips; those of two tracks are all wrong and all others right.

    It has more clips right than `disputed_tracks`, and fewer tracks.
    """
    return _table_of_tracks(np.repeat([0.95, 0.8, 0.8, 0.1, 0.95, 0.8, 0.1, 0.95], 3))


def _table_of_tracks(proba_of_true: np.ndarray) -> pd.DataFrame:
    """Probability table of eight tracks of three clips, from the probability of each clip's true genre."""
    y = np.arange(24) // 3 % 2
    proba = np.where(np.eye(2)[y] == 1, proba_of_true[:, None], 1 - proba_of_true[:, None])
    ids = [f"c{i:02d}" for i in range(24)]
    names = [f"t{i // 3}" for i in range(24)]
    return tables.probability_table(ids, "test", np.array(["a", "b"])[y], names, proba, ["a", "b"], track=names)


def scores_of(table: pd.DataFrame) -> dict[str, float]:
    """Metrics of a table."""
    return evaluate.compute_metrics(tables.labels_of(table), tables.proba_of(table), tables.genres_of(table))
