"""Flow ``tag``: the champion's genre of every file of a music library, as a table and, if wanted, in the files."""

import inspect
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from tqdm import tqdm

from flows.cli import main
from flows.parameters import (
    DaskAddress,
    DryRun,
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
from genre.config import UNKNOWN
from genre.errors import DataError, UsageError
from genre.files import make_directory
from genre.library import answers, tags
from genre.library.answers import PredictionStore
from genre.library.undo import UndoFile, check_replaceable, read_records, remove_copies, restore_file
from genre.workspace import LIBRARY
from tracking import aliases, cost, registry, runs

#: What really writes tags.
WRITE_PARAMETERS = {"write_tags": "true", "dry_run": "false"}


class TagStatus(StrEnum):
    """Result of tagging a file, as it is counted, printed and, in metrics, named."""

    WRITTEN = "written"
    WOULD_BE_WRITTEN = "would be written"
    WOULD_REPLACE = "would replace"
    THERE_ALREADY = "there already"
    KEPT = "kept"
    REFUSED = "refused"


@dataclass(frozen=True)
class TagOutcome:
    """Result of tagging a file, and what it depends on.

    Attributes
    ----------
    status : TagStatus
        The result.
    detail : str
        The genre that the file has, or why it is refused, for people.
    """

    status: TagStatus
    detail: str = ""

    def __str__(self) -> str:
        """Text of the table's column ``tag``."""
        return f"{self.status}: {self.detail}" if self.detail else self.status.value


@flow(name="tag", flow_run_name="tag {source}{undo}")
def tag(
    source: MusicFolder = "",
    out: TablePath = "",
    registry_name: RegistryName = "genre",
    version: VersionName = "champion",
    min_confidence: MinConfidence = -1.0,
    write_tags: WriteTags = False,
    dry_run: DryRun = True,
    overwrite: Overwrite = False,
    undo: UndoPath = "",
    n_jobs: NJobs = -1,
    dask: DaskAddress = "",
) -> dict[str, int]:
    """Ask a registered model for the genre of every audio file below a folder; write a table and, if wanted, tags.

    What was answered is kept: the same command goes on where it was stopped, and asks again only about files that
    changed, or for another version. MLflow is told numbers of files, and what was typed; no name of a file.

    Returns
    -------
    dict
        Numbers of files.
    """
    settings = current_settings()
    table_path = check_settings(settings)
    with LIBRARY.lock(), runs.experiment_run(LIBRARY, "undo" if undo else "tag", settings) as run_id:
        if undo:
            counts = undo_tagging(Path(undo).expanduser().resolve())
        else:
            model_version = aliases.resolve_version(registry_name, version)
            files = answers.list_library(Path(source).expanduser())
            predict_missing(files, model_version, n_jobs, dask)
            outcomes = tag_files(files, model_version, settings, run_id) if write_tags else None
            counts = publish_predictions(files, model_version, outcomes, table_path, min_confidence, run_id)
        runs.log_metrics(run_id, counts)
    return counts


def check_settings(settings: Mapping[str, Any]) -> Path:
    """Refuse what contradicts itself, before hours of work; where the table is to lie.

    Raises
    ------
    UsageError
        If parameters do not go together, or one is out of range.
    GenreError
        If the table's folder cannot be made.
    """
    registry.check_name(settings["registry_name"])
    confidence, writes, undo = settings["min_confidence"], settings["write_tags"], settings["undo"]
    if confidence != -1 and not 0 <= confidence <= 1:
        raise UsageError(f"min_confidence must be from 0 to 1, or -1 for the one the model learnt; got {confidence}")
    if undo and (settings["source"] or writes):
        raise UsageError("undo takes back what an earlier run wrote, and nothing else; leave source and write_tags out")
    if not undo and not settings["source"]:
        raise UsageError("tag needs the folder of your music: -P source=~/Music")
    if not writes and (not settings["dry_run"] or settings["overwrite"]):
        raise UsageError("dry_run=false and overwrite=true are about writing tags; add -P write_tags=true")
    path = Path(settings["out"] or LIBRARY.table_path).expanduser().resolve()
    if path.suffix not in (".csv", ".parquet"):
        raise UsageError(f"out must end in .csv or .parquet; got {settings['out']}")
    make_directory(path.parent)
    return path


@task(cache_policy=NO_CACHE)
@cost.timed
def predict_missing(files: pd.DataFrame, model_version: ModelVersion, n_jobs: int, dask: str) -> None:
    """Have every file answered that has no answer of this version yet."""
    model = _version_key(model_version)
    with closing(PredictionStore(LIBRARY.predictions_path)) as known:
        todo = known.find_missing(files, model)
        get_run_logger().info("%d files, of which %d are to be asked about", len(files), len(todo))
        cost.count_clips(len(todo))
        if todo.empty:
            return
        done = answers.predict_files(todo, cached_model(model_version), n_jobs=n_jobs, dask=dask)
        n_before = len(files) - len(todo)
        with tqdm(total=len(files), initial=n_before, desc="files", unit="file", smoothing=0.1) as bar:
            for n, said in done:
                known.save_predictions(todo, model, said)
                bar.update(n)


def cached_model(model_version: ModelVersion) -> Path:
    """Folder of a version in the workspace, where processes find it, on a cluster too; others are removed.

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
    files: pd.DataFrame, model_version: ModelVersion, settings: Mapping[str, Any], run_id: str
) -> dict[str, TagOutcome]:
    """Write genres into files, or only see what would be written: what became of each file that has a genre."""
    record = UndoFile(LIBRARY.undo_path(f"{pd.Timestamp.now():%Y-%m-%d-%H%M%S}-{run_id[:6]}"))
    outcomes = {}
    if not settings["dry_run"]:
        print(f"What undoes this is kept in {record.path}", flush=True)
    with closing(PredictionStore(LIBRARY.predictions_path)) as known:
        remove_copies(Path(settings["source"]).expanduser().resolve())
        said = known.iter_predictions(files["path"], _version_key(model_version), settings["min_confidence"])
        for answer in tqdm(said, total=len(files), desc="tags", unit="file"):
            if answer["genre"] not in (None, UNKNOWN):
                path = Path(answer["path"])
                outcomes[answer["path"]] = tag_file(path, answer["genre"], settings, record)
                if outcomes[answer["path"]].status is TagStatus.WRITTEN:
                    known.update_stamp(answer["path"], answers.file_stamp(path))
    words = _count_outcomes(outcomes) | {"without a genre": len(files) - len(outcomes)}
    print(f"\n{', '.join(f'{n} {word}' for word, n in words.items() if n)}; the table's column tag says more")
    if settings["dry_run"]:
        usual = {name: parameter.default for name, parameter in inspect.signature(tag.fn).parameters.items()}
        given = {k: v for k, v in settings.items() if v != usual[k]}
        print(f"No file was touched. To write the tags:\n\n{_mlflow_command(given | WRITE_PARAMETERS)}\n", flush=True)
    elif record.n_records:
        back = _mlflow_command({"undo": record.path})
        print(f"{record.n_records} files were tagged. To have them as they were:\n\n{back}\n", flush=True)
    else:
        print("No file was tagged.\n", flush=True)
    return outcomes


def tag_file(path: Path, genre: str, settings: Mapping[str, Any], record: UndoFile) -> TagOutcome:
    """Write a genre into one file, if that is allowed."""
    try:
        there = tags.read_genre(path)
        if there == genre:
            return TagOutcome(TagStatus.THERE_ALREADY)
        if there and not settings["overwrite"]:
            return TagOutcome(TagStatus.KEPT, there)
        check_replaceable(path)
        if settings["dry_run"]:
            return TagOutcome(TagStatus.WOULD_REPLACE, there) if there else TagOutcome(TagStatus.WOULD_BE_WRITTEN)
        tags.write_genre(path, genre, record)
    except DataError as error:
        return TagOutcome(TagStatus.REFUSED, str(error))
    return TagOutcome(TagStatus.WRITTEN)


@task(cache_policy=NO_CACHE)
@cost.timed
def undo_tagging(path: Path) -> dict[str, int]:
    """Undo everything that an undo file tells of: numbers of files."""
    counts: Counter[str] = Counter(restored=0, as_before=0, refused=0)
    with closing(PredictionStore(LIBRARY.predictions_path)) as known:
        for record in read_records(path):
            try:
                counts["restored" if restore_file(record) else "as_before"] += 1
                known.update_stamp(record["path"], answers.file_stamp(Path(record["path"])))
            except DataError as error:
                counts["refused"] += 1
                get_run_logger().warning("%s", error)
    print(", ".join(f"{n} {what.replace('_', ' ')}" for what, n in counts.items()), flush=True)
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
    """Write the table, and log how many files there are of each genre; numbers of files."""
    counts: Counter[tuple[str | None, str | None]] = Counter()  # by genre, or where there is none, by error
    label = f"{model_version.name}/{model_version.version}"
    with closing(PredictionStore(LIBRARY.predictions_path)) as known:
        genres = known.list_genres(_version_key(model_version))
        names = answers.table_columns(genres, tag=outcomes is not None)

        def rows() -> Iterator[list[Any]]:
            for said in known.iter_predictions(files["path"], _version_key(model_version), min_confidence):
                counts[said["genre"], said["error"]] += 1
                proba = said["probabilities"] or {}
                row = [
                    answers.escape_non_utf8(said["path"]),
                    said["genre"],
                    said["confidence"],
                    *map(proba.get, genres),
                ]
                row += [said["error"], answers.escape_non_utf8(said["message"]), label]
                yield row if outcomes is None else [*row, _tag_cell(outcomes.get(said["path"]))]

        answers.write_library_table(table_path, rows(), names, genres)
    tables.publish_table(
        run_id,
        pd.DataFrame(
            [(genre or f"error: {error}", n) for (genre, error), n in counts.most_common()], columns=["genre", "files"]
        ),
        "library",
        f"{len(files)} files, by version {model_version.version} of {model_version.name}.",
    )
    runs.set_tags(run_id, {"model_version": label})
    print(f"The table is in {table_path}", flush=True)
    errors = sum(n for (genre, _), n in counts.items() if genre is None)
    unknown = sum(n for (genre, _), n in counts.items() if genre == UNKNOWN)
    numbers = {"files": len(files), "unknown": unknown, "errors": errors, "named": len(files) - unknown - errors}
    return numbers | {f"tags_{word.replace(' ', '_')}": n for word, n in _count_outcomes(outcomes or {}).items()}


def _tag_cell(outcome: TagOutcome | None) -> str | None:
    """The table's column ``tag`` for one file; None where there was no genre to write."""
    return None if outcome is None else answers.escape_non_utf8(str(outcome))


def _count_outcomes(outcomes: Mapping[str, TagOutcome]) -> dict[str, int]:
    """How many files had each result, whatever the reason behind it."""
    return {str(status): n for status, n in Counter(outcome.status for outcome in outcomes.values()).items()}


def _mlflow_command(given: Mapping[str, Any]) -> str:
    """What to type for this flow with these parameters."""
    words = [word for name, value in given.items() for word in ("-P", f"{name}={value}")]
    return shlex.join(["mlflow", "run", ".", "--env-manager", "local", "-e", "tag", *words])


def _version_key(model_version: ModelVersion) -> str:
    """What a version's answers are kept by; its number alone comes again in another registry."""
    return f"{model_version.name}/{model_version.version} {model_version.source}"


if __name__ == "__main__":
    main(tag)
