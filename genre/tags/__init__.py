"""Genres and artists in the tags of a music file: where they are, and which bytes to change. Nothing is written."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from genre.errors import DataError, GenreError, UsageError, describe_system_error, is_outage
from genre.tags import by_mutagen
from genre.tags.formats import SUPPORTED, Format, recognise_format
from genre.tags.names import drop_repeated
from genre.tags.splices import Splice

_T = TypeVar("_T")

#: What a broken structure may raise that no module has foreseen: one file must not end the run over a library.
_UNFORESEEN = (ArithmeticError, AssertionError, LookupError, RecursionError, TypeError, ValueError, struct.error)


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
    GenreError
        If the system cannot read it: its disk is away, for example.
    """
    genres = _ask_format(path, "cannot read the tags of", lambda form, file: form.read_genres(file))
    album_artists, artists = by_mutagen.read_artists(path)
    stripped = (genre.strip() for genre in genres)
    return TrackTags(
        tuple(genre for genre in stripped if genre), next(iter(album_artists), ""), next(iter(artists), "")
    )


def read_genres(path: Path) -> list[str]:
    """Read the genres in a file's tags, from every place where players look.

    Parameters
    ----------
    path : Path
        The file; its format is recognised by its content.

    Returns
    -------
    list of str
        Genres as they are in the file, each once whatever its spelling; those that name no music, such as Unknown, are
        left out.

    Raises
    ------
    DataError
        If the file cannot be read, or its format has no tags that this module reads.
    GenreError
        If the system cannot read it: its disk is away, for example.
    """
    return drop_repeated(_ask_format(path, "cannot read the tags of", lambda form, file: form.read_genres(file)))


def plan_genres(path: Path, genres: Sequence[str]) -> list[Splice]:
    """Plan how to make some genres the only ones in a file's tags, with every other tag as it is.

    Parameters
    ----------
    path : Path
        The file; its format is recognised by its content.
    genres : sequence of str
        At least one.

    Returns
    -------
    list of Splice
        Stretches to replace, in order.

    Raises
    ------
    DataError
        If the file cannot be read, its format has no tags, or its tags cannot be changed safely, with the reason.
    GenreError
        If the system cannot read it.
    UsageError
        If there is no genre, or one is no text.
    """
    _check_genres(genres)
    return sorted(_ask_format(path, "cannot write tags to", lambda form, file: form.plan_genres(file, genres)))


def _check_genres(genres: Sequence[str]) -> None:
    """Refuse genres that no tag can hold, before one of a file is replaced by them."""
    wrong = [genre for genre in genres if not genre.strip() or any("\ud800" <= sign <= "\udfff" for sign in genre)]
    if wrong or not genres:
        raise UsageError(f"genres {list(genres)!r} cannot be written; give at least one, each a text that is not empty")


def _ask_format(path: Path, what_fails: str, ask: Callable[[Format, BinaryIO], _T]) -> _T:
    """Ask the module that knows a file's format; name the file in the reason if it refuses."""
    try:
        with path.open("rb") as file:
            form = recognise_format(file)
            if form is None:
                raise DataError(f"unsupported format (supported: {SUPPORTED})")
            return ask(form, file)
    except DataError as error:
        raise DataError(f"{what_fails} {path}: {error}") from None
    except OSError as error:
        if is_outage(error):
            raise GenreError(describe_system_error(path, error)) from None
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except _UNFORESEEN as error:
        raise DataError(f"{what_fails} {path}: its structure is broken ({type(error).__name__}: {error})") from error
