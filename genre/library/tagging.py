"""Genres written into the tags of a user's files, so that they can be undone."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from mutagen.id3 import TCON, Encoding
from mutagen.mp4 import MP4

from genre.errors import DataError
from genre.library.undo import UndoFile, change_file
from genre.tags import MP4_KEY, VORBIS_KEY, is_id3, open_tags
from genre.tags.splices import Splice


def write_genres(path: Path, genres: Sequence[str], undo: UndoFile) -> None:
    """Write genres into a file's tags, replacing any others; everything else in the file stays.

    Parameters
    ----------
    path : Path
        The file. A symbolic link is followed.
    genres : sequence of str
        Genres to write, at least one.
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
    file = open_tags(path)
    write = _write_id3 if is_id3(file) else _write_comment

    def plan() -> list[Splice]:
        old = path.read_bytes()
        copy = BytesIO(old)
        try:
            write(file, copy, genres)
        except Exception as error:  # mutagen raises many kinds on broken files; only the copy is affected
            raise DataError(f"cannot write tags to {path} ({type(error).__name__}: {error})") from error
        return [Splice(0, len(old), copy.getvalue())]

    change_file(path, plan, lambda copy: None, undo)


def _write_id3(file: Any, copy: BytesIO, genres: Sequence[str]) -> None:
    """Write ID3 in the file's own version, other frames unchanged; in 2.3, which any player reads, if it has none."""
    version = file.tags.version if file.tags is not None else (0,)
    tagged = type(file)(copy, translate=version < (2, 3), v2_version=3)
    if tagged.tags is None:
        tagged.add_tags()
    encoding = Encoding.LATIN1 if all(map(str.isascii, genres)) else Encoding.UTF16
    tagged.tags.setall("TCON", [TCON(encoding=encoding, text=list(genres))])
    # v23_sep=None keeps several values of a frame separate; by default they would be joined by a slash.
    copy.seek(0)
    tagged.save(copy, v2_version=4 if version >= (2, 4) else 3, v23_sep=None)


def _write_comment(file: Any, copy: BytesIO, genres: Sequence[str]) -> None:
    """Write the genre as a Vorbis comment or an MP4 atom."""
    tagged = type(file)(copy)
    if tagged.tags is None:
        tagged.add_tags()
    tagged.tags[MP4_KEY if isinstance(file, MP4) else VORBIS_KEY] = list(genres)
    copy.seek(0)
    tagged.save(copy)
