"""Several models as one: how their probabilities combine, and audio to probabilities."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import softmax

from genre import models
from genre.config import AudioConfig
from genre.errors import DataError, UsageError
from genre.files import read_json, write_json
from genre.inputs import combine_vectors, compute_inputs, get_input, load_weights
from genre.probabilities import pooling
from genre.probabilities.tables import genres_of, proba_of

Mean = Literal["arithmetic", "geometric", "weighted", "stacked"]

#: Input to its values, of one clip.
ClipInputs = dict[str, np.ndarray]

#: Clips per call of a member: a batch makes it fast, and its size bounds the memory.
BATCH_CLIPS = 64

#: Rules without parameters, and rules whose weights are fitted.
FIXED_MEANS: tuple[Mean, ...] = ("arithmetic", "geometric")
LEARNT_MEANS: tuple[Mean, ...] = ("weighted", "stacked")


def combine_probabilities(
    probas: Sequence[np.ndarray], mean: Mean, weights: Sequence[Any] | np.ndarray | None = None
) -> np.ndarray:
    """Combine the members' probabilities.

    Parameters
    ----------
    probas : sequence of np.ndarray [shape=(n, k)]
        Rows sum to 1.
    mean : {"arithmetic", "geometric", "weighted", "stacked"}
        ``geometric`` is the mean of the logarithms, normalised again, and ``weighted`` the same with a weight per
        member; ``stacked`` is a softmax regression on the logarithms. Zero counts as 1e-12.
    weights : array-like, optional
        For ``weighted`` [shape=(members,)]; for ``stacked`` [shape=(members * k + 1, k)], the last row added to all.

    Returns
    -------
    np.ndarray [shape=(n, k)]
        Rows sum to 1.

    Raises
    ------
    UsageError
        If there is no such rule.
    """
    if mean == "arithmetic":
        return np.mean(probas, axis=0)
    if mean == "geometric":
        return pooling.pool_probabilities(probas, np.full(len(probas), 1 / len(probas)))
    if mean == "weighted":
        return pooling.pool_probabilities(probas, np.asarray(weights))
    if mean == "stacked":
        return softmax(stack_log_probabilities(probas) @ np.asarray(weights), axis=1)
    raise UsageError(f"unknown mean {mean!r}; choose from {', '.join((*FIXED_MEANS, *LEARNT_MEANS))}")


def stack_log_probabilities(probas: Sequence[np.ndarray]) -> np.ndarray:
    """Stack the logarithms of all members' probabilities and a column of ones [shape=(n, members * k + 1)]."""
    logs = np.log(np.maximum(np.hstack(probas), pooling.MIN_PROBABILITY))
    return np.hstack([logs, np.ones((len(logs), 1))])


def combine_tables(
    tables: Sequence[pd.DataFrame], mean: Mean, weights: Sequence[Any] | np.ndarray | None = None
) -> pd.DataFrame:
    """Combine the probability tables of the members; `mean` and `weights` as in `combine_probabilities`.

    Raises
    ------
    DataError
        If the tables are not of the same clips and genres.
    """
    first = tables[0]
    for other in tables[1:]:
        if genres_of(other) != genres_of(first) or not first.index.equals(other.index):
            raise DataError(
                "these probability tables are of other clips or genres; train the models on the same data first"
            )
    out = first.copy()
    out[genres_of(first)] = combine_probabilities([proba_of(t) for t in tables], mean, weights)
    return out


def ensemble_label(members: Sequence[str], mean: Mean) -> str:
    """Return a readable name: the model, or the kind of mean and its members."""
    kind = "stack" if mean == "stacked" else f"{mean} mean"
    return f"{kind} of {', '.join(members)}" if len(members) > 1 else members[0]


