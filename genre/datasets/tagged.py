"""Music of your own whose files carry genres in their tags; the artist is the recording."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed

from genre import tags
from genre.audio.left_out import LeftOut
from genre.audio.listing import find_audio_files
from genre.datasets import RESERVED_NAMES, folder
from genre.errors import DataError, GenreError
from genre.splits import assignment
from genre.tags.names import MEANINGLESS_GENRES, fold_name

#: Genres of tags, folded, that are left out: those that name no music, and the names that no genre of a data set may
#: have.
LEFT_OUT_GENRES = MEANINGLESS_GENRES | {name.replace("_", " ") for name in RESERVED_NAMES}

#: Artists that are none, folded: those of compilations, and what rippers write where they know no artist.
NO_ARTISTS = {"", "various artists", "various", "va", "v.a.", "v/a", "unknown artist", "unknown"}


def load_clips(
    source: Path, directory: Path, left_out: LeftOut, *, min_artists: int = 3, max_clips_per_track: int = 6
) -> pd.DataFrame:
    """Cut every track with a genre in its tags into ten-second clips.

    A track has one genre: of the values of its genre field, divided at ``;``, ``/`` and null characters, the first that
    is not in `LEFT_OUT_GENRES`. Spellings that differ only in case, spaces, hyphens or underscores are one genre,
    spelt as in most files.

    Parameters
    ----------
    source : Path
        Folder of music, searched to any depth.
    directory : Path
        Not used: the files stay where they are.
    left_out : LeftOut
        Receives the files that are not listed, and those whose tags keep them out.
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
    files = find_audio_files(source, left_out)
    read = Parallel(n_jobs=4, prefer="threads", batch_size=16)  # threads, as in `folder.cut_tracks`
    tracks = _select_tracks(read(delayed(_read_track)(path, source) for path in files), left_out)
    if tracks:
        clips = _drop_small_genres(folder.cut_tracks(tracks, "tagged", max_clips_per_track), min_artists, left_out)
    if not tracks or clips.empty:
        raise DataError(
            f"of {len(files)} files in {source}, none has a genre of at least {min_artists} artists in its tags; "
            f"tag the files, or use -P dataset=folder{left_out.to_clause()}"
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
        return record | {"left_out": "files with tags that cannot be read"}
    except GenreError:  # an outage: one bad sector must not keep the other files out for ever
        return record | {"left_out": "files that cannot be read at the moment"}
    genre = select_genre(found.genres)
    if not genre:
        reason = "files with a genre that names no music" if found.genres else "files without a genre"
        return record | {"left_out": reason}
    artists = (fold_name(artist) for artist in (found.album_artist, found.artist))
    artist = next((artist for artist in artists if artist not in NO_ARTISTS), "")
    recording = f"artist {artist}" if artist else f"folder {Path(name).parent}"
    return record | {"genre": genre, "recording": recording}


def _select_tracks(records: Iterable[dict[str, Any]], left_out: LeftOut) -> list[dict[str, Any]]:
    """Return the tracks with a genre, each genre spelt in one way; count the files that are left out."""
    tracks = []
    for record in records:
        if record["left_out"]:
            left_out.add(record["left_out"], record["path"])
        else:
            tracks.append(record)
    spellings = _commonest_spellings(Counter(track["genre"] for track in tracks))
    return [track | {"genre": spellings[fold_name(track["genre"])]} for track in tracks]


def _commonest_spellings(counts: Counter[str]) -> dict[str, str]:
    """Map each folded genre to its commonest spelling; of equally common ones, to the first by its characters."""
    rarest_first = sorted(sorted(counts, reverse=True), key=counts.__getitem__)
    return {fold_name(genre): genre for genre in rarest_first}


def _drop_small_genres(clips: pd.DataFrame, min_artists: int, left_out: LeftOut) -> pd.DataFrame:
    """Return the clips of the genres with enough artists, and count the files of the others.

    An artist counts for one genre, that of most of his clips, because he goes to one split.
    """
    artists = assignment.summarise_recordings(clips[clips["status"] == "pending"])
    n_artists = artists["genre"].value_counts().reindex(clips["genre"].cat.categories, fill_value=0)
    is_small = clips["genre"].isin(n_artists.index[n_artists < min_artists])
    for path, genre in clips[is_small].drop_duplicates("path")[["path", "genre"]].itertuples(index=False):
        left_out.add(f"files of genres with fewer than {min_artists} artists", path, genre)
    kept = clips[~is_small]
    return kept.assign(genre=kept["genre"].cat.remove_unused_categories())
