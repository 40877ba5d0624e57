"""Genres in ASF files, against mutagen and FFmpeg."""

import struct
from contextlib import suppress
from io import BytesIO
from uuid import UUID

import av
import mutagen.asf
import numpy as np
import pytest
from mutagen.asf import ASFByteArrayAttribute, ASFUnicodeAttribute

from genre.errors import DataError
from genre.tags import asf
from tests.support.edits import apply_splices, packets_of
from tests.support.sounds import tone

DESCRIPTION = UUID("D2D0A440-E307-11D2-97F0-00A0C95EA850").bytes_le
EXTENSION = UUID("5FBF03B5-A92E-11CF-8EE3-00C00C205365").bytes_le
LIBRARY = UUID("44231C94-9498-49D1-A141-1D134E457054").bytes_le
PROPERTIES = UUID("8CABDCA1-A947-11CF-8EE4-00C00C205365").bytes_le
SIGNATURE = UUID("2211B3FC-BD23-11D2-B4B7-00A0C955FC6E").bytes_le
GENRES = [["Rock"], ["Drum & Bass — 日本", "Jazz", "Fado"], ["Fado" * 3000]]


@pytest.fixture(scope="module")
def plain() -> bytes:
    """A file as FFmpeg writes it."""
    y = tone(1, hz=300, sr=44100)
    file = BytesIO()
    with av.open(file, "w", format="asf") as out:
        stream = out.add_stream("wmav2", rate=44100, layout="mono", bit_rate=64_000)
        for start in range(0, len(y), 1024):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(y[None, start : start + 1024]), "fltp", "mono")
            frame.sample_rate, frame.pts = 44100, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def tagged(plain: bytes, **tags: list) -> bytes:
    """A file as music players tag it, with a cover, ratings and padding."""
    file = BytesIO(plain)
    asf_file = mutagen.asf.ASF(file)
    asf_file["Title"] = ["Título"]
    asf_file["WM/Picture"] = [ASFByteArrayAttribute(bytes(range(256)) * 400)]
    asf_file["WM/Mood"] = ["one", "two"]
    asf_file["WM/IsCompilation"] = [True]
    asf_file["replaygain_track_gain"] = [ASFUnicodeAttribute("-7.1 dB", stream=1)]
    for name, values in tags.items():
        asf_file[f"WM/{name}"] = values
    file.seek(0)
    asf_file.save(file)
    return file.getvalue()


