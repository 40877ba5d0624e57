"""Genres that are proposed for the tags of a file, in the names of the user's own vocabulary."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from genre.config import UNKNOWN
from genre.errors import UsageError
from genre.parameters import parse_json_object
from genre.tags.names import MEANINGLESS_GENRES, fold_name

#: Least probability of a further genre as a share of the first one's, where no threshold is given. The learnt threshold
#: cannot serve: it separates sure from unsure first genres, is often above 0.5, and probabilities sum to 1.
RELATIVE_LIKELIHOOD = 0.5


def propose_genres(
    prediction: Mapping[str, Any],
    *,
    max_genres: int = 1,
    min_confidence: float = -1.0,
    names: Mapping[str, str] | None = None,
) -> list[str]:
    """Choose the genres to write for a file, the likeliest first.

    Parameters
    ----------
    prediction : mapping
        From `genre.library.answers.PredictionStore.iter_predictions`.
    max_genres : int
        Largest number of names, from 1.
    min_confidence : float
        Least probability of the genres after the first, 0..1; -1 for `RELATIVE_LIKELIHOOD` times that of the first.
    names : mapping, optional
        Genres of the model to names that are written instead, from `resolve_genre_names`.

    Returns
    -------
    list of str
        Names; one that several genres share is there once. A genre whose name is empty or names no music ("Other") is
        left out, and no other takes its place. Empty if the prediction is ``unknown`` or an error.
    """
    if prediction["genre"] in (None, UNKNOWN):
        return []
    likely = _likely_genres(prediction["genre"], prediction["probabilities"], min_confidence)
    chosen = _distinct_names((names or {}).get(genre, genre) for genre in likely)[:max_genres]
    return [name for name in chosen if fold_name(name) not in MEANINGLESS_GENRES]


def _likely_genres(first: str, proba: Mapping[str, float], min_confidence: float) -> list[str]:
    """Return the first genre and those that are likely beside it, the likeliest first."""
    least = min_confidence if min_confidence >= 0 else RELATIVE_LIKELIHOOD * proba[first]
    others = sorted(proba.keys() - {first}, key=lambda genre: (-proba[genre], genre))
    return [first, *(genre for genre in others if proba[genre] >= least)]


def _distinct_names(names: Iterable[str]) -> list[str]:
    """Return names without those that differ from an earlier one by case, spaces or hyphens only."""
    by_folded_name: dict[str, str] = {}
    for name in names:
        by_folded_name.setdefault(fold_name(name), name)
    return list(by_folded_name.values())


def parse_genre_names(text: str) -> dict[str, str]:
    """Parse the JSON object that names genres otherwise, before it is known which genres there are.

    Parameters
    ----------
    text : str
        Such as ``{"Hip hop": "Hip-Hop"}``; empty for none.

    Returns
    -------
    dict
        Keys as they are, names without blanks around them.

    Raises
    ------
    UsageError
        If it is not a JSON object of texts, or a name has a semicolon, a line break or another control character.
    """
    names = parse_json_object(text, "genre_names", example='{"Hip hop": "Hip-Hop"}')
    for genre, name in names.items():
        # semicolons and zero characters separate the genres of one tag
        if not isinstance(name, str) or not name.isprintable() or ";" in name:
            raise UsageError(
                f"genre_names must give each genre one name, a text in one line without semicolon; got {name!r} for "
                f"{genre!r}; give an empty text for a genre that is never written"
            )
    return {genre: name.strip() for genre, name in names.items()}


def resolve_genre_names(names: Mapping[str, str], genres: Sequence[str]) -> dict[str, str]:
    """Find the genres of a model that a user's names stand for, whatever their case, spaces and hyphens.

    Parameters
    ----------
    names : mapping
        From `parse_genre_names`.
    genres : sequence of str
        Genres of the model.

    Returns
    -------
    dict
        Genres, spelled as the model does, to names.

    Raises
    ------
    UsageError
        If the model has no such genre, or one has two names.
    """
    resolved: dict[str, str] = {}
    for key, name in names.items():
        for genre in _find_genres(key, genres):
            if resolved.setdefault(genre, name) != name:
                raise UsageError(f"genre_names gives {genre!r} two names, {resolved[genre]!r} and {name!r}; keep one")
    return resolved


def _find_genres(key: str, genres: Sequence[str]) -> list[str]:
    """Return the genre spelled like a key, or else those that are the same name in another spelling."""
    same = [genre for genre in genres if genre == key] or [g for g in genres if fold_name(g) == fold_name(key)]
    if not same:
        accepted = ", ".join(genres)
        raise UsageError(f"genre_names has {key!r}, which is no genre of the model; its genres are: {accepted}")
    return same
