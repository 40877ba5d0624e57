"""AudioSet's classes: their names, and what lies below them."""

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

#: Where AudioSet publishes its class names (CC BY 4.0), and its ontology (CC BY-SA 4.0).
LABELS_FILE = "class_labels_indices.csv"
LABELS_URL = f"http://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv/{LABELS_FILE}"
ONTOLOGY_URL = "https://raw.githubusercontent.com/audioset/ontology/master/ontology.json"


def resolve_genres(genres: str, labels: str = "", list_path: str = "") -> dict[str, set[str]]:
    """Each genre's name with the id that stands for it, in the order asked for.

    Parameters
    ----------
    genres : str
        Names, in any case, or ids of classes; separated by ``;`` or, where there is none, by commas. Empty for the
        paper's seven.
    labels : str
        Path or URL of AudioSet's class names. Not read while the paper's names suffice. Empty for the file beside a
        list, or else the official one.
    list_path : str
        Path or URL of that list.

    Raises
    ------
    UsageError
        If a genre is unknown; the message lists names near it.
    DataError
        If the class names cannot be read.
    """
    asked = [part.strip() for part in re.split(";" if ";" in genres else ",", genres) if part.strip()]
    known = dict(PAPER_GENRES)
    if set(asked) - known.keys() - set(known.values()):
        known = class_names(labels or _labels_path(list_path))
    by_mid, by_name = {mid: name for name, mid in known.items()}, {name.lower(): name for name in known}
    names = [_match_class_name(genre, by_mid, by_name) for genre in asked] or list(PAPER_GENRES)
    return {name: {known[name]} for name in dict.fromkeys(names)}


def class_names(path: str) -> dict[str, str]:
    """Name to id of AudioSet's 527 classes, from the path or URL of its CSV.

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
            f"{path} cannot be read as AudioSet's class names ({error}); give -P labels=PATH of its {LABELS_FILE}"
        ) from None


def class_ids(labels: str = "", list_path: str = "") -> list[str]:
    """Ids of AudioSet's 527 classes, in the order of their indices; from where `resolve_genres` takes the names.

    Raises
    ------
    DataError
        If the file cannot be read or has other columns.
    """
    return list(class_names(labels or _labels_path(list_path)).values())


def with_descendants(genres: Mapping[str, set[str]], path: str = "") -> dict[str, set[str]]:
    """Each genre with the ids of everything below it, except below what was asked for by itself.

    Parameters
    ----------
    genres : mapping
        As `resolve_genres` gives them.
    path : str
        Path or URL of AudioSet's ``ontology.json``; empty for the official one.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    path = path or ONTOLOGY_URL
    try:
        children = {c["id"]: c["child_ids"] for c in json.loads(_read_bytes(path))}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path} cannot be read as AudioSet's ontology ({error}); give -P ontology=PATH of its ontology.json"
        ) from None
    asked = {mid for group in genres.values() for mid in group}
    return {
        name: {below for mid in group for below in _iter_descendants(mid, children, asked)}
        for name, group in genres.items()
    }


def mids_pattern(mids: Sequence[str] | set[str]) -> str:
    """Regular expression of a list's labels in which one of the ids is: ids between commas."""
    return f"(?:^|,)(?:{'|'.join(map(re.escape, sorted(mids)))})(?:,|$)"


def _read_bytes(path: str) -> bytes:
    if "://" not in path:
        return Path(path).expanduser().read_bytes()
    with urlopen(path, timeout=60) as response:
        return response.read()


def _labels_path(path: str) -> str:
    """Class names in the folder of a list, or the official ones."""
    beside = Path(path).parent / LABELS_FILE
    return str(beside) if path and "://" not in path and beside.exists() else LABELS_URL


def _match_class_name(genre: str, by_mid: Mapping[str, str], by_name: Mapping[str, str]) -> str:
    """Name of a class given by id or by name, in any case."""
    if genre in by_mid:
        return by_mid[genre]
    if genre.lower() in by_name:
        return by_name[genre.lower()]
    near = [by_name[n] for n in difflib.get_close_matches(genre.lower(), by_name, n=5, cutoff=0.5)]
    near += [name for low, name in by_name.items() if genre.lower() in low and name not in near][:5]
    hint = f"near it: {'; '.join(near)}" if near else f"AudioSet has {len(by_name)} classes, listed in {LABELS_FILE}"
    raise UsageError(f"unknown genre {genre!r}; {hint}")


def _iter_descendants(mid: str, children: Mapping[str, Sequence[str]], asked: set[str]) -> Iterator[str]:
    yield mid
    for child in children.get(mid, ()):
        if child not in asked:
            yield from _iter_descendants(child, children, asked)
