"""Flow ``robustness``: scores of a registered version on degraded audio."""

from flows import checks
from flows.cli import main

if __name__ == "__main__":  # above the other imports, so that mistakes are answered before these take seconds
    main(__file__, checks.check_robustness)

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.material import training_clips
from flows.parameters import (
    AnyCode,
    Dataset,
    NClips,
    RegistryName,
    Seed,
    Source,
    VariantName,
    VersionName,
    current_settings,
)
from flows.reports.links import publish_links
from flows.reports.tables import publish_table
from genre import datasets
from genre.audio import decoding
from genre.config import AudioConfig
from genre.errors import AudioError, UsageError, explain_system_errors
from genre.plots import comparison
from genre.store import computing
from genre.studies import robustness, trials
from genre.workspace import Workspace
from tracking import aliases, cost, registry, results, runs, scoring


@flow(name="robustness", flow_run_name="robustness {dataset}")
def measure_robustness(
    dataset: Dataset = "demo",
    source: Source = "",
    variant: VariantName = "corrected",
    registry_name: RegistryName = "genre",
    version: VersionName = "champion",
    any_code: AnyCode = False,
    n_clips: NClips = 200,
    seed: Seed = 0,
) -> dict[str, float]:
    """Score a registered version on test clips, original and degraded: encoded, louder, noisy, faster, shorter.

    Returns
    -------
    dict
        Degradation to macro AUC.

    Raises
    ------
    UsageError
        If the data set has no audio, or a parameter is out of range.
    """
    settings = current_settings()
    checks.check_robustness(settings)
    workspace = Workspace(datasets.dataset_id(dataset, source))
    config = AudioConfig(variant=variant)
    publish = partial(publish_links, figure="robustness")
    with workspace.lock(), runs.experiment_run(workspace, f"robustness {version}", settings, publish) as run_id:
        candidate = aliases.resolve_version(registry_name, version, any_code=any_code)
        _check_genres(candidate, workspace)
        clips = _sample_clips(training_clips(workspace), n_clips, seed)
        tables = score_degraded(candidate, clips, config, seed)
        return publish_robustness(run_id, candidate, tables)


@task(cache_policy=NO_CACHE)
@cost.timed
def score_degraded(
    version: ModelVersion, clips: pd.DataFrame, config: AudioConfig, seed: int
) -> dict[str, pd.DataFrame]:
    """Return the probability table of each degradation, predicted by the packaged version in one fresh process."""
    robustness.compile_degradations()
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            delayed(_write_degraded)(clip, name, config, Path(folder), seed + n)
            for n, clip in enumerate(clips.itertuples())
            for name in robustness.DEGRADATIONS
        ]
        rows = Parallel(n_jobs=-1)(jobs)
        usable = pd.DataFrame([row for row in rows if row])
        predicted = scoring.score_clips(registry.version_uri(version.name, version.version), usable, config)
    return {name: _probability_table(clips, k, predicted) for k, name in enumerate(robustness.DEGRADATIONS)}


@task(cache_policy=NO_CACHE)
@cost.timed
def publish_robustness(run_id: str, version: ModelVersion, tables: dict[str, pd.DataFrame]) -> dict[str, float]:
    """Log the card to the run, and the scores without degradation and at worst to the version.

    Returns
    -------
    dict
        Degradation to macro AUC.
    """
    table = robustness.robustness_card(tables)
    worst = table.iloc[int(table["change"].to_numpy().argmin())]
    summary = f"macro AUC {table['macro_auc'].iloc[0]:.3f}, at worst {worst['macro_auc']:.3f} ({worst['degradation']})"
    note = f"Version {version.version} of {version.name} on {len(tables[robustness.CLEAN])} test clips: {summary}."
    publish_table(run_id, table, "robustness", note)
    columns = {"degradation": "label", "macro_auc": "value", "macro_auc_low": "low", "macro_auc_high": "high"}
    plotted = table.rename(columns=columns).assign(series="macro AUC")
    figure = comparison.interval_dots(plotted, note, "Test macro AUC with 95 % interval")
    results.log_figure(run_id, figure, "robustness")
    MlflowClient().set_model_version_tag(version.name, version.version, "robustness", summary)
    return dict(zip(table["degradation"], table["macro_auc"], strict=True))


def _check_genres(version: ModelVersion, workspace: Workspace) -> None:
    """Refuse a version that knows other genres than those of the data set."""
    known = json.loads(version.tags.get("genres", "[]"))
    genres = list(training_clips(workspace)["genre"].cat.categories)
    if known != genres:
        raise UsageError(
            f"version {version.version} of {version.name} knows {', '.join(known)}, and {workspace.dataset_id} has "
            f"{', '.join(genres)}; choose a version that was trained on it by -P version= or -P registry_name="
        )


def _sample_clips(clips: pd.DataFrame, n_clips: int, seed: int) -> pd.DataFrame:
    """Return a random sample of the test clips, stratified by genre."""
    test = clips[clips["split"] == "test"]
    fraction = min(1.0, n_clips / len(test))
    return test.groupby("genre", observed=True).sample(frac=fraction, random_state=seed).sort_values("clip_id")


def _write_degraded(clip: Any, name: str, config: AudioConfig, folder: Path, seed: int) -> dict[str, object] | None:
    """Write a degraded clip to a file; return its row for `scoring.score_clips`, or None if no sound is left."""
    k = list(robustness.DEGRADATIONS).index(name)
    duration_s = clip.end_s - clip.start_s
    with explain_system_errors(clip.path):
        y = decoding.decode_audio(clip.path, sr=robustness.SR, start_s=clip.start_s, duration_s=duration_s)
    path = folder / f"{seed}-{k}.audio"
    path.write_bytes(robustness.degrade_clip(y, name, seed=seed))
    row = {
        "clip_id": _degraded_id(k, clip.clip_id),
        "path": str(path),
        "start_s": 0.0,
        "end_s": duration_s,
    }
    try:
        computing.read_clip(pd.Series(row), config)
    except AudioError:  # a quiet clip at -20 dB may count as silent
        return None
    return row


def _probability_table(clips: pd.DataFrame, k: int, predicted: pd.DataFrame) -> pd.DataFrame:
    """Return the probability table of the k-th degradation, without the clips that it made silent."""
    ids = clips["clip_id"].map(lambda clip_id: _degraded_id(k, clip_id))
    is_predicted = ids.isin(predicted.index)
    proba = predicted.loc[ids[is_predicted], list(clips["genre"].cat.categories)].to_numpy()
    return trials.make_probability_table(clips[is_predicted.to_numpy()], proba)


def _degraded_id(k: int, clip_id: object) -> str:
    """Return the id of a clip under the k-th degradation."""
    return f"{k} {clip_id}"
