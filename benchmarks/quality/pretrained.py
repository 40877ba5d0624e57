"""Scores of the pretrained network's own genres on a labelled folder of real music, and how they are calibrated.

The folder has one sub-folder per genre. A sub-folder whose name is a genre of the network counts for it, whatever its
capitals and hyphens; music of any other genre should come out as ``unknown``. Each track is answered as it is served:
by the mean over its ten-second windows. The temperature and the threshold are fitted on all tracks, and, for scores on
music that they were not fitted on, on each half of the tracks and scored on the other half.

    python -m benchmarks.quality.pretrained ~/Music/by-genre
"""

import os
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from joblib import Parallel, delayed

from genre import weights
from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.audio.left_out import LeftOut
from genre.config import UNKNOWN, AudioConfig
from genre.datasets import folder
from genre.errors import AudioError
from genre.inputs import compute_inputs, embeddings
from genre.models import musicnn_tags
from genre.probabilities.pooling import pool_probabilities

CONFIG = AudioConfig()
GENRES = list(musicnn_tags.TAGS_BY_GENRE)

#: Temperatures tried.
TEMPERATURES = np.arange(0.4, 1.51, 0.05)

#: Share of the named tracks that should be right, as for every ensemble.
PRECISION = 0.8


def embed_track(path: Path, loaded: embeddings.MusicnnWeights) -> np.ndarray:
    """Return the embeddings of the windows of a track, those that are silent left out."""
    rows = []
    for _, y in decoding.decode_windows(path.read_bytes(), CONFIG, max_s=3600):
        try:
            clip = prepare_clip(y, CONFIG)
        except AudioError:
            continue
        rows.append(compute_inputs(clip, CONFIG, ["embeddings"], {"musicnn.npz": loaded})["embeddings"])
    return np.stack(rows)


def track_probabilities(windows: list[np.ndarray], temperature: float) -> np.ndarray:
    """Return the probabilities of each track, as they are served."""
    answers = []
    for X in windows:
        proba = musicnn_tags.predict_proba(musicnn_tags.TAGS_BY_GENRE, X)
        answers.append(pool_probabilities([proba], np.array([1 / temperature])).mean(axis=0))
    return np.stack(answers)


def fit(windows: list[np.ndarray], true: np.ndarray) -> tuple[float, float]:
    """Return the temperature of the least log-loss on known genres, and the lowest threshold of the precision."""
    known = true >= 0
    losses = []
    for temperature in TEMPERATURES:
        proba = track_probabilities(windows, temperature)[known]
        losses.append(-np.log(proba[np.arange(known.sum()), true[known]]).mean())
    temperature = float(TEMPERATURES[int(np.argmin(losses))])
    proba = track_probabilities(windows, temperature)
    confidence = proba.max(axis=1)
    order = np.argsort(-confidence)
    precision = np.cumsum((proba.argmax(axis=1) == true)[order]) / np.arange(1, len(true) + 1)
    reached = np.flatnonzero(precision >= PRECISION)
    return temperature, float(confidence[order][reached[-1]]) if len(reached) else 1.0


def report(proba: np.ndarray, true: np.ndarray, threshold: np.ndarray) -> str:
    """Return accuracy on known genres with its interval, and precision and coverage at the threshold."""
    known = true >= 0
    right = proba.argmax(axis=1) == true
    named = proba.max(axis=1) >= threshold
    rng = np.random.default_rng(0)
    draws = rng.choice(right[known], (2000, known.sum())).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return (
        f"accuracy {right[known].mean():.3f} [{low:.3f}, {high:.3f}] on {known.sum()} tracks of its genres; "
        f"{named.sum()} of {len(true)} tracks named, {right[named].mean():.0%} of them right; "
        f"of its genres {named[known].sum()} named, {right[named & known].mean():.0%} right; "
        f"of others {named[~known].sum()} of {(~known).sum()} named"
    )


def main(
    source: Annotated[Path, typer.Argument(help="Folder with one sub-folder per genre.")],
    weights_path: Annotated[str, typer.Option("--weights", help="Weights of the music network.")] = "",
    n_jobs: Annotated[int, typer.Option(help="Processes.")] = os.cpu_count() or 1,
) -> None:
    """Print the scores, the confusion and the calibration."""
    tracks = pd.DataFrame(folder.find_tracks(source.expanduser(), LeftOut()))
    loaded = embeddings.load_weights(weights.find_weights(weights_path))
    windows = list(Parallel(n_jobs)(delayed(embed_track)(path, loaded) for path in tracks["path"]))
    plain = {_plain(name): n for n, name in enumerate(GENRES)}
    true = tracks["genre"].map(lambda name: plain.get(_plain(name), -1)).to_numpy()
    proba = track_probabilities(windows, musicnn_tags.TEMPERATURE)
    print(f"as registered: {report(proba, true, np.full(len(true), musicnn_tags.MIN_CONFIDENCE))}")
    names = np.where(proba.max(axis=1) >= musicnn_tags.MIN_CONFIDENCE, np.array(GENRES)[proba.argmax(axis=1)], UNKNOWN)
    print(pd.crosstab(tracks["genre"], names, rownames=["labelled"], colnames=["named"]).to_string())
    print("fitted on all: temperature {:.2f}, threshold {:.3f}".format(*fit(windows, true)))
    half = np.random.default_rng(0).permutation(len(true)) % 2
    crossed = np.empty_like(proba)
    thresholds = np.empty(len(true))
    for part in (0, 1):
        fitted_on = np.flatnonzero(half == part)
        temperature, threshold = fit([windows[i] for i in fitted_on], true[fitted_on])
        crossed[half != part] = track_probabilities([windows[i] for i in np.flatnonzero(half != part)], temperature)
        thresholds[half != part] = threshold
    print(f"fitted on the other half: {report(crossed, true, thresholds)}")


def _plain(name: str) -> str:
    """Return a genre's name without capitals, blanks and hyphens."""
    return name.casefold().replace("-", "").replace(" ", "")


if __name__ == "__main__":
    typer.run(main)
