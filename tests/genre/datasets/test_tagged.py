"""A library with genres in its tags, in files of every format that has any."""

import os
import shutil
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from genre import datasets
from genre.audio.left_out import LeftOut
from genre.datasets import tagged
from genre.errors import DataError
from genre.splits import assignment
from tests.support.sounds import encode, mux, tone, write_tagged_music, write_tags


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each format, without tags."""
    folder = tmp_path_factory.mktemp("originals")
    y = tone(2, hz=300, sr=44100)
    for suffix in ("mp3", "wav", "aiff", "flac", "ogg"):
        sf.write(folder / f"a.{suffix}", y, 44100)
    sf.write(folder / "a.opus", tone(2, hz=300, sr=48000), 48000, format="OGG", subtype="OPUS")
    encode(folder / "a.m4a", y, "aac", "mp4", 44100)
    stereo = av.AudioFrame.from_ndarray(np.stack([y, y]), format="fltp", layout="stereo")
    mux(folder / "a.wma", stereo, "wmav2", "asf", 44100, bit_rate=128_000)
    encode(folder / "a.webm", y, "libopus", "webm", 48000)
    return folder


@pytest.fixture
def library(tmp_path: Path, originals: Path):
    """Return a function that adds a file with some tags to a library, made with two genres of three artists."""
    folder = write_tagged_music(tmp_path / "library", genres={"Folk": 200, "Jazz": 300})

    def add(name: str, **values: str | list[str]) -> Path:
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(originals / f"a{path.suffix}", path)
        write_tags(path, **values)
        return path

    add.folder = folder
    return add


def load(folder: Path, left_out: LeftOut | None = None, **options: int) -> pd.DataFrame:
    """Load the clips, indexed by the file's name within the library."""
    table = datasets.load_clips("tagged", str(folder), folder, options, left_out)
    return table.set_index(table["clip_id"].str.rpartition("@")[0])


@pytest.mark.parametrize("suffix", ["mp3", "wav", "aiff", "flac", "ogg", "opus", "m4a", "wma"])
def test_genre_and_artist_are_read_from_every_format(library, suffix):
    library(f"x/a.{suffix}", genre="Jazz", artist="Nina  Simone", albumartist="NINA-SIMONE")
    library(f"x/b.{suffix}", genre=["Folk", "Rock"], artist="Nina Simone")
    table = load(library.folder)
    assert table.loc[f"x/a.{suffix}", ["genre", "recording", "status"]].tolist() == [
        "Jazz",
        "artist nina simone",
        "pending",
    ]
    assert table.loc[f"x/b.{suffix}", ["genre", "recording"]].tolist() == ["Folk", "artist nina simone"]


@pytest.mark.parametrize(
    ("values", "genre"),
    [
        (("Folk", "Jazz"), "Folk"),
        (("Folk; Jazz",), "Folk"),
        (("R&B/Soul",), "R&B"),
        (("Folk\0Jazz",), "Folk"),
        (("", " ; Trip   Hop "), "Trip Hop"),
        (("Other", "Unknown; Fado"), "Fado"),
        (("Misc.", "Fado"), "Misc."),
        (("unknown  GENRE", "-", "clip_id", "Split"), ""),
        ((), ""),
    ],
)
def test_the_genre_is_the_first_that_names_music(values, genre):
    assert tagged.select_genre(values) == genre


def test_numbers_of_id3_are_names(library):
    for n, text in enumerate(["8", "(8)", "(8)Jazz", "12", "(12)", "255"]):
        library(f"{n}.mp3", genre=text, artist="a")
    assert b"(8)Jazz" in (library.folder / "2.mp3").read_bytes()
    table = load(library.folder)
    assert table.loc[["0.mp3", "1.mp3", "2.mp3"], "genre"].tolist() == ["Jazz"] * 3
    assert not {"3.mp3", "4.mp3", "5.mp3"} & set(table.index)


