"""Data set of an experiment, as a build left it: loaded, checked and logged for the flows."""

import json
from dataclasses import dataclass

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from genre import datasets
from genre.config import AudioConfig, Variant
from genre.errors import DataError
from genre.plots import spectrograms
from genre.splits import assignment
from genre.store import contents
from genre.training.job import table_digest
from genre.workspace import Workspace
from tracking import cost, results, runs


def usable_clips(workspace: Workspace, columns: list[str] | None = None) -> pd.DataFrame:
    """Return the clips with status ``ok``, which have features.

    Parameters
    ----------
    workspace : Workspace
        Of the data set.
    columns : list of str, optional
        Columns of the clips table, by default all.

    Raises
    ------
    DataError
        If there is no such clip.
    """
    outcomes = workspace.read_clips(["status", "reason"])
    is_usable = (outcomes["status"] == "ok").to_numpy()
    if not is_usable.any():
        reason = outcomes["reason"].iloc[0] if len(outcomes) else "the source has no clips"
        raise DataError(
            f"none of {len(outcomes)} clips of {workspace.dataset_id} is usable; reason of the first: {reason}"
        )
    return workspace.read_clips(columns)[is_usable]


def training_clips(workspace: Workspace) -> pd.DataFrame:
    """Return the usable clips in the order of their ids, each with the split of its recording."""
    return assignment.attach_splits(usable_clips(workspace), workspace.read_splits())


@dataclass(frozen=True)
class Material:
    """Clips, splits and configuration that all trainings of an experiment share.

    The digests identify the content of the features and labels, and of the splits: a finished training is reused if
    both are still the same.
    """

    workspace: Workspace
    config: AudioConfig
    has_audio: bool
    synthetic: bool
    clips: pd.DataFrame
    data_digest: str
    splits_digest: str

    @property
    def tags(self) -> dict[str, str]:
        """Tags of every run, model and version made from this data: its data set, and ``true`` if it is synthetic."""
        return {"data_set": self.workspace.dataset_id, "synthetic": str(self.synthetic).lower()}

    @property
    def warning(self) -> str:
        """Sentence that goes with every prediction of a model trained on this data; empty for real music."""
        return datasets.SYNTHETIC_WARNING if self.synthetic else ""

    @property
    def genres(self) -> list[str]:
        """Class names, in the order of the probability tables' columns."""
        return list(self.clips["genre"].cat.categories)


def load_material(dataset: str, source: str, variant: Variant) -> Material:
    """Load the data set that `build` wrote to the workspace.

    Raises
    ------
    DataError
        If it was not built, or has no usable clip.
    """
    workspace = Workspace(datasets.dataset_id(dataset, source))
    config = AudioConfig(variant=variant)
    entry = datasets.get_dataset(dataset)
    clips = training_clips(workspace)
    by_id = clips.set_index("clip_id")
    features = contents.load_features(clips, workspace.store_dir(config))
    return Material(
        workspace=workspace,
        config=config,
        has_audio=entry.has_audio,
        synthetic=entry.synthetic,
        clips=clips,
        data_digest=table_digest(by_id[["genre", "recording"]].astype(str).join(features)),
        splits_digest=table_digest(by_id[["split"]].astype(str)),
    )


@task(cache_policy=NO_CACHE)
@cost.timed
def log_material(run_id: str, material: Material) -> None:
    """Log the data set, and one spectrogram per genre (the paper's figure 1) if there is audio."""
    runs.set_tags(run_id, material.tags)
    results.log_dataset(run_id, material.clips, material.workspace.dataset_id, material.data_digest)
    if not material.has_audio:
        return
    first = material.clips.drop_duplicates("genre").sort_values("genre")
    stored = contents.InputReader(first, material.workspace.store_dir(material.config))[:]
    by_genre = dict(zip(first["genre"].astype(str), stored, strict=True))
    identity = json.dumps([list(by_genre), material.config.to_dict()])
    key = results.derived_key(["plots"], identity.encode(), *map(bytes, by_genre.values()))
    path = material.workspace.derived_path(key, "spectrograms.png")
    results.log_derived_figure(run_id, path, lambda: spectrograms.spectrograms_per_genre(by_genre, material.config))
