"""Genres in Matroska and WebM files, against FFmpeg."""

import zlib
from contextlib import suppress
from io import BytesIO
from itertools import pairwise

import av
import numpy as np
import pytest

from genre.errors import DataError
from genre.tags import matroska
from tests.support.edits import apply_splices, packets_of
from tests.support.sounds import tone

SEGMENT, SEEK_HEAD, TAGS, CLUSTER = (bytes.fromhex(text) for text in ("18538067", "114d9b74", "1254c367", "1f43b675"))
TAG, TARGETS, ITEM, NAME, STRING = (bytes.fromhex(text) for text in ("7373", "63c0", "67c8", "45a3", "4487"))
SEEK, SEEK_ID, SEEK_POSITION = (bytes.fromhex(text) for text in ("4dbb", "53ab", "53ac"))
TRACK, CHAPTER, LEVEL = (bytes.fromhex(text) for text in ("63c5", "63c4", "68ca"))
VOID, CRC = b"\xec", b"\xbf"
GENRES = [["Rock"], ["Drum & Bass — 日本", "Jazz"], ["Fado" * 600]]
KINDS = {
    "webm": ("webm", "libopus", {}),
    "matroska": ("matroska", "libmp3lame", {}),
    "live": ("webm", "libopus", {"live": "1"}),
    "index in front": ("matroska", "aac", {"reserve_index_space": "500"}),
    "small clusters": ("matroska", "libopus", {"cluster_time_limit": "200"}),
}


def make_matroska(container: str, codec: str, options: dict[str, str], **metadata: str) -> bytes:
    y = tone(1, hz=300, sr=48000)
    file = BytesIO()
    with av.open(file, "w", format=container, options=options) as out:
        out.metadata.update({"title": "Título"} | metadata)
        stream = out.add_stream(codec, rate=48000, layout="mono")
        for start in range(0, len(y), 960):
            name = "fltp" if codec != "libopus" else "flt"
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(y[None, start : start + 960]), name, "mono")
            frame.sample_rate, frame.pts = 48000, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


@pytest.fixture(scope="module")
def originals() -> dict[str, bytes]:
    files = {name: make_matroska(*arguments) for name, arguments in KINDS.items()}
    files |= {f"{name}, Jazz": make_matroska(*arguments, genre="Jazz") for name, arguments in KINDS.items()}
    return files | {"comment": make_matroska(*KINDS["webm"], comment="x" * 900)}


def element(kind: bytes, *contents: bytes, width: int = 8) -> bytes:
    content = b"".join(contents)
    return kind + (len(content) | 1 << 7 * width).to_bytes(width, "big") + content


def split(data: bytes, start: int = 0) -> list[tuple[int, bytes, bytes]]:
    """Position, kind and content of the elements; an unknown size goes to the end."""
    elements = []
    while start < len(data):
        id_width, size_at = 9 - data[start].bit_length(), start + 9 - data[start].bit_length()
        width = 9 - data[size_at].bit_length()
        size = int.from_bytes(data[size_at : size_at + width], "big") - (1 << 7 * width)
        begin = size_at + width
        end = len(data) if size == (1 << 7 * width) - 1 else begin + size
        elements.append((start, data[start : start + id_width], data[begin:end]))
        start = end
    return elements


def segment_of(data: bytes) -> bytes:
    """Content of the segment, which has to be the last element of the file."""
    _, (_, kind, content) = split(data)
    assert kind == SEGMENT
    return content


def join(data: bytes, elements: list[bytes]) -> bytes:
    """The file with other elements in its segment."""
    return data[: data.index(SEGMENT)] + element(SEGMENT, *elements)


def replace_tags(data: bytes, *new_elements: bytes) -> bytes:
    """Put elements in the place of the tags, filled up with nothing, so that all else stays where it is."""
    elements = split(segment_of(data))
    start, end = next((a[0], b[0]) for a, b in pairwise(elements) if a[1] == TAGS)
    new = b"".join(new_elements)
    void = element(VOID, bytes(end - start - len(new) - 9))
    return join(data, [segment_of(data)[:start], new, void, segment_of(data)[end:]])


def item(name: bytes, text: bytes, *more: bytes) -> bytes:
    return element(ITEM, element(NAME, name), element(STRING, text), *more)


def check_places(data: bytes) -> None:
    """Check that the table of what is where is right, and so are all checksums."""
    segment = segment_of(data)
    table = next(content for _, kind, content in split(segment) if kind == SEEK_HEAD)
    kinds = {position: kind for position, kind, _ in split(segment)}
    for seek in [content for _, kind, content in split(table) if kind == SEEK]:
        values = {kind: content for _, kind, content in split(seek)}
        assert kinds[int.from_bytes(values[SEEK_POSITION], "big")] == values[SEEK_ID]
    for _, _, content in split(segment):
        if content.startswith(CRC + b"\x84"):
            assert content[2:6] == zlib.crc32(content[6:]).to_bytes(4, "little")


def edit(data: bytes, genres: list[str]) -> bytes:
    edited = apply_splices(data, matroska.plan_genres(BytesIO(data), genres))
    assert packets_of(edited) == packets_of(data)
    assert matroska.read_genres(BytesIO(edited)) == genres
    with av.open(BytesIO(edited)) as container:
        assert container.metadata["GENRE"] == genres[-1]
    changing = (SEEK_HEAD, TAGS, VOID)
    old, new = ([e for e in split(segment_of(file)) if e[1] not in changing] for file in (data, edited))
    assert new == old
    return edited


