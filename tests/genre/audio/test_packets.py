"""Packets of two files compared: a change of tags is told from one of the sound, in every container."""

from io import BytesIO
from pathlib import Path

import pytest
import soundfile as sf

from genre.audio.packets import Stretch, find_difference
from genre.errors import DataError
from tests.support.sounds import encode, tone, write_tags

SUFFIXES = ["mp3", "wav", "aiff", "flac", "ogg", "opus", "m4a", "aac", "webm", "ac3"]

#: A tag of one frame.
ID3 = b"ID3\3\0\0\0\0\0\x0dTIT2\0\0\0\3\0\0\0Ah"


def compare(original: bytes, copy: bytes) -> str:
    return find_difference(*(Stretch(BytesIO(content), 0, len(content)) for content in (original, copy)))


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    y = tone(4, hz=300, sr=44100)
    for suffix in ("mp3", "wav", "aiff", "flac", "ogg"):
        sf.write(folder / f"a.{suffix}", y, 44100)
    sf.write(folder / "a.opus", tone(4, hz=300, sr=48000), 48000, format="OGG", subtype="OPUS")
    for suffix, codec, container, rate in (
        ("m4a", "aac", "mp4", 44100),
        ("aac", "aac", "adts", 44100),
        ("webm", "libopus", "webm", 48000),
        ("ac3", "ac3", "ac3", 44100),
    ):
        encode(folder / f"a.{suffix}", y, codec, container, rate)
    return folder


@pytest.mark.parametrize("suffix", ["mp3", "wav", "aiff", "flac", "ogg", "opus", "m4a", "aac"])
def test_tags_make_no_difference(originals, tmp_path, suffix):
    before = (originals / f"a.{suffix}").read_bytes()
    tagged = tmp_path / f"b.{suffix}"
    tagged.write_bytes(before)
    if suffix == "aac":  # mutagen writes no tags there
        tagged.write_bytes(ID3 + before)
    else:
        write_tags(tagged, genre="Fado" * 600)
    assert compare(before, tagged.read_bytes()) == ""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_bit_of_the_sound_makes_a_difference(originals, suffix):
    before = (originals / f"a.{suffix}").read_bytes()
    damaged = bytearray(before)
    damaged[len(before) * 9 // 10] ^= 8
    assert compare(before, before) == ""
    assert compare(before, damaged).startswith("packet ")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_sound_makes_a_difference(originals, suffix):
    before = (originals / f"a.{suffix}").read_bytes()
    assert compare(before, before[: len(before) * 3 // 4])
    assert compare(before, before[: len(before) // 2])


def test_a_tag_that_is_taken_for_sound_makes_a_difference(originals):
    before = (originals / "a.ac3").read_bytes()
    assert compare(before, ID3 + before) == "packet 1 differs"


def test_another_rate_makes_a_difference(originals):
    before = (originals / "a.wav").read_bytes()
    copy = before[:24] + (22050).to_bytes(4, "little") + before[28:]
    assert compare(before, copy) == "a stream differs"


def test_a_changed_byte_is_found_where_media_are_said_to_lie(originals):
    before = (originals / "a.m4a").read_bytes()
    damaged = bytearray(before)
    damaged[before.rindex(b"moov") - 100] ^= 8
    files = [Stretch(BytesIO(content), 0, len(content)) for content in (before, bytes(damaged))]
    assert find_difference(*files, [(0, 0, len(before))]).startswith("packet ")
    assert find_difference(files[0], files[0], [(0, 0, len(before))]) == ""


@pytest.mark.parametrize("suffix", ["flac", "aac", "ac3"])
def test_a_tag_behind_a_stream_without_length_is_left_out(originals, suffix):
    before = (originals / f"a.{suffix}").read_bytes()
    original, copy = (BytesIO(before + b"TAG" + bytes([n]) * 125) for n in (17, 18))
    sound = Stretch(original, 0, len(before))
    assert find_difference(sound, Stretch(copy, 0, len(before))) == ""
    assert find_difference(sound, Stretch(copy, 0, len(before) - 50)).startswith("packet ")


def test_a_file_without_packets_is_refused_as_original_and_found_as_copy(originals):
    sound = (originals / "a.mp3").read_bytes()
    for content in (b"", b"no sound at all" * 100):
        with pytest.raises(DataError, match="its packets cannot be read"):
            compare(content, sound)
        assert compare(sound, content).startswith("its packets cannot be read any more")


def test_a_wav_without_samples_is_refused(originals):
    empty = (originals / "a.wav").read_bytes()[:44]
    empty = empty[:40] + bytes(4)
    with pytest.raises(DataError, match="FFmpeg finds no sound in it"):
        compare(empty, empty)
