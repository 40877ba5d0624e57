"""Bootstrap of all scores against scikit-learn's on each resample, and the choice of an ensemble, on one CPU core.

Claims: 2,000 resamples of 2,027 clips in seven genres take about one CPU second, and scikit-learn's metrics on the
resampled clips at least thirty times as long; searching five models for an ensemble takes a few seconds.

    python -m benchmarks.speed.bootstrap
"""

import time

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

from benchmarks._shared import measure
from genre import evaluate
from genre.probabilities import tables
from genre.training import selection

GENRES = [f"genre {k}" for k in range(7)]


def make_table(n_clips: int, seed: int) -> pd.DataFrame:
    """Return the probabilities of a model about as good as the paper's, for synthetic clips, one per recording."""
    y = np.arange(n_clips) % len(GENRES)
    logits = 1.7 * np.eye(len(GENRES))[y] + np.random.default_rng(seed).normal(size=(n_clips, len(GENRES)))
    ids = np.arange(n_clips).astype(str)
    return tables.probability_table(ids, "test", [GENRES[k] for k in y], ids, softmax(logits, axis=1), GENRES)


def score_resamples(table: pd.DataFrame, n: int) -> int:
    """Compute the same scores by scikit-learn, with clips repeated as drawn; return the number of resamples."""
    y = tables.labels_of(table)
    proba = tables.proba_of(table)
    rng = np.random.default_rng(0)
    for _ in range(n):
        drawn = rng.integers(len(y), size=len(y))
        predicted = proba[drawn].argmax(axis=1)
        accuracy_score(y[drawn], predicted)
        f1_score(y[drawn], predicted, average="macro")
        log_loss(y[drawn], proba[drawn], labels=range(len(GENRES)))
        for k in range(len(GENRES)):
            roc_auc_score(y[drawn] == k, proba[drawn, k])
    return n


def main(n_clips: int = 2027, n: int = 2000, repeats: int = 5) -> None:
    """Measure and print."""
    table = make_table(n_clips, 0)
    n_by_sklearn = max(n // 50, 2)
    workloads = {
        "scikit-learn": lambda: score_resamples(table, n_by_sklearn),
        "vectorised": lambda: len(evaluate.bootstrap_metrics(table, n=n)),
    }
    seconds = measure.time_alternately(workloads, repeats)
    print(f"\nbootstrap of {n_clips} clips, {len(GENRES)} genres, one core: {measure.describe_cpu()}")
    print(measure.tabulate_rates(seconds, "scikit-learn", "resamples").to_string())
    print(f"{n} resamples: {n * seconds['vectorised'].median():.2f} CPU seconds")
    models = {f"model {seed}": make_table(n_clips, seed) for seed in range(5)}
    start = time.process_time()
    n_candidates = len(selection.search_ensembles(models).candidates)
    print(f"search of {n_candidates} ensembles of five models: {time.process_time() - start:.1f} CPU seconds")


if __name__ == "__main__":
    measure.run_on_one_core(main)
