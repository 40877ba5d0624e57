"""GTZAN (Tzanetakis and Cook 2002): ten genres, a hundred excerpts of thirty seconds each, from a local folder."""

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import soundfile
from joblib import Parallel, delayed

from genre.datasets import folder
from genre.errors import DataError

#: The fault-filtered lists of Kereliuk, Sturm and Larsen (2015), by the names they go under, and their sides.
SPLIT_LISTS = {"train_filtered.txt": "train", "valid_filtered.txt": "validation", "test_filtered.txt": "test"}

#: Excerpts in each, to tell the real lists from others.
SPLIT_SIZES = {"train": 443, "validation": 197, "test": 290}


def load_clips(source: Path, directory: Path, *, lists: str = "", max_clips_per_track: int = 3) -> pd.DataFrame:
    """Cut every excerpt into ten-second clips; of excerpts that repeat another sample for sample, the first is kept.

    Parameters
    ----------
    source : Path
        Folder with ``blues/blues.00000.wav`` (or .au) and so on, itself or in its folder ``genres``.
    directory : Path
        Not used: the files stay where they are.
    lists : str
        Folder with the fault-filtered lists, one excerpt a line: only what they name is taken, and their sides are the
        published split (``-P split=source``). Empty for all excerpts and no split.
    max_clips_per_track : int
        At most so many clips of one excerpt, spread evenly over it.

    Returns
    -------
    pd.DataFrame
        Clips table; a repeated excerpt has the status ``duplicate`` and names the one it repeats.

    Raises
    ------
    DataError
        If there is no audio, a list is missing or has another length, or an excerpt that it names is not there.
    """
    below = next((d for d in (source / "genres", source / "genres_original") if d.is_dir()), source)
    tracks = folder.find_tracks(below)
    if lists:
        tracks = _select_listed(tracks, Path(lists).expanduser())
    table = folder.cut_tracks(tracks, "gtzan", max_clips_per_track)
    repeated = _find_repeats(tracks)
    first = table["recording"].map(repeated)
    known = first.notna() & (table["status"] == "pending")
    table.loc[known, "status"] = "duplicate"
    table.loc[known, "reason"] = "sample for sample the same as " + first[known].astype(str)
    return table


def _select_listed(tracks: list[dict[str, Any]], lists: Path) -> list[dict[str, Any]]:
    """Excerpts that the fault-filtered lists name, each with its side."""
    sides = {name: side for file, side in SPLIT_LISTS.items() for name in _read_list(lists / file)}
    counts = pd.Series(sides).value_counts().to_dict()
    if counts != SPLIT_SIZES:
        raise DataError(f"the lists in {lists} name {counts} excerpts; the fault-filtered ones name {SPLIT_SIZES}")
    there = {track["path"].stem: track for track in tracks}
    if missing := sorted(sides.keys() - there.keys()):
        raise DataError(f"the lists in {lists} name {missing[0]}, and {len(missing) - 1} more, that are not there")
    return [there[name] | {"split": side} for name, side in sorted(sides.items())]


def _read_list(path: Path) -> list[str]:
    """Excerpts of one list, such as ``blues.00029``."""
    if not path.exists():
        raise DataError(f"there is no {path}; lists takes a folder with {', '.join(SPLIT_LISTS)}")
    return [Path(line.strip()).stem for line in path.read_text().splitlines() if line.strip()]


def _find_repeats(tracks: list[dict[str, Any]]) -> dict[str, str]:
    """Excerpts that are another one over again, each with the first of them."""
    digests = Parallel(n_jobs=4, prefer="threads")(delayed(_hash_samples)(track["path"]) for track in tracks)
    firsts: dict[str, str] = {}
    repeated = {}
    for track, digest in zip(tracks, digests, strict=True):
        first = firsts.setdefault(digest, track["recording"])
        if first != track["recording"]:
            repeated[track["recording"]] = first
    return repeated


def _hash_samples(path: Path) -> str:
    """Hash of the samples, whatever the header says; empty where there are none to read."""
    try:
        return hashlib.sha256(soundfile.read(path, dtype="int16")[0].tobytes()).hexdigest()
    except soundfile.SoundFileError:  # told by the clips table
        return ""
