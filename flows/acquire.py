"""Flow ``acquire``: download of the clips in AudioSet's lists of segments, in runs over several days if needed."""

from flows import checks
from flows.cli import main

if __name__ == "__main__":  # above the other imports, so that mistakes are answered before these take seconds
    main(__file__, checks.check_acquire)

import inspect
import logging
import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import State, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed
from tqdm import tqdm

from flows.parameters import (
    YOUTUBE_URL,
    AskAgain,
    AudioFormat,
    AudioSetGenres,
    ClassLabels,
    ClipFiles,
    Descendants,
    Downloads,
    IntervalS,
    MaxClips,
    MaxHours,
    Ontology,
    OverlapPolicy,
    PerGenre,
    RestS,
    RetryS,
    SampleRate,
    SegmentLists,
    SegmentSeed,
    SegmentSplit,
    TestList,
    TimeoutS,
    VideoUrl,
    current_settings,
)
from flows.reports import coverage
from genre import datasets, parameters
from genre.acquisition import import_clips, segments
from genre.acquisition.download import DownloadSettings, SegmentDownloader
from genre.acquisition.ledger import Ledger
from genre.acquisition.segments import SegmentSelection
from genre.acquisition.session import Acquisition, Pace, StopReason
from genre.files import read_json, write_json
from genre.workspace import Workspace
from tracking import cost, runs


@flow(name="acquire", flow_run_name="acquire audioset")
def acquire(
    source: SegmentLists = "",
    genres: AudioSetGenres = "",
    descendants: Descendants = "no",
    policy: OverlapPolicy = "drop",
    per_genre: PerGenre = 0,
    seed: SegmentSeed = 0,
    split: SegmentSplit = "dealt",
    labels: ClassLabels = "",
    ontology: Ontology = "",
    test_list: TestList = "",
    files: ClipFiles = "",
    max_clips: MaxClips = 1000,
    max_hours: MaxHours = 12.0,
    workers: Downloads = 1,
    interval_s: IntervalS = 12.0,
    retry_s: RetryS = 60.0,
    rest_s: RestS = 3600.0,
    sr: SampleRate = 44100,
    format: AudioFormat = "flac",
    timeout_s: TimeoutS = 20.0,
    url: VideoUrl = YOUTUBE_URL,
    again: AskAgain = "none",
) -> State:
    """Download the clips of AudioSet's segments, cycling through the genres; no clip is downloaded twice.

    A cookies file and a proxy come from the environment variables GENRE_COOKIES and GENRE_PROXY, because parameters are
    logged.

    Returns
    -------
    State
        Completed; its name is that of the `genre.acquisition.session.StopReason`.

    Raises
    ------
    UsageError
        If a parameter is out of range, or not one of the accepted values.
    """
    settings = current_settings()
    checks.check_acquire(settings)
    selection = checks.make_selection(settings)
    download = checks.make_download_settings(settings)
    stop_reason = _acquire_clips(source, files, again, selection, download, checks.make_pace(settings), workers)
    return Completed(name=stop_reason.name, message=stop_reason.message)


def _acquire_clips(
    source: str,
    files: str,
    again: str,
    selection: SegmentSelection,
    download: DownloadSettings,
    pace: Pace,
    workers: int,
) -> StopReason:
    """Run the steps of `acquire` as one run of the experiment; the arguments have been checked."""
    workspace = Workspace(datasets.dataset_id("audioset", source))
    settings = current_settings()
    with workspace.lock(), runs.experiment_run(workspace, f"acquire {workspace.dataset_id}", settings) as run_id:
        enroll_segments(workspace, source, selection, again)
        # read back by `last_arguments`; without what is done once
        once = ("source", "files", "again")
        write_json(workspace.acquisition_path, {k: v for k, v in settings.items() if k not in once})
        import_existing_clips(workspace, files, download)
        stop_reason = download_segments(workspace, download, pace, workers)
        report_coverage(workspace, run_id, stop_reason)
    return stop_reason


