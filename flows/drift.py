"""Flow ``drift``: whether what the champion was asked still looks like what it learnt from."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from flows.cli import main
from flows.material import training_clips
from flows.parameters import (
    Dataset,
    MaxDrift,
    PredictionLog,
    RegistryName,
    Source,
    VariantName,
    current_settings,
)
from flows.reports import tables
from genre import answer_log, datasets
from genre.config import AudioConfig
from genre.errors import DataError, GenreError, UsageError
from genre.store import contents
from genre.studies.drift import LARGE_SHIFT, measure_shift, select_shifted
from genre.workspace import Workspace
from tracking import cost, registry, results, runs

#: So many of the largest shifts are named in a sentence.
N_NAMED = 3


@dataclass(frozen=True)
class DriftFinding:
    """Shifts between what the champion was asked and what it was trained on.

    Attributes
    ----------
    n_shifted : int
        Number of features, the genre among them, that shifted.
    sentence : str
        The largest shifts, for people; empty where nothing shifted.
    """

    n_shifted: int
    sentence: str

    @property
    def is_shifted(self) -> bool:
        """Whether anything shifted."""
        return self.n_shifted > 0


@flow(name="drift", flow_run_name="drift {registry_name}")
def drift(
    dataset: Dataset = "demo",
    source: Source = "",
    variant: VariantName = "corrected",
    registry_name: RegistryName = "genre",
    log: PredictionLog = "",
    max_drift: MaxDrift = LARGE_SHIFT,
) -> str:
    """Compare what the champion was asked, by its log, with what it was trained on.

    Returns
    -------
    str
        What was found, in words.
    """
    settings = current_settings()
    registry.check_name(registry_name)
    folder = check_log_folder(max_drift, log)
    workspace, config = Workspace(datasets.dataset_id(dataset, source)), AudioConfig(variant=variant)
    with workspace.lock(), runs.experiment_run(workspace, f"drift {registry_name}", settings) as run_id:
        champion = registry.find_version_by_alias(registry_name, "champion")
        if champion is None:
            raise GenreError(f"there is no champion of {registry_name}; check -P registry_name=")
        return measure_drift(workspace, config, champion, folder, max_drift, run_id).sentence


def check_log_folder(max_drift: float, log: str = "") -> Path:
    """Folder of the log, if one can look for a shift above `max_drift`.

    Raises
    ------
    UsageError
        If the limit is none, or no log is named.
    """
    if not max_drift > 0:
        raise UsageError(f"max_drift must be a population stability index above 0, such as {LARGE_SHIFT}")
    folder = Path(log).expanduser().resolve() if log else answer_log.log_dir()
    if folder is None:
        raise UsageError("to look for drift there must be a log: set GENRE_LOG to its folder, here and where is served")
    return folder


@task(cache_policy=NO_CACHE)
@cost.timed
def measure_drift(
    workspace: Workspace, config: AudioConfig, champion: ModelVersion, folder: Path, max_drift: float, run_id: str
) -> DriftFinding:
    """Compare, log the table, and send an event if anything shifted."""
    seen = answer_log.read_log(folder, version=f"{champion.name}/{champion.version}", config=config)
    table = measure_shift(load_reference(workspace, config, champion), seen)
    far = select_shifted(table, max_drift)
    finding = DriftFinding(0, "")
    if len(far):
        named = ", ".join(f"{row.what} {row.psi:.2f}" for row in far.head(N_NAMED).itertuples())
        sentence = f"{len(far)} of {len(table)} shifted by more than {max_drift:g} in {len(seen)} answers: {named}"
        finding = DriftFinding(len(far), sentence)
        emit_model_event("drift.found", champion.name, sentence)
    shown = finding.sentence if finding.is_shifted else "none"
    note = f"Drift of version {champion.version} of {champion.name}, {len(seen)} answers: {shown}."
    tables.publish_table(run_id, table, "drift", note)
    get_run_logger().log(logging.WARNING if finding.is_shifted else logging.INFO, "%s", note)
    return finding


def load_reference(workspace: Workspace, config: AudioConfig, champion: ModelVersion) -> pd.DataFrame:
    """What a version was trained on, as far as it is still there: features, and the ``genre`` it gives the clips.

    Raises
    ------
    DataError
        If none of it is in this workspace.
    """
    table, genres = load_training_table(champion), json.loads(champion.tags["genres"])
    answers = table[genres].astype(float).idxmax(axis=1)
    clips = training_clips(workspace)
    clips = clips[clips["clip_id"].isin(table.index[table["split"] == "train"])]
    if clips.empty:
        raise DataError(
            f"version {champion.version} of {champion.name} was not trained on {workspace.dataset_id}; "
            "give the -P dataset= and -P source= that it was trained on"
        )
    features = contents.load_features(clips, workspace.store_dir(config))
    return features.assign(genre=answers.loc[features.index])


def load_training_table(version: ModelVersion) -> pd.DataFrame:
    """Probability table of the clips that a version was trained and tested on, as text."""
    return results.read_table(str(version.run_id), "probabilities").set_index("clip_id")


def emit_model_event(event: str, registry_name: str, message: str) -> None:
    """Send an event ``genre.…`` about a registered model to Prefect, for automations to act on."""
    resource = {"prefect.resource.id": f"genre.model.{registry_name}", "prefect.resource.name": registry_name}
    emit_event(f"genre.{event}", resource, payload={"message": message})


if __name__ == "__main__":
    main(drift)
