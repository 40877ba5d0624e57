"""Flow ``build``: clips, features, spectrograms and splits of a source of music."""

from flows import checks
from flows.cli import main

if __name__ == "__main__":  # above the other imports, so that mistakes are answered before these take seconds
    main(__file__, checks.check_build)

from collections import Counter

import pandas as pd
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.hyperparameters import select_models
from flows.inputs import install_weights, required_inputs
from flows.material import usable_clips
from flows.parameters import (
    FAST,
    BuiltModels,
    DaskAddress,
    Dataset,
    DatasetOptions,
    NJobs,
    Source,
    SplitMethod,
    VariantName,
    WeightsPath,
    current_settings,
)
from flows.reports.left_out import publish_left_out
from genre import datasets, parameters
from genre.audio.left_out import LeftOut
from genre.config import AudioConfig
from genre.files import write_table
from genre.splits import assignment, duplicates
from genre.store import building, contents
from genre.workspace import Workspace
from tracking import cost, results, runs


@flow(name="build", flow_run_name="build {dataset}")
def build(
    dataset: Dataset = "demo",
    source: Source = "",
    variant: VariantName = "corrected",
    split: SplitMethod = "dealt",
    options: DatasetOptions = "{}",
    model: BuiltModels = FAST,
    weights: WeightsPath = "",
    n_jobs: NJobs = -1,
    dask: DaskAddress = "",
) -> dict[str, int]:
    """Bring a data set's clips, inputs and splits up to date; only new or changed clips are computed.

    Returns
    -------
    dict
        Number of clips by status.
    """
    settings = current_settings()
    checks.check_build(settings)
    workspace = Workspace(datasets.dataset_id(dataset, source))
    config = AudioConfig(variant=variant)
    dataset_options = parameters.parse_json_object(options, "options")
    names = required_inputs(select_models(model, dataset), config, has_audio=datasets.get_dataset(dataset).has_audio)
    with workspace.lock(), runs.experiment_run(workspace, f"build {workspace.dataset_id}", settings) as run_id:
        clips = scan_source(workspace, dataset, source, dataset_options, run_id)
        fill_store(workspace, config, clips, source, names, weights, n_jobs, dask)
        pairs = find_duplicate_clips(workspace, config, run_id, n_jobs)
        update_splits(workspace, split, pairs)
        return report_clip_status(workspace, run_id)


@task(cache_policy=NO_CACHE)
@cost.timed
def scan_source(workspace: Workspace, dataset: str, source: str, options: dict, run_id: str) -> pd.DataFrame:
    """List the clips that the source has now, and publish what is left out."""
    left_out = LeftOut()
    clips = datasets.load_clips(dataset, source, workspace.directory, options, left_out)
    publish_left_out(run_id, left_out)
    log = get_run_logger()
    log.info("%s: %d clips of %d recordings", workspace.dataset_id, len(clips), clips["recording"].nunique())
    if datasets.get_dataset(dataset).synthetic:
        log.info("the demo corpus is synthetic: its scores say nothing about real music")
    return clips


@task(cache_policy=NO_CACHE)
@cost.timed
def fill_store(
    workspace: Workspace,
    config: AudioConfig,
    clips: pd.DataFrame,
    source: str,
    names: list[str],
    weights: str,
    n_jobs: int,
    dask: str,
) -> None:
    """Compute the inputs that the store lacks, and write the clips table with their status."""
    dataset = clips["dataset"].iloc[0]
    directory = workspace.store_dir(config)
    if datasets.get_dataset(dataset).has_audio:
        missing = install_weights(names, directory, weights)
        available = [name for name in names if name not in missing]
        n_new = building.build_store(clips, config, directory, names=available, n_jobs=n_jobs, dask=dask)
        cost.count_clips(n_new)
        log = get_run_logger()
        log.info("%s: %d clips computed, %d reused", ", ".join(available), n_new, len(clips) - n_new)
    else:
        contents.write_source_features(clips, datasets.load_source_features(dataset, source), directory)
    workspace.write_clips(contents.with_outcomes(clips, directory))