def last_arguments(source: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the last `acquire` of this source, overridden by `options`.

    Raises
    ------
    UsageError
        If an option is unknown or of the wrong type.
    """
    arguments = inspect.signature(acquire.fn).parameters.values()
    defaults = {a.name: a.default for a in arguments if a.name != "source"}
    last = read_json(Workspace(datasets.dataset_id("audioset", source)).acquisition_path) or {}
    return {"source": source} | parameters.override_defaults(defaults | last, options, "data set 'audioset'")


@task(cache_policy=NO_CACHE)
@cost.timed
def enroll_segments(workspace: Workspace, source: str, selection: SegmentSelection, again: str) -> None:
    """Select the segments and enter them in the ledger, unless it has this selection from these lists already."""
    log = get_run_logger()
    key = {"choice": asdict(selection), "lists": segments.source_stamps(source)}
    with closing(Ledger(workspace.ledger_path)) as ledger:
        if read_json(workspace.selection_path) != key or not sum(ledger.count_by_status().values()):
            ledger.enroll(segments.select_segments(source, selection))
            write_json(workspace.selection_path, key)
        if again == "gone":
            log.info("%d segments that were gone are asked for again", ledger.ask_again())
        n_by_genre = ledger.read_segments()["genre"].value_counts(sort=False)
    listed = ", ".join(f"{n} {genre}" for genre, n in n_by_genre.items())
    log.info("%d segments wanted: %s", n_by_genre.sum(), listed)


@task(cache_policy=NO_CACHE)
@cost.timed
def import_existing_clips(workspace: Workspace, files: str, download: DownloadSettings) -> None:
    """Record the clips that exist already in the ledger: those in the workspace, and those in the folder `files`."""
    shutil.rmtree(workspace.scratch_dir(0).parent, ignore_errors=True)  # left by a run that was killed
    with closing(Ledger(workspace.ledger_path)) as ledger:
        n_adopted, n_missing = import_clips.reconcile_ledger(ledger, workspace.audio_dir)
        if n_adopted or n_missing:
            get_run_logger().info("%d clips found in the audio folder, %d missing from it", n_adopted, n_missing)
        if files:
            with tqdm(desc="files", unit="file", disable=None) as bar:
                outcomes = import_clips.import_files(
                    ledger,
                    Path(files).expanduser().resolve(),
                    workspace.audio_dir,
                    download.sr,
                    download.format,
                    bar.update,
                )
            get_run_logger().info("files: %s", ", ".join(f"{n} {outcome}" for outcome, n in outcomes.most_common()))


@task(cache_policy=NO_CACHE)
@cost.timed
def download_segments(workspace: Workspace, download: DownloadSettings, pace: Pace, workers: int) -> StopReason:
    """Download segments until there are enough, or there is another reason to stop."""
    with closing(Ledger(workspace.ledger_path)) as ledger:
        counts = ledger.count_by_status()
        if not counts["waiting"]:
            return StopReason("Complete", "every segment is downloaded or unavailable")
        if not pace.max_clips or counts["done"] < pace.max_clips:
            download.check_values()
        downloaders = [SegmentDownloader(download, workspace.scratch_dir(n)) for n in range(workers)]
        n_possible = counts["done"] + counts["waiting"]
        total = min(pace.max_clips, n_possible) if pace.max_clips else n_possible
        with tqdm(total=total, initial=counts["done"], desc="clips", unit="clip", disable=None) as bar:

            def on_progress() -> None:
                now = ledger.count_by_status()
                bar.update(now["done"] - bar.n)
                per_minute = 60 * (bar.format_dict["rate"] or 0)
                bar.set_postfix_str(f"{now['gone']} gone, {now['waiting']} waiting, {per_minute:.1f} clips per minute")

            stop_reason = Acquisition(ledger, downloaders, workspace.audio_dir, pace, on_progress).run()
    level = logging.WARNING if stop_reason.name in ("Resting", "Waiting") else logging.INFO
    get_run_logger().log(level, "%s", stop_reason.message)
    return stop_reason


@task(cache_policy=NO_CACHE)
@cost.timed
def report_coverage(workspace: Workspace, run_id: str, stop_reason: StopReason) -> None:
    """Log the number of clips of each genre, and the reasons why the others are missing."""
    with closing(Ledger(workspace.ledger_path)) as ledger:
        coverage.log_coverage(run_id, ledger.read_segments(), workspace.dataset_id, stop_reason.message)
