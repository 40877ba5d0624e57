"""Genres and artists in the tags of a music file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mutagen
from mutagen.aiff import AIFF
from mutagen.asf import ASF
from mutagen.flac import FLAC
from mutagen.id3 import TCON, ID3FileType
from mutagen.mp4 import MP4
from mutagen.ogg import OggFileType
from mutagen.wave import WAVE

from genre.errors import DataError

#: Classes of the files whose tags are written, and their formats for messages.
_WRITABLE = ID3FileType | WAVE | AIFF | FLAC | OggFileType | MP4
_SUPPORTED = "mp3, wav, aiff, flac, ogg, opus, m4a"

#: Keys of the genre in Vorbis comments and in MP4.
VORBIS_KEY = "genre"
MP4_KEY = "\xa9gen"

#: Keys of genre, album artist and artist. Players write the album artist of Vorbis comments under either of two names.
_ID3_KEYS = (["TCON"], ["TPE2"], ["TPE1"])
_VORBIS_KEYS = ([VORBIS_KEY], ["albumartist", "album artist"], ["artist"])
_MP4_KEYS = ([MP4_KEY], ["aART"], ["\xa9ART"])
_ASF_KEYS = (["WM/Genre"], ["WM/AlbumArtist"], ["Author"])


@dataclass(frozen=True)
class TrackTags:
    """Genres and artists in a file's tags.

    Attributes
    ----------
    genres : tuple of str
        Genres as they are in the file, none of them empty; numbers of ID3 are resolved to names.
    album_artist, artist : str
        The first of each; empty if there is none.
    """

    genres: tuple[str, ...]
    album_artist: str
    artist: str


def read_track_tags(path: Path) -> TrackTags:
    """Read the genres and the artists in a file's tags.

    Parameters
    ----------
    path : Path
        The file; its format is recognised by its content.

    Raises
    ------
    DataError
        If the file cannot be read, or its format has no tags that this module reads.
    """
    file = _open_file(path)
    if not isinstance(file, _WRITABLE | ASF):
        raise DataError(f"cannot read the tags of {path}: unsupported format (supported: {_SUPPORTED}, wma)")
    genres, album_artists, artists = (_read_values(file, keys) for keys in _keys_of(file))
    return TrackTags(tuple(genres), next(iter(album_artists), ""), next(iter(artists), ""))


def read_genres(path: Path) -> list[str]:
    """Read the genres in a file's tags.

    Parameters
    ----------
    path : Path
        The file; its format is recognised by its content.

    Returns
    -------
    list of str
        Empty if there is no genre.

    Raises
    ------
    DataError
        If the file cannot be read, or its format has no tags that can be written.
    """
    file = open_tags(path)
    return _read_values(file, _keys_of(file)[0])


def _open_file(path: Path) -> Any:
    """Open a file with mutagen, which returns None for a format that it does not know."""
    try:
        return mutagen.File(path)
    except Exception as error:  # mutagen raises many kinds on broken files
        raise DataError(f"cannot read the tags of {path} ({type(error).__name__}: {error})") from error


def open_tags(path: Path) -> Any:
    """Open a file with mutagen.

    Raises
    ------
    DataError
        If it cannot be read or its tags cannot be written.
    """
    file = _open_file(path)
    if not isinstance(file, _WRITABLE):
        raise DataError(f"cannot write tags to {path}: unsupported format (supported: {_SUPPORTED})")
    return file


def is_id3(file: Any) -> bool:
    """Return True if the format's tags are ID3."""
    return isinstance(file, ID3FileType | WAVE | AIFF)


def _keys_of(file: Any) -> tuple[list[str], list[str], list[str]]:
    """Return the keys of genre, album artist and artist in the format of a file."""
    if is_id3(file):
        return _ID3_KEYS
    if isinstance(file, ASF):
        return _ASF_KEYS
    return _MP4_KEYS if isinstance(file, MP4) else _VORBIS_KEYS


def _read_values(file: Any, keys: list[str]) -> list[str]:
    """Return the values under some keys that are not empty."""
    if file.tags is None:
        return []
    if is_id3(file):
        frames = [frame for key in keys for frame in file.tags.getall(key)]
        values = [value for frame in frames for value in (frame.genres if isinstance(frame, TCON) else frame.text)]
    else:
        values = [value for key in keys for value in file.tags.get(key) or []]
    return [text for text in (str(value).strip() for value in values) if text]
