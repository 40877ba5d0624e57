import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genre.config import SPLITS
from genre.errors import DataError
from genre.folds import assign_folds
from genre.splits import assignment


def clips_of(counts: dict[str, list[int]], split=None) -> pd.DataFrame:
    """Clips table: per genre, the number of clips of each recording."""
    rows = [
        {"clip_id": f"{genre}/{r}@{c}", "genre": genre, "recording": f"{genre}/{r}", "split": split}
        for genre, recordings in counts.items()
        for r, n in enumerate(recordings)
        for c in range(n)
    ]
    return pd.DataFrame(rows).assign(genre=lambda t: pd.Categorical(t["genre"], categories=list(counts)))


counts = st.dictionaries(
    st.sampled_from("abcd"), st.lists(st.integers(1, 5), min_size=3, max_size=40), min_size=2, max_size=4
)


@given(counts)
@settings(deadline=None, max_examples=40)
def test_no_recording_is_divided_and_no_split_lacks_a_genre(counts):
    clips = clips_of(counts)
    splits = assignment.assign_splits(clips)
    assert splits["recording"].is_unique
    attached = assignment.attach_splits(clips, splits)
    assert (attached.groupby("recording")["split"].nunique() == 1).all()
    assert set(attached.groupby("genre", observed=True)["split"].nunique()) == {3}


@given(counts, st.integers(0, 20))
@settings(deadline=None, max_examples=40)
def test_assignments_stay_when_the_data_set_grows(counts, more):
    before = assignment.assign_splits(clips_of(counts))
    grown = {genre: recordings + [2] * more for genre, recordings in counts.items()}
    after = assignment.assign_splits(clips_of(grown), before)
    pd.testing.assert_frame_equal(after.iloc[: len(before)], before)
    assert set(after["recording"]) == set(clips_of(grown)["recording"])


def test_the_order_of_the_clips_does_not_matter():
    clips = clips_of({"a": [2] * 20, "b": [2] * 20})
    shuffled = clips.sample(frac=1, random_state=1)
    assert assignment.assign_splits(clips).equals(assignment.assign_splits(shuffled))


def test_a_recording_of_several_genres_counts_for_the_most_frequent_or_else_the_first_by_name():
    clips = clips_of({"b": [1] * 9, "a": [1] * 9})
    more = pd.DataFrame({"recording": ["x"] * 5 + ["y"] * 4, "genre": list("aabbb") + list("bbaa")})
    more = more.assign(
        clip_id=more["recording"] + more.index.astype(str), genre=more["genre"].astype(clips["genre"].dtype)
    )
    splits = assignment.assign_splits(pd.concat([clips, more], ignore_index=True))
    position = splits["recording"].tolist().index
    assert position("x") < 10 <= position("y")  # assigned genre by genre, b before a


@pytest.mark.parametrize(("n", "shares"), [(100, assignment.SMALL_SHARES), (2600, assignment.LARGE_SHARES)])
def test_each_genre_is_divided_in_the_proportions_of_its_data_set(n, shares):
    splits = assignment.assign_splits(clips_of({"a": [1] * n, "b": [1] * n}))
    actual = splits.groupby(splits["recording"].str[0])["split"].value_counts(normalize=True)
    for genre in "ab":
        for split, share in shares.items():
            assert abs(actual[genre, split] - share) < 0.01


def test_a_genre_with_too_few_recordings_is_refused_by_name():
    with pytest.raises(DataError, match=r"b has 2; each genre needs at least 3"):
        assignment.assign_splits(clips_of({"a": [3, 3, 3], "b": [9, 9]}))


def test_a_published_split_is_used_unchanged():
    parts = [
        clips_of({"a": [2], "b": [2]}, split=s).assign(recording=lambda t, s=s: t["recording"] + s) for s in SPLITS
    ]
    clips = pd.concat(parts, ignore_index=True)
    splits = assignment.published_splits(clips)
    assert splits.set_index("recording")["split"].to_dict() == dict(
        zip(clips["recording"], clips["split"], strict=True)
    )


def test_an_incomplete_published_split_is_refused():
    with pytest.raises(DataError, match="gives 6 of 6 recordings no split"):
        assignment.published_splits(clips_of({"a": [1] * 3, "b": [1] * 3}))
    with pytest.raises(DataError, match="has no clip of a, b"):
        assignment.published_splits(clips_of({"a": [1] * 3, "b": [1] * 3}, split="train"))


def test_a_split_that_lost_its_only_recording_of_a_genre_is_refused_by_name():
    clips = clips_of({"a": [1] * 4, "b": [1] * 4})
    splits = assignment.assign_splits(clips)
    lost = splits.loc[(splits["split"] == "test") & splits["recording"].str.startswith("a"), "recording"]
    with pytest.raises(DataError, match="the test split has no clip of a; each recording keeps its split"):
        assignment.assign_splits(clips[~clips["recording"].isin(lost)], splits)


def test_a_new_recording_goes_to_the_split_that_lacks_its_genre():
    clips = clips_of({"a": [1] * 5, "b": [1] * 4})
    new = clips[clips["recording"] == "a/4"]
    old = clips[clips["recording"] != "a/4"]
    splits = assignment.assign_splits(old)
    lost = splits.loc[(splits["split"] == "test") & splits["recording"].str.startswith("a"), "recording"]
    extended = assignment.assign_splits(pd.concat([old[~old["recording"].isin(lost)], new]), splits)
    assert extended.set_index("recording").loc["a/4", "split"] == "test"


def test_folds_never_divide_a_recording_and_each_trains_on_every_genre():
    recording = np.repeat(np.arange(40), 3)
    genre = np.repeat(np.arange(40) % 4, 3)
    fold = assign_folds(genre, recording, 5)
    assert set(fold) == set(range(5))
    assert pd.Series(fold).groupby(recording).nunique().max() == 1
    for number in range(5):
        assert set(genre[fold != number]) == {0, 1, 2, 3}
        assert 15 <= (fold == number).sum() <= 33
    np.testing.assert_array_equal(assign_folds(genre, recording, 5), fold)


def test_the_number_of_folds_is_limited_by_the_rarest_genre():
    genre = np.array([0] * 20 + [1] * 3)
    assert set(assign_folds(genre, np.arange(23), 5)) == {0, 1, 2}
    assert assign_folds(genre, np.array([*range(20), 20, 20, 20]), 5) is None
