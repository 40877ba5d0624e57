"""The bootstrap of all scores against scikit-learn's on each resample, and the choice of an ensemble, on one CPU core.

Claims: 2,000 resamples of 2,027 clips in seven genres take about one CPU second, and scikit-learn's metrics on the
resampled clips at least thirty times as long; searching five models for an ensemble takes a few seconds.

    python benchmarks/bootstrap.py
"""

import measure

measure.one_core()

import time  # noqa: E402

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import typer  # noqa: E402
from scipy.special import softmax  # noqa: E402
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score  # noqa: E402

from genre import evaluate  # noqa: E402
from genre.probabilities import tables  # noqa: E402
from genre.training import selection  # noqa: E402

GENRES = [f"genre {k}" for k in range(7)]


def table_of(n_clips: int, seed: int) -> pd.DataFrame:
    """A model about as good as the paper's, on made-up clips, one a recording."""
    y = np.arange(n_clips) % len(GENRES)
    logits = 1.7 * np.eye(len(GENRES))[y] + np.random.default_rng(seed).normal(size=(n_clips, len(GENRES)))
    ids = np.arange(n_clips).astype(str)
    return tables.probability_table(ids, "test", [GENRES[k] for k in y], ids, softmax(logits, axis=1), GENRES)


def one_by_one(table: pd.DataFrame, n: int) -> int:
    """The same scores by scikit-learn, clips repeated as drawn; returns the resamples done."""
    y, proba, rng = tables.labels_of(table), tables.proba_of(table), np.random.default_rng(0)
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
    table, few = table_of(n_clips, 0), max(n // 50, 2)
    ways = {
        "scikit-learn": lambda: one_by_one(table, few),
        "vectorised": lambda: len(evaluate.bootstrap_metrics(table, n=n)),
    }
    seconds = measure.alternately(ways, repeats)
    print(f"\nbootstrap of {n_clips} clips, {len(GENRES)} genres, one core: {measure.cpu()}")
    print(measure.compared(seconds, "scikit-learn", "resamples").to_string())
    print(f"{n} resamples: {n * seconds['vectorised'].median():.2f} CPU seconds")
    models = {f"model {seed}": table_of(n_clips, seed) for seed in range(5)}
    start = time.process_time()
    n_candidates = len(selection.search_ensembles(models).candidates)
    print(f"search of {n_candidates} ensembles of five models: {time.process_time() - start:.1f} CPU seconds")


if __name__ == "__main__":
    typer.run(main)
