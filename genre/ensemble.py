"""Several models as one: how probability tables combine, which combination is best, and audio to probabilities."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from genre import evaluate, features, models, spectrogram
from genre.config import AudioConfig
from genre.errors import DataError, UsageError
from genre.workspace import read_json, write_json

Mean = Literal["arithmetic", "geometric"]
MEANS: tuple[Mean, ...] = ("arithmetic", "geometric")

#: Adding more members than this did not pay on the paper's own published probabilities.
MAX_MEMBERS = 3


def combine(probas: Sequence[np.ndarray], mean: Mean) -> np.ndarray:
    """Mean of the members' probabilities.

    Parameters
    ----------
    probas : sequence of np.ndarray [shape=(n, k)]
        Rows sum to 1.
    mean : {"arithmetic", "geometric"}
        The geometric one is the mean of the logarithms, normalised again; a zero counts as 1e-12.

    Returns
    -------
    np.ndarray [shape=(n, k)]
        Rows sum to 1.

    Raises
    ------
    UsageError
        If there is no such mean.
    """
    if mean == "arithmetic":
        return np.mean(probas, axis=0)
    if mean == "geometric":
        product = np.exp(np.mean(np.log(np.maximum(probas, 1e-12)), axis=0))
        return product / product.sum(axis=1, keepdims=True)
    raise UsageError(f"unknown mean {mean!r}; choose from {', '.join(MEANS)}")


def combine_tables(tables: Sequence[pd.DataFrame], mean: Mean) -> pd.DataFrame:
    """Probability table of an ensemble from those of its members.

    Raises
    ------
    DataError
        If the tables are not of the same clips and genres.
    """
    first = tables[0]
    for other in tables[1:]:
        if evaluate.genres_of(other) != evaluate.genres_of(first) or not first.index.equals(other.index):
            raise DataError(
                "these probability tables are of other clips or genres; train the models on the same data first"
            )
    out = first.copy()
    out[evaluate.genres_of(first)] = combine([evaluate.proba_of(t) for t in tables], mean)
    return out


def search(tables: Mapping[str, pd.DataFrame], *, split: str = "validation") -> pd.DataFrame:
    """Score every subset of at most three members, under both means.

    Parameters
    ----------
    tables : mapping
        Model name to probability table, all of the same clips.
    split : str
        Split that chooses.

    Returns
    -------
    pd.DataFrame
        Columns ``members`` (tuple of str), ``mean``, ``macro_auc``, ``log_loss``, best first: by macro AUC, then
        log-loss.
    """
    chosen = {name: table[table["split"] == split] for name, table in tables.items()}
    rows = []
    for size in range(1, min(MAX_MEMBERS, len(chosen)) + 1):
        for members in combinations(sorted(chosen), size):
            for mean in MEANS if size > 1 else MEANS[:1]:
                table = combine_tables([chosen[m] for m in members], mean)
                scores = evaluate.metrics(
                    evaluate.labels_of(table), evaluate.proba_of(table), evaluate.genres_of(table)
                )
                rows.append({"members": members, "mean": mean} | {k: scores[k] for k in ("macro_auc", "log_loss")})
    ranked = pd.DataFrame(rows).sort_values(["macro_auc", "log_loss"], ascending=[False, True])
    return ranked.reset_index(drop=True)


@dataclass
class Ensemble:
    """Members that hear the same audio and answer as one; a single model is an ensemble of one.

    Attributes
    ----------
    genres : list of str
        Classes, in order.
    config : AudioConfig
        What the members were trained with.
    members : tuple of str
        Names in `genre.models.MODELS`.
    mean : {"arithmetic", "geometric"}
        How their probabilities combine.
    min_confidence : float
        Below it the answer is ``unknown``; learnt on validation.
    loaded : dict
        Member name to model.
    """

    genres: list[str]
    config: AudioConfig
    members: tuple[str, ...]
    mean: Mean
    min_confidence: float
    loaded: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def label(self) -> str:
        """What a person reads: the model, or the mean of which."""
        return f"{self.mean} mean of {', '.join(self.members)}" if len(self.members) > 1 else self.members[0]

    @classmethod
    def load(cls, directory: Path) -> "Ensemble":
        """Load what `write_spec` wrote, and the members beside it."""
        spec = read_json(directory / "ensemble.json")
        loaded = {name: models.load(name, directory / name) for name in spec["members"]}
        return cls(
            genres=spec["genres"],
            config=AudioConfig(**spec["config"]),
            members=tuple(spec["members"]),
            mean=spec["mean"],
            min_confidence=spec["min_confidence"],
            loaded=loaded,
        )

    def write_spec(self, directory: Path) -> None:
        """Write all but the members, whose files stand in folders of their name beside it."""
        spec = {k: v for k, v in asdict(self).items() if k != "loaded"}
        write_json(directory / "ensemble.json", spec)

    def predict_proba(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities of some clips.

        Parameters
        ----------
        clips : sequence of np.ndarray [shape=(n_samples,), dtype=float32]
            Mono audio at ``config.sr``, each as `genre.audio.clip` returns it.

        Returns
        -------
        np.ndarray [shape=(len(clips), len(genres))]
            Rows sum to 1.
        """
        inputs: dict[str, np.ndarray] = {}
        needs = {models.get(m).needs for m in self.members}
        if "features" in needs:
            inputs["features"] = np.stack([features.extract(y, self.config) for y in clips])
        if "spectrograms" in needs:
            inputs["spectrograms"] = np.stack([spectrogram.log_mel(y, self.config) for y in clips])
        probas = [models.predict_proba(m, self.loaded[m], inputs[models.get(m).needs]) for m in self.members]
        return combine(probas, self.mean)
