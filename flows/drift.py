"""Flow ``drift``: comparison of the music that the champion classifies with the music it was trained on."""

from flows import checks
from flows.cli import main

if __name__ == "__main__":  # above the other imports, so that mistakes are answered before these take seconds
    main(__file__, checks.check_drift)

import json
import logging
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from flows.material import training_clips
from flows.parameters import (
    LARGE_SHIFT,
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
from genre.errors import DataError, GenreError
from genre.store import contents
from genre.studies.drift import measure_shift, select_shifted
from genre.workspace import Workspace
from tracking import cost, registry, results, runs

#: Number of shifts, the largest, that are named in the sentence.
N_NAMED = 3


@dataclass(frozen=True)
class DriftFinding:
    """Shifts between the music that the champion has classified and the music it was trained on.

    Attributes
    ----------
    n_shifted : int
        Number of features that shifted; the distribution of the predicted genres counts as one.
    sentence : str
        Sentence with the largest shifts; empty if nothing shifted.
    """

    n_shifted: int
    sentence: str

    @property
    def is_shifted(self) -> bool:
        """True if anything shifted."""
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
    """Compare the music that the champion has classified, as logged, with the music it was trained on.

    Returns
    -------
    str
        Sentence with the largest shifts; empty if nothing shifted.

    Raises
    ------
    GenreError
        If the registered model has no champion.
    """
    settings = current_settings()
    checks.check_drift(settings)
    folder = checks.find_log_folder(max_drift, log)
    workspace = Workspace(datasets.dataset_id(dataset, source))
    config = AudioConfig(variant=variant)
    with workspace.lock(), runs.experiment_run(workspace, f"drift {registry_name}", settings) as run_id:
        champion = registry.find_version_by_alias(registry_name, "champion")
        if champion is None:
            raise GenreError(f"there is no champion of {registry_name}; check -P registry_name=")
        return measure_drift(workspace, config, champion, folder, max_drift, run_id).sentence


@task(cache_policy=NO_CACHE)
@cost.timed
def measure_drift(
    workspace: Workspace, config: AudioConfig, champion: ModelVersion, folder: Path, max_drift: float, run_id: str
) -> DriftFinding:
    """Measure the shift of every feature and log the table; send the event ``genre.drift.found`` if any shifted."""
    answered = answer_log.read_log(folder, version=f"{champion.name}/{champion.version}")
    predictions = answered[answered["config"] == config.fingerprint]
    table = measure_shift(load_reference(workspace, config, champion), predictions)
    shifted = select_shifted(table, max_drift)
    finding = DriftFinding(0, "")
    if len(shifted):
        largest = ", ".join(f"{row.what} {row.psi:.2f}" for row in shifted.head(N_NAMED).itertuples())
        sentence = (
            f"{len(shifted)} of {len(table)} features shifted by more than {max_drift:g} "
            f"in {len(predictions)} predictions: {largest}"
        )
        finding = DriftFinding(len(shifted), sentence)
        emit_model_event("drift.found", champion.name, sentence)
    summary = finding.sentence if finding.is_shifted else "none"
    note = f"Drift of version {champion.version} of {champion.name}, {len(predictions)} predictions: {summary}."
    if n_other := len(answered) - len(predictions):
        note += f" {n_other} predictions from features of another configuration or version are left out."
    tables.publish_table(run_id, table, "drift", note)
    get_run_logger().log(logging.WARNING if finding.is_shifted else logging.INFO, "%s", note)
    return finding


def load_reference(workspace: Workspace, config: AudioConfig, champion: ModelVersion) -> pd.DataFrame:
    """Load the features of the champion's training clips, and the ``genre`` that it predicts for each.

    Clips that have left the data set since are missing.

    Raises
    ------
    DataError
        If none of the training clips is in this workspace.
    """
    table = load_training_table(champion)
    genres = json.loads(champion.tags["genres"])
    predicted = table[genres].astype(float).idxmax(axis=1)
    clips = training_clips(workspace)
    clips = clips[clips["clip_id"].isin(table.index[table["split"] == "train"])]
    if clips.empty:
        raise DataError(
            f"version {champion.version} of {champion.name} was not trained on {workspace.dataset_id}; "
            "set -P dataset= and -P source= to the data it was trained on"
        )
    features = contents.load_features(clips, workspace.store_dir(config))
    return features.assign(genre=predicted.loc[features.index])


def load_training_table(version: ModelVersion) -> pd.DataFrame:
    """Load the probability table of the clips that a version was trained and tested on; every column is text.

    Raises
    ------
    DataError
        If it is a pretrained network, which was trained elsewhere.
    """
    if version.tags.get("pretrained") == "true":
        raise DataError(
            f"version {version.version} of {version.name} is a pretrained network, whose training music is not here to "
            "compare with; train on music of your own first"
        )
    return results.read_table(str(version.run_id), "probabilities").set_index("clip_id")


def emit_model_event(event: str, registry_name: str, message: str) -> None:
    """Send the event ``genre.{event}`` about a registered model to Prefect, where automations can react to it."""
    resource = {"prefect.resource.id": f"genre.model.{registry_name}", "prefect.resource.name": registry_name}
    emit_event(f"genre.{event}", resource, payload={"message": message})