@dataclass
class Ensemble:
    """Models that predict together from the same audio; a single model is an ensemble of one.

    Attributes
    ----------
    genres : list of str
        Classes, in order.
    config : AudioConfig
        Configuration that the members were trained with.
    members : tuple of str
        Names in `genre.models.MODELS`.
    mean : {"arithmetic", "geometric", "weighted", "stacked"}
        Rule by which their probabilities combine.
    min_confidence : float
        Confidence below which the prediction is ``unknown``; fitted on clips that no model was trained on, as are
        the next two.
    weights : list, optional
        As in `combine_probabilities`.
    temperature : float
        Temperature of the combined probabilities; 1 leaves them as they are.
    inputs : dict
        Member name to the names of the inputs that it takes, in `genre.inputs.INPUTS`.
    warning : str
        Sentence that goes with every prediction; empty if there is none.
    loaded_models : dict
        Member name to model.
    loaded_weights : dict
        Weights that the inputs are computed with, from `genre.inputs.load_weights`.
    """

    genres: list[str]
    config: AudioConfig
    members: tuple[str, ...]
    mean: Mean
    min_confidence: float
    weights: list[Any] | None = None
    temperature: float = 1.0
    inputs: dict[str, list[str]] = field(default_factory=dict)
    warning: str = ""
    loaded_models: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    loaded_weights: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def input_names(self) -> list[str]:
        """Names of all inputs that the members take, each once."""
        return list(dict.fromkeys(name for member in self.members for name in self.inputs[member]))

    @property
    def label(self) -> str:
        """Readable name: the model, or the kind of mean and its members."""
        return ensemble_label(self.members, self.mean)

    @classmethod
    def load(cls, directory: Path) -> "Ensemble":
        """Load an ensemble that `write_spec` wrote, and the members and weights beside it."""
        spec = read_json(directory / "ensemble.json")
        loaded_models = {name: models.load_model(name, directory / name) for name in spec["members"]}
        ensemble = cls(
            genres=spec["genres"],
            config=AudioConfig(**spec["config"]),
            members=tuple(spec["members"]),
            mean=spec["mean"],
            min_confidence=spec["min_confidence"],
            weights=spec["weights"],
            temperature=spec["temperature"],
            inputs=spec["inputs"],
            warning=spec.get("warning", ""),  # not in models logged before there were warnings
            loaded_models=loaded_models,
        )
        ensemble.loaded_weights = load_weights(directory, ensemble.input_names)
        return ensemble

    def write_spec(self, directory: Path) -> None:
        """Write everything but the members and weights, whose files are beside it, the members' in folders."""
        spec = {k: v for k, v in asdict(self).items() if not k.startswith("loaded_")}
        write_json(directory / "ensemble.json", spec)

    def predict_proba(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Predict the probabilities of clips.

        Parameters
        ----------
        clips : sequence of np.ndarray [shape=(n_samples,), dtype=float32]
            Mono audio at ``config.sr``, each as `genre.audio.clips.prepare_clip` returns it.

        Returns
        -------
        np.ndarray [shape=(len(clips), len(genres))]
            Rows sum to 1.
        """
        return self.predict_inputs([self.compute_inputs(y) for y in clips])

    def compute_inputs(self, y: np.ndarray, executor: Executor | None = None) -> ClipInputs:
        """Compute what the members take of one clip, all of it from one transform.

        Parameters
        ----------
        y : np.ndarray [shape=(n_samples,), dtype=float32]
            As for `predict_proba`.
        executor : Executor, optional
            Threads, in one of which the outputs of a network are computed beside the other inputs. The digits are the
            same where BLAS has one thread.

        Returns
        -------
        dict
            Input to its values, those that a member takes: some forty kilobytes, where the clip has a megabyte.
        """
        of_network = [name for name in self.input_names if get_input(name).weights_file]
        others = [name for name in self.input_names if name not in of_network]
        if executor is None or not of_network or not others:
            return compute_inputs(y, self.config, self.input_names, self.loaded_weights)
        future = executor.submit(compute_inputs, y, self.config, of_network, self.loaded_weights)
        values = compute_inputs(y, self.config, others) | future.result()
        return {name: values[name] for name in self.input_names}

    def predict_inputs(self, clip_inputs: Sequence[ClipInputs]) -> np.ndarray:
        """Predict the probabilities of clips from their inputs, `BATCH_CLIPS` of them per call of a member.

        Parameters
        ----------
        clip_inputs : sequence of dict
            From `compute_inputs`.

        Returns
        -------
        np.ndarray [shape=(len(clip_inputs), len(genres))]
            Rows sum to 1.
        """
        batches = [clip_inputs[i : i + BATCH_CLIPS] for i in range(0, len(clip_inputs), BATCH_CLIPS)]
        return np.concatenate([np.empty((0, len(self.genres))), *(self._predict_batch(batch) for batch in batches)])

    def _predict_batch(self, clip_inputs: Sequence[ClipInputs]) -> np.ndarray:
        inputs = {name: np.stack([clip[name] for clip in clip_inputs]) for name in clip_inputs[0]}
        probas = [
            models.predict_proba(name, self.loaded_models[name], combine_vectors(inputs, self.inputs[name]))
            for name in self.members
        ]
        combined = combine_probabilities(probas, self.mean, self.weights)
        return pooling.pool_probabilities([combined], np.array([1 / self.temperature]))
