"""The genre in a music file's own tags: ID3 (mp3, wav, aiff), Vorbis comments (flac, ogg, opus) and MP4 (m4a)."""

from pathlib import Path
from typing import Any

import mutagen
from mutagen.aiff import AIFF
from mutagen.flac import FLAC
from mutagen.id3 import TCON, Encoding, ID3FileType
from mutagen.mp4 import MP4
from mutagen.ogg import OggFileType
from mutagen.wave import WAVE

from genre.errors import DataError
from genre.library.undo import UndoFile, change_file

#: Where Vorbis comments and MP4 keep the genre.
_VORBIS_KEY, _MP4_KEY = "genre", "\xa9gen"


def read_genre(path: Path) -> str:
    """Genre that a file's tags name.

    Parameters
    ----------
    path : Path
        The file; what it is, is seen from its content.

    Returns
    -------
    str
        Empty where there is none; several are joined by ``; ``.

    Raises
    ------
    DataError
        If the format holds no tags, or none that are written here, or the file is no such file.
    """
    file = _open_tags(path)
    if file.tags is None:
        return ""
    if _is_id3(file):
        values = [genre for frame in file.tags.getall("TCON") for genre in frame.genres]
    else:
        values = file.tags.get(_MP4_KEY if isinstance(file, MP4) else _VORBIS_KEY) or []
    return "; ".join(str(value).strip() for value in values if str(value).strip())


def write_genre(path: Path, genre: str, undo: UndoFile) -> None:
    """Write the genre into a file's tags, in place of any that it has; everything else in the file stays.

    Parameters
    ----------
    path : Path
        The file. A symbolic link is followed.
    genre : str
        What to write.
    undo : UndoFile
        Gets what undoes it, before the file is touched.

    Raises
    ------
    DataError
        If the format holds no tags, or the file cannot be changed (see `genre.library.undo.change_file`).
    GenreError
        If the undo file cannot be written.
    """
    path = path.resolve()
    file = _open_tags(path)
    put = _write_id3 if _is_id3(file) else _write_comment

    def tag(copy: Path) -> None:
        try:
            put(file, copy, genre)
        except Exception as error:  # of mutagen, which on broken files has many; only the copy suffers
            raise DataError(f"{path} cannot be tagged ({type(error).__name__}: {error})") from error

    change_file(path, tag, undo)


def _open_tags(path: Path) -> Any:
    """The file as mutagen sees it."""
    try:
        file = mutagen.File(path)
    except Exception as error:  # of mutagen, which on broken files has many
        raise DataError(f"the tags of {path} cannot be read ({type(error).__name__}: {error})") from error
    if not isinstance(file, ID3FileType | WAVE | AIFF | FLAC | OggFileType | MP4):
        raise DataError(
            f"{path} is of a format whose tags are not written; those of mp3, wav, aiff, flac, ogg, opus and m4a are"
        )
    return file


def _is_id3(file: Any) -> bool:
    return isinstance(file, ID3FileType | WAVE | AIFF)


def _write_id3(file: Any, copy: Path, genre: str) -> None:
    """ID3 in the version the file has, its other frames as they are; 2.3 where there is none: every player reads it."""
    version = file.tags.version if file.tags is not None else (0,)
    tagged = type(file)(copy, translate=version < (2, 3), v2_version=3)
    if tagged.tags is None:
        tagged.add_tags()
    encoding = Encoding.LATIN1 if genre.isascii() else Encoding.UTF16
    tagged.tags.setall("TCON", [TCON(encoding=encoding, text=[genre])])
    # Several values stay apart as they were: by default they would be joined by a slash
    tagged.save(copy, v2_version=4 if version >= (2, 4) else 3, v23_sep=None)


def _write_comment(file: Any, copy: Path, genre: str) -> None:
    tagged = type(file)(copy)
    if tagged.tags is None:
        tagged.add_tags()
    tagged.tags[_MP4_KEY if isinstance(file, MP4) else _VORBIS_KEY] = [genre]
    tagged.save(copy)
