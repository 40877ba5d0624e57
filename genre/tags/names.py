"""Names of genres and artists as people spell them."""

import re
import unicodedata

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
