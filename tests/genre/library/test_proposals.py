"""Genres proposed for a file: how many, which, and in whose words."""

import pytest

from genre.config import UNKNOWN
from genre.errors import UsageError
from genre.library.proposals import parse_genre_names, propose_genres, resolve_genre_names

GENRES = ["Classical", "Hip hop", "Pop", "R&B", "Rock"]
PROBA = {"Rock": 0.4, "Pop": 0.25, "Hip hop": 0.2, "R&B": 0.1, "Classical": 0.05}
PREDICTION = {"genre": "Rock", "probabilities": PROBA}


@pytest.mark.parametrize(
    ("options", "proposed"),
    [
        ({}, ["Rock"]),
        ({"min_confidence": 0.0}, ["Rock"]),
        ({"max_genres": 2}, ["Rock", "Pop"]),
        ({"max_genres": 5}, ["Rock", "Pop", "Hip hop"]),  # at least half as likely as rock
        ({"max_genres": 5, "min_confidence": 0.1}, ["Rock", "Pop", "Hip hop", "R&B"]),
        ({"max_genres": 3, "min_confidence": 0.1}, ["Rock", "Pop", "Hip hop"]),
        ({"max_genres": 5, "min_confidence": 0.3}, ["Rock"]),
        ({"max_genres": 9, "min_confidence": 0.0}, ["Rock", "Pop", "Hip hop", "R&B", "Classical"]),
    ],
)
def test_the_likely_genres_are_proposed_the_likeliest_first(options, proposed):
    assert propose_genres(PREDICTION, **options) == proposed


@pytest.mark.parametrize("genre", [UNKNOWN, None])
def test_nothing_is_proposed_for_a_file_without_a_genre(genre):
    prediction = {"genre": genre, "probabilities": PROBA if genre else None}
    assert propose_genres(prediction, max_genres=3, min_confidence=0.0) == []


@pytest.mark.parametrize(
    ("names", "max_genres", "proposed"),
    [
        ({"Rock": "Rock & Roll"}, 2, ["Rock & Roll", "Pop"]),
        ({"Pop": "Rock"}, 2, ["Rock", "Hip hop"]),  # one name, which counts once
        ({"Pop": "ROCK"}, 2, ["Rock", "Hip hop"]),
        ({"Rock": "Hip-Hop"}, 3, ["Hip-Hop", "Pop"]),
        ({"Rock": ""}, 1, []),
        ({"Rock": ""}, 3, ["Pop", "Hip hop"]),
        ({"Pop": ""}, 2, ["Rock"]),
        ({"Rock": "Other"}, 1, []),
        ({"Rock": "", "Pop": "", "Hip hop": ""}, 3, []),
    ],
)
def test_names_are_those_of_the_user_each_once(names, max_genres, proposed):
    assert propose_genres(PREDICTION, max_genres=max_genres, names=names) == proposed


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", {}),
        ("{}", {}),
        ('{"Hip hop": "Hip-Hop"}', {"Hip hop": "Hip-Hop"}),
        ('{"Pop": " Schlager & Pop ", "Rock": ""}', {"Pop": "Schlager & Pop", "Rock": ""}),
        ('{"R&B": "R\u00f6ck \u65e5\u672c"}', {"R&B": "R\u00f6ck \u65e5\u672c"}),
    ],
)
def test_names_are_a_json_object(text, names):
    assert parse_genre_names(text) == names


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{Hip hop: Hip-Hop}", 'genre_names is not JSON.*such as .{"Hip hop": "Hip-Hop"}'),
        ('["Rock"]', "genre_names must be a JSON object such as"),
        ('{"Rock": 5}', "got 5 for 'Rock'; give an empty text"),
        ('{"Rock": null}', "got None for 'Rock'"),
        ('{"Rock": ["Rock", "Pop"]}', "must give each genre one name"),
        ('{"Rock": "Rock; Pop"}', "without semicolon"),
        ('{"Rock": "a\\u0000b"}', "a text in one line"),
        ('{"Rock": "a\\nb"}', "a text in one line"),
    ],
)
def test_what_names_no_genre_is_refused(text, sentence):
    with pytest.raises(UsageError, match=sentence):
        parse_genre_names(text)


@pytest.mark.parametrize("key", ["Hip hop", "hip-hop", "HIP_HOP", " Hip  Hop", "Ｈｉｐ hop"])
def test_a_genre_of_the_model_is_found_in_any_spelling(key):
    assert resolve_genre_names({key: "Rap"}, GENRES) == {"Hip hop": "Rap"}


def test_the_same_spelling_goes_before_others():
    assert resolve_genre_names({"hip-hop": "Rap"}, ["Hip hop", "hip-hop"]) == {"hip-hop": "Rap"}
    assert resolve_genre_names({"HIP HOP": "Rap"}, ["Hip hop", "hip-hop"]) == {"Hip hop": "Rap", "hip-hop": "Rap"}


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (
            {"Jazz": "Bebop"},
            "'Jazz', which is no genre of the model; its genres are: Classical, Hip hop, Pop, R&B, Rock",
        ),
        ({"": "Rock"}, "no genre of the model"),
        ({"Hip hop": "Rap", "hip-hop": "Trap"}, "gives 'Hip hop' two names, 'Rap' and 'Trap'"),
    ],
)
def test_a_name_for_no_genre_and_two_names_for_one_are_refused(names, sentence):
    with pytest.raises(UsageError, match=sentence):
        resolve_genre_names(names, GENRES)
