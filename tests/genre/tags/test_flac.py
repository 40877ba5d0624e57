"""Genres in FLAC files of every arrangement of blocks, against mutagen and FFmpeg."""

from io import BytesIO

import mutagen.flac
import pytest
import soundfile as sf

from genre.errors import DataError
from genre.tags.vorbis import flac
from tests.genre.tags.test_vorbis_comments import make_block
from tests.support.edits import apply_splices, packets_of
from tests.support.sounds import tone

STREAMINFO, PADDING, APPLICATION, SEEKTABLE, COMMENTS, CUESHEET, PICTURE = range(7)
JAZZ = (COMMENTS, make_block(b"TITLE=caf\xe9", b"genre=Jazz", b"Genre=Pop"))
UNTITLED = (COMMENTS, make_block(b"ALBUM=x"))
OTHERS = [
    (APPLICATION, b"riffjunk"),
    (SEEKTABLE, bytes(18)),
    (CUESHEET, bytes(395) + b"\2" + bytes(8) + b"\1" + bytes(26) + b"\1" + bytes(18) + b"\x20\0\xaa" + bytes(27)),
    (PICTURE, b"\0\0\0\3\0\0\0\12image/jpeg\0\0\0\0" + bytes(16) + b"\0\1\0\0" + bytes(range(256)) * 256),
]
LAYOUTS = {
    "no comments": OTHERS,
    "nothing but the stream": [],
    "genres": [JAZZ, *OTHERS],
    "genres last": [*OTHERS, JAZZ],
    "no genre": [OTHERS[0], UNTITLED, *OTHERS[1:]],
    "padding at the end": [JAZZ, *OTHERS, (PADDING, bytes(4000))],
    "padding before": [(PADDING, bytes(500)), *OTHERS, JAZZ],
    "padding between, with junk in it": [JAZZ, (PADDING, b"junk" * 20), *OTHERS],
    "padding too small": [JAZZ, *OTHERS, (PADDING, bytes(3))],
    "padding and no comments": [*OTHERS, (PADDING, bytes(300))],
    "two blocks of comments": [UNTITLED, *OTHERS, JAZZ],
    "genres in both blocks": [JAZZ, JAZZ, (PADDING, bytes(90))],
}


@pytest.fixture(scope="module")
def stream() -> tuple[bytes, bytes]:
    """STREAMINFO's content, and the frames of a short file."""
    file = BytesIO()
    sf.write(file, tone(0.5, hz=300), 22050, format="FLAC")
    data = file.getvalue()
    position, last = 4, False
    while not last:
        last = bool(data[position] & 128)
        position += 4 + int.from_bytes(data[position + 1 : position + 4], "big")
    return data[8:42], data[position:]


def make_flac(stream: tuple[bytes, bytes], blocks: list[tuple[int, bytes]]) -> bytes:
    parts = []
    for n, (kind, content) in enumerate(blocks := [(STREAMINFO, stream[0]), *blocks]):
        last = 128 * (n == len(blocks) - 1)
        parts.append(bytes([kind | last]) + len(content).to_bytes(3, "big") + content)
    return b"fLaC" + b"".join(parts) + stream[1]


def blocks_of(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """All blocks, and the frames."""
    blocks, position, last = [], data.index(b"fLaC") + 4, False
    while not last:
        last, kind = bool(data[position] & 128), data[position] & 127
        end = position + 4 + int.from_bytes(data[position + 1 : position + 4], "big")
        blocks.append((kind, data[position + 4 : end]))
        position = end
    return blocks, data[position:]


@pytest.mark.parametrize("genres", [["Rock"], ["Drum & Bass — 日本 " * 9, "Jazz"], ["J"]])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_but_the_genre_changes(stream, layout, genres):
    data = make_flac(stream, LAYOUTS[layout])
    edited = apply_splices(data, flac.plan_genres(BytesIO(data), genres))
    assert flac.read_genres(BytesIO(edited)) == genres
    assert mutagen.flac.FLAC(BytesIO(edited))["genre"] == genres
    assert packets_of(edited) == packets_of(data)
    changing = (COMMENTS, PADDING)
    (old, old_frames), (new, new_frames) = blocks_of(data), blocks_of(edited)
    assert new_frames == old_frames
    assert [block for block in new if block[0] not in changing] == [block for block in old if block[0] not in changing]
    assert [kind for kind, _ in new if kind == PADDING] == [kind for kind, _ in old if kind == PADDING]


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name.startswith("padding") and "small" not in name])
@pytest.mark.parametrize("genre", ["Rock", "Progressive rock of the seventies"])
def test_padding_makes_up_for_the_difference(stream, layout, genre):
    data = make_flac(stream, LAYOUTS[layout])
    edited = apply_splices(data, flac.plan_genres(BytesIO(data), [genre]))
    assert len(edited) == len(data)


def test_fields_that_are_not_utf8_keep_their_bytes(stream):
    data = make_flac(stream, LAYOUTS["genres"])
    edited = apply_splices(data, flac.plan_genres(BytesIO(data), ["Rock"]))
    assert blocks_of(edited)[0][1] == (COMMENTS, make_block(b"TITLE=caf\xe9", b"genre=Rock"))


def test_a_stream_behind_a_foreign_tag_is_edited(stream):
    flac_data = make_flac(stream, LAYOUTS["genres"])
    data = b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + flac_data
    assert flac.read_genres(BytesIO(data), 20) == ["Jazz", "Pop"]
    edited = apply_splices(data, flac.plan_genres(BytesIO(data), ["Rock"], 20))
    assert edited == data[:20] + apply_splices(flac_data, flac.plan_genres(BytesIO(flac_data), ["Rock"]))
    with pytest.raises(DataError, match="no FLAC stream begins at byte 0"):
        flac.read_genres(BytesIO(data))


def test_a_picture_whose_size_lies_is_refused(stream):
    picture = (PICTURE, OTHERS[3][1])
    data = bytearray(make_flac(stream, [JAZZ, picture]))
    position = data.index(b"image/jpeg") - 8
    data[position - 3 : position] = (5000).to_bytes(3, "big")
    assert flac.read_genres(BytesIO(data)) == ["Jazz", "Pop"]
    with pytest.raises(DataError, match=r"no audio follows the FLAC metadata at byte \d+; a block's size may be wrong"):
        flac.plan_genres(BytesIO(data), ["Rock"])


def test_comments_beyond_24_bits_are_refused(stream):
    data = make_flac(stream, [(COMMENTS, make_block(b"PICTURE=" + bytes((1 << 24) - 60)))])
    with pytest.raises(DataError, match="a block of FLAC metadata holds at most 16777215"):
        flac.plan_genres(BytesIO(data), ["Rock" * 10])


@pytest.mark.parametrize("size", [0, 3, 6, 30, 50, 70])
def test_a_file_that_breaks_off_is_an_error(stream, size):
    data = make_flac(stream, LAYOUTS["genres"])[:size]
    for call in (flac.read_genres, lambda file: flac.plan_genres(file, ["Rock"])):
        with pytest.raises(DataError):
            call(BytesIO(data))
