"""Flow ``tag``: predicts the genre of every file of a music library, for a table and, on request, the files' tags."""

from flows import checks
from flows.cli import main

if __name__ == "__main__":  # above the other imports, so that mistakes are answered before these take seconds
    main(__file__, checks.check_tag)

import inspect
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from tqdm import tqdm

from flows.parameters import (
    AllowSynthetic,
    AnyCode,
    DaskAddress,
    DryRun,
    GenreNames,
    MaxGenres,
    MinConfidence,
    MusicFolder,
    NJobs,
    Overwrite,
    RegistryName,
    TablePath,
    UndoPath,
    VersionName,
    WriteTags,
    current_settings,
)
from flows.reports import tables
from flows.reports.left_out import publish_left_out
from genre.audio.left_out import LeftOut
from genre.config import SPLITS, UNKNOWN
from genre.datasets import SYNTHETIC_WARNING
from genre.errors import DataError, UsageError
from genre.library import answers, labels
from genre.library.answers import PredictionStore
from genre.library.outcomes import TagOutcome, TagStatus, tag_file
from genre.library.proposals import parse_genre_names, propose_genres, resolve_genre_names
from genre.library.replacing import lock_folder, remove_copies
from genre.library.table import escape_unprintable, table_columns, table_row, tag_cells, write_library_table
from genre.library.undo import UndoFile, read_records, restore_file
from genre.workspace import LIBRARY
from tracking import aliases, cost, packaging, registry, runs

#: Parameters that write tags.
WRITE_PARAMETERS = {"write_tags": "true", "dry_run": "false"}

#: Reason why tags are not written from a model with a warning, and what to do, for messages.
NOT_WRITTEN = (
    "These genres are not written into files: train on real music, "
    '"mlflow run . --env-manager local -P source=PATH", or add -P allow_synthetic=true'
)

#: Results in a dry run of files that would be changed.
WRITABLE = {TagStatus.WOULD_BE_WRITTEN, TagStatus.WOULD_REPLACE}

#: Number of files without an answer that are named.
N_NAMED = 5

#: Fewest files of a genre to train on: one for each split.
MIN_FILES = len(SPLITS)


@flow(name="tag", flow_run_name="tag {source}{undo}")
def tag(
    source: MusicFolder = "",
    out: TablePath = "",
    registry_name: RegistryName = "genre",
    version: VersionName = "champion",
    any_code: AnyCode = False,
    min_confidence: MinConfidence = -1.0,
    write_tags: WriteTags = False,
    dry_run: DryRun = True,
    overwrite: Overwrite = False,
    max_genres: MaxGenres = 1,
    genre_names: GenreNames = "{}",
    allow_synthetic: AllowSynthetic = False,
    undo: UndoPath = "",
    n_jobs: NJobs = -1,
    dask: DaskAddress = "",
) -> dict[str, int]:
    """Predict the genre of every audio file in a folder; write a table and, on request, tags.

    The genres that the model is sure of are also written to a CSV to correct and to train on.

    Predictions are kept: the same command resumes where it was stopped, and predicts again only for files that changed
    or another version of the model. Only numbers of files and the parameters are logged to MLflow, never a file name.

    Returns
    -------
    dict
        Numbers of files by result.
    """
    settings = current_settings()
    checks.check_tag(settings)
    table_path = checks.table_path(out)
    with LIBRARY.lock(), runs.experiment_run(LIBRARY, "undo" if undo else "tag", settings) as run_id:
        if undo:
            counts = undo_tagging(Path(undo).expanduser().resolve())
        else:
            model_version = aliases.resolve_version(registry_name, version, any_code=any_code)
            left_out = LeftOut()
            files = answers.list_library(Path(source).expanduser(), left_out)
            publish_left_out(run_id, left_out)
            is_writable = check_warning(model_version, settings, run_id)
            names = resolve_genre_names(
                parse_genre_names(genre_names), packaging.read_genres(cached_model(model_version))
            )
            predict_missing(files, model_version, n_jobs, dask)
            undo_file = UndoFile(LIBRARY.undo_path(f"{pd.Timestamp.now():%Y-%m-%d-%H%M%S}-{run_id[:6]}"))
            outcomes = tag_files(files, model_version, settings, names, undo_file) if write_tags else None
            counts = publish_predictions(files, model_version, outcomes, table_path, min_confidence, run_id)
            export_labels(files, model_version, table_path, min_confidence)
            if outcomes is not None:
                _print_tag_summary(outcomes, counts, settings, undo_file, is_writable)
        runs.log_metrics(run_id, counts)
    return counts


