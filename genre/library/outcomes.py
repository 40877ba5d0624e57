"""Tagging of one file: whether its tags are written, and with which result."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from genre import tags
from genre.errors import DataError
from genre.library import tagging
from genre.library.replacing import check_replaceable
from genre.library.undo import UndoFile
from genre.tags.names import fold_name


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
    """Result of tagging a file.

    Attributes
    ----------
    status : TagStatus
        The result.
    proposed : tuple of str
        Genres that were to be written.
    present : tuple of str, optional
        Genres that the file had; None if its tags cannot be read.
    reason : str
        Reason for refusing the file, for people.
    stamp : str
        Stamp of the file that was written, from `genre.library.replacing.state_stamp`.
    """

    status: TagStatus
    proposed: tuple[str, ...]
    present: tuple[str, ...] | None = ()
    reason: str = ""
    stamp: str = field(default="", compare=False)

    def __str__(self) -> str:
        """Text of the table's column ``tag``."""
        if self.status is TagStatus.REFUSED:
            return f"{self.status}: {self.reason}"
        return f"{self.status}: {self._before}" if self.status in _NAMES_PRESENT else self.status.value

    def describe_change(self) -> str:
        """Return the genres before and after as ``Jazz → Rock``, with the result where nothing would be changed."""
        change = f"{self._before} → {join_genres(self.proposed)}"
        if self.status is TagStatus.REFUSED:
            return f"{change} ({self})"
        return f"{change} ({self.status})" if self.status in (TagStatus.KEPT, TagStatus.THERE_ALREADY) else change

    @property
    def _before(self) -> str:
        """Genres that the file had, in one text."""
        return "?" if self.present is None else join_genres(self.present) or "(none)"


#: Results whose text in the table names the genres that the file has.
_NAMES_PRESENT = (TagStatus.KEPT, TagStatus.WOULD_REPLACE)


def join_genres(genres: Sequence[str]) -> str:
    """Join genres for people."""
    return "; ".join(genres)


def tag_file(
    path: Path, genres: Sequence[str], undo: UndoFile, *, dry_run: bool, overwrite: bool, stamp: str = ""
) -> TagOutcome:
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
        Replace other genres that the file has, and the same in another spelling.
    stamp : str
        Stamp of the file whose genres these are, from `genre.library.replacing.state_stamp`; another file in its place
        is refused. By default any.

    Returns
    -------
    TagOutcome
        ``refused`` where the tags can be neither read nor written.

    Raises
    ------
    UsageError
        If there is no genre, or one is no text.
    GenreError
        If the undo file cannot be written.
    """
    proposed = tuple(genres)
    present = None
    try:
        present = tuple(tags.read_genres(path))
        if _is_there(present, proposed, is_exact=overwrite):
            return TagOutcome(TagStatus.THERE_ALREADY, proposed, present)
        if present and not overwrite:
            return TagOutcome(TagStatus.KEPT, proposed, present)
        check_replaceable(path, stamp)
        if dry_run:
            tags.plan_genres(path, proposed)
            status = TagStatus.WOULD_REPLACE if present else TagStatus.WOULD_BE_WRITTEN
            return TagOutcome(status, proposed, present)
        written = tagging.write_genres(path, proposed, undo, stamp)
    except DataError as error:
        return TagOutcome(TagStatus.REFUSED, proposed, present, str(error))
    return TagOutcome(TagStatus.WRITTEN, proposed, present, stamp=written)


def _is_there(present: Sequence[str], proposed: Sequence[str], *, is_exact: bool) -> bool:
    """Return True if a file has these genres in this order, in any spelling unless `is_exact`."""
    if is_exact:
        return list(present) == list(proposed)
    return [*map(fold_name, present)] == [*map(fold_name, proposed)]