def test_spellings_are_one_genre_spelt_as_in_most_files(library):
    spellings = ["hip hop", "Hip-Hop", "Hip-Hop", "HIP_HOP", "Hip  hop", "Trip hop", "trip hop", "trip-hop"]
    for n, genre in enumerate(spellings):
        library(f"{n}.flac", genre=genre, artist=f"artist {n}")
    genres = load(library.folder)["genre"]
    assert genres[[f"{n}.flac" for n in range(8)]].tolist() == ["Hip-Hop"] * 5 + ["Trip hop"] * 3
    assert list(genres.cat.categories) == ["Folk", "Hip-Hop", "Jazz", "Trip hop"]


def test_the_recording_is_the_artist_or_else_the_folder(library):
    library("one/a.flac", genre="Folk", artist="A", albumartist="Various Artists")
    library("one/b.flac", genre="Folk", albumartist="B", artist="A feat. B")
    library("one/c.flac", genre="Folk")
    library("one/d.flac", genre="Jazz", artist="Unknown Artist", albumartist="VA")
    library("two/c.flac", genre="Folk")
    library("c.flac", genre="Folk")
    names = ["one/a.flac", "one/b.flac", "one/c.flac", "one/d.flac", "two/c.flac", "c.flac"]
    expected = ["artist a", "artist b", "folder one", "folder one", "folder two", "folder ."]
    assert load(library.folder).loc[names, "recording"].tolist() == expected


def test_small_genres_and_files_without_a_genre_are_counted_and_left_out(library, originals):
    for n in range(4):
        library(f"ska {n}.flac", genre="Ska", artist=f"artist {n % 2}")
    library("fado.flac", genre="Fado", artist="A")
    library("none 1.flac", artist="A")
    library("none 2.mp3")
    library("other.mp3", genre="Other", artist="A")
    shutil.copy(originals / "a.webm", library.folder / "fado.webm")
    (library.folder / "broken.mp3").write_bytes(b"no music")
    (library.folder / "tune.mid").touch()
    left_out = LeftOut()
    table = load(library.folder, left_out)
    assert set(table["genre"]) == set(table["genre"].cat.categories) == {"Folk", "Jazz"}
    assert [line.partition(", such as ")[0] for line in left_out.to_lines()] == [
        "left out: 5 files of genres with fewer than 3 artists (Ska 4, Fado 1)",
        "left out: 1 file of types that are not decoded (.mid)",
        "left out: 1 file with a genre that names no music",
        "left out: 1 file with tags that cannot be read",
        "left out: 3 files without a genre",
    ]
    assert set(load(library.folder, min_artists=2)["genre"]) == {"Folk", "Jazz", "Ska"}


def test_an_artist_counts_for_one_genre(library):
    for n in range(3):
        library(f"ska {n}.flac", genre="Ska", artist=f"artist {n}")
    library("folk.flac", genre="Folk", artist="artist 0")
    left_out = LeftOut()
    assert "Ska" not in set(load(library.folder, left_out)["genre"])  # artist 0 counts for Folk, the first by name
    assert "3 files of genres with fewer than 3 artists (Ska 3)" in left_out.to_clause()
    library("ska 4.flac", genre="Ska", artist="artist 0")
    table = load(library.folder)
    assert (table["genre"] == "Ska").sum() == 4
    splits = assignment.attach_splits(table, assignment.assign_splits(table))
    assert splits.groupby("recording")["split"].nunique().max() == 1


def test_a_file_name_that_is_not_utf8_is_escaped_and_refused(library):
    path = library("x.flac", genre="Folk")
    path.rename(os.fsdecode(os.fsencode(path.parent) + b"/caf\xe9.flac"))
    row = load(library.folder).loc[r"caf\xe9.flac"]
    assert row["status"] == "undecodable" and "not UTF-8" in row["reason"]


def test_a_source_without_genres_is_refused(tmp_path, library):
    with pytest.raises(DataError, match=r"of 6 files in .*, none has a genre of at least 4 artists in its tags"):
        load(library.folder, min_artists=4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="of 0 files in"):
        load(tmp_path / "empty")
    with pytest.raises(DataError, match="is not a folder; give the folder of your music"):
        load(library("x.flac", genre="Folk"))
    with pytest.raises(DataError, match="must be at least 1, got 0 and 6"):
        load(library.folder, min_artists=0)
