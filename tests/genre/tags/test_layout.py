"""Places of the media of an MP4: what moved together is told from a sample that no longer lies where it should."""

import struct
from io import BytesIO

import pytest

from genre.tags import mp4
from genre.tags.mp4.layout import read_layout
from tests.support import tagged_kinds
from tests.support.edits import apply_splices

PLAIN = ["a.m4a", "faststart.m4a", "alac.m4a", "video.mp4", "a.mov", "a.3gp"]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return tagged_kinds.make_sounds(tmp_path_factory.mktemp("sounds"))


@pytest.mark.parametrize("name", PLAIN)
def test_a_genre_moves_the_media_as_one_or_not_at_all(sounds, name):
    before = sounds[name]
    after = apply_splices(before, mp4.plan_genres(BytesIO(before), ["Fado" * 600]))
    old, new = read_layout(BytesIO(before)), read_layout(BytesIO(after))
    assert old == new and old is not None
    assert (new.origin - old.origin > 2000) == (before.index(b"moov") < before.index(b"mdat"))
    start, n = old.media[0]
    assert before[old.origin + start :][:n] == after[new.origin + start :][:n]


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("change", [1, -4, 1000])
def test_an_offset_that_is_wrong_is_no_equal_layout(sounds, name, change):
    data = bytearray(sounds[name])
    at = data.rindex(b"stco") + 8
    count = struct.unpack_from(">I", data, at)[0]
    last = at + 4 * count
    struct.pack_into(">I", data, last, struct.unpack_from(">I", data, last)[0] + change)
    assert read_layout(BytesIO(data)) != read_layout(BytesIO(sounds[name]))


@pytest.mark.parametrize("name", PLAIN)
def test_media_that_moved_without_their_offsets_are_no_equal_layout(sounds, name):
    data = sounds[name]
    at = data.index(b"mdat") - 4
    if data[at - 4 : at] == b"wide":
        at -= 8
    moved = data[:at] + struct.pack(">I4s4x", 12, b"free") + data[at:]
    assert read_layout(BytesIO(moved)) != read_layout(BytesIO(data))


@pytest.mark.parametrize("name", ["fragmented.m4a", "fragmented_base.m4a", "dash.m4a"])
def test_fragments_have_no_layout(sounds, name):
    assert read_layout(BytesIO(sounds[name])) is None
