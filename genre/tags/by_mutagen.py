"""Tags as mutagen reads them: artists, and genres as a second opinion on what this package has planned."""

from pathlib import Path
from typing import Any

import mutagen
from mutagen.asf import ASFTags
from mutagen.id3 import ID3, TCON
from mutagen.mp4 import MP4Tags

from genre.errors import DataError

#: Keys of genre, album artist and artist. Players write the album artist of Vorbis comments, and of APE, which has the
#: same keys, under either of two names.
_ID3_KEYS = (["TCON"], ["TPE2"], ["TPE1"])
_MP4_KEYS = (["\xa9gen"], ["aART"], ["\xa9ART"])
_ASF_KEYS = (["WM/Genre"], ["WM/AlbumArtist"], ["Author"])
_OTHER_KEYS = (["genre"], ["albumartist", "album artist"], ["artist"])


def read_artists(path: Path) -> tuple[list[str], list[str]]:
    """Read the album artists and the artists, none of them empty; no one where mutagen cannot read the file."""
    file = _open_file(path)
    if file is None:
        return [], []
    _, *keys = _keys_of(file.tags)
    album_artists, artists = (_list_values(file.tags, names) for names in keys)
    return album_artists, artists


def read_copied_genres(path: Path, copy: Path) -> list[str]:
    """Read the genres of a file's changed copy, none of them empty; none where mutagen cannot read the file itself.

    Raises
    ------
    DataError
        If mutagen can read the file but not the copy.
    """
    file = _open_file(path)
    if file is None:
        return []
    try:
        tags = type(file)(copy).tags  # by its class: the name of a copy does not end as that of the file
    except Exception as error:  # mutagen raises many kinds on broken files
        raise DataError(f"mutagen cannot read it any more ({type(error).__name__}: {error})") from error
    return _list_values(tags, _keys_of(tags)[0])


def _open_file(path: Path) -> Any:
    """Open a file; None if mutagen does not know its format or cannot read it."""
    try:
        return mutagen.File(path)
    except Exception:  # mutagen raises many kinds on broken files
        return None


def _keys_of(tags: Any) -> tuple[list[str], list[str], list[str]]:
    """Return the keys of genre, album artist and artist in a kind of tags."""
    for kind, keys in ((ID3, _ID3_KEYS), (MP4Tags, _MP4_KEYS), (ASFTags, _ASF_KEYS)):
        if isinstance(tags, kind):
            return keys
    return _OTHER_KEYS


def _list_values(tags: Any, keys: list[str]) -> list[str]:
    """Return the values under some keys that are not empty."""
    if tags is None:
        return []
    if isinstance(tags, ID3):
        frames = [frame for key in keys for frame in tags.getall(key)]
        values = [value for frame in frames for value in (frame.genres if isinstance(frame, TCON) else frame.text)]
    else:
        values = [value for key in keys for value in tags.get(key) or []]
    return [text for text in (str(value).strip() for value in values) if text]
