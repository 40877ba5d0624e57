"""Old files of a data set that no command reads any more."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from genre.config import AudioConfig, Variant
from genre.files import read_json
from genre.inputs import INPUTS
from genre.store import parts
from genre.training.job import read_result
from genre.workspace import Workspace, weights_dir

#: Seconds after which a temporary file of a shared folder, which no lock protects, is of a process that was killed.
STALE_S = 86_400.0


@dataclass(frozen=True)
class PrunableItem:
    """File or folder that may be removed.

    Attributes
    ----------
    kind : str
        Name of its kind, for people.
    path : Path
        The file or folder.
    n_bytes : int
        Its size with all that is in it.
    """

    kind: str
    path: Path
    n_bytes: int


def list_prunable(workspace: Workspace) -> list[PrunableItem]:
    """List what may be removed of a data set; the caller holds its lock.

    That is: trainings that are not current, stores of other versions of the features, parts of other versions of an
    input or of other weights, figures and comparisons that follow from other tables and are made anew where they are
    missing, earlier searches for duplicates, and temporary files that were left beside the weights.
    """
    found = [("training", path) for path in _old_trainings(workspace)]
    found += [("store", path) for path in _old_stores(workspace)]
    found += [("part of a store", path) for store in _current_stores(workspace) for path in _unread_parts(store)]
    found += [("derived figure or table", path) for path in sorted((workspace.directory / "derived").glob("*/"))]
    searches = sorted((workspace.directory / "copies").glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    found += [("search for duplicates", path) for path in searches[:-1]]
    found += [("temporary file", path) for path in _stale_files(weights_dir())]
    return [PrunableItem(kind, path, size_bytes(path)) for kind, path in found]


def current_trainings(workspace: Workspace) -> list[Path]:
    """Return the folders of the trainings to keep.

    For each configuration these are the finished ones on the data and the splits of the newest one, and all that are
    not finished, which are resumed.
    """
    jobs = {folder: read_json(folder / "job.json") for folder in workspace.training_dirs() if read_result(folder)}
    newest_first = sorted(jobs, key=lambda folder: (folder / "result.json").stat().st_mtime_ns, reverse=True)
    states: dict[str, tuple[str, str]] = {}
    for folder in newest_first:
        states.setdefault(str(jobs[folder]["config"]), _state(jobs[folder]))
    kept = [folder for folder, job in jobs.items() if _state(job) == states[str(job["config"])]]
    return kept + [folder for folder in workspace.training_dirs() if not (folder / "result.json").exists()]


def size_bytes(path: Path) -> int:
    """Return the size of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _state(job: dict[str, Any]) -> tuple[str, str]:
    """Return the digests of the data and of the splits of a training."""
    return job["data_digest"], job["splits_digest"]


def _old_trainings(workspace: Workspace) -> list[Path]:
    kept = set(current_trainings(workspace))
    return [folder for folder in workspace.training_dirs() if folder not in kept]


def _current_stores(workspace: Workspace) -> list[Path]:
    """Return the folders of the stores that this version of the code reads, of each variant."""
    return [workspace.store_dir(AudioConfig(variant=variant)) for variant in get_args(Variant)]


def _old_stores(workspace: Workspace) -> list[Path]:
    current = _current_stores(workspace)
    return [path for path in sorted((workspace.directory / "store").glob("*/")) if path not in current]


def _unread_parts(store: Path) -> Iterator[Path]:
    """Yield the files of the parts in a store that are of no present input, version and weights."""
    read = {path.stem for family in ("", *INPUTS) for path in parts.list_parts(store, family)}
    yield from (path for path in sorted(store.glob("part-*")) if path.stem not in read)


def _stale_files(folder: Path) -> list[Path]:
    """Return the temporary files in a folder that have not been written to for a day."""
    return [path for path in sorted(folder.glob("*.tmp")) if time.time() - path.stat().st_mtime > STALE_S]
