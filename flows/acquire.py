"""Flow ``acquire``: from AudioSet's lists of segments to clips, over days if need be."""

import inspect
import os
import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prefect import State, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed
from tqdm import tqdm

from flows.cli import main
from flows.parameters import (
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
from genre.acquisition.download import YOUTUBE_URL, DownloadSettings, SegmentDownloader
from genre.acquisition.ledger import Ledger
from genre.acquisition.segments import SegmentSelection
from genre.acquisition.session import Acquisition, Pace, StopReason
from genre.errors import UsageError
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
) -> State:
    """Get the clips of AudioSet's segments, one genre after the other in turn; what is there is never fetched again.

    A cookies file and a proxy come from the environment, GENRE_COOKIES and GENRE_PROXY, since parameters are logged.

    Returns
    -------
    State
        Completed, named after why it stopped: see `genre.acquisition.session.StopReason`.
    """
    choice = SegmentSelection(
        genres=genres,
        descendants=descendants == "yes",
        policy=policy,
        per_genre=per_genre,
        seed=seed,
        split=split,
        labels=labels,
        ontology=ontology,
        test_list=test_list,
    )
    pace = Pace(max_clips=max_clips, max_hours=max_hours, interval_s=interval_s, retry_s=retry_s, rest_s=rest_s)
    origin = _with_session(DownloadSettings(url=url, sr=sr, format=format, timeout_s=timeout_s))
    choice.check_values()
    pace.check_values()
    if workers not in (1, 2):
        raise UsageError(f"workers must be 1 or 2, got {workers}: more does not help, the session is limited")
    ending = _acquire_clips(source, files, choice, origin, pace, workers)
    return Completed(name=ending.name, message=ending.message)


def _acquire_clips(
    source: str, files: str, choice: SegmentSelection, origin: DownloadSettings, pace: Pace, workers: int
) -> StopReason:
    """Run the steps of `acquire`, whose arguments have been checked, as one run of the experiment."""
    workspace = Workspace(datasets.dataset_id("audioset", source))
    settings = current_settings()
    with workspace.lock(), runs.experiment_run(workspace, f"acquire {workspace.dataset_id}", settings) as run_id:
        enroll_segments(workspace, source, choice)
        write_json(workspace.acquisition_path, {k: v for k, v in settings.items() if k not in ("source", "files")})
        import_existing_clips(workspace, files, origin)
        ending = download_segments(workspace, origin, pace, workers)
        report_coverage(workspace, run_id, ending)
    return ending


def last_arguments(source: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What `acquire` was last asked for this source, overridden by `options`, as its arguments.

    Raises
    ------
    UsageError
        If an option is unknown or of the wrong type.
    """
    arguments = inspect.signature(acquire.fn).parameters.values()
    known = {a.name: a.default for a in arguments if a.name != "source"}
    before = read_json(Workspace(datasets.dataset_id("audioset", source)).acquisition_path) or {}
    return {"source": source} | parameters.override_defaults(known | before, options, "data set 'audioset'")


@task(cache_policy=NO_CACHE)
@cost.timed
def enroll_segments(workspace: Workspace, source: str, choice: SegmentSelection) -> None:
    """Choose the segments and write them into the ledger, unless it has this choice from these lists already."""
    key = {"choice": asdict(choice), "lists": segments.source_stamps(source)}
    with closing(Ledger(workspace.ledger_path)) as ledger:
        if read_json(workspace.selection_path) != key or not sum(ledger.count_by_status().values()):
            ledger.enroll(segments.select_segments(source, choice))
            write_json(workspace.selection_path, key)
        by_genre = ledger.read_segments()["genre"].value_counts(sort=False)
    told = ", ".join(f"{n} {genre}" for genre, n in by_genre.items())
    get_run_logger().info("%d segments wanted: %s", by_genre.sum(), told)


@task(cache_policy=NO_CACHE)
@cost.timed
def import_existing_clips(workspace: Workspace, files: str, origin: DownloadSettings) -> None:
    """Adopt the clips that are there: in the workspace, and in the folder named."""
    shutil.rmtree(workspace.scratch_dir(0).parent, ignore_errors=True)
    with closing(Ledger(workspace.ledger_path)) as ledger:
        n_adopted, n_missing = import_clips.reconcile_ledger(ledger, workspace.audio_dir)
        if n_adopted or n_missing:
            get_run_logger().info("%d clips found in the folder, %d no longer there", n_adopted, n_missing)
        if files:
            with tqdm(desc="files", unit="file") as bar:
                found = import_clips.import_files(
                    ledger,
                    Path(files).expanduser().resolve(),
                    workspace.audio_dir,
                    origin.sr,
                    origin.format,
                    bar.update,
                )
            get_run_logger().info("files: %s", ", ".join(f"{n} {what}" for what, n in found.most_common()))


@task(cache_policy=NO_CACHE)
@cost.timed
def download_segments(workspace: Workspace, origin: DownloadSettings, pace: Pace, workers: int) -> StopReason:
    """Ask for segments until there are enough, or it is wiser to stop."""
    with closing(Ledger(workspace.ledger_path)) as ledger:
        before = ledger.count_by_status()
        if not before["waiting"]:
            return StopReason("Complete", "every segment is downloaded or unavailable")
        if not pace.max_clips or before["done"] < pace.max_clips:
            origin.check_values()
        fetchers = [SegmentDownloader(origin, workspace.scratch_dir(n)) for n in range(workers)]
        total = min(pace.max_clips or 1 << 40, before["done"] + before["waiting"])
        with tqdm(total=total, initial=before["done"], desc="clips", unit="clip") as bar:

            def on_progress() -> None:
                now = ledger.count_by_status()
                bar.update(now["done"] - bar.n)
                rate = 60 * (bar.format_dict["rate"] or 0)
                bar.set_postfix_str(f"{now['gone']} gone, {now['waiting']} waiting, {rate:.1f} clips a minute")

            ending = Acquisition(ledger, fetchers, workspace.audio_dir, pace, on_progress).run()
    log = get_run_logger()
    (log.warning if ending.name in ("Resting", "Waiting") else log.info)("%s", ending.message)
    return ending


@task(cache_policy=NO_CACHE)
@cost.timed
def report_coverage(workspace: Workspace, run_id: str, ending: StopReason) -> None:
    """Log which clips there are of each genre, and what became of the others."""
    with closing(Ledger(workspace.ledger_path)) as ledger:
        coverage.log_coverage(run_id, ledger.read_segments(), workspace.dataset_id, ending.message)


def _with_session(origin: DownloadSettings) -> DownloadSettings:
    """The same with the cookies file and the proxy that the environment names."""
    return replace(origin, cookies=os.environ.get("GENRE_COOKIES", ""), proxy=os.environ.get("GENRE_PROXY", ""))


if __name__ == "__main__":
    main(acquire)
