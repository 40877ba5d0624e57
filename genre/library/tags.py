"""Genre in the tags of a music file: ID3 (mp3, wav, aiff), Vorbis comments (flac, ogg, opus) and MP4 (m4a)."""

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

#: Keys of the genre in Vorbis comments and in MP4.
_VORBIS_KEY = "genre"
_MP4_KEY = "\xa9gen"


def read_genre(path: Path) -> str:
    """Read the genre in a file's tags.

    Parameters
    ----------
    path : Path
        The file; its format is recognised by its content.

    Returns
    -------
    str
        Empty if there is no genre; several are joined by ``; ``.

    Raises
    ------
    DataError
        If the file cannot be read, or its format has no tags that this module writes.
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
    """Write a genre into a file's tags, replacing any other genre; everything else in the file stays.

    Parameters
    ----------
    path : Path
        The file. A symbolic link is followed.
    genre : str
        Genre to write.
    undo : UndoFile
        Receives the record that undoes the change, before the file is touched.

    Raises
    ------
    DataError
        If the format has no tags, or the file cannot be changed (see `genre.library.undo.change_file`).
    GenreError
        If the undo file cannot be written.
    """
    path = path.resolve()
    file = _open_tags(path)
    write = _write_id3 if _is_id3(file) else _write_comment

    def write_to_copy(copy: Path) -> None:
        try:
            write(file, copy, genre)
        except Exception as error:  # mutagen raises many kinds on broken files; only the copy is affected
            raise DataError(f"cannot write tags to {path} ({type(error).__name__}: {error})") from error

    change_file(path, write_to_copy, undo)


def _open_tags(path: Path) -> Any:
    """Open a file with mutagen; DataError if it cannot be read or its tags cannot be written."""
    try:
        file = mutagen.File(path)
    except Exception as error:  # mutagen raises many kinds on broken files
        raise DataError(f"cannot read the tags of {path} ({type(error).__name__}: {error})") from error
    if not isinstance(file, ID3FileType | WAVE | AIFF | FLAC | OggFileType | MP4):
        raise DataError(
            f"cannot write tags to {path}: unsupported format (supported: mp3, wav, aiff, flac, ogg, opus, m4a)"
        )
    return file


def _is_id3(file: Any) -> bool:
    """Return True if the format's tags are ID3."""
    return isinstance(file, ID3FileType | WAVE | AIFF)


def _write_id3(file: Any, copy: Path, genre: str) -> None:
    """Write ID3 in the file's own version, other frames unchanged; in 2.3, which any player reads, if it has none."""
    version = file.tags.version if file.tags is not None else (0,)
    tagged = type(file)(copy, translate=version < (2, 3), v2_version=3)
    if tagged.tags is None:
        tagged.add_tags()
    encoding = Encoding.LATIN1 if genre.isascii() else Encoding.UTF16
    tagged.tags.setall("TCON", [TCON(encoding=encoding, text=[genre])])
    # v23_sep=None keeps several values of a frame separate; by default they would be joined by a slash.
    tagged.save(copy, v2_version=4 if version >= (2, 4) else 3, v23_sep=None)


def _write_comment(file: Any, copy: Path, genre: str) -> None:
    """Write the genre as a Vorbis comment or an MP4 atom."""
    tagged = type(file)(copy)
    if tagged.tags is None:
        tagged.add_tags()
    tagged.tags[_MP4_KEY if isinstance(file, MP4) else _VORBIS_KEY] = [genre]
    tagged.save(copy)
