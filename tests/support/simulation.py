"""Simulation of two models of known skill, to measure the promotion rule over many comparisons."""

import numpy as np
import pandas as pd
from scipy.special import softmax

from genre import evaluate
from genre.probabilities.tables import probability_table


def two_models(
    rng: np.random.Generator, *, n_clips: int, n_genres: int, skills: tuple[float, float], shared: float = 0.7
) -> list[pd.DataFrame]:
    """Probability tables of two models for which the same clips are difficult, two clips per recording.

    A model's logit of the true genre lies `skill` above the others, plus noise. A share `shared` of the noise is the
    same for both models, and half of all noise is the same for the clips of a recording.
    """
    genres = [f"genre {k}" for k in range(n_genres)]
    recording = np.arange(n_clips) // 2
    y = recording % n_genres

    def noise() -> np.ndarray:
        of_recordings = rng.normal(size=(recording[-1] + 1, n_genres))[recording]
        return (of_recordings + rng.normal(size=(n_clips, n_genres))) / np.sqrt(2)

    common = noise()
    ids = np.arange(n_clips).astype(str)
    names = recording.astype(str)
    truth = [genres[k] for k in y]
    tables = []
    for skill in skills:
        logits = skill * np.eye(n_genres)[y] + np.sqrt(shared) * common + np.sqrt(1 - shared) * noise()
        tables.append(probability_table(ids, "test", truth, names, softmax(logits, axis=1), genres))
    return tables


def share_promoted(
    n_trials: int, *, n_clips: int, n_genres: int, skills: tuple[float, float], n: int, seed: int = 0
) -> tuple[float, float]:
    """Share of trials in which the second model may replace the first, and its mean gain in macro AUC."""
    rng = np.random.default_rng(seed)
    gains = []
    for trial in range(n_trials):
        champion, candidate = two_models(rng, n_clips=n_clips, n_genres=n_genres, skills=skills)
        gains.append(evaluate.paired_gain(candidate, champion, n=n, seed=trial, level="track"))
    promoted = [not evaluate.find_objections(gain) for gain in gains]
    return float(np.mean(promoted)), float(np.mean([gain["gain"] for gain in gains]))
