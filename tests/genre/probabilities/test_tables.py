import numpy as np
import pandas as pd
import pytest

from genre.errors import UsageError
from genre.probabilities import tables
from tests.support.tables import GENRES, random_table, scores_of


def test_a_table_has_the_documented_columns_and_survives_parquet(tmp_path):
    table = random_table()
    table.to_parquet(tmp_path / "t.parquet")
    read = pd.read_parquet(tmp_path / "t.parquet")
    assert list(read) == ["split", "genre", "recording", *GENRES] and read.index.name == "clip_id"
    assert tables.genres_of(read) == GENRES
    assert tables.proba_of(read).shape == (60, 3) and tables.proba_of(read).dtype == np.float64
    assert tables.labels_of(read)[:6].tolist() == [0, 0, 0, 1, 1, 1]
    assert scores_of(read) == scores_of(table)


def test_rounding_errors_in_the_sums_are_normalised_away():
    proba = np.array([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4]], dtype=np.float16)
    table = tables.probability_table(["a", "b"], "train", ["Rock", "Rock"], ["x", "y"], proba, GENRES)
    assert np.abs(tables.proba_of(table).sum(axis=1) - 1).max() < 1e-12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": ["a", "a"]}, "'a' occurs more than once"),
        ({"split": "dev"}, "unknown split 'dev'; choose from train, validation, test"),
        ({"split": ["test"]}, "split has shape"),
        ({"genre": ["Rock", "Polka"]}, "'b' has the genre 'Polka'; the genres are Rock, Hip hop"),
        ({"genre": ["Rock", None]}, "'b' has no genre"),
        ({"recording": ["x", np.nan]}, "'b' has no recording"),
        ({"proba": [[0.2, 0.3, 0.5], [0.2, np.nan, 0.5]]}, "'b' are not finite or are negative"),
        ({"proba": [[-0.1, 0.6, 0.5], [0.2, 0.3, 0.5]]}, "'a' are not finite or are negative"),
        ({"proba": [[0.2, 0.3, 0.5], [0.2, 0.3, 0.6]]}, "'b' sum to 1.1, not to 1"),
        ({"proba": [[0.5, 0.5], [0.5, 0.5]]}, "shape"),
        ({"genres": ["Rock", "Rock", "Hip hop"]}, "two different genres"),
        ({"genres": ["Rock"]}, "two different genres"),
        ({"genres": ["Rock", "Hip hop", "split"]}, "a genre cannot be called 'split'"),
    ],
)
def test_an_invalid_table_is_refused(change, message):
    good = {
        "index": ["a", "b"],
        "split": ["test", "train"],
        "genre": ["Rock", "Hip hop"],
        "recording": ["x", "y"],
        "proba": [[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]],
        "genres": GENRES,
    }
    tables.probability_table(**good)
    with pytest.raises(UsageError, match=message):
        tables.probability_table(**{**good, **change})


def test_accessors_refuse_a_frame_that_is_no_probability_table():
    table = random_table()
    with pytest.raises(UsageError, match="categorical column 'genre'"):
        tables.genres_of(table.assign(genre=table["genre"].astype(str)))
    with pytest.raises(UsageError, match="no column for 'Rock'"):
        tables.proba_of(table.drop(columns="Rock"))
    table.loc["c004", "genre"] = None
    with pytest.raises(UsageError, match="'c004' has no genre"):
        tables.labels_of(table)


def test_per_track_is_the_mean_over_clips():
    table = random_table()
    means = tables.per_track(table)
    assert len(means) == 20 and list(means) == list(table) and means.index.name == "clip_id"
    assert tables.genres_of(means) == GENRES
    row = means[means["recording"] == "r4"].iloc[0]
    np.testing.assert_allclose(row[GENRES].astype(float), tables.proba_of(table)[12:15].mean(axis=0))
    assert row["genre"] == "Hip hop" and row.name == "c012"
    np.testing.assert_allclose(tables.proba_of(means).sum(axis=1), 1)
    assert scores_of(means)["macro_auc"] > scores_of(table)["macro_auc"]


def test_a_track_of_two_genres_gives_two_rows():
    means = tables.per_track(random_table().assign(recording="one artist"))
    assert means["genre"].tolist() == GENRES and means.index.is_unique
    assert len(tables.per_track(random_table().assign(recording="one artist", track="one file"))) == 3


def test_a_track_is_a_file_where_the_recording_is_an_artist():
    """Two artists of ten files with three clips each: what is averaged is the file."""
    table = random_table()
    files = table["recording"].to_numpy()
    tracks = tables.per_track(table.assign(recording=[f"artist {i % 2}" for i in range(60)], track=files))
    assert len(tracks) == 40  # three clips of a file, of which one belongs to the other artist
    by_artist = table.assign(recording=[f"artist {i // 30}" for i in range(60)])
    assert len(tables.per_track(by_artist)) == 6
    tracks = tables.per_track(by_artist.assign(track=files))
    assert len(tracks) == 20 and tracks["recording"].nunique() == 2
    alone = tables.per_track(table).set_index("recording")
    np.testing.assert_allclose(tables.proba_of(tracks), tables.proba_of(alone.loc[tracks["track"]]))


def test_tracks_are_named_by_their_file_or_else_by_their_recording():
    clips = pd.DataFrame(
        {
            "clip_id": ["jazz/b@10", "jazz/b@0", "rock/a@0", "no file"],
            "recording": ["artist", "artist", "artist", "a video"],
            "path": ["/music/jazz/b", "/music/jazz/b", "/music/rock/a", ""],
        },
        index=[7, 3, 5, 1],
    )
    names = tables.name_tracks(clips)
    assert names.to_dict() == {7: "jazz/b@0", 3: "jazz/b@0", 5: "rock/a@0", 1: "a video"}
    assert tables.name_tracks(clips.drop(columns="path")).tolist() == clips["recording"].tolist()


def test_one_clip_per_track_is_the_table_itself():
    table = random_table(per_recording=1).iloc[::-1]
    assert tables.per_track(table) is table and tables.decision_level(table) == "clip"
    assert tables.decision_level(random_table()) == "track"
    assert tables.decision_level(random_table().assign(track=[f"file {i}" for i in range(60)])) == "clip"
    assert tables.per_track(table.iloc[:0]).empty and tables.decision_level(table.iloc[:0]) == "clip"
