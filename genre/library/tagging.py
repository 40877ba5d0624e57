"""Genres written into the tags of a user's files, so that they can be undone and nothing else changes."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from genre import tags
from genre.audio.packets import Stretch, find_difference
from genre.errors import DataError
from genre.library.undo import UndoFile, change_file
from genre.tags import by_mutagen
from genre.tags.edges import audio_span
from genre.tags.formats import recognise_format
from genre.tags.names import drop_repeated, fold_name
from genre.tags.splices import Splice


def write_genres(path: Path, genres: Sequence[str], undo: UndoFile, stamp: str = "") -> str:
    """Write genres into a file's tags, replacing any others; every other byte of the tags and the sound stays.

    The changed copy takes the file's place only if its sound, packet by packet, is that of the file, and if the genres
    are read back from it, by mutagen too where that knows the format.

    Parameters
    ----------
    path : Path
        The file. A symbolic link is followed.
    genres : sequence of str
        Genres to write, at least one.
    undo : UndoFile
        Receives the record that undoes the change, before the file is touched.
    stamp : str
        Stamp that the file must have, from `genre.library.replacing.state_stamp`; by default any.

    Returns
    -------
    str
        Stamp of the changed file; empty if no byte changes.

    Raises
    ------
    DataError
        If the format has no tags, the tags cannot be changed safely, the copy fails its check, or the file cannot be
        changed (see `genre.library.undo.change_file`).
    UsageError
        If there is no genre, or one is no text.
    GenreError
        If the undo file cannot be written.
    """
    path = path.resolve()

    def plan() -> list[Splice]:
        return tags.plan_genres(path, genres)

    def check(copy: Path) -> None:
        difference = _find_difference(path, copy) or _find_misread(path, copy, drop_repeated(genres))
        if difference:
            raise DataError(f"cannot write tags to {path}: with the new ones, {difference}; left unchanged")

    return change_file(path, plan, check, undo, stamp)


def _find_difference(path: Path, copy: Path) -> str:
    """Find a difference between the sound of a file and its copy; empty if there is none."""
    try:
        with path.open("rb") as original, copy.open("rb") as changed:
            return find_difference(_find_sound(original), _find_sound(changed), _find_media(original, changed))
    except DataError as error:
        raise DataError(f"cannot write tags to {path}: {error}") from None


def _find_sound(file: BinaryIO) -> Stretch:
    """Return an open file between the tags at its ends."""
    return Stretch(file, *audio_span(file))


def _find_media(original: BinaryIO, changed: BinaryIO) -> list[tuple[int, int, int]]:
    """Return where all packets lie in a file and in its copy; empty if that is unknown or not the same."""
    form = recognise_format(original)
    before, after = (form.read_layout(file) if form else None for file in (original, changed))
    if before is None or after is None or before != after:
        return []
    return [(before.origin + start, after.origin + start, n) for start, n in before.media]


def _find_misread(path: Path, copy: Path, genres: Sequence[str]) -> str:
    """Find out whether other genres are read from a copy than were written; empty if the same are."""
    try:
        if not _are_same(found := tags.read_genres(copy), genres):
            return f"the genre would be read as {'; '.join(found) or 'none'}"
    except DataError:
        return "its tags could not be read any more"
    try:
        values = by_mutagen.read_copied_genres(path, copy)
    except DataError as error:
        return str(error)
    by_others = drop_repeated(name for value in values for name in value.split("; "))  # several in one, as in ID3v2.3
    # Where ID3v1 stands beside APE, mutagen reads ID3v1, which has room for one.
    is_same = not by_others or _are_same(by_others, genres) or _are_same(by_others, genres[:1])
    return "" if is_same else f"mutagen would read the genre as {'; '.join(by_others)}"


def _are_same(found: Sequence[str], genres: Sequence[str]) -> bool:
    """Return whether genres are the same in the same order, up to spelling: ID3v1 has one for each."""
    return [*map(fold_name, found)] == [*map(fold_name, genres)]