def check_warning(model_version: ModelVersion, settings: Mapping[str, Any], run_id: str) -> bool:
    """Log the warning of a version, if it has one, and check whether its genres may be written into files.

    Returns
    -------
    bool
        False for a model with a warning, unless ``allow_synthetic`` is set.

    Raises
    ------
    UsageError
        If they are to be written and may not.
    GenreError
        If the model cannot be downloaded.
    """
    # one that was registered before models carried their warning has the tag alone
    is_synthetic = model_version.tags.get("synthetic") == "true"
    warning = packaging.read_warning(cached_model(model_version)) or (SYNTHETIC_WARNING if is_synthetic else "")
    is_writable = not warning or settings["allow_synthetic"]
    if settings["write_tags"] and not settings["dry_run"] and not is_writable:
        raise UsageError(f"{warning} {NOT_WRITTEN}")
    if warning:
        get_run_logger().warning("%s", warning)
        runs.set_tags(run_id, {"warning": warning})
    return is_writable


@task(cache_policy=NO_CACHE)
@cost.timed
def predict_missing(files: pd.DataFrame, model_version: ModelVersion, n_jobs: int, dask: str) -> None:
    """Predict every file that has no prediction by this version yet."""
    model = _version_key(model_version)
    with closing(PredictionStore(LIBRARY.predictions_path)) as store:
        missing = store.find_missing(files, model)
        get_run_logger().info("%d files, %d of them new or changed", len(files), len(missing))
        cost.count_clips(len(missing))
        if missing.empty:
            return
        batches = answers.predict_files(missing, cached_model(model_version), n_jobs=n_jobs, dask=dask)
        n_kept = len(files) - len(missing)
        with tqdm(total=len(files), initial=n_kept, desc="files", unit="file", smoothing=0.1, disable=None) as bar:
            for n_files, predictions in batches:
                store.save_predictions(missing, model, predictions)
                bar.update(n_files)


def cached_model(model_version: ModelVersion) -> Path:
    """Return the folder of a version in the workspace, where the workers of a cluster find it too.

    The version is downloaded if it is missing, and the folders of others are then removed.

    Raises
    ------
    GenreError
        If the model cannot be downloaded.
    """
    directory = LIBRARY.model_dir(_version_key(model_version))
    if not directory.exists():
        shutil.rmtree(directory.parent, ignore_errors=True)
        registry.download_model(registry.version_uri(model_version.name, model_version.version), directory)
    return directory


@task(cache_policy=NO_CACHE)
@cost.timed
def tag_files(
    files: pd.DataFrame,
    model_version: ModelVersion,
    settings: Mapping[str, Any],
    names: Mapping[str, str],
    undo: UndoFile,
) -> dict[str, TagOutcome]:
    """Write genres into files or, in a dry run, find out what would be written.

    Returns
    -------
    dict
        Path to outcome of each file that was given a genre.
    """
    options = {name: settings[name] for name in ("dry_run", "overwrite")}
    choice = {name: settings[name] for name in ("max_genres", "min_confidence")}
    outcomes = {}
    folder = Path(settings["source"]).expanduser().resolve()
    lock = nullcontext() if settings["dry_run"] else lock_folder(folder)
    with closing(PredictionStore(LIBRARY.predictions_path)) as store, lock:
        remove_copies(folder)  # left by a run that was killed
        predictions = store.iter_predictions(files["path"], _version_key(model_version), settings["min_confidence"])
        for prediction in tqdm(predictions, total=len(files), desc="tags", unit="file", disable=None):
            if genres := propose_genres(prediction, names=names, **choice):
                path = prediction["path"]
                outcomes[path] = tag_file(Path(path), genres, undo, stamp=prediction["stamp"], **options)
                if outcomes[path].stamp:
                    if undo.n_records == 1:  # there is none before, and a later interruption must not hide it
                        tqdm.write(f"Undo file: {undo.path}")
                    store.update_stamp(path, outcomes[path].stamp)  # else it would count as changed
    if settings["dry_run"]:
        _print_changes(outcomes, folder)
    return outcomes


