"""The Free Music Archive's data set (Defferrard et al. 2017), from a local folder."""

from pathlib import Path

import pandas as pd

from genre.datasets import folder
from genre.errors import DataError, UsageError

#: Subsets, each within the next.
SUBSETS = ("small", "medium", "large")

#: Tracks whose clip was cut at the wrong place, because their metadata gave a wrong length. Many have no audio at all.
#: (https://github.com/mdeff/fma/issues/8, by the data set's author)
MISCUT_TRACKS = {1486, 5574, 65753, 80391, 98558, 98559, 98560, 98565, 98566, 98567, 98568, 98569, 98571, 99134}
MISCUT_TRACKS |= {105247, 108924, 108925, 126981, 127336, 133297, 143992}

_COLUMNS = [("artist", "id"), ("set", "split"), ("set", "subset"), ("track", "genre_top")]
_SPLITS = {"training": "train", "validation": "validation", "test": "test"}


def load_clips(source: Path, directory: Path, *, subset: str = "small", max_clips_per_track: int = 3) -> pd.DataFrame:
    """Cut every track of a subset into ten-second clips.

    Parameters
    ----------
    source : Path
        Folder with ``fma_metadata/tracks.csv``, or ``tracks.csv``, and ``fma_small/000/000002.mp3`` and so on.
    directory : Path
        Not used: the files stay where they are.
    subset : {"small", "medium", "large"}
        Subset to load; tracks without a top genre are left out.
    max_clips_per_track : int
        Largest number of clips per track; they are spread evenly over it.

    Returns
    -------
    pd.DataFrame
        Clips table. The artist is the recording, because the published split (``-P split=source``) never divides an
        artist. The tracks of `MISCUT_TRACKS` have the status ``known_bad``.

    Raises
    ------
    UsageError
        If the subset is unknown.
    DataError
        If the table of tracks or the audio is missing.
    """
    if subset not in SUBSETS:
        raise UsageError(f"unknown subset {subset!r}; choose from {', '.join(SUBSETS)}")
    audio_dir = next((d for d in (source / f"fma_{subset}", source) if d.is_dir()), source)
    table = _read_tracks(source)
    subsets = SUBSETS[: SUBSETS.index(subset) + 1]
    is_selected = table["set", "subset"].isin(subsets) & table["track", "genre_top"].notna()
    tracks = [
        {
            "path": audio_dir / f"{number:06d}"[:3] / f"{number:06d}.mp3",
            "listed": f"{number:06d}",
            "recording": f"artist {row['artist', 'id']}",
            "genre": row["track", "genre_top"],
            "split": _SPLITS.get(row["set", "split"]),
        }
        for number, row in table[is_selected].iterrows()
    ]
    if not any(track["path"].exists() for track in tracks):
        raise DataError(
            f"none of the {len(tracks)} tracks of subset {subset!r} is in {audio_dir}, as 000/000002.mp3; "
            f"unpack fma_{subset}.zip there"
        )
    clips = folder.cut_tracks(tracks, "fma", max_clips_per_track)
    is_miscut = clips["clip_id"].str.split("@").str[0].astype(int).isin(MISCUT_TRACKS)
    clips.loc[is_miscut, ["status", "reason"]] = ["known_bad", "cut at the wrong place, according to its authors"]
    return clips


def _read_tracks(source: Path) -> pd.DataFrame:
    """Read the table of tracks, indexed by their numbers."""
    path = next((p for p in (source / "fma_metadata" / "tracks.csv", source / "tracks.csv") if p.exists()), None)
    if path is None:
        raise DataError(f"no tracks.csv in {source} or its folder fma_metadata; unpack fma_metadata.zip there")
    try:
        return pd.read_csv(path, index_col=0, header=[0, 1], low_memory=False)[_COLUMNS]
    except (ValueError, KeyError) as error:
        raise DataError(
            f"{path} is not the data set's table of tracks ({error}); unpack fma_metadata.zip again"
        ) from None