@task(cache_policy=NO_CACHE)
@cost.timed
def find_duplicate_clips(workspace: Workspace, config: AudioConfig, run_id: str, n_jobs: int) -> pd.DataFrame:
    """Find and log the clips that are duplicates; the search is skipped if the clips have not changed."""
    clips = usable_clips(workspace, ["clip_id", "stamp", "recording", "genre", "dataset"]).sort_values("clip_id")
    directory = workspace.store_dir(config)
    path = workspace.duplicates_path(duplicates.duplicates_digest(clips, config.fingerprint))
    has_audio = datasets.get_dataset(clips["dataset"].iloc[0]).has_audio
    # without audio the search is repeated: a source may bring other features for the same clip ids
    if not (has_audio and path.exists()):
        spectrograms = contents.InputReader(clips, directory) if has_audio else None
        features = contents.load_features(clips, directory)
        write_table(path, duplicates.find_duplicates(features, spectrograms, n_jobs=n_jobs))
    pairs = duplicates.between_recordings(pd.read_parquet(path), clips)
    workspace.write_duplicates(pairs)
    if len(pairs):
        results.log_table(run_id, pairs, "copies")
        get_run_logger().warning("%d pairs of clips from different recordings are duplicates", len(pairs))
    return pairs


@task(cache_policy=NO_CACHE)
@cost.timed
def update_splits(workspace: Workspace, split: SplitMethod, pairs: pd.DataFrame) -> None:
    """Assign every new recording to a split; duplicates count as one recording."""
    columns = ["clip_id", "genre", "recording", "split"]
    existing: pd.DataFrame | None
    if split == "source":
        existing = assignment.published_splits(usable_clips(workspace, columns))
    else:
        existing = workspace.read_assignments()
    before, after = _resolve_recordings(workspace, pairs, existing, merge=split == "dealt")
    if split == "source":
        workspace.write_splits(assignment.published_splits(usable_clips(workspace, columns)))
        return
    # merged recordings are assigned as well, so that each keeps its split if they are separated again
    assignments = assignment.add_merged_recordings(
        assignment.assign_splits(usable_clips(workspace, columns), existing), before, after
    )
    workspace.write_assignments(assignments)
    workspace.write_splits(assignments)


def _resolve_recordings(
    workspace: Workspace, pairs: pd.DataFrame, existing: pd.DataFrame | None, *, merge: bool
) -> tuple[pd.Series, pd.Series]:
    """Resolve duplicates in the clips table; return the recording of each clip before and after."""
    listed = workspace.read_clips()
    split_of = {} if existing is None else dict(zip(existing["recording"], existing["split"], strict=True))
    clips = duplicates.resolve_duplicates(listed, pairs, split_of, merge=merge)
    workspace.write_clips(clips)
    return listed["recording"], clips["recording"]


@task(cache_policy=NO_CACHE)
@cost.timed
def report_clip_status(workspace: Workspace, run_id: str) -> dict[str, int]:
    """Log the number of clips per status, and the clips that are left out."""
    clips = workspace.read_clips(["clip_id", "status", "reason"])
    counts = dict(Counter(clips["status"]))
    runs.log_metrics(run_id, {f"clips_{status}": n for status, n in counts.items()})
    left_out = clips.loc[clips["status"] != "ok", ["clip_id", "status", "reason"]]
    log = get_run_logger()
    log.info("clips: %s", ", ".join(f"{n} {status}" for status, n in counts.items()))
    for clip in left_out.head(10).itertuples():
        log.warning("left out: %s: %s", clip.clip_id, clip.reason)
    if len(left_out):
        # without the reasons, which contain paths on the user's disk
        results.log_table(run_id, left_out[["clip_id", "status"]], "clips_left_out")
    return counts