def _print_changes(outcomes: Mapping[str, TagOutcome], folder: Path) -> None:
    """Print a line for each file whose genres would be changed, or are others and kept."""
    print()
    for path, outcome in outcomes.items():
        if outcome.status is not TagStatus.THERE_ALREADY:
            print(escape_unprintable(f"{os.path.relpath(path, folder)}: {outcome.describe_change()}"))


def _print_tag_summary(
    outcomes: Mapping[str, TagOutcome],
    counts: Mapping[str, int],
    settings: Mapping[str, Any],
    undo: UndoFile,
    is_writable: bool,
) -> None:
    """Print the number of files with each result, and the next command or the reason why there is none."""
    results = _count_outcomes(outcomes) | {"unknown": counts["unknown"], "not readable": counts["errors"]}
    results["of a genre without a name"] = max(0, counts["files"] - sum(results.values()))
    print(f"\n{', '.join(f'{n} {result}' for result, n in results.items() if n)}; details: column tag of the table")
    if settings["dry_run"] and not is_writable:
        print(f"No file was touched. {NOT_WRITTEN}\n", flush=True)
    elif settings["dry_run"] and not WRITABLE & {outcome.status for outcome in outcomes.values()}:
        print("No file was touched, and none would be.\n", flush=True)
    elif settings["dry_run"]:
        defaults = {name: parameter.default for name, parameter in inspect.signature(tag.fn).parameters.items()}
        changed = {name: value for name, value in settings.items() if value != defaults[name]}
        print(f"No file was touched. To write the tags:\n\n{_mlflow_command(changed | WRITE_PARAMETERS)}\n", flush=True)
    elif undo.n_records:
        command = _mlflow_command({"undo": undo.path})
        print(f"{undo.n_records} files tagged. To undo this:\n\n{command}\n", flush=True)
    else:
        print("No file was tagged.\n", flush=True)


@task(cache_policy=NO_CACHE)
@cost.timed
def undo_tagging(path: Path) -> dict[str, int]:
    """Restore all files of an undo file.

    Returns
    -------
    dict
        Numbers of files by result: ``restored``, ``as_before`` and ``refused``.
    """
    counts: Counter[str] = Counter(restored=0, as_before=0, refused=0)
    with closing(PredictionStore(LIBRARY.predictions_path)) as store:
        for record in read_records(path):
            try:
                counts["restored" if restore_file(record) else "as_before"] += 1
                store.update_stamp(record["path"], answers.file_stamp(Path(record["path"])))
            except DataError as error:
                counts["refused"] += 1
                get_run_logger().warning("%s", error)
    print(", ".join(f"{n} {result.replace('_', ' ')}" for result, n in counts.items()), flush=True)
    return dict(counts)


