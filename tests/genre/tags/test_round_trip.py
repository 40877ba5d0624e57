"""Every kind of tagged file is written, compared in all but its genre, and undone to the byte; or it is refused."""

from io import BytesIO
from pathlib import Path

import av
import mutagen
import pytest
from mutagen.id3 import ID3

from genre import tags
from genre.errors import DataError
from genre.library import tagging
from genre.library.undo import UndoFile, read_records, restore_file
from tests.support import tagged_kinds
from tests.support.tagged_kinds import COVER, KINDS, NOISE, RUSSIAN, Kind

#: Keys of the genre in what mutagen reads.
GENRE_KEYS = {"genre", "\xa9gen", "wm/genre", "----:com.apple.itunes:genre"}

#: Most bytes by which a file may grow beside its genres: a new tag or chunk with its headers.
MOST_ADDED = 200


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return tagged_kinds.make_sounds(tmp_path_factory.mktemp("sounds"))


def other_fields(path: Path) -> list[str]:
    """Every field but the genre, as mutagen reads it."""
    try:
        found = mutagen.File(path)
    except mutagen.MutagenError as error:
        return [type(error).__name__]
    fields = found.tags if found is not None else None
    if fields is None:
        return []
    if isinstance(fields, ID3):
        frames = [repr(frame) for frame in fields.values() if frame.FrameID != "TCON"]
        return sorted(frames) + [repr(frame) for frame in fields.unknown_frames]
    return sorted(repr(pair) for pair in fields.items() if pair[0].lower() not in GENRE_KEYS)


def stream_packets(content: bytes, sound: bytes) -> list[tuple[object, ...]]:
    """Packets of every stream; FFmpeg takes tags behind a stream without length for a part of its last packet."""
    is_bare = not sound.startswith((b"RIFF", b"FORM", b"OggS"))
    end = content.rfind(sound[-400:]) + 400 if is_bare and sound[-400:] in content else None
    with av.open(BytesIO(content[:end]), metadata_errors="ignore") as container:
        return [(packet.stream_index, packet.pts, packet.duration, bytes(packet)) for packet in container.demux()]


def count_witnesses(content: bytes) -> list[int]:
    """How often the contents of frames that no one may touch occur."""
    return [content.count(witness) for witness in (NOISE, COVER, RUSSIAN, NOISE[:36], b"TIT2", b"TPE1", b"bought in")]


def restore_all(undo: UndoFile) -> list[bool]:
    return [restore_file(record) for record in read_records(undo.path)]


def check_kind(kind: Kind, sounds: dict[str, bytes], folder: Path, genres: list[str]) -> str:
    """Write genres into a file of a kind, compare everything else, undo, and return the result for people."""
    path = folder / f"a.{kind.suffix}"
    undo = UndoFile(folder / "undo.jsonl")
    path.write_bytes(before := kind.make(sounds))
    sound = sounds.get(path.name, b"RIFF")
    fields, packets, witnesses = other_fields(path), stream_packets(before, sound), count_witnesses(before)
    try:
        tagging.write_genres(path, genres, undo)
    except DataError as error:
        assert path.read_bytes() == before and not undo.path.exists()
        assert str(path) in str(error) and ".genre-tagging" not in str(error)
        return f"refused: {str(error).partition(str(path))[2].removeprefix(': ')}"
    after = path.read_bytes()
    assert tags.read_genres(path) == genres
    assert other_fields(path) == fields or kind.suffix == "aac"  # with ID3 before it, mutagen takes it for MP3
    assert stream_packets(after, sound) == packets
    assert count_witnesses(after) == witnesses
    assert len(after) - len(before) <= MOST_ADDED + 4 * len("; ".join(genres))
    assert undo.path.stat().st_size < 4096
    tagging.write_genres(path, genres, undo)
    assert path.read_bytes() == after
    assert restore_all(undo)[-1] and path.read_bytes() == before
    return "written, restored"


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("genres", [["Rock"], ["Fado & Chanson — 日本" * 20, "Hip-Hop"]], ids=["one", "two"])
def test_a_kind_is_written_and_restored_or_refused(sounds, tmp_path, name, genres):
    kind = KINDS[name]
    result = check_kind(kind, sounds, tmp_path, genres)
    if reason := kind.refused or (len(genres) > 1 and kind.refused_several):
        assert result.startswith("refused: ") and reason in result
    else:
        assert result == "written, restored"


def test_there_are_many_kinds():
    assert len(KINDS) >= 136
    assert len({kind.suffix for kind in KINDS.values()}) >= 20
