"""Recognition of the data set that a path is the source of, by what is there."""

import csv
import gzip
import re
import shlex
from collections import Counter
from pathlib import Path

from genre import tags
from genre.audio.listing import find_audio_files
from genre.datasets.tagged import select_genre
from genre.errors import DataError, GenreError
from genre.tags.names import fold_name

#: Number of files whose tags are read, spread evenly over the source.
N_SAMPLED = 64

#: Number of genres that are named with their numbers of files.
N_NAMED = 12

#: Name of an excerpt of GTZAN.
_GTZAN_NAME = re.compile(r"[a-z]+\.\d{5}\.(wav|au)")

#: Number of columns of the paper's table of features.
_N_PUBLISHED = 98

#: Characters of a first line that are read: a hundred times those of the paper's table.
_MAX_LINE = 100_000

#: First words of AudioSet's lists of segments.
_SEGMENTS = "# Segments csv"


def recognise_source(source: Path) -> tuple[str, str]:
    """Recognise the data set that a path is the source of.

    Parameters
    ----------
    source : Path
        Folder or file.

    Returns
    -------
    name : str
        Name of the data set. For music of one's own ``tagged`` where the sub-folders are named after the artists, or
        there is none, and most files have a genre in their tags, otherwise ``folder``.
    reason : str
        What it was recognised by, as words that follow the path.

    Raises
    ------
    DataError
        If there is nothing at the path, or a file of another kind.
    """
    if not source.exists():
        raise DataError(f"there is no {source}; give a folder of music, or a table that docs/datasets.md describes")
    return _recognise_folder(source) if source.is_dir() else _recognise_file(source)


def _recognise_folder(source: Path) -> tuple[str, str]:
    """Recognise a folder: first by the files of published data sets, then by the tags of music."""
    if any((folder / "tracks.csv").is_file() for folder in (source, source / "fma_metadata")):
        return "fma", "has the Free Music Archive's tracks.csv"
    if any(source.glob("*_segments.csv")):
        return "audioset", "has AudioSet's lists of segments"
    files = find_audio_files(source)
    if not files and any(source.rglob("*.tfrecord")):
        return "vggish", "has AudioSet's features"
    if files and all(_GTZAN_NAME.fullmatch(path.name) for path in files):
        return "gtzan", "has GTZAN's excerpts"
    return _recognise_music(source, files)


def _recognise_music(source: Path, files: list[Path]) -> tuple[str, str]:
    """Recognise whether music is sorted into folders of genres, or has genres in its tags alone."""
    sample = [(path, _read_tags(path)) for path in files[:: max(1, len(files) // N_SAMPLED)]]
    tagged = [path for path, found in sample if found and select_genre(found.genres)]
    sorted_by_artist = [
        path for path, found in sample if found and _is_artist(path.relative_to(source).parts[0], found)
    ]
    genres = Counter(path.relative_to(source).parts[0] for path in files if path.parent != source)
    has_folders = bool(genres)
    if 2 * len(tagged) > len(sample):
        if not has_folders:
            return "tagged", "has no sub-folders, and its files have genres in their tags"
        if 2 * len(sorted_by_artist) > len(sample):
            return "tagged", "has a sub-folder per artist, and its files have genres in their tags"
    n_loose = len(files) - genres.total()
    if has_folders and n_loose > genres.total():
        command = f"mlflow run . --env-manager local -e tag -P source={shlex.quote(str(source))}"
        raise DataError(
            f"{source} is not sorted by genre: {n_loose} of its {len(files)} audio files are in no sub-folder; put "
            "each into the folder of its genre, or to train on the folders as they are, add -P dataset=folder, or to "
            f"have a model name the genres, run {command}"
        )
    named = [f"{name} {n}" for name, n in genres.most_common(N_NAMED)] + ["..."] * (len(genres) > N_NAMED)
    counts = f": {', '.join(named)}" if named else ""
    return "folder", f"is read as a folder with one sub-folder per genre{counts}"


def _read_tags(path: Path) -> tags.TrackTags | None:
    """Return the tags of a file; None where they cannot be read."""
    try:
        return tags.read_track_tags(path)
    except GenreError:
        return None


def _is_artist(name: str, found: tags.TrackTags) -> bool:
    """Return whether a folder has the name of a file's artist."""
    return fold_name(name) in {fold_name(artist) for artist in (found.artist, found.album_artist) if artist}


def _recognise_file(source: Path) -> tuple[str, str]:
    """Recognise a file by its first line."""
    if source.suffix == ".tfrecord":
        return "vggish", "holds AudioSet's features"
    line = _read_first_line(source)
    columns = next(csv.reader([line]), [])
    if line.startswith(_SEGMENTS):
        return "audioset", "is a list of AudioSet's segments"
    if {"path", "genre"} <= set(columns):
        return "folder", "lists files and genres"
    if len(columns) == _N_PUBLISHED:
        return "published", "has the 98 columns of the paper's features"
    raise DataError(
        f"{source} is no table that can be trained on: it must be a CSV with the columns path and genre, or one of "
        "those that docs/datasets.md describes"
    )


def _read_first_line(source: Path) -> str:
    """Return the first line of a text file, which may be compressed; empty if it is none."""
    try:
        with gzip.open(source, "rt") if source.suffix == ".gz" else source.open() as file:
            line = file.readline(_MAX_LINE).removeprefix("\ufeff")
    except (OSError, EOFError, UnicodeDecodeError):
        return ""
    return "" if "\0" in line else line