@task(cache_policy=NO_CACHE)
@cost.timed
def publish_predictions(
    files: pd.DataFrame,
    model_version: ModelVersion,
    outcomes: Mapping[str, TagOutcome] | None,
    table_path: Path,
    min_confidence: float,
    run_id: str,
) -> dict[str, int]:
    """Write the table of predictions, and log the number of files of each genre.

    Returns
    -------
    dict
        Numbers of files by result.
    """
    counts: Counter[tuple[str | None, str | None]] = Counter()  # by genre and error; one of them is None
    failed: list[str] = []
    label = f"{model_version.name}/{model_version.version}"
    with closing(PredictionStore(LIBRARY.predictions_path)) as store:
        genres = store.list_genres(_version_key(model_version))
        names = table_columns(genres, tag=outcomes is not None)

        def rows() -> Iterator[list[Any]]:
            for prediction in store.iter_predictions(files["path"], _version_key(model_version), min_confidence):
                counts[prediction["genre"], prediction["error"]] += 1
                if prediction["genre"] is None and len(failed) < N_NAMED:
                    failed.append(f"{prediction['path']}: {prediction['message'] or prediction['error']}")
                row = table_row(prediction, genres, label)
                yield row if outcomes is None else [*row, *tag_cells(outcomes.get(prediction["path"]))]

        write_library_table(table_path, rows(), names, genres)
    rows_by_genre = [(genre or f"error: {error}", n) for (genre, error), n in counts.most_common()]
    note = f"{len(files)} files, by version {model_version.version} of {model_version.name}."
    tables.publish_table(run_id, pd.DataFrame(rows_by_genre, columns=["genre", "files"]), "library", note)
    runs.set_tags(run_id, {"model_version": label})
    errors = sum(n for (genre, _), n in counts.items() if genre is None)
    for line in failed:
        print(escape_unprintable(line))
    if errors > N_NAMED:
        print(f"and {errors - N_NAMED} more files that cannot be read: column error of the table")
    unknown = sum(n for (genre, _), n in counts.items() if genre == UNKNOWN)
    if unknown:
        known = ", ".join(genre for genre in genres if genre != UNKNOWN)
        print(
            f"{unknown} unknown: the model is not confident enough, or the music is of none of its genres: {known}. "
            "To accept less confidence, add -P min_confidence=, from 0 to 1, such as 0.3"
        )
    print(f"The table is in {table_path}", flush=True)
    numbers = {"files": len(files), "unknown": unknown, "errors": errors, "named": len(files) - unknown - errors}
    return numbers | {f"tags_{result.replace(' ', '_')}": n for result, n in _count_outcomes(outcomes or {}).items()}


@task(cache_policy=NO_CACHE)
@cost.timed
def export_labels(files: pd.DataFrame, model_version: ModelVersion, table_path: Path, min_confidence: float) -> None:
    """Write the genres that the model is sure of to a CSV, and print the command that trains on it."""
    model = _version_key(model_version)
    with closing(PredictionStore(LIBRARY.predictions_path)) as store:
        genres = store.list_genres(model)
        sure = labels.select_labels(store.iter_predictions(files["path"], model, min_confidence))
    if sure.empty:
        return
    path, is_new = labels.write_labels(sure, table_path)
    n_files = sure["genre"].value_counts()
    sureness = "that the model is sure of" if min_confidence < 0 else f"with a confidence of {min_confidence:g} or more"
    text = f"The genres of the {len(sure)} files {sureness} are in {path}"
    print(f"\n{text}, the least sure first." if is_new else f"\n{text}, which was there already and is left as it is.")
    if few := sorted(n_files.index[n_files < MIN_FILES]):
        print(f"Fewer than {MIN_FILES} files: {', '.join(few)}. Before you train, add files, or remove their lines.")
    # another list of genres would not be registered under the same name, except in place of the demo's
    has_same_genres = list(n_files.index.sort_values()) == genres
    gives_way = registry.gives_way(model_version)
    name = model_version.name if has_same_genres or gives_way else f"my-{model_version.name}"
    parameters = {"dataset": "folder", "source": path} | ({} if name == "genre" else {"registry_name": name})
    if has_same_genres and not gives_way:
        parameters["other_data"] = "true"
    print(f"Correct the column genre, then train on it:\n\n{_mlflow_command(parameters, [])}\n", flush=True)


def _count_outcomes(outcomes: Mapping[str, TagOutcome]) -> dict[str, int]:
    """Count the files by result, whatever the reason."""
    return {str(status): n for status, n in Counter(outcome.status for outcome in outcomes.values()).items()}


def _mlflow_command(parameters: Mapping[str, Any], entry_point: Sequence[str] = ("-e", "tag")) -> str:
    """Return the command that runs this flow, or another entry point, with some parameters."""
    options = [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")]
    return shlex.join(["mlflow", "run", ".", "--env-manager", "local", *entry_point, *options])


def _version_key(model_version: ModelVersion) -> str:
    """Return the key of a version's predictions in the store; a number alone recurs in another registry."""
    return f"{model_version.name}/{model_version.version} {model_version.source}"
