"""Music of your own whose files carry genres in their tags; the artist is the recording."""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed

from genre import tags
from genre.audio.listing import find_audio_files
from genre.datasets import RESERVED_NAMES, folder
from genre.errors import DataError
from genre.splits import assignment
from genre.tags.names import MEANINGLESS_GENRES, fold_name

_log = logging.getLogger(__name__)

#: Genres of tags, folded, that are left out: those that name no music, and the names that no genre of a data set may
#: have.
LEFT_OUT_GENRES = MEANINGLESS_GENRES | {name.replace("_", " ") for name in RESERVED_NAMES}

#: Artists that are none, folded: those of compilations, and what rippers write where they know no artist.
NO_ARTISTS = {"", "various artists", "various", "va", "v.a.", "v/a", "unknown artist", "unknown"}

#: Most genres that a warning names.
_N_NAMED = 10


def load_clips(source: Path, directory: Path, *, min_artists: int = 3, max_clips_per_track: int = 6) -> pd.DataFrame:
    """Cut every track with a genre in its tags into ten-second clips.

    A track has one genre: of the values of its genre field, divided at ``;``, ``/`` and null characters, the first that
    is not in `LEFT_OUT_GENRES`. Spellings that differ only in case, spaces, hyphens or underscores are one genre,
    spelt as in most files. The files that are left out are counted in a warning per reason.

    Parameters
    ----------
    source : Path
        Folder of music, searched to any depth.
    directory : Path
        Not used: the files stay where they are.
    min_artists : int
        Fewest artists of a genre; genres with fewer are left out. A build needs three, one for each split. An artist
        counts for the genre of most of his clips.
    max_clips_per_track : int
        Largest number of clips per track; they are spread evenly over it.

    Returns
    -------
    pd.DataFrame
        Clips table; genres in alphabetical order. The recording is the album artist or, where there is none or the
        album is a compilation, the artist; tracks without an artist share their folder as a recording.

    Raises
    ------
    DataError
        If the source is no folder, no genre has enough artists, or an option is less than 1.
    """
    if min(min_artists, max_clips_per_track) < 1:
        raise DataError(
            f"min_artists and max_clips_per_track must be at least 1, got {min_artists} and {max_clips_per_track}"
        )
    if not source.is_dir():
        raise DataError(f"{source} is not a folder; give the folder of your music, such as -P source=~/Music")
    files = find_audio_files(source)
    read = Parallel(n_jobs=4, prefer="threads", batch_size=16)  # threads, as in `folder.cut_tracks`
    tracks = _select_tracks(read(delayed(_read_track)(path, source) for path in files))
    if tracks:
        clips = _drop_small_genres(folder.cut_tracks(tracks, "tagged", max_clips_per_track), min_artists)
    if not tracks or clips.empty:
        raise DataError(
            f"of {len(files)} files in {source}, none has a genre of at least {min_artists} artists in its tags; "
            "tag the files, or use -P dataset=folder"
        )
    return clips


def select_genre(values: tuple[str, ...]) -> str:
    """Return the first genre of a file that names music; empty if there is none.

    Parameters
    ----------
    values : tuple of str
        Values of the genre field, each of one or more genres, divided at ``;``, ``/`` and null characters.
    """
    named = (value for value in values if fold_name(value) not in LEFT_OUT_GENRES)  # "n/a" is no two genres
    parts = (" ".join(part.split()) for value in named for part in re.split(r"[;/\0]", value))
    return next((part for part in parts if fold_name(part) not in LEFT_OUT_GENRES), "")


def _read_track(path: Path, source: Path) -> dict[str, Any]:
    """Return the record of one file, with the reason for leaving it out or an empty one."""
    name = os.fsencode(path.relative_to(source)).decode(errors="backslashreplace")
    record = {"path": path, "listed": name, "recording": "", "genre": "", "left_out": ""}
    try:
        found = tags.read_track_tags(path)
    except DataError:
        return record | {"left_out": "with tags that cannot be read"}
    genre = select_genre(found.genres)
    if not genre:
        reason = "with a genre that names no music, such as Unknown or Other" if found.genres else "without a genre"
        return record | {"left_out": reason}
    artists = (fold_name(artist) for artist in (found.album_artist, found.artist))
    artist = next((artist for artist in artists if artist not in NO_ARTISTS), "")
    recording = f"artist {artist}" if artist else f"folder {Path(name).parent}"
    return record | {"genre": genre, "recording": recording}


def _select_tracks(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the tracks with a genre, each genre spelt in one way; warn of the files that are left out."""
    records = list(records)
    for reason, n_files in sorted(Counter(record["left_out"] for record in records if record["left_out"]).items()):
        _log.warning("files left out: %d %s", n_files, reason)
    tracks = [record for record in records if not record["left_out"]]
    spellings = _commonest_spellings(Counter(track["genre"] for track in tracks))
    return [track | {"genre": spellings[fold_name(track["genre"])]} for track in tracks]


def _commonest_spellings(counts: Counter[str]) -> dict[str, str]:
    """Map each folded genre to its commonest spelling; of equally common ones, to the first by its characters."""
    rarest_first = sorted(sorted(counts, reverse=True), key=counts.__getitem__)
    return {fold_name(genre): genre for genre in rarest_first}


def _drop_small_genres(clips: pd.DataFrame, min_artists: int) -> pd.DataFrame:
    """Return the clips of the genres with enough artists, and warn of the others.

    An artist counts for one genre, that of most of his clips, because he goes to one split.
    """
    artists = assignment.summarise_recordings(clips[clips["status"] == "pending"])
    n_artists = artists["genre"].value_counts().reindex(clips["genre"].cat.categories, fill_value=0)
    small = list(n_artists.index[n_artists < min_artists])
    is_small = clips["genre"].isin(small)
    if small:
        names = ", ".join(small[:_N_NAMED]) + (f" and {len(small) - _N_NAMED} more" if len(small) > _N_NAMED else "")
        text = "files left out: %d of %d genres with fewer than %d artists: %s"
        _log.warning(text, clips.loc[is_small, "path"].nunique(), len(small), min_artists, names)
    kept = clips[~is_small]
    return kept.assign(genre=kept["genre"].cat.remove_unused_categories())
