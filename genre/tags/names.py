"""Names of genres and artists as people spell them."""

import re
import unicodedata
from collections.abc import Iterable

#: Genres that name no music, folded: number 12 of ID3v1 ("Other"), and what players and rippers write where they know
#: no genre (iTunes: "Unclassifiable"; mutagen, for a number without a name: "Unknown").
MEANINGLESS_GENRES = {
    *("", "?", "n/a", "none", "no genre", "undefined", "not specified", "unclassifiable", "unclassified"),
    *("unknown", "unknown genre", "other", "others", "misc", "miscellaneous"),
}


def fold_name(name: str) -> str:
    """Return a genre or artist without what spellings differ in: case, spaces, hyphens, underscores, Unicode form."""
    text = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[\s_\-‐–]+", " ", text).strip()


def drop_repeated(genres: Iterable[str]) -> list[str]:
    """Return genres without those that name no music, and each once, as it is spelt first; spaces around are removed.

    Parameters
    ----------
    genres : iterable of str
        Genres from one or more tags of a file.
    """
    first: dict[str, str] = {}
    for genre in genres:
        first.setdefault(fold_name(genre), genre.strip())
    return [genre for name, genre in first.items() if name not in MEANINGLESS_GENRES]
