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


def scores_of(table: pd.DataFrame) -> dict[str, float]:
    """Metrics of a table."""
    return evaluate.compute_metrics(tables.labels_of(table), tables.proba_of(table), tables.genres_of(table))
