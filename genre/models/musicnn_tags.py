"""Genres of the pretrained network musicnn, from its own tags; nothing is trained.

The tags are those that listeners of Last.fm gave to songs of the Million Song Dataset, see `genre.inputs.musicnn`.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from genre.errors import DataError
from genre.files import read_json, write_json
from genre.inputs.musicnn import MSD_TAGS

#: Genre to its tags. The names are those of the ID3v1 list, which players know. A tag counts for the genre that its own
#: name holds (*alternative rock*, *House*: a kind of electronic music), or that Last.fm describes it as a kind of.
#: Tags for moods, decades and voices stand for no genre.
TAGS_BY_GENRE: Mapping[str, tuple[str, ...]] = {
    "Blues": ("blues",),
    "Country": ("country",),
    "Electronic": ("electronic", "electronica", "electro", "dance", "House", "ambient"),
    "Folk": ("folk",),
    "Funk": ("funk",),
    "Hip-Hop": ("Hip-Hop",),
    "Jazz": ("jazz",),
    "Metal": ("metal", "heavy metal"),
    "Pop": ("pop", "indie pop"),
    "R&B": ("rnb", "soul"),
    "Rock": (
        *("rock", "alternative", "indie", "classic rock", "alternative rock", "indie rock"),
        *("hard rock", "punk", "Progressive rock"),
    ),
}

#: Tag of music that mostly belongs to none of these genres: to the network, classical music is jazz and instrumental.
OUTSIDE_TAG = "instrumental"

#: Weight of that tag against the genres. Of 160 tracks of Emotify, 40 of them classical, 72 could be named at three
#: quarters right with a weight of 2, and 50 with none.
OUTSIDE_WEIGHT = 2.0

#: Power of the rank of a genre's commonest tag, from 1, by which the genre is raised: the tags are in the order of how
#: often they occur in the training set, and the network gives rare ones low values. Without it 46 of the 160 tracks
#: could be named at four fifths right, with it 54.
RARITY_POWER = 0.125

#: Power of the probabilities that makes confidence agree with accuracy, and confidence below which the genre is
#: ``unknown``: `benchmarks.quality.pretrained` fits both, here on the 160 tracks.
TEMPERATURE = 0.75
MIN_CONFIDENCE = 0.65

#: Result of that script on the 160 tracks, for the model card; thresholds and scores on halves of the tracks in turn.
MEASURED = (
    "On 160 tracks of Emotify (Aljanaki et al. 2016), 40 each of classical, electronic, pop and rock, answered as a "
    "whole: 57 % [48, 66] of the 120 tracks of its genres are right. With the threshold fitted on half of the tracks, "
    "50 of the 160 in the other half are named, 78 % of them rightly; of the 40 classical ones, 4 are named."
)


def save_model(model: Mapping[str, tuple[str, ...]], path: Path) -> None:
    """Write a table of genres and their tags."""
    write_json(path, model)


def load_model(name: str, path: Path) -> dict[str, tuple[str, ...]]:
    """Load a table from `save_model`.

    Raises
    ------
    DataError
        If a tag is not one of the network's.
    """
    table = {genre: tuple(tags) for genre, tags in read_json(path).items()}
    unknown = sorted({tag for tags in table.values() for tag in tags} - set(MSD_TAGS))
    if unknown:
        raise DataError(f"{path} has tags that musicnn does not give: {', '.join(unknown)}; register the model again")
    return table


def predict_proba(model: Mapping[str, tuple[str, ...]], X: np.ndarray) -> np.ndarray:
    """Return probabilities of the genres, in the order of the table.

    A genre is present if any of its tags is, taking these as independent, and raised if they are rare. What the network
    hears outside of all genres is shared out evenly, which lowers the confidence.

    Parameters
    ----------
    model : mapping of str to tuple of str
        Genre to its tags.
    X : np.ndarray [shape=(n, 1556)]
        Embeddings, whose last columns are the tags.

    Returns
    -------
    np.ndarray [shape=(n, k)]
        Rows sum to 1.
    """
    tags = dict(zip(MSD_TAGS, np.asarray(X, dtype=np.float64).T[-len(MSD_TAGS) :], strict=True))
    present = np.stack([1 - np.prod([1 - tags[tag] for tag in named], axis=0) for named in model.values()], axis=1)
    present *= [min(MSD_TAGS.index(tag) + 1 for tag in named) ** RARITY_POWER for named in model.values()]
    outside = OUTSIDE_WEIGHT * tags[OUTSIDE_TAG][:, np.newaxis]
    proba: np.ndarray = (present + outside / len(model)) / (present.sum(axis=1, keepdims=True) + outside)
    return proba


def feature_importances(model: Mapping[str, tuple[str, ...]]) -> None:
    """Return None: the tags are given, not learnt."""


def training_history(directory: Path) -> None:
    """Return None: nothing is trained."""


def training_facts(directory: Path) -> dict[str, str]:
    """Return no facts: nothing is trained."""
    return {}
