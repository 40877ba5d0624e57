"""Tagging of one file: whether its tags are written, and with which result."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from genre import tags
from genre.errors import DataError
from genre.library import tagging
from genre.library.undo import UndoFile, check_replaceable


class TagStatus(StrEnum):
    """Result of tagging a file; its text is printed and is part of the name of a metric."""

    WRITTEN = "written"
    WOULD_BE_WRITTEN = "would be written"
    WOULD_REPLACE = "would replace"
    THERE_ALREADY = "there already"
    KEPT = "kept"
    REFUSED = "refused"


@dataclass(frozen=True)
class TagOutcome:
    """Result of tagging a file, with the reason.

    Attributes
    ----------
    status : TagStatus
        The result.
    detail : str
        Genre that the file has, or reason for refusing it, for people.
    """

    status: TagStatus
    detail: str = ""

    def __str__(self) -> str:
        """Text of the table's column ``tag``."""
        return f"{self.status}: {self.detail}" if self.detail else self.status.value


def tag_file(path: Path, genres: Sequence[str], undo: UndoFile, *, dry_run: bool, overwrite: bool) -> TagOutcome:
    """Write genres into one file, unless the file or the options forbid it.

    Parameters
    ----------
    path : Path
        The file.
    genres : sequence of str
        Genres to write, at least one.
    undo : UndoFile
        Receives the record that undoes the change.
    dry_run : bool
        Only find out what would be written.
    overwrite : bool
        Replace other genres that the file has.

    Returns
    -------
    TagOutcome
        ``refused`` where the tags can be neither read nor written.

    Raises
    ------
    GenreError
        If the undo file cannot be written.
    """
    try:
        present = tags.read_genres(path)
        if present == list(genres):
            return TagOutcome(TagStatus.THERE_ALREADY)
        if present and not overwrite:
            return TagOutcome(TagStatus.KEPT, "; ".join(present))
        check_replaceable(path)
        if dry_run and present:
            return TagOutcome(TagStatus.WOULD_REPLACE, "; ".join(present))
        if dry_run:
            return TagOutcome(TagStatus.WOULD_BE_WRITTEN)
        tagging.write_genres(path, genres, undo)
    except DataError as error:
        return TagOutcome(TagStatus.REFUSED, str(error))
    return TagOutcome(TagStatus.WRITTEN)
