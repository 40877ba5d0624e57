"""Sources of clips: one module each, every one yielding the same clips table.

A module has ``clips(source, directory, *, option=default, ...)``. A source that brings features instead of audio
has ``features(source)`` too. To add a source: write its module, add its line to `DATASETS`.
"""

import hashlib
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from genre import parameters
from genre.config import UNKNOWN
from genre.errors import DataError, UsageError

#: Columns of every clips table, in order.
CLIP_COLUMNS = [
    "clip_id",
    "path",
    "genre",
    "recording",
    "dataset",
    "start_s",
    "end_s",
    "split",
    "stamp",
    "status",
    "reason",
]


#: What a genre cannot be called: columns that stand beside the genres' in tables, and the served model's own answers.
RESERVED_NAMES = {"clip_id", "split", "genre", "recording", "error", UNKNOWN}


@dataclass(frozen=True)
class Dataset:
    """One source of clips.

    Attributes
    ----------
    name : str
        What ``-P dataset=`` takes; the module of this package.
    source : str or None
        What ``-P source=`` must be, for the error message; None where the project makes the clips itself.
    has_audio : bool
        Whether clips can be decoded; otherwise the source brings the features, and its models cannot be served.
    synthetic : bool
        Whether it is music that nobody made.
    acquired : bool
        Whether the flow ``acquire`` brings its clips; the source, lists of them by path or URL, may then be left out.
    """

    name: str
    source: str | None
    has_audio: bool = True
    synthetic: bool = False
    acquired: bool = False

    @property
    def module(self) -> ModuleType:
        """The module, imported when asked for."""
        return importlib.import_module(f"{__name__}.{self.name}")


DATASETS = {
    d.name: d
    for d in (
        Dataset("audioset", source="AudioSet's lists of segments, by folder, path or URL", acquired=True),
        Dataset("demo", source=None, synthetic=True),
        Dataset("fma", source="the folder of the Free Music Archive's data set, with tracks.csv in it or below"),
        Dataset("folder", source="a folder with one sub-folder per genre, or a CSV with the columns path and genre"),
        Dataset("gtzan", source="the folder of GTZAN, with one sub-folder per genre in it or in its folder genres"),
        Dataset("vggish", source="a folder with the .tfrecord files of AudioSet's features.tar.gz", has_audio=False),
        Dataset(
            "published", source="a CSV of 98 columns, file name first, as published with the paper", has_audio=False
        ),
    )
}


def get_dataset(name: str) -> Dataset:
    """Data set called `name`.

    Raises
    ------
    UsageError
        If there is none.
    """
    if name not in DATASETS:
        raise UsageError(f"unknown data set {name!r}; choose from {', '.join(sorted(DATASETS))}")
    return DATASETS[name]


def dataset_id(name: str, source: str | None) -> str:
    """Name that keeps two sources apart in the workspace and in MLflow: kind, file name, and a hash of the whole path.

    Raises
    ------
    UsageError
        If the data set is unknown, or needs a source and has none.
    """
    dataset = get_dataset(name)
    if dataset.source is None or (dataset.acquired and not source):
        return name
    if not source:
        raise UsageError(f"data set {name!r} needs -P source=PATH: {dataset.source}")
    path = source if "://" in source else str(Path(source).expanduser().resolve())
    slug = re.sub(r"[^A-Za-z0-9_]+", "-", Path(path).name.split(".")[0]).strip("-")[:40]
    return f"{name}-{slug}-{hashlib.sha256(path.encode()).hexdigest()[:6]}"


def load_clips(name: str, source: str | None, directory: Path, options: Mapping[str, Any]) -> pd.DataFrame:
    """Clips table of a source as it is now.

    Parameters
    ----------
    name, source
        As for `dataset_id`.
    directory : Path
        Folder of the data set, for what has to be made or downloaded.
    options : mapping
        Overrides of the keyword defaults of the module's `load_clips`.

    Returns
    -------
    pd.DataFrame
        `CLIP_COLUMNS`; ``status`` is ``pending``, or an `AudioError` status for a file that cannot be opened.

    Raises
    ------
    UsageError
        If an option is unknown or of the wrong type.
    DataError
        If the source is not there, is empty, holds one genre only, or one whose name is taken.
    """
    module = get_dataset(name).module
    options = parameters.override_defaults(
        parameters.keyword_defaults(module.load_clips), options, f"data set {name!r}"
    )
    path = Path(source).expanduser().resolve() if source and not get_dataset(name).acquired else None
    if path is not None and not path.exists():
        raise DataError(f"there is no {path}; -P source= takes {get_dataset(name).source}")
    table = module.load_clips(path, directory, **options)[CLIP_COLUMNS]
    twice = table.loc[table["clip_id"].duplicated(), "clip_id"]
    if len(twice):
        raise DataError(f"clip {twice.iloc[0]!r} is listed twice, and {len(twice) - 1} more; name each clip once")
    if table["genre"].nunique() < 2:
        found = ", ".join(map(str, table["genre"].unique())) or "none"
        raise DataError(f"only one genre in {path or name}: {found}; a classifier needs at least two")
    if taken := sorted(RESERVED_NAMES & set(table["genre"])):
        raise DataError(
            f"a genre cannot be called {taken[0]!r}; rename it, and avoid {', '.join(sorted(RESERVED_NAMES))}"
        )
    return table.reset_index(drop=True)


def load_source_features(name: str, source: str) -> pd.DataFrame:
    """Features that a source without audio brings, indexed by ``clip_id``: the 97, or columns of its own."""
    return get_dataset(name).module.load_features(Path(source).expanduser().resolve())
