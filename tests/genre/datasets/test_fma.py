"""The Free Music Archive's data set, from a small imitation."""

from pathlib import Path

import pytest
import soundfile as sf

from genre import datasets
from genre.errors import DataError, UsageError
from genre.splits import assignment
from tests.support.sounds import tone

HEAD = "track,artist,set,set,track\n,id,split,subset,genre_top\ntrack_id,,,,\n"
ROWS = [
    (2, 1, "training", "small", "Rock"),
    (3, 1, "training", "small", "Folk"),  # an artist of two genres
    (5, 2, "validation", "small", "Rock"),
    (10, 3, "test", "small", "Rock"),
    (20, 4, "validation", "small", "Folk"),
    (30, 5, "test", "small", "Folk"),
    (40, 6, "training", "medium", "Jazz"),
    (50, 7, "training", "small", ""),
    (133297, 8, "training", "small", "Rock"),
    (1000, 9, "training", "small", "Rock"),  # no file
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fma")
    (folder / "fma_metadata").mkdir()
    lines = [",".join(map(str, row)) for row in ROWS]
    (folder / "fma_metadata" / "tracks.csv").write_text(HEAD + "\n".join(lines) + "\n")
    for number, *_ in ROWS[:-1]:
        path = folder / "fma_small" / f"{number:06d}"[:3] / f"{number:06d}.mp3"
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, tone(30, hz=100 + number % 7 * 50, seed=number, sr=22050), 22050, format="MP3")
    return folder


def test_a_subset_is_loaded_with_its_split_artists_and_known_bad_tracks(corpus, tmp_path):
    table = datasets.load_clips("fma", str(corpus), tmp_path, {})
    by_track = table.assign(track=table["clip_id"].str[:6]).drop_duplicates("track").set_index("track")
    assert set(by_track.index) == {"000002", "000003", "000005", "000010", "000020", "000030", "133297", "001000"}
    assert by_track.loc["000002", "recording"] == by_track.loc["000003", "recording"] == "artist 1"
    assert by_track.loc["133297", "status"] == "known_bad"
    assert by_track.loc["001000", "status"] == "unread"
    good = table[table["status"] == "pending"]
    assert len(good) == 6 * 3
    splits = assignment.published_splits(good).set_index("recording")["split"].to_dict()
    assert splits == {
        "artist 1": "train",
        "artist 2": "validation",
        "artist 3": "test",
        "artist 4": "validation",
        "artist 5": "test",
    }


def test_an_unknown_subset_and_missing_files_are_refused(corpus, tmp_path):
    with pytest.raises(UsageError, match="choose from small, medium, large"):
        datasets.load_clips("fma", str(corpus), tmp_path, {"subset": "tiny"})
    with pytest.raises(DataError, match=r"no tracks.csv in"):
        datasets.load_clips("fma", str(corpus / "fma_small"), tmp_path, {})
    (tmp_path / "tracks.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="is not the data set's table of tracks"):
        datasets.load_clips("fma", str(tmp_path), tmp_path, {})
    (tmp_path / "tracks.csv").write_text((corpus / "fma_metadata" / "tracks.csv").read_text())
    with pytest.raises(DataError, match="none of the 8 tracks of subset 'small' is in"):
        datasets.load_clips("fma", str(tmp_path), tmp_path, {})


def test_a_larger_subset_includes_the_smaller_ones(corpus, tmp_path):
    small = datasets.load_clips("fma", str(corpus), tmp_path, {})
    (tmp_path / "fma_medium").symlink_to(corpus / "fma_small")
    (tmp_path / "fma_metadata").symlink_to(corpus / "fma_metadata")
    medium = datasets.load_clips("fma", str(tmp_path), tmp_path, {"subset": "medium"})
    assert set(medium["genre"]) == {"Rock", "Folk", "Jazz"}
    assert len(medium) == len(small) + 3
