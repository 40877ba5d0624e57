"""Data set of an experiment: what the flows read of a build, and log of it."""

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


def usable_clips(workspace: Workspace) -> pd.DataFrame:
    """Clips that have features.

    Raises
    ------
    DataError
        If there is none.
    """
    clips = workspace.read_clips()
    good = clips[clips["status"] == "ok"]
    if good.empty:
        first = clips["reason"].iloc[0] if len(clips) else ""
        raise DataError(f"none of {len(clips)} clips of {workspace.dataset_id} can be used; the first: {first}")
    return good


def training_clips(workspace: Workspace) -> pd.DataFrame:
    """Usable clips in the order of their ids, each with the split of its recording."""
    return assignment.attach_splits(usable_clips(workspace), workspace.read_splits())


@dataclass(frozen=True)
class Material:
    """Clips, splits and configuration that all trainings of an experiment share."""

    workspace: Workspace
    config: AudioConfig
    has_audio: bool
    synthetic: bool
    clips: pd.DataFrame
    data_digest: str
    splits_digest: str

    @property
    def tags(self) -> dict[str, str]:
        """Tags of origin for every run, model and version made from this."""
        return {"data_set": self.workspace.dataset_id, "synthetic": str(self.synthetic).lower()}

    @property
    def genres(self) -> list[str]:
        """Classes, in order."""
        return list(self.clips["genre"].cat.categories)


def load_material(dataset: str, source: str, variant: Variant) -> Material:
    """Read what `build` left.

    Raises
    ------
    DataError
        If it left nothing.
    """
    workspace, config = Workspace(datasets.dataset_id(dataset, source)), AudioConfig(variant=variant)
    clips, kind = training_clips(workspace), datasets.get_dataset(dataset)
    known = clips.set_index("clip_id")
    features = contents.load_features(clips, workspace.store_dir(config))
    return Material(
        workspace=workspace,
        config=config,
        has_audio=kind.has_audio,
        synthetic=kind.synthetic,
        clips=clips,
        data_digest=table_digest(known[["genre", "recording"]].astype(str).join(features)),
        splits_digest=table_digest(known[["split"]].astype(str)),
    )


@task(cache_policy=NO_CACHE)
@cost.timed
def log_material(run_id: str, material: Material) -> None:
    """Log the data set, and a spectrogram of each genre (the paper's figure 1)."""
    runs.set_tags(run_id, material.tags)
    results.log_dataset(run_id, material.clips, material.workspace.dataset_id, material.data_digest)
    if not material.has_audio:
        return
    first = material.clips.drop_duplicates("genre").sort_values("genre")
    pictures = contents.InputReader(first, material.workspace.store_dir(material.config))[:]
    by_genre = dict(zip(first["genre"].astype(str), pictures, strict=True))
    results.log_figure(run_id, spectrograms.spectrograms_per_genre(by_genre, material.config), "spectrograms")
