"""Flow ``build``: from a source of music to clips, features, spectrograms and splits."""

from collections import Counter

import pandas as pd
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.cli import main
from flows.material import usable_clips
from flows.parameters import (
    DaskAddress,
    Dataset,
    DatasetOptions,
    NJobs,
    Source,
    SplitMethod,
    VariantName,
    current_settings,
)
from genre import datasets, parameters
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
    n_jobs: NJobs = -1,
    dask: DaskAddress = "",
) -> dict[str, int]:
    """Bring a data set's clips, features, spectrograms and splits up to date; what exists is kept.

    Returns
    -------
    dict
        Number of clips by status.
    """
    settings = current_settings()
    workspace, config = Workspace(datasets.dataset_id(dataset, source)), AudioConfig(variant=variant)
    chosen = parameters.parse_json_object(options, "options")
    with workspace.lock(), runs.experiment_run(workspace, f"build {workspace.dataset_id}", settings) as run_id:
        clips = scan_source(workspace, dataset, source, chosen)
        fill_store(workspace, config, clips, source, n_jobs, dask)
        update_splits(workspace, split, find_duplicate_clips(workspace, config, run_id, n_jobs))
        return report_clip_status(workspace, run_id)


@task(cache_policy=NO_CACHE)
@cost.timed
def scan_source(workspace: Workspace, dataset: str, source: str, options: dict) -> pd.DataFrame:
    """List the source's clips as they are now."""
    clips = datasets.load_clips(dataset, source, workspace.directory, options)
    log = get_run_logger()
    log.info("%s: %d clips of %d recordings", workspace.dataset_id, len(clips), clips["recording"].nunique())
    if datasets.get_dataset(dataset).synthetic:
        log.info("the demo corpus is synthetic: its scores say nothing about real music")
    return clips


@task(cache_policy=NO_CACHE)
@cost.timed
def fill_store(
    workspace: Workspace, config: AudioConfig, clips: pd.DataFrame, source: str, n_jobs: int, dask: str
) -> None:
    """Fill the store with the features and spectrograms that it lacks, then write what became of each clip."""
    dataset, directory = clips["dataset"].iloc[0], workspace.store_dir(config)
    if datasets.get_dataset(dataset).has_audio:
        n_new = building.build_store(clips, config, directory, n_jobs=n_jobs, dask=dask)
        cost.count_clips(n_new)
        get_run_logger().info("features and spectrograms: %d clips computed, %d reused", n_new, len(clips) - n_new)
    else:
        contents.write_source_features(clips, datasets.load_source_features(dataset, source), directory)
    workspace.write_clips(contents.with_outcomes(clips, directory))


@task(cache_policy=NO_CACHE)
@cost.timed
def find_duplicate_clips(workspace: Workspace, config: AudioConfig, run_id: str, n_jobs: int) -> pd.DataFrame:
    """Find the same music among the clips, and log the pairs; found once for the same clips."""
    clips, directory = usable_clips(workspace).sort_values("clip_id"), workspace.store_dir(config)
    path = workspace.duplicates_path(duplicates.duplicates_digest(clips, config.fingerprint))
    has_audio = datasets.get_dataset(clips["dataset"].iloc[0]).has_audio
    if not (has_audio and path.exists()):  # features that a source brings may change under the same name
        pictures = contents.InputReader(clips, directory) if has_audio else None
        write_table(path, duplicates.find_duplicates(contents.load_features(clips, directory), pictures, n_jobs=n_jobs))
    found = duplicates.between_recordings(pd.read_parquet(path), clips)
    workspace.write_duplicates(found)
    if len(found):
        results.log_table(run_id, found, "copies")
        get_run_logger().warning("%d pairs of clips of different recordings are the same music", len(found))
    return found


@task(cache_policy=NO_CACHE)
@cost.timed
def update_splits(workspace: Workspace, split: SplitMethod, pairs: pd.DataFrame) -> None:
    """Give every new recording its split; copies are one recording."""
    listed = workspace.read_clips()
    known = assignment.published_splits(usable_clips(workspace)) if split == "source" else workspace.read_assignments()
    sides = {} if known is None else dict(zip(known["recording"], known["split"], strict=True))
    clips = duplicates.resolve_duplicates(listed, pairs, sides, merge=split == "dealt")
    workspace.write_clips(clips)
    if split == "source":
        workspace.write_splits(assignment.published_splits(usable_clips(workspace)))
        return
    dealt = assignment.add_merged_recordings(
        assignment.assign_splits(usable_clips(workspace), known), listed["recording"], clips["recording"]
    )
    workspace.write_assignments(dealt)
    workspace.write_splits(dealt)


@task(cache_policy=NO_CACHE)
@cost.timed
def report_clip_status(workspace: Workspace, run_id: str) -> dict[str, int]:
    """Count the clips by status, name those left out, and log both."""
    clips = workspace.read_clips()
    counts = dict(Counter(clips["status"]))
    runs.log_metrics(run_id, {f"clips_{status}": n for status, n in counts.items()})
    left_out = clips.loc[clips["status"] != "ok", ["clip_id", "status", "reason"]]
    log = get_run_logger()
    log.info("clips: %s", ", ".join(f"{n} {status}" for status, n in counts.items()))
    for clip in left_out.head(10).itertuples():
        log.warning("left out: %s: %s", clip.clip_id, clip.reason)
    if len(left_out):
        # reasons name files of the user's disk: the ids are enough for others
        results.log_table(run_id, left_out[["clip_id", "status"]], "clips_left_out")
    return counts


if __name__ == "__main__":
    main(build)
