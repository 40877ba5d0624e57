"""GTZAN (Tzanetakis and Cook 2002): ten genres, a hundred excerpts of thirty seconds each, from a local folder."""

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import soundfile
from joblib import Parallel, delayed

from genre.audio.left_out import LeftOut
from genre.datasets import folder
from genre.errors import DataError

#: File names of the fault-filtered lists of Kereliuk, Sturm and Larsen (2015), and their splits.
SPLIT_LISTS = {"train_filtered.txt": "train", "valid_filtered.txt": "validation", "test_filtered.txt": "test"}

#: Number of excerpts in each, by which these lists are recognised.
SPLIT_SIZES = {"train": 443, "validation": 197, "test": 290}


def load_clips(
    source: Path, directory: Path, left_out: LeftOut, *, lists: str = "", max_clips_per_track: int = 3
) -> pd.DataFrame:
    """Cut every excerpt into ten-second clips; of excerpts with identical samples, only the first is used.

    Parameters
    ----------
    source : Path
        Folder with ``blues/blues.00000.wav`` (or .au) and so on, itself or in its folder ``genres``.
    directory : Path
        Not used: the files stay where they are.
    left_out : LeftOut
        Receives the files that are not listed.
    lists : str
        Folder with the fault-filtered lists, one excerpt per line. Only the excerpts they name are used, and the lists
        are the published split (``-P split=source``). Empty for all excerpts and no split.
    max_clips_per_track : int
        Largest number of clips per excerpt; they are spread evenly over it.

    Returns
    -------
    pd.DataFrame
        Clips table. A repeated excerpt has the status ``duplicate``, and its reason names the one it repeats.

    Raises
    ------
    DataError
        If there is no audio, a list is missing or has another length, or an excerpt that it names is missing.
    """
    genres_dir = next((d for d in (source / "genres", source / "genres_original") if d.is_dir()), source)
    tracks = folder.find_tracks(genres_dir, left_out)
    if lists:
        tracks = _select_listed(tracks, Path(lists).expanduser())
    table = folder.cut_tracks(tracks, "gtzan", max_clips_per_track)
    first = table["recording"].map(_find_repeats(tracks))
    is_duplicate = first.notna() & (table["status"] == "pending")
    table.loc[is_duplicate, "status"] = "duplicate"
    table.loc[is_duplicate, "reason"] = "sample for sample the same as " + first[is_duplicate].astype(str)
    return table


def _select_listed(tracks: list[dict[str, Any]], lists: Path) -> list[dict[str, Any]]:
    """Return the excerpts that the fault-filtered lists name, each with its split."""
    splits: dict[str, str] = {}
    for file, split in SPLIT_LISTS.items():
        splits |= dict.fromkeys(_read_list(lists / file), split)
    counts = pd.Series(splits).value_counts().to_dict()
    if counts != SPLIT_SIZES:
        raise DataError(f"the lists in {lists} name {counts} excerpts; the fault-filtered ones name {SPLIT_SIZES}")
    track_by_name = {track["path"].stem: track for track in tracks}
    if missing := sorted(splits.keys() - track_by_name.keys()):
        raise DataError(
            f"the lists in {lists} name {missing[0]}, and {len(missing) - 1} more, that are not in the source; "
            "unpack GTZAN again"
        )
    return [track_by_name[name] | {"split": split} for name, split in sorted(splits.items())]


def _read_list(path: Path) -> list[str]:
    """Read the names of the excerpts in one list, such as ``blues.00029``."""
    if not path.exists():
        raise DataError(f"there is no {path}; lists takes a folder with {', '.join(SPLIT_LISTS)}")
    return [Path(line.strip()).stem for line in path.read_text().splitlines() if line.strip()]


def _find_repeats(tracks: list[dict[str, Any]]) -> dict[str, str]:
    """Map each excerpt whose samples are those of an earlier one to the first of these."""
    digests = Parallel(n_jobs=4, prefer="threads")(delayed(_hash_samples)(track["path"]) for track in tracks)
    first_by_digest: dict[str, str] = {}
    first_by_repeat = {}
    for track, digest in zip(tracks, digests, strict=True):
        first = first_by_digest.setdefault(digest, track["recording"])
        if digest and first != track["recording"]:
            first_by_repeat[track["recording"]] = first
    return first_by_repeat


def _hash_samples(path: Path) -> str:
    """Return a hash of the samples, whatever the header; empty if the file cannot be read."""
    try:
        return hashlib.sha256(soundfile.read(path, dtype="int16")[0].tobytes()).hexdigest()
    except soundfile.SoundFileError:  # the clips table holds the reason
        return ""
