"""The one implementation of folds against scikit-learn's splitter, in the three ways in which it is used."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from genre.errors import TrainingError
from genre.folds import assign_folds, count_recordings, draw_folds
from genre.models import TrainingData
from genre.models.classical import _calibration_folds

SEEDS = range(12)

#: Fold of each clip of the first table, as version 0.1.0 assigned it.
GOLDEN = "211001100020022122221200111210111221020022021120200201001121120102211000221111212002212000"


def random_clips(seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Genre codes, recordings and names of the genres, which are not in alphabetical order."""
    rng = np.random.default_rng(seed)
    n_genres = int(rng.integers(2, 6))
    genre_of = rng.integers(0, n_genres, 30)
    genre_of[:n_genres] = range(n_genres)
    number = np.concatenate([np.arange(30), rng.integers(0, 30, 60)])
    return genre_of[number], np.char.add("rec ", number.astype(str)), [f"g{c}" for c in rng.permutation(n_genres)]


def splits(y: np.ndarray, recording: np.ndarray, n: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(StratifiedGroupKFold(n, shuffle=True, random_state=seed).split(y, y, recording))


def first_complete(y: np.ndarray, recording: np.ndarray, n: int, seed: int) -> list | None:
    """scikit-learn's splits for the largest number of folds that leaves every genre to train on."""
    rarest = min(len(np.unique(recording[y == code])) for code in np.unique(y))
    for n_folds in range(min(n, rarest), 1, -1):
        found = splits(y, recording, n_folds, seed)
        if all(set(y[kept]) == set(y) for kept, _ in found):
            return found
    return None


@pytest.mark.parametrize("seed", SEEDS)
def test_folds_of_a_training_are_those_of_scikit_learn(seed):
    y, recording, names = random_clips(seed)
    expected, fold = first_complete(y, recording, 5, 0), assign_folds(y, recording, 5)
    assert (fold is None) == (expected is None)
    for number, (_, left_out) in enumerate(expected or []):
        np.testing.assert_array_equal(np.flatnonzero(fold == number), left_out)
    if fold is not None:
        by_name = np.array(sorted(names))[y]
        np.testing.assert_array_equal(assign_folds(by_name, recording, 5), fold)


@pytest.mark.parametrize("seed", SEEDS)
def test_folds_of_the_calibration_are_those_of_scikit_learn(seed):
    y, recording, names = random_clips(seed)
    expected = first_complete(y, recording, 4, seed)
    data = TrainingData(names, np.empty(0), y, recording, np.empty(0), np.empty(0))
    if expected is None:
        with pytest.raises(TrainingError, match="two training recordings"):
            _calibration_folds(data, 4, seed)
        return
    found = _calibration_folds(data, 4, seed)
    assert len(found) == len(expected)
    for pair, expected_pair in zip(found, expected, strict=True):
        np.testing.assert_array_equal(pair[0], expected_pair[0])
        np.testing.assert_array_equal(pair[1], expected_pair[1])


@pytest.mark.parametrize("seed", SEEDS)
def test_folds_of_a_trial_are_those_of_scikit_learn(seed):
    y, recording, names = random_clips(seed)
    genre = pd.Series(pd.Categorical.from_codes(y, names), index=np.arange(len(y))[::-1])
    fold = draw_folds(genre, recording, 3, seed)
    for number, (_, left_out) in enumerate(splits(y, recording, 3, seed)):
        np.testing.assert_array_equal(np.flatnonzero(fold == number), left_out)


def test_the_assignment_is_the_same_for_ever():
    y, recording, _ = random_clips(0)
    assert "".join(map(str, assign_folds(y, recording, 5))) == GOLDEN


def test_a_genre_without_a_clip_is_counted_first_and_allows_no_folds():
    genre = pd.Series(pd.Categorical(["b", "b", "a", "a", "a"], categories=["b", "a", "c"]))
    recording = np.array(["1", "2", "3", "4", "5"])
    assert count_recordings(genre, recording).to_dict() == {"c": 0, "b": 2, "a": 3}
    assert list(count_recordings(genre, recording).index) == ["c", "b", "a"]
    assert assign_folds(genre, recording, 2) is None
    assert set(assign_folds(genre.astype(str), recording, 2)) == {0, 1}