def items_of(data: bytes) -> list[bytes]:
    """Everything in tags but genres."""
    tags = [content for _, kind, content in split(segment_of(data)) if kind == TAGS]
    found = [child for content in tags for _, kind, tag in split(content) if kind == TAG for child in split(tag)]
    return [
        content for _, _, content in found if b"GENRE" not in content.upper() or content.startswith(NAME + b"\x85S")
    ]


@pytest.mark.parametrize("genres", GENRES)
@pytest.mark.parametrize("name", KINDS)
def test_a_genre_is_added_and_replaced_and_nothing_moves(originals, name, genres):
    data = originals[name]
    assert matroska.read_genres(BytesIO(data)) == []
    edited = edit(data, genres)
    check_places(edited)
    assert items_of(edited) == items_of(data)
    assert matroska.read_genres(BytesIO(originals[f"{name}, Jazz"])) == ["Jazz"]
    check_places(edit(originals[f"{name}, Jazz"], genres))
    check_places(edit(edited, ["Metal"]))


def test_every_difference_of_size_is_made_up_for(originals):
    data = originals["webm, Jazz"]
    for size in range(1, 40):
        check_places(edit(edit(data, ["x" * size]), ["Rock"]))
    assert len(edit(data, ["x"])) == len(edit(data, ["Jaz"])) == len(edit(data, ["Rock"])) == len(data)


def test_tags_of_every_target_are_seen_and_those_of_chapters_left_alone(originals):
    track = element(TAG, element(TARGETS, element(TRACK, b"\1")), item(b"Genre", b"Jazz"))
    chapter = element(TAG, element(TARGETS, element(CHAPTER, b"\1")), item(b"GENRE", b"Fado"))
    album = element(TAG, element(TARGETS, element(LEVEL, b"\x32")), item(b"SUBGENRE", b"x"), item(b"genre", b"Pop\0\0"))
    data = replace_tags(originals["comment"], element(TAGS, chapter, track, album, element(TAG, item(b"TITLE", b"T"))))
    assert matroska.read_genres(BytesIO(data)) == ["Jazz", "Pop"]
    edited = apply_splices(data, matroska.plan_genres(BytesIO(data), ["Rock", "Metal"]))
    assert matroska.read_genres(BytesIO(edited)) == ["Rock", "Metal"]
    assert packets_of(edited) == packets_of(data)
    assert len(edited) == len(data)
    assert chapter in edited and item(b"SUBGENRE", b"x") in edited and b"Pop" not in edited


def test_genres_in_several_elements_of_tags_leave_no_other_behind(originals):
    tags = [element(TAGS, element(TAG, item(b"GENRE", genre), item(b"TITLE", b"T"))) for genre in (b"Jazz", b"Pop")]
    data = replace_tags(originals["comment"], *tags)
    assert matroska.read_genres(BytesIO(data)) == ["Jazz", "Pop"]
    assert items_of(edit(data, ["Rock"])) == items_of(data)


def test_tags_at_the_end_grow_there(originals):
    data = originals["live"]
    moved = edit(data, ["Rock"])
    assert split(segment_of(moved))[-1][1] == TAGS
    assert len(edit(moved, ["Rock music"])) == len(moved) + 6
    known = join(data, [segment_of(data), element(TAGS, element(TAG, item(b"GENRE", b"Jazz"), width=1), width=1)])
    assert split(segment_of(edit(known, ["Rock music"])))[-1][2].endswith(b"Rock music")


def test_a_file_without_tags_gets_some(originals):
    data = replace_tags(originals["comment"])
    assert TAGS not in [kind for _, kind, _ in split(segment_of(data))]
    assert split(segment_of(edit(data, ["Rock"])))[-1][1] == TAGS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: join(d, [element(CRC, bytes(4), width=1), segment_of(d)]), "its segment has a checksum"),
        (lambda d: join(d, [segment_of(d)[split(segment_of(d))[1][0] :]]), "no table at its start"),
        (lambda d: d[:-9], "does not end where"),
        (lambda d: b"\x1a\x45\xdf\xa3\x80\xec\x80", "there is no Matroska segment at byte 5"),
        (lambda d: b"RIFF" + d, "does not end where|header of a Matroska file"),
        (lambda d: d.replace(b"Lavf", b"lavf"), "is damaged: its checksum does not match"),
        (lambda d: b"", "there is no element at byte 0"),
    ],
)
def test_what_cannot_be_edited_is_refused(originals, change, message):
    with pytest.raises(DataError, match=message):
        matroska.plan_genres(BytesIO(change(originals["matroska"])), ["Rock"])


def test_the_genre_of_a_file_that_is_cut_short_is_read(originals):
    assert matroska.read_genres(BytesIO(originals["matroska, Jazz"][:-500])) == ["Jazz"]


def test_a_broken_file_is_edited_or_refused(originals):
    data = originals["matroska, Jazz"]
    for n in range(0, 500):
        broken = data[:n] + bytes([data[n] ^ 0x55]) + data[n + 1 :]
        for content in (broken, data[:n]):
            for call in (matroska.read_genres, lambda file: matroska.plan_genres(file, ["Rock"])):
                with suppress(DataError):
                    call(BytesIO(content))
