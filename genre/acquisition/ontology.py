"""AudioSet's classes: their names, ids and descendants."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.request import urlopen

import pandas as pd

from genre.errors import DataError, UsageError

#: The paper's seven genres with AudioSet's ids, in the order of its published class indices.
PAPER_GENRES = {
    "Hip hop music": "/m/0glt670",
    "Pop music": "/m/064t9",
    "Vocal music": "/m/0y4f8",
    "Rhythm and blues": "/m/06j6l",
    "Reggae": "/m/06cqb",
    "Rock music": "/m/06by7",
    "Techno": "/m/07gxw",
}

#: Name and URL of AudioSet's class names (CC BY 4.0), and URL of its ontology (CC BY-SA 4.0).
LABELS_FILE = "class_labels_indices.csv"
LABELS_URL = f"http://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv/{LABELS_FILE}"
ONTOLOGY_URL = "https://raw.githubusercontent.com/audioset/ontology/master/ontology.json"


def resolve_genres(genres: str, labels: str = "", list_path: str = "") -> dict[str, set[str]]:
    """Map the name of each requested genre to its id, in the order of the request.

    Parameters
    ----------
    genres : str
        Names, in any case, or ids of classes; separated by ``;`` or, if it contains no ``;``, by commas. Empty for the
        paper's seven.
    labels : str
        Path or URL of AudioSet's class names, read only if a genre is not one of the paper's. Empty for the file next
        to the segment list or, if it does not exist, the official one.
    list_path : str
        Path or URL of that segment list.

    Returns
    -------
    dict
        Name to a set of one id.

    Raises
    ------
    UsageError
        If a genre is unknown; the message lists similar names.
    DataError
        If the class names cannot be read.
    """
    requested = _split_genres(genres)
    mid_by_name = dict(PAPER_GENRES)
    if set(requested) - mid_by_name.keys() - set(mid_by_name.values()):
        mid_by_name = class_names(labels or labels_path(list_path))
    name_by_mid = {mid: name for name, mid in mid_by_name.items()}
    name_by_lower = {name.lower(): name for name in mid_by_name}
    names = [_match_class_name(genre, name_by_mid, name_by_lower) for genre in requested] or list(PAPER_GENRES)
    return {name: {mid_by_name[name]} for name in dict.fromkeys(names)}


def _split_genres(genres: str) -> list[str]:
    """Split at ``;`` or, if there is no such character, at commas; a class name may contain commas."""
    parts = genres.split(";" if ";" in genres else ",")
    return [part.strip() for part in parts if part.strip()]


def class_names(path: str) -> dict[str, str]:
    """Read the names and ids of AudioSet's 527 classes from the path or URL of its CSV.

    Raises
    ------
    DataError
        If the file cannot be read or has other columns.
    """
    try:
        table = pd.read_csv(path, dtype=str)
        return dict(zip(table["display_name"], table["mid"], strict=True))
    except (ValueError, OSError, KeyError) as error:
        raise DataError(
            f"{path} cannot be read as AudioSet's class names ({error}); "
            f"set -P labels= to the path or URL of its {LABELS_FILE}"
        ) from None


def class_ids(labels: str = "", list_path: str = "") -> list[str]:
    """Return the ids of AudioSet's 527 classes in the order of their indices.

    Parameters
    ----------
    labels, list_path
        As for `resolve_genres`.

    Raises
    ------
    DataError
        If the file cannot be read or has other columns.
    """
    return list(class_names(labels or labels_path(list_path)).values())


def with_descendants(genres: Mapping[str, set[str]], path: str = "") -> dict[str, set[str]]:
    """Add to each genre the ids of its descendants, except of those under another requested genre.

    Parameters
    ----------
    genres : mapping
        As returned by `resolve_genres`.
    path : str
        Path or URL of AudioSet's ``ontology.json``; empty for the official one.

    Raises
    ------
    DataError
        If the ontology cannot be read.
    """
    path = path or ONTOLOGY_URL
    try:
        children = {c["id"]: c["child_ids"] for c in json.loads(_read_bytes(path))}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path} cannot be read as AudioSet's ontology ({error}); "
            "set -P ontology= to the path or URL of its ontology.json"
        ) from None
    requested = {mid for mids in genres.values() for mid in mids}
    expanded: dict[str, set[str]] = {}
    for name, mids in genres.items():
        expanded[name] = {below for mid in mids for below in _iter_descendants(mid, children, requested)}
    return expanded


def mids_pattern(mids: Sequence[str] | set[str]) -> str:
    """Return a regular expression that finds any of the ids in a list's comma-separated labels."""
    return f"(?:^|,)(?:{'|'.join(map(re.escape, sorted(mids)))})(?:,|$)"


def _read_bytes(path: str) -> bytes:
    if is_local(path):
        return Path(path).expanduser().read_bytes()
    with urlopen(path, timeout=60) as response:
        return response.read()


def is_local(path: str) -> bool:
    """Return whether a list or a table is a file of this machine, rather than a URL."""
    return "://" not in path


def labels_path(path: str) -> str:
    """Return the path of the class names in the folder of a list, or their official URL."""
    local_path = Path(path).parent / LABELS_FILE
    return str(local_path) if path and "://" not in path and local_path.exists() else LABELS_URL


def _match_class_name(genre: str, name_by_mid: Mapping[str, str], name_by_lower: Mapping[str, str]) -> str:
    """Return the name of a class given by id or, in any case, by name."""
    if genre in name_by_mid:
        return name_by_mid[genre]
    lower = genre.lower()
    if lower in name_by_lower:
        return name_by_lower[lower]
    similar = [name_by_lower[n] for n in difflib.get_close_matches(lower, name_by_lower, n=5, cutoff=0.5)]
    similar += [name for key, name in name_by_lower.items() if lower in key and name not in similar][:5]
    hint = f"AudioSet's {len(name_by_lower)} classes are listed in {LABELS_FILE}"
    if similar:
        hint = f"similar names: {'; '.join(similar)}"
    raise UsageError(f"unknown genre {genre!r}; {hint}")


def _iter_descendants(mid: str, children: Mapping[str, Sequence[str]], excluded: set[str]) -> Iterator[str]:
    """Yield an id and those of its descendants that are not below an excluded id."""
    yield mid
    for child in children.get(mid, ()):
        if child not in excluded:
            yield from _iter_descendants(child, children, excluded)
