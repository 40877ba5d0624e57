"""Recognition of the data set that a path is the source of."""

import gzip
import shutil

import pytest

from genre.datasets.recognise import recognise_source
from genre.errors import DataError
from tests.support.sounds import write_music, write_tagged_music, write_tags

FILES = {
    "tracks.csv": ("path,genre,confidence\n1.mp3,Jazz,0.9\n", "folder"),
    "bom.csv": ("\ufeffgenre,path\nJazz,1.mp3\n", "folder"),
    "features.csv": ("file_name," + ",".join(map(str, range(97))) + "\n", "published"),
    "list.csv": ("# Segments csv created Sun Mar  5 10:54:31 2017\n", "audioset"),
    "a.tfrecord": ("x", "vggish"),
}


@pytest.fixture
def library(tmp_path):
    """Folder of six loose files, each with a genre and an artist of its own in its tags."""
    return write_tagged_music(tmp_path / "library", genres={"Folk": 200, "Jazz": 300})


def move_into(library, folder_of):
    for path in sorted(library.glob("*.flac")):
        target = library / folder_of(path.stem) / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_recognised_by_its_first_line(name, tmp_path):
    text, expected = FILES[name]
    (tmp_path / name).write_text(text)
    assert recognise_source(tmp_path / name)[0] == expected


def test_a_compressed_table_is_recognised(tmp_path):
    path = tmp_path / "features.csv.gz"
    path.write_bytes(gzip.compress(FILES["features.csv"][0].encode()))
    assert recognise_source(path)[0] == "published"


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", bytes(range(256)), b'"' + b"x" * 200_000])
def test_another_file_is_refused_in_words(content, tmp_path):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.csv is no table that can be trained on"):
        recognise_source(tmp_path / "x.csv")


def test_nothing_at_the_path_is_an_error(tmp_path):
    with pytest.raises(DataError, match="there is no"):
        recognise_source(tmp_path / "x")


def test_music_sorted_by_genre_is_a_folder_whatever_its_tags(library, tmp_path):
    move_into(library, lambda name: name.partition(" ")[0])
    assert recognise_source(library)[0] == "folder"
    write_music(tmp_path / "untagged", genres={"low": 200, "high": 400})
    name, reason = recognise_source(tmp_path / "untagged")
    assert name == "folder" and reason.endswith("one sub-folder per genre: high 4, low 4")


def test_a_folder_of_mostly_loose_files_is_not_taken_for_genres(tmp_path):
    music = write_music(tmp_path / "unsorted", genres={"artist 1": 200, "artist 2": 400})
    for path in list(music.rglob("*.wav")):
        shutil.copy(path, music / f"{path.parent.name} {path.name}")
    assert recognise_source(music)[0] == "folder"
    shutil.copy(path, music / "one more.wav")
    with pytest.raises(DataError, match=r"9 of its 17 audio files are in no sub-folder; .* add -P dataset=folder"):
        recognise_source(music)


def test_genre_and_artist_folders_are_a_folder(library):
    move_into(library, lambda name: f"{name.partition(' ')[0]}/{name.replace(' ', ' artist ')}")
    assert recognise_source(library)[0] == "folder"


def test_music_sorted_by_artist_is_tagged(library):
    move_into(library, lambda name: f"{name.replace(' ', ' artist ').upper()}/Album")
    assert recognise_source(library)[0] == "tagged"


def test_artists_without_genres_in_the_tags_stay_a_folder(library):
    move_into(library, lambda name: name.replace(" ", " artist "))
    for path in library.rglob("*.flac"):
        write_tags(path, genre=["Other"])
    assert recognise_source(library)[0] == "folder"


def test_loose_files_are_tagged_if_they_have_genres(library, tmp_path):
    assert recognise_source(library)[0] == "tagged"
    write_music(tmp_path / "untagged", genres={"low": 200})
    loose = tmp_path / "untagged" / "low"
    assert recognise_source(loose)[0] == "folder"


@pytest.mark.parametrize(
    ("file", "expected"),
    [("fma_metadata/tracks.csv", "fma"), ("eval_segments.csv", "audioset"), ("train/00.tfrecord", "vggish")],
)
def test_published_data_sets_are_recognised_by_their_files(file, expected, tmp_path):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    assert recognise_source(tmp_path)[0] == expected


def test_gtzan_is_recognised_by_its_names(tmp_path):
    write_music(tmp_path / "genres", genres={"blues": 200, "rock": 400})
    for folder in (tmp_path / "genres").iterdir():
        for n, path in enumerate(sorted(folder.iterdir())):
            path.rename(folder / f"{folder.name}.{n:05d}.wav")
    assert recognise_source(tmp_path)[0] == "gtzan"
    shutil.copy(path := next(tmp_path.rglob("*.wav")), path.with_name("mine.wav"))
    assert recognise_source(tmp_path)[0] == "folder"
