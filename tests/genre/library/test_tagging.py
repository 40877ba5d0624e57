"""Genres in real files of every format, read back by mutagen, and undone to the byte."""

from base64 import b64encode
from pathlib import Path

import mutagen
import numpy as np
import pytest
import soundfile as sf
from mutagen.flac import Picture
from mutagen.id3 import ID3, TCON, TIT2, TPE1, TYER
from mutagen.oggopus import OggOpus

from genre import tags
from genre.audio import decoding
from genre.errors import DataError, UsageError
from genre.library import tagging
from genre.library.undo import UndoFile, read_records, restore_file
from tests.support.sounds import encode, tone
from tests.support.tag_bytes import ape_tag, genre_frame, id3, id3v1

SR = 44100
WITH_TAGS = ["mp3", "wav", "aiff", "flac", "ogg", "opus", "m4a"]
WITHOUT_TAGS = ["au", "ac3"]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each format, without tags."""
    folder = tmp_path_factory.mktemp("originals")
    y = tone(4, hz=300, sr=SR)
    for suffix in ("mp3", "wav", "aiff", "flac", "ogg", "au"):
        sf.write(folder / f"a.{suffix}", y, SR)
    sf.write(folder / "a.opus", tone(4, hz=300, sr=48000), 48000, format="OGG", subtype="OPUS")
    encode(folder / "a.m4a", y, "aac", "mp4", SR)
    encode(folder / "a.ac3", y, "ac3", "ac3", SR)
    return folder


@pytest.fixture
def undo(tmp_path: Path) -> UndoFile:
    return UndoFile(tmp_path / "undo.jsonl")


def copy_original(originals: Path, suffix: str, folder: Path) -> Path:
    path = folder / f"b.{suffix}"
    path.write_bytes((originals / f"a.{suffix}").read_bytes())
    return path


def undo_all(undo: UndoFile) -> list[bool]:
    return [restore_file(record) for record in read_records(undo.path)]


@pytest.mark.parametrize("suffix", WITH_TAGS)
@pytest.mark.parametrize("genre", ["Rock", "Fado & Chanson — 日本"])
def test_a_genre_is_written_read_and_undone_to_the_byte(originals, tmp_path, undo, suffix, genre):
    path = copy_original(originals, suffix, tmp_path)
    before = path.read_bytes()
    y = decoding.decode_audio(path, sr=22050)
    assert tags.read_genres(path) == []
    tagging.write_genres(path, [genre], undo)
    assert tags.read_genres(path) == [genre]
    np.testing.assert_array_equal(decoding.decode_audio(path, sr=22050), y)
    assert path.read_bytes() != before
    assert undo_all(undo) == [True]
    assert path.read_bytes() == before
    assert undo_all(undo) == [False]
    assert undo.path.stat().st_size < 4000 + 0.2 * len(before)


@pytest.mark.parametrize("suffix", WITH_TAGS)
def test_a_genre_replaces_another_and_leaves_other_tags(originals, tmp_path, undo, suffix):
    path = copy_original(originals, suffix, tmp_path)
    file = mutagen.File(path)
    if file.tags is None:
        file.add_tags()
    if suffix in ("mp3", "wav", "aiff"):
        file.tags.add(TIT2(encoding=3, text=["Título"]))
        file.tags.add(TCON(encoding=3, text=["17", "Jazz"]))
    else:
        file.tags["\xa9nam" if suffix == "m4a" else "title"] = ["Título"]
        file.tags["\xa9gen" if suffix == "m4a" else "genre"] = ["Rock", "Jazz"]
    file.save()
    assert tags.read_genres(path) == ["Rock", "Jazz"]
    before = path.read_bytes()
    tagging.write_genres(path, ["Fado" * 600], undo)  # more than any padding
    assert tags.read_genres(path) == ["Fado" * 600]
    title = mutagen.File(path, easy=suffix in ("mp3", "m4a"))
    assert "Título" in str(title["TIT2" if suffix in ("wav", "aiff") else "title"])
    assert undo_all(undo) == [True]
    assert path.read_bytes() == before


def test_id3_keeps_its_version_and_every_other_frame(originals, tmp_path, undo):
    for version in (3, 4):
        path = copy_original(originals, "mp3", tmp_path)
        frames = ID3()
        frames.add(TPE1(encoding=1, text=["AC/DC", "Guest"]))
        frames.add(TYER(encoding=0, text=["1984"]))
        frames.save(path, v2_version=version, v23_sep=None)
        tagging.write_genres(path, ["Rock"], undo)
        saved = ID3(path, translate=False)
        assert saved.version[:2] == (2, version)
        assert saved["TPE1"].text == ["AC/DC", "Guest"]
        assert saved["TYER"].text == ["1984"]
    tagging.write_genres(copy_original(originals, "mp3", tmp_path), ["Rock"], undo)
    assert ID3(tmp_path / "b.mp3").version[:2] == (2, 3)


def test_an_id3v1_tag_at_the_end_is_read_and_updated(originals, tmp_path, undo):
    path = copy_original(originals, "mp3", tmp_path)
    block = b"TAG" + b"Old title".ljust(30, b"\0") + b"\0" * 64 + b"\0" * 30 + bytes([17])
    path.write_bytes(before := path.read_bytes() + block)
    assert tags.read_genres(path) == ["Rock"]
    tagging.write_genres(path, ["Blues"], undo)
    assert tags.read_genres(path) == ["Blues"]
    assert b"Old title" in path.read_bytes()[-128:]
    assert undo_all(undo) == [True]
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", WITHOUT_TAGS)
def test_a_format_without_tags_is_refused(originals, tmp_path, undo, suffix):
    path = copy_original(originals, suffix, tmp_path)
    for what, call in (
        ("read the tags of", lambda: tags.read_genres(path)),
        ("write tags to", lambda: tagging.write_genres(path, ["Rock"], undo)),
    ):
        with pytest.raises(DataError, match=rf"cannot {what} .*: unsupported format \(supported: mp3, "):
            call()
    assert path.read_bytes() == (originals / f"a.{suffix}").read_bytes()
    assert not undo.path.exists()


@pytest.mark.parametrize("suffix", WITH_TAGS)
@pytest.mark.parametrize("seed", range(4))
def test_a_broken_file_is_refused_or_tagged_and_always_restored(originals, tmp_path, undo, suffix, seed):
    rng = np.random.default_rng(seed)
    data = bytearray((originals / f"a.{suffix}").read_bytes())
    for position in rng.integers(0, 400, 6):
        data[position] ^= 1 << rng.integers(8)
    path = tmp_path / f"b.{suffix}"
    path.write_bytes(data[: len(data) // (1 + seed % 2)])
    before = path.read_bytes()
    try:
        tags.read_genres(path)
        tagging.write_genres(path, ["Rock"], undo)
        undo_all(undo)
    except DataError as error:
        assert str(path) in str(error)
    assert path.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} <= {path.name, "undo.jsonl"}


@pytest.mark.parametrize("head", [b"MAC \x96\x0f", b"TTA1\1\0", b"\xff\xfb\x90\x64", b"MPCK"])
def test_a_file_whose_sound_cannot_be_read_is_refused(tmp_path, undo, head):
    path = tmp_path / "a.bin"
    path.write_bytes(before := head + b"no sound follows. " * 500)
    assert tags.read_genres(path) == []
    with pytest.raises(DataError, match=r"cannot write tags to .*a.bin: (its packets|FFmpeg finds no|with the new)"):
        tagging.write_genres(path, ["Rock"], undo)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_the_genre_that_is_there_is_not_written_again(originals, tmp_path, undo):
    path = copy_original(originals, "ogg", tmp_path)
    tagging.write_genres(path, ["Rock", "Pop"], undo)
    state = path.stat()
    tagging.write_genres(path, ["Rock", "Pop"], undo)
    assert undo.n_records == 1 and path.stat() == state


def test_a_genre_that_would_be_read_as_two_is_refused(originals, tmp_path, undo):
    path = copy_original(originals, "mp3", tmp_path)
    with pytest.raises(DataError, match="divides genres by semicolons"):
        tagging.write_genres(path, ["Drum; Bass"], undo)
    assert path.read_bytes() == (originals / "a.mp3").read_bytes()


@pytest.mark.parametrize("genres", [[], [""], ["Rock", " "], ["Caf\udce9"]])
def test_what_is_no_genre_replaces_none(originals, tmp_path, undo, genres):
    path = copy_original(originals, "mp3", tmp_path)
    tagging.write_genres(path, ["Jazz"], undo)
    with pytest.raises(UsageError, match="cannot be written; give at least one"):
        tagging.write_genres(path, genres, undo)
    assert tags.read_genres(path) == ["Jazz"]


def test_id3v1_beside_an_ape_tag_names_the_first_of_several_genres(originals, tmp_path, undo):
    path = copy_original(originals, "mp3", tmp_path)
    path.write_bytes(path.read_bytes() + ape_tag([("Title", b"T")]) + id3v1(genre=17, title=b"T"))
    tagging.write_genres(path, ["Soul", "Jazz"], undo)
    assert tags.read_genres(path) == ["Soul", "Jazz"]
    assert path.read_bytes()[-1] == TCON.GENRES.index("Soul")


@pytest.mark.parametrize("suffix", ["wav", "aiff", "ogg", "m4a"])
def test_a_foreign_tag_in_front_of_a_format_that_begins_the_file_is_named(originals, tmp_path, undo, suffix):
    path = copy_original(originals, suffix, tmp_path)
    path.write_bytes(before := id3(4, genre_frame(4, "Rock")) + path.read_bytes())
    for call in (tags.read_genres, lambda path: tagging.write_genres(path, ["Jazz"], undo)):
        with pytest.raises(DataError, match="a foreign tag stands before it"):
            call(path)
    assert path.read_bytes() == before


def test_a_joined_file_with_a_cover_in_its_middle_is_refused(originals, tmp_path, undo):
    path = copy_original(originals, "opus", tmp_path)
    first = path.read_bytes()
    picture = Picture()
    picture.mime, picture.type, picture.data = "image/png", 3, b"\x89PNG\r\n\x1a\n" + bytes(500)
    file = OggOpus(path)
    file["METADATA_BLOCK_PICTURE"] = b64encode(picture.write()).decode()
    file.save()
    path.write_bytes(joined := first + path.read_bytes())
    with pytest.raises(DataError, match="another stream begins in the middle of it"):
        tagging.write_genres(path, ["Rock"], undo)
    assert path.read_bytes() == joined
