"""Data sets: one module per source of clips, all of which return the same clips table.

A module has ``load_clips(source, directory, *, option=default, ...)``; one whose source is a folder that is searched
takes ``left_out`` before the options. A source that brings features instead of audio also has
``load_features(source)``. To add a data set, write its module and add its line to `DATASETS`.
"""

import hashlib
import importlib
import logging
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from genre import parameters
from genre.audio.left_out import LeftOut
from genre.config import UNKNOWN
from genre.errors import DataError, UsageError

_log = logging.getLogger(__name__)

#: Warning that goes with every prediction of a model trained on a synthetic data set only, wherever it is shown.
SYNTHETIC_WARNING = (
    "This model was trained on synthetic music only: it has heard no real music, so do not trust its genres."
)

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

#: Names that no genre may have: columns of the tables that also have one column per genre, and labels that the served
#: model uses itself.
RESERVED_NAMES = {"clip_id", "split", "genre", "recording", "track", "error", UNKNOWN}


@dataclass(frozen=True)
class Dataset:
    """One source of clips.

    Attributes
    ----------
    name : str
        Value of ``-P dataset=``, and name of the module in this package.
    source : str or None
        Description of what ``-P source=`` must be, for error messages; None if the project makes the clips itself.
    has_audio : bool
        Whether there is audio to decode. Otherwise the source brings the features, and its models cannot be served.
    synthetic : bool
        Whether the music is synthetic.
    acquired : bool
        Whether the flow ``acquire`` downloads the clips. The source, paths or URLs of lists of them, is then optional.
    searched : bool
        Whether the source is a folder that is searched for audio; what is left out is then counted.
    """

    name: str
    source: str | None
    has_audio: bool = True
    synthetic: bool = False
    acquired: bool = False
    searched: bool = False

    @property
    def module(self) -> ModuleType:
        """Module of the data set, imported on first use."""
        return importlib.import_module(f"{__name__}.{self.name}")


DATASETS = {
    d.name: d
    for d in (
        Dataset("audioset", source="AudioSet's lists of segments, by folder, path or URL", acquired=True),
        Dataset("demo", source=None, synthetic=True),
        Dataset("fma", source="the folder of the Free Music Archive's data set, with tracks.csv in it or below"),
        Dataset(
            "folder",
            source="a folder with one sub-folder per genre, or a CSV with the columns path and genre",
            searched=True,
        ),
        Dataset(
            "gtzan",
            source="the folder of GTZAN, with one sub-folder per genre in it or in its folder genres",
            searched=True,
        ),
        Dataset("tagged", source="a folder of music whose files carry genres in their tags", searched=True),
        Dataset("vggish", source="a folder with the .tfrecord files of AudioSet's features.tar.gz", has_audio=False),
        Dataset(
            "published", source="a CSV of 98 columns, file name first, as published with the paper", has_audio=False
        ),
    )
}


def get_dataset(name: str) -> Dataset:
    """Return the data set called `name`.

    Raises
    ------
    UsageError
        If the name is unknown.
    """
    if name not in DATASETS:
        raise UsageError(f"unknown data set {name!r}; choose from {', '.join(sorted(DATASETS))}")
    return DATASETS[name]


def dataset_id(name: str, source: str | None) -> str:
    """Return a name that identifies a source in the workspace and in MLflow: kind, file name, hash of the whole path.

    Parameters
    ----------
    name : str
        Name of the data set.
    source : str or None
        Path or URL of the source; not needed by every data set.

    Raises
    ------
    UsageError
        If the data set is unknown, needs a source and gets none, or takes none and gets one.
    """
    dataset = get_dataset(name)
    if dataset.source is None and source:
        raise UsageError(f"data set {name!r} takes no source, got {source}; set -P dataset= to what it is")
    if dataset.source is None or (dataset.acquired and not source):
        return name
    if not source:
        raise UsageError(f"data set {name!r} needs -P source=PATH: {dataset.source}")
    path = source if "://" in source else str(Path(source).expanduser().resolve())
    slug = re.sub(r"[^A-Za-z0-9_]+", "-", Path(path).name.split(".")[0]).strip("-")[:40]
    return f"{name}-{slug}-{hashlib.sha256(path.encode()).hexdigest()[:6]}"


