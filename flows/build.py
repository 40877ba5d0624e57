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
    MAX_LOST,
    OPTIONS_EXAMPLE,
    BuiltModels,
    DaskAddress,
    Dataset,
    DatasetOptions,
    MaxLost,
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
from genre.errors import UNREAD, DataError
from genre.files import read_or_make_table, read_table, write_table
from genre.splits import assignment, duplicates, sounds
from genre.store import building, contents, outcomes
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
    max_lost: MaxLost = MAX_LOST,
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
    dataset_options = parameters.parse_json_object(options, "options", example=OPTIONS_EXAMPLE)
    names = required_inputs(select_models(model, dataset), config, has_audio=datasets.get_dataset(dataset).has_audio)
    with workspace.lock(), runs.experiment_run(workspace, f"build {workspace.dataset_id}", settings) as run_id:
        clips = scan_source(workspace, dataset, source, dataset_options, run_id)
        unread = fill_store(workspace, config, clips, source, names, weights, n_jobs, dask)
        update_clips(workspace, config, clips, unread, max_lost)
        pairs = find_duplicate_clips(workspace, config, run_id, n_jobs)
        update_splits(workspace, config, split, pairs, run_id)
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
) -> dict[str, str]:
    """Compute the inputs that the store lacks.

    Returns
    -------
    dict
        Id of each clip whose file could not be read to the reason.
    """
    dataset = clips["dataset"].iloc[0]
    directory = workspace.store_dir(config)
    if not datasets.get_dataset(dataset).has_audio:
        contents.write_source_features(clips, datasets.load_source_features(dataset, source), directory)
        return {}
    missing = install_weights(names, directory, weights)
    available = [name for name in names if name not in missing]
    result = building.build_store(clips, config, directory, names=available, n_jobs=n_jobs, dask=dask)
    cost.count_clips(result.n_computed)
    n_reused = len(clips) - result.n_computed - len(result.unread)
    get_run_logger().info("%s: %d clips computed, %d reused", ", ".join(available), result.n_computed, n_reused)
    return result.unread


@task(cache_policy=NO_CACHE)
@cost.timed
def update_clips(
    workspace: Workspace, config: AudioConfig, clips: pd.DataFrame, unread: dict[str, str], max_lost: float
) -> None:
    """Write the clips table with the status of each clip, unless too many of those that were usable are lost."""
    built = outcomes.mark_unread(contents.with_outcomes(clips, workspace.store_dir(config)), unread)
    outcomes.check_loss(_read_earlier(workspace), built, len(unread), max_lost)
    workspace.write_clips(built)
    if n_unread := int((built["status"] == UNREAD).sum()):
        get_run_logger().warning("%d clips could not be read; the next build tries again", n_unread)


def _read_earlier(workspace: Workspace) -> pd.DataFrame | None:
    """Return the clips of the last build; None if there was none, or its table is damaged and written anew now."""
    try:
        return workspace.read_clips(["clip_id", "status"]) if workspace.is_built() else None
    except DataError as error:
        get_run_logger().warning("%s", error)
        return None


@task(cache_policy=NO_CACHE)
@cost.timed
def find_duplicate_clips(workspace: Workspace, config: AudioConfig, run_id: str, n_jobs: int) -> pd.DataFrame:
    """Find and log the clips that are duplicates; the search is skipped if the clips have not changed."""
    clips = usable_clips(workspace, ["clip_id", "stamp", "recording", "genre", "dataset"]).sort_values("clip_id")
    directory = workspace.store_dir(config)
    path = workspace.duplicates_path(duplicates.duplicates_digest(clips, config.fingerprint))
    has_audio = datasets.get_dataset(clips["dataset"].iloc[0]).has_audio
    if not has_audio:  # the search is repeated: a source may bring other features for the same clip ids
        path.unlink(missing_ok=True)

    def search() -> pd.DataFrame:
        spectrograms = contents.InputReader(clips, directory) if has_audio else None
        return duplicates.find_duplicates(contents.load_features(clips, directory), spectrograms, n_jobs=n_jobs)

    pairs = duplicates.between_recordings(read_or_make_table(path, search), clips)
    workspace.write_duplicates(pairs)
    if len(pairs):
        results.log_table(run_id, pairs, "copies")
        get_run_logger().warning("%d pairs of clips from different recordings are duplicates", len(pairs))
    return pairs


@task(cache_policy=NO_CACHE)
@cost.timed
def update_splits(
    workspace: Workspace, config: AudioConfig, split: SplitMethod, pairs: pd.DataFrame, run_id: str
) -> None:
    """Assign every new recording to a split; duplicates count as one recording, and so does one of another name."""
    columns = ["clip_id", "genre", "recording", "split"]
    stored = workspace.read_assignments()
    existing: pd.DataFrame | None
    if split == "source":
        existing = assignment.published_splits(usable_clips(workspace, columns))
    else:
        existing = recognise_renamed(workspace, config, stored)
    before, after = _resolve_recordings(workspace, pairs, existing, merge=split == "dealt")
    if split == "source":
        workspace.write_splits(assignment.published_splits(usable_clips(workspace, columns)))
        return
    # merged recordings are assigned as well, so that each keeps its split if they are separated again
    assignments = assignment.add_merged_recordings(
        assignment.assign_splits(usable_clips(workspace, columns), existing), before, after
    )
    workspace.write_assignments(assignments)
    if stored is None or len(assignments) > len(stored):
        results.log_assignments(run_id, assignments)
    workspace.write_splits(assignments)


def recognise_renamed(workspace: Workspace, config: AudioConfig, assigned: pd.DataFrame | None) -> pd.DataFrame | None:
    """Return the assignments with those of recordings that are known by their sound under another name.

    The fingerprints of recordings that have none yet are added to the workspace.
    """
    clips = usable_clips(workspace)
    if not datasets.get_dataset(clips["dataset"].iloc[0]).has_audio:
        return assigned
    path = workspace.sounds_path(sounds.name_fingerprints(config))
    names = read_table(path, ["recording"])["recording"] if path.exists() else pd.Series(dtype=str)
    new = sounds.first_of_tracks(clips[~clips["recording"].isin(names)])
    if new.empty:
        return assigned
    fingerprints = sounds.fingerprint_clips(new, workspace.store_dir(config), config)
    fingerprints = fingerprints.assign(recording=new["recording"].to_numpy(str))
    known = read_table(path) if path.exists() else fingerprints.head(0)
    write_table(path, pd.concat([known, fingerprints[~fingerprints.index.isin(known.index)]]))
    if assigned is None:
        return None
    renamed = sounds.recognise_recordings(assigned, fingerprints, known)
    if len(renamed):
        get_run_logger().info("%d recordings of a new name are known by their sound: same split", len(renamed))
    return pd.concat([assigned, renamed], ignore_index=True)


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