def objects_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of the objects in the header and its extension, then the rest of the file."""
    n, size = struct.unpack_from("<I", data, 24)[0], struct.unpack_from("<Q", data, 16)[0]
    header = split_objects(data[30:size])
    assert len(header) == n
    for kind, content in header:
        if kind == EXTENSION:
            assert struct.unpack_from("<I", content, 18)[0] == len(content) - 22
            header += split_objects(content[22:])
    return [*header, (b"", data[size:])]


def split_objects(data: bytes) -> list[tuple[bytes, bytes]]:
    objects, position = [], 0
    while position < len(data):
        (size,) = struct.unpack_from("<Q", data, position + 16)
        objects.append((data[position : position + 16], data[position + 24 : position + size]))
        position += size
    return objects


def file_size_of(data: bytes) -> int:
    """Size that the header gives for the file."""
    return struct.unpack_from("<Q", data, data.index(PROPERTIES) + 40)[0]


def edit(data: bytes, genres: list[str]) -> bytes:
    edited = apply_splices(data, asf.plan_genres(BytesIO(data), genres))
    # mutagen leaves a wrong size behind, which stays.
    assert file_size_of(edited) == (len(edited) if file_size_of(data) == len(data) else file_size_of(data))
    assert packets_of(edited) == packets_of(data)
    assert asf.read_genres(BytesIO(edited)) == genres
    old, new = mutagen.asf.ASF(BytesIO(data)), mutagen.asf.ASF(BytesIO(edited))
    assert new["WM/Genre"] == genres
    assert [(k, v) for k, v in new.tags if "Genre" not in k] == [(k, v) for k, v in old.tags if "Genre" not in k]
    with av.open(BytesIO(edited), metadata_errors="ignore") as container:
        assert genres[0].startswith(container.metadata["genre"][:100])
    changing = (DESCRIPTION, EXTENSION, LIBRARY, PROPERTIES)
    kept = [[o for o in objects_of(d) if o[0] not in changing] for d in (data, edited)]
    assert kept[0] == kept[1]
    return edited


@pytest.mark.parametrize("genres", GENRES)
@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"Genre": ["Jazz"]},
        {"Genre": ["Jazz", "Pop", "Fado"]},
        {"GenreID": ["(17)"]},
        {"Genre": ["(8)"], "GenreID": ["17"]},
    ],
    ids=str,
)
def test_only_the_genre_changes(plain, tags, genres):
    data = tagged(plain, **tags)
    numbers = {"(8)": "Jazz", "17": "Rock", "(17)": "Rock"}
    assert asf.read_genres(BytesIO(data)) == [numbers.get(genre, genre) for values in tags.values() for genre in values]
    edited = edit(data, genres)
    assert len(edit(edited, ["Jazz"])) <= len(edited)


@pytest.mark.parametrize("genres", GENRES)
def test_a_genre_is_added_to_a_file_as_its_muxer_wrote_it(plain, genres):
    assert asf.read_genres(BytesIO(plain)) == []
    edit(plain, genres)


def make_asf(plain: bytes, header: list[tuple[bytes, bytes]]) -> bytes:
    """A file with other objects in its header, and its size where it belongs."""
    objects = b"".join(kind + struct.pack("<Q", 24 + len(content)) + content for kind, content in header)
    media = plain[struct.unpack_from("<Q", plain, 16)[0] :]
    data = bytearray(plain[:16] + struct.pack("<QI", 30 + len(objects), len(header)) + plain[28:30] + objects + media)
    struct.pack_into("<Q", data, data.index(PROPERTIES) + 40, len(data))
    return bytes(data)


@pytest.mark.parametrize("is_extension_last", [False, True])
def test_a_header_without_description_gets_one(plain, is_extension_last):
    header = split_objects(plain[30 : struct.unpack_from("<Q", plain, 16)[0]])
    without = [item for item in header if item[0] not in (DESCRIPTION, EXTENSION)]
    extension = [item for item in header if item[0] == EXTENSION]
    data = make_asf(plain, without + extension if is_extension_last else extension + without)
    edit(data, ["Rock"])
    edited = apply_splices(data, asf.plan_genres(BytesIO(data), ["Rock", "Jazz"]))
    assert [kind for kind, _ in split_objects(edited[30 : struct.unpack_from("<Q", edited, 16)[0]])].count(DESCRIPTION)
    assert mutagen.asf.ASF(BytesIO(edited))["WM/Genre"] == ["Rock", "Jazz"]
    assert packets_of(edited) == packets_of(data)


def test_the_size_of_a_recorded_stream_stays_unknown(plain):
    data = bytearray(plain)
    struct.pack_into("<Q", data, data.index(PROPERTIES) + 40, 0)
    assert file_size_of(edit(bytes(data), ["Rock"])) == 0


def count_too_many(data: bytes) -> bytes:
    place = data.index(DESCRIPTION) + 24
    return data[:place] + b"\xff\xff" + data[place + 2 :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.replace(DESCRIPTION, SIGNATURE), "its header is signed"),
        (lambda d: d.replace(EXTENSION, bytes(16)), "its header has 0 extensions instead of one"),
        (lambda d: b"RIFF" + d, "the ASF object at byte 0|does not begin with an ASF header"),
        (lambda d: bytes(16) + d[16:], "does not begin with an ASF header"),
        (lambda d: d[:200], "the ASF object at byte 0 has"),
        (lambda d: d[:10], "the file ends at byte 10"),
        (count_too_many, "break off"),
    ],
)
def test_what_cannot_be_edited_is_refused(plain, change, message):
    with pytest.raises(DataError, match=message):
        asf.plan_genres(BytesIO(change(plain)), ["Rock"])


def test_a_genre_that_is_too_long_is_refused(plain):
    for genres in (["x" * 33_000], ["Rock", "x" * 33_000]):
        with pytest.raises(DataError, match="holds at most 65535"):
            asf.plan_genres(BytesIO(plain), genres)


def test_a_broken_file_is_edited_or_refused(plain):
    data = tagged(plain, Genre=["Jazz", "Pop"])
    for n in range(0, 900):
        broken = data[:n] + bytes([data[n] ^ 0x55]) + data[n + 1 :]
        for content in (broken, data[:n]):
            for call in (asf.read_genres, lambda file: asf.plan_genres(file, ["Rock"])):
                with suppress(DataError):
                    call(BytesIO(content))