def check_source(name: str, source: str | None) -> Path | None:
    """Return the absolute path of a source after checking that it exists; None if it is no path of this machine.

    Parameters
    ----------
    name, source
        As for `dataset_id`.

    Raises
    ------
    UsageError
        If the data set is unknown, or needs a source and gets none.
    DataError
        If there is no such file or folder.
    """
    dataset_id(name, source)
    if not source or get_dataset(name).acquired:
        return None
    path = Path(source).expanduser().resolve()
    if not path.exists():
        raise DataError(f"there is no {path}; -P source= takes {get_dataset(name).source}")
    return path


def check_listing(name: str, source: str | None) -> None:
    """Check a source by its listing, before anything is started: that it exists, and has enough tracks of each genre.

    Parameters
    ----------
    name, source
        As for `dataset_id`.

    Raises
    ------
    UsageError
        As `check_source`.
    DataError
        As `check_source`, or if there are fewer than two genres, or too few tracks of one.
    """
    path = check_source(name, source)
    if path and name == "folder":
        get_dataset(name).module.check_listing(path)


def check_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a data set: the defaults, overridden by `options`.

    Raises
    ------
    UsageError
        If the data set or an option is unknown, or an option is of the wrong type.
    """
    defaults = parameters.keyword_defaults(get_dataset(name).module.load_clips)
    return parameters.override_defaults(defaults, options, f"data set {name!r}")


def load_clips(
    name: str, source: str | None, directory: Path, options: Mapping[str, Any], left_out: LeftOut | None = None
) -> pd.DataFrame:
    """Load the clips table of a source in its present state.

    Parameters
    ----------
    name, source
        As for `dataset_id`.
    directory : Path
        Folder of the data set, for files that have to be synthesised or downloaded.
    options : mapping
        Overrides of the keyword defaults of the module's `load_clips`.
    left_out : LeftOut, optional
        Receives what a source that is searched has and the table lacks.

    Returns
    -------
    pd.DataFrame
        `CLIP_COLUMNS`; ``status`` is ``pending``, or an `AudioError` status for a file that cannot be opened.

    Raises
    ------
    UsageError
        If an option is unknown or of the wrong type.
    DataError
        If the source does not exist, is empty, lists a clip twice, holds a single genre, or uses a reserved name.
    """
    module = get_dataset(name).module
    options = check_options(name, options)
    path = check_source(name, source)
    left_out = LeftOut() if left_out is None else left_out
    arguments = [path, directory, left_out] if get_dataset(name).searched else [path, directory]
    table = module.load_clips(*arguments, **options)[CLIP_COLUMNS]
    _check_table(table, str(path or name), left_out)
    _warn_of_spellings(table["genre"].unique())
    return table.reset_index(drop=True)


def _check_table(table: pd.DataFrame, source: str, left_out: LeftOut) -> None:
    """Raise an error if a clip is listed twice, or the genres are too few or have a reserved name."""
    repeated = table.loc[table["clip_id"].duplicated(), "clip_id"]
    if len(repeated):
        raise DataError(f"clip {repeated.iloc[0]!r} is listed twice, and {len(repeated) - 1} more; list each clip once")
    if table["genre"].nunique() < 2:
        genres = ", ".join(map(str, table["genre"].unique())) or "none"
        raise DataError(f"only one genre in {source}: {genres}; a classifier needs at least two{left_out.to_clause()}")
    if reserved := sorted(RESERVED_NAMES & set(table["genre"])):
        raise DataError(
            f"a genre cannot be called {reserved[0]!r}; rename it, and avoid {', '.join(sorted(RESERVED_NAMES))}"
        )


def _warn_of_spellings(genres: Iterable[str]) -> None:
    """Warn of genres that differ only in what `genre.tags.names.fold_name` removes."""
    from genre.tags.names import fold_name  # here, since it loads all that is known of tags

    by_folded: dict[str, list[str]] = {}
    for genre in genres:
        by_folded.setdefault(fold_name(genre), []).append(genre)
    for spellings in by_folded.values():
        if len(spellings) > 1:
            # names that differ in their Unicode form only look the same, unless written in ASCII
            is_visible = len({unicodedata.normalize("NFC", name) for name in spellings}) == len(spellings)
            names = " and ".join(map(repr if is_visible else ascii, spellings))
            text = (
                "the genres %s differ only in case, spaces, hyphens or Unicode form; if they are one, name them alike"
            )
            _log.warning(text, names)


def load_source_features(name: str, source: str) -> pd.DataFrame:
    """Load the features of a source without audio, indexed by ``clip_id``: the 97, or columns of its own."""
    return get_dataset(name).module.load_features(Path(source).expanduser().resolve())
