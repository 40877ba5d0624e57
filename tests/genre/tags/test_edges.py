"""Tags before and behind a stream: every byte but the genre's stays, and other programs read the genre."""

import io
import zlib

import av
import numpy as np
import pytest
import soundfile as sf
from mutagen.apev2 import APEv2
from mutagen.id3 import ID3

from genre.errors import DataError
from genre.tags import edges
from tests.support.edits import apply_splices
from tests.support.sounds import encode, tone
from tests.support.tag_bytes import (
    GENRE,
    TITLE,
    ape_tag,
    frame,
    genre_frame,
    id3,
    id3v1,
    synchsafe,
    unsynchronise,
)

COVER = np.random.default_rng(0).integers(0, 256, 400_000, np.uint8).tobytes()  # with many a 0xFF that looks like audio
CHAPTER = b"ch0\0" + bytes(8) + b"\xff" * 8
UTF16 = b"\1\xff\xfe" + "Название".encode("utf-16-le")

#: Frames that programs write and libraries read in part or not at all: name, content, flags by version.
ODD_FRAMES = [
    (b"GEOB", b"\0application/octet-stream\0\0Serato Markers2\0\1\1AQFDT0xPUg" + bytes(range(256)), (0, 0)),
    (b"GEOB", b"\0application/octet-stream\0\0Serato Overview\0" + b"\xff\xfb\xe0\x00" * 90, (0, 0)),
    (b"PRIV", b"TRAKTOR4\0" + b"DMRT" * 60, (0, 0)),
    (b"PRIV", b"WM/MediaClassPrimaryID\0" + bytes(16), (0, 0)),
    (b"APIC", b"\0image/jpeg\0\3\0" + COVER, (0, 0)),
    (b"CHAP", CHAPTER + frame(3, b"TIT2", UTF16), (0, 0)),
    (b"CTOC", b"toc\0\3\1ch0\0", (0, 0)),
    (b"RGAD", bytes(range(8)), (0, 0)),
    (b"RVA2", b"track\0\1\xff\x00\x10\x7f\xff", (0, 0)),
    (b"UFID", b"http://musicbrainz.org\0" + b"a" * 36, (0, 0)),
    (b"XSOP", b"\0Artist, sorted", (0, 0)),
    (b"TXXX", b"\0replaygain_track_gain\0-7.1 dB", (0, 0)),
    (b"TXXX", b"\0replaygain_track_gain\0-6.9 dB", (0, 0)),
    (b"COMM", b"\0engbpm\0 138", (0, 0)),
    (b"COMM", b"\x09not an encoding", (0, 0)),
    (b"TDRC", b"\3no date", (0, 0)),
    (b"WFED", b"http://feed", (0, 0)),
    (b"PCST", bytes(4), (0, 0)),
    (b"POPM", b"", (0, 0)),
    (b"TPE1", b"\x05\0in a group", (0x20, 0x40)),
    (b"TALB", b"\x01" + b"encrypted", (0x40, 0x04)),
    (b"TCOM", (9).to_bytes(4, "big") + zlib.compress(b"\0composer"), (0x80, 0x09)),
    (b"TSRC", b"\0read only", (0x2000, 0x1000)),
]
ODD_FRAMES_2 = [
    *((b"TT2", UTF16), (b"TSP", b"\0Artist, sorted"), (b"TSA", b"\0Album"), (b"PCS", bytes(4)), (b"WFD", b"http://x")),
    *(
        (b"TID", b"\0id"),
        (b"PIC", b"\0JPG\3\0" + COVER[:5000]),
        (b"GEO", b"\0\0\0\0" + b"\xff\xe0" * 9),
        (b"COM", b"\7"),
    ),
]


def odd_frames(version: int, *, plain: bool = False) -> bytes:
    if version == 2:
        return b"".join(frame(2, name, content) for name, content in ODD_FRAMES_2)
    return b"".join(
        frame(version, name, content, flags=flags[version - 3], plain=plain) for name, content, flags in ODD_FRAMES
    )


@pytest.fixture(scope="module")
def mp3() -> bytes:
    file = io.BytesIO()
    sf.write(file, tone(0.5, hz=300), 22050, format="MP3")
    return file.getvalue()


def plan(data: bytes, *genres: str, main: str = "id3") -> bytes:
    return apply_splices(data, edges.plan_genres(io.BytesIO(data), genres, main=main))


def read(data: bytes) -> list[str]:
    return edges.read_genres(io.BytesIO(data))


def assert_others_read(data: bytes, *genres: str) -> None:
    """Assert that mutagen and FFmpeg read the genres."""
    frames = ID3(io.BytesIO(data)).getall("TCON")
    texts = list(genres) if data[3] == 4 else ["; ".join(genres)]
    assert [text for one in frames for text in one.text] == texts
    with av.open(io.BytesIO(data)) as container:
        assert container.metadata["genre"].split(";")[0] == genres[0]
        assert container.streams.audio[0].codec_context.name.startswith("mp3")


VERSIONS = [2, 3, 4]
GENRES = [["Jazz"], ["Fado & Chanson — 日本"], ["Hip-Hop", "Soul"], ["R" * 300]]


@pytest.mark.parametrize("genres", GENRES, ids=lambda g: g[0][:9])
@pytest.mark.parametrize("padding", [0, 20, 1000])
@pytest.mark.parametrize("old", [b"", b"\0(17)", b"\1\xff\xfeR\0o\0c\0k\0\0\0", b"\0" + b"Rock" * 200])
@pytest.mark.parametrize("version", VERSIONS)
def test_only_the_genre_frame_of_an_id3v2_tag_changes(mp3, version, old, padding, genres):
    others = [frame(version, TITLE[version], UTF16), frame(version, b"WFD" if version == 2 else b"WFED", b"http://x")]
    old_frame = frame(version, GENRE[version], old) if old else b""
    before = id3(version, others[0] + old_frame + others[1], padding=padding) + mp3
    new = genre_frame(version, *genres)
    frames = others[0] + new + others[1] if old else new + others[0] + others[1]
    left = max(padding + len(old_frame) - len(new), 0)
    after = plan(before, *genres)
    assert after == id3(version, frames, padding=left) + mp3
    assert read(after) == genres
    assert_others_read(after, *genres)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("has_genre", [False, True])
@pytest.mark.parametrize("flags", [0, 0x80, 0x20])
def test_frames_that_no_library_parses_keep_their_bytes_and_order(mp3, version, has_genre, flags):
    frames = odd_frames(version)
    old = frame(version, GENRE[version], b"\0Rock") if has_genre else b""
    before = id3(version, old + frames, flags=flags) + mp3
    new = genre_frame(version, "Psychedelic Rock")
    after = plan(before, "Psychedelic Rock")
    assert after == id3(version, new + frames, flags=flags) + mp3
    assert read(after) == ["Psychedelic Rock"]
    assert ID3(io.BytesIO(after)).getall("TCON")[0].text == ["Psychedelic Rock"]


def test_further_genre_frames_and_those_of_itunes_go(mp3):
    title = frame(3, b"TIT2", b"\0T")
    before = (
        id3(3, frame(3, b"TCON", b"\0Rock") + title + frame(3, b"TCO\0", b"\0Pop") + frame(3, b"TCON", b"\0(17)")) + mp3
    )
    assert read(before) == ["Rock", "Pop", "Rock"]
    after = plan(before, "Jazz")
    assert after == id3(3, genre_frame(3, "Jazz") + title, padding=29) + mp3


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("text", [b"\0GENRE\0Soul", b"\1" + "\ufeffGenre\0\ufeffSoul\0".encode("utf-16-le")])
@pytest.mark.parametrize("old", [[], ["Rock"]])
def test_a_text_named_genre_is_one_and_goes(mp3, version, text, old):
    name = b"TXX" if version == 2 else b"TXXX"
    others = frame(version, name, b"\0GENRES\0Low") + frame(version, TITLE[version], UTF16) + frame(version, name, b"")
    kept = genre_frame(version, *old) if old else b""
    before = id3(version, frame(version, name, text) + others + kept) + mp3
    assert read(before) == [*old, "Soul"]
    after = plan(before, "Jazz")
    new = genre_frame(version, "Jazz")
    assert after[10:].startswith(others + new if old else new + others) and after.endswith(mp3)
    assert read(after) == ["Jazz"]
    assert_others_read(after, "Jazz")


def test_a_name_that_ends_in_0xff_is_unsynchronised(mp3):
    name = "Ａ"  # its last byte in UTF-16 is 0xFF, and padding follows
    picture = frame(3, b"APIC", b"\0image/x\0\3\0\xff\xe0\xff\0")
    before = id3(3, picture + frame(3, b"TCON", b"\0Rocky"), flags=0x80, padding=30) + mp3
    after = plan(before, name)
    assert read(after) == [name]
    # The frame is one byte shorter, and has one null character more.
    assert after == id3(3, picture + genre_frame(3, name), flags=0x80, padding=30) + mp3
    assert ID3(io.BytesIO(after))["TCON"].text == [name]


@pytest.mark.parametrize("padding", [0, 40])
def test_sizes_as_itunes_wrote_them_stay_so(mp3, padding):
    frames = odd_frames(4, plain=True)
    old = frame(4, b"TCON", b"\3" + b"Rock" * 50, plain=True)
    after = plan(id3(4, frames + old, padding=padding) + mp3, "Jazz " * 60)
    new = genre_frame(4, "Jazz " * 60, plain=True)
    assert after == id3(4, frames + new, padding=max(0, padding + len(old) - len(new))) + mp3
    assert read(after) == [("Jazz " * 60).strip()]


def test_a_frame_of_its_own_unsynchronisation_and_length_is_read_and_replaced(mp3):
    title = frame(4, b"TIT2", b"\1\xff\0\xfeT\0", flags=0x02)
    content = synchsafe(11) + unsynchronise(b"\1\xff\xfeR\0o\0c\0k\0")
    old = frame(4, b"TCON", content, flags=0x4003)
    before = id3(4, title + old, flags=0x80) + mp3
    assert read(before) == ["Rock"]
    after = plan(before, "Jazz")
    new = genre_frame(4, "Jazz", flags=0x4000)
    assert after == id3(4, title + new, flags=0x80, padding=len(old) - len(new)) + mp3
    assert_others_read(after, "Jazz")


@pytest.mark.parametrize(("version", "flags"), [(3, 0x0080), (4, 0x0009)])
def test_a_compressed_genre_is_read_and_replaced(mp3, version, flags):
    content = (5).to_bytes(4, "big") + zlib.compress(b"\0Rock")
    before = id3(version, frame(version, b"TCON", content, flags=flags)) + mp3
    assert read(before) == ["Rock"]
    assert read(plan(before, "Jazz")) == ["Jazz"]


EXTENDED = {3: b"\0\0\0\6\0\0\0\0\0\7", 4: b"\0\0\0\6\1\0"}


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("genre", ["Jazz", "Progressive Rock"])
def test_an_extended_header_stays(mp3, version, genre):
    title = frame(version, b"TIT2", b"\0T")
    old = frame(version, b"TCON", b"\0Blues Rock")
    before = id3(version, EXTENDED[version] + title + old, flags=0x40, padding=7) + mp3
    after = plan(before, genre)
    assert after == id3(version, EXTENDED[version] + title + genre_frame(version, genre), flags=0x40, padding=7) + mp3
    assert_others_read(after, genre)


def test_a_footer_follows_the_size_of_its_header(mp3):
    title = frame(4, b"TIT2", b"\0T")
    for genre in ("Jazz", "Progressive Rock"):
        after = plan(id3(4, title + frame(4, b"TCON", b"\0Blues Rock"), flags=0x10) + mp3, genre)
        assert after == id3(4, title + genre_frame(4, genre), flags=0x10) + mp3
        assert_others_read(after, genre)


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        (id3(3, b"\0\0\0\x0a\x80\0\0\0\0\0CRC!" + frame(3, b"TIT2", b"\0T"), flags=0x40), "has a checksum"),
        (id3(4, b"\0\0\0\x0c\1\x20\5\0\0\0\0\0" + frame(4, b"TIT2", b"\0T"), flags=0x40), "has a checksum"),
        (id3(3, b"\0\1\0\0\0\0\0\0\0\0", flags=0x40), "extended header of its ID3v2 tag is broken"),
        (id3(2, b"abcdef", flags=0x40), "is compressed"),
        (id3(3, frame(3, b"TCON", b"\1\0Rock", flags=0x20)), "genre frame is part of a group"),
        (id3(4, frame(4, b"TCON", b"\1\0Rock", flags=0x04)), "genre frame is encrypted"),
        (id3(4, frame(4, b"TCON", b"\0Rock", flags=0x1000)), "genre frame is read-only"),
        (id3(3, frame(3, b"TIT2", b"\0T") + b"TALB\0\0\1\0\0\0cut"), "a frame runs past the end of its ID3v2 tag"),
        (id3(3, frame(3, b"TIT2", b"\0T") + b"no frames"), "holds bytes that are no frames"),
        (id3(3, frame(3, b"TIT2", b"\0T"), padding=9)[:-5] + b"junk\0", "holds bytes that are no frames"),
        (id3(3, frame(3, b"PRIV", b"a\0\xff\xfb")).replace(b"\3\0\0", b"\3\0\x80", 1), "unsynchronised and is not"),
        (b"ID3\5\0\0\0\0\0\0", "unknown version 2.5"),
    ],
)
def test_a_tag_that_cannot_be_changed_safely_is_refused(mp3, tag, reason):
    with pytest.raises(DataError, match=reason):
        plan(tag + mp3, "Jazz")


def test_a_tag_that_is_longer_than_the_file_is_refused(mp3):
    for call in (read, lambda data: plan(data, "Jazz")):
        with pytest.raises(DataError, match="runs past the end of the file"):
            call(id3(3, b"", padding=100)[:-1])


@pytest.mark.parametrize(
    ("content", "genres"),
    [
        (b"\0(17)", ["Rock"]),
        (b"\x0017", ["Rock"]),
        (b"\0(51)(39)Text", ["Techno-Industrial", "Noise", "Text"]),
        (b"\0(RX)(CR)", ["Remix", "Cover"]),
        (b"\0((Odd) name", ["(Odd) name"]),
        (b"\x0017\0Jazz\0", ["Rock", "Jazz"]),
        (b"\0Hip-Hop;Soul; Funk", ["Hip-Hop", "Soul", "Funk"]),
        (b"\1\xff\xfeR\0o\0c\0k\0\0\0\xff\xfeJ\0a\0z\0z\0", ["Rock", "Jazz"]),
        (b"\1\xfe\xff\0R\0o", ["Ro"]),
        (b"\1R\0o\0", ["Ro"]),
        (b"\2\0R\0o", ["Ro"]),
        (b"\3Fr\xc3\xbch", ["Früh"]),
        (b"\0(255)", ["Unknown"]),
        (b"\x0b?", []),
        (b"", []),
        (b"\0  ", []),
    ],
)
def test_every_way_to_write_a_genre_is_read(content, genres):
    assert read(id3(3, frame(3, b"TCON", content))) == genres
    if b";" not in content:
        assert read(id3(4, frame(4, b"TCON", content))) == genres


def test_a_semicolon_divides_nothing_in_2_4():
    assert read(id3(4, frame(4, b"TCON", b"\0Drum; Bass"))) == ["Drum; Bass"]


def test_a_parenthesis_is_written_twice_where_one_begins_a_number(mp3):
    assert b"\0((Neo) Soul" in plan(mp3, "(Neo) Soul")
    assert read(plan(mp3, "(Neo) Soul")) == ["(Neo) Soul"]


@pytest.mark.parametrize(
    ("genre", "tag"), [("a;b", id3(3, b"")), ("a\0b", id3(4, b"")), ("a\0b", ape_tag([("Title", b"T")]))]
)
def test_a_genre_with_the_character_that_divides_genres_is_refused(mp3, genre, tag):
    with pytest.raises(DataError, match=r"divides genres by semicolons|contains a null character"):
        plan(tag + mp3 if tag[:3] == b"ID3" else mp3 + tag, genre)


def test_a_file_without_tags_gets_id3_of_version_2_3(mp3):
    assert plan(mp3, "Jazz") == id3(3, genre_frame(3, "Jazz")) + mp3
    assert edges.audio_span(io.BytesIO(plan(mp3, "Jazz") + id3v1(genre=255))) == (25, 25 + len(mp3))


def test_the_second_id3v2_tag_counts(mp3):
    first = id3(4, frame(4, b"TIT2", b"\0T"), padding=5)
    second = id3(3, frame(3, b"TCON", b"\0Rock") + frame(3, b"TIT2", b"\0T"))
    before = first + second + mp3
    assert read(before) == ["Rock"]
    first = id3(4, genre_frame(4, "Jazz") + frame(4, b"TIT2", b"\0T"))
    assert plan(before, "Jazz") == first + id3(3, genre_frame(3, "Jazz") + frame(3, b"TIT2", b"\0T")) + mp3


def test_a_tag_to_which_another_leads_is_no_third_tag(mp3):
    before = id3(4, frame(4, b"SEEK", bytes(4))) + id3(4, frame(4, b"TCON", b"\0Rock")) + mp3
    assert read(before) == ["Rock"]
    jazz = genre_frame(4, "Jazz")
    assert plan(before, "Jazz") == id3(4, jazz + frame(4, b"SEEK", bytes(4))) + id3(4, jazz) + mp3


@pytest.mark.parametrize("seek", [False, True])
def test_an_appended_id3v2_tag_counts(mp3, seek):
    front = id3(4, frame(4, b"SEEK", len(mp3).to_bytes(4, "big")))
    back = id3(4, frame(4, b"TCON", b"\0Rock"), flags=0 if seek else 0x10)
    before = front * seek + mp3 + back + id3v1(genre=17, title=b"T")
    assert read(before) == ["Rock", "Rock"]
    front = id3(4, genre_frame(4, "Jazz") + frame(4, b"SEEK", len(mp3).to_bytes(4, "big")))
    back = id3(4, genre_frame(4, "Jazz"), flags=0 if seek else 0x10)
    assert plan(before, "Jazz") == front * seek + mp3 + back + id3v1(genre=8, title=b"T")


CYRILLIC = {"title": "Название".encode("cp1251"), "comment": b"from the film"}


@pytest.mark.parametrize(("genre", "number"), [("Jazz", 8), ("hip hop", 7), ("Psybient", 191), ("Fado", 255)])
@pytest.mark.parametrize("old", [17, 12, 0])
def test_only_the_number_of_an_id3v1_tag_changes(mp3, genre, number, old):
    front = id3(3, frame(3, b"TIT2", UTF16))
    after = plan(front + mp3 + id3v1(genre=old, **CYRILLIC), genre)
    assert after == id3(3, genre_frame(3, genre) + frame(3, b"TIT2", UTF16)) + mp3 + id3v1(genre=number, **CYRILLIC)
    assert read(after) == [genre] + ["Hip-Hop" if number == 7 else genre] * (number != 255)


@pytest.mark.parametrize("block", [id3v1(genre=255, **CYRILLIC), id3v1(genre=0), id3v1(genre=200, title=b"T")])
def test_an_id3v1_tag_without_a_genre_stays(mp3, block):
    before = id3(3, frame(3, b"TIT2", UTF16)) + mp3 + block
    assert read(before) == []
    assert plan(before, "Jazz").endswith(mp3 + block)


def test_an_id3v1_tag_alone_is_changed_alone_or_refused(mp3):
    before = mp3 + id3v1(genre=17, **CYRILLIC)
    assert read(before) == ["Rock"]
    assert plan(before, "Jazz") == mp3 + id3v1(genre=8, **CYRILLIC)
    assert plan(mp3 + id3v1(genre=255, **CYRILLIC), "Jazz") == mp3 + id3v1(genre=8, **CYRILLIC)
    for genres in (["Neo-Soul"], ["Jazz", "Rock"]):
        with pytest.raises(DataError, match="its only tag is ID3v1, which cannot hold the genre"):
            plan(before, *genres)


@pytest.mark.parametrize("first", [255, 17])
@pytest.mark.parametrize("front", [b"", id3(3, frame(3, b"TIT2", b"\0T"))])
def test_a_second_id3v1_tag_is_corrected_if_it_has_a_genre(mp3, front, first):
    before = front + mp3 + id3v1(genre=first, title=b"T") + id3v1(genre=9, title=b"T")
    assert read(before) == ["Metal", "Rock"][: 1 + (first == 17)]
    assert edges.audio_span(io.BytesIO(before)) == (len(front), len(front + mp3))
    after = plan(before, "Jazz")
    ends = id3v1(genre=8 if first == 17 else 255, title=b"T") + id3v1(genre=8, title=b"T")
    assert after.endswith(mp3 + ends)
    assert set(read(after)) == {"Jazz"}


def test_a_picture_that_looks_like_id3v1_is_none():
    before = id3(3, frame(3, b"APIC", id3v1(genre=17, title=b"T")))
    assert read(before) == []
    assert plan(before, "Jazz") == id3(3, genre_frame(3, "Jazz") + frame(3, b"APIC", id3v1(genre=17, title=b"T")))


def test_a_blank_id3v1_tag_hides_nothing(mp3):
    assert plan(mp3 + id3v1(genre=0), "Neo-Soul") == id3(3, genre_frame(3, "Neo-Soul")) + mp3 + id3v1(genre=0)


def test_the_extended_id3v1_tag_counts(mp3):
    def extended(genre: bytes) -> bytes:
        return b"TAG+" + b"Long title".ljust(180, b"\0") + b"\2" + genre.ljust(30, b"\0") + b"000:00" * 2

    before = id3(3, b"") + mp3 + extended(b"Trip hop") + id3v1(genre=255, title=b"T")
    assert read(before) == ["Trip hop"]
    after = plan(before, "Neo-Soul")
    assert after.endswith(mp3 + extended(b"Neo-Soul") + id3v1(genre=255, title=b"T"))
    assert plan(before, "日本").endswith(mp3 + extended(b"") + id3v1(genre=255, title=b"T"))


APE_ITEMS = [
    ("Artist", "Ärtist".encode()),
    ("REPLAYGAIN_TRACK_GAIN", b"-7 dB"),
    ("Cover Art (Front)", b"a.jpg\0\xff\xd8"),
]


@pytest.mark.parametrize("key", ["Genre", "GENRE", "genre"])
@pytest.mark.parametrize("end", [b"", id3v1(genre=17, title=b"T")])
@pytest.mark.parametrize("genres", [["Jazz"], ["日本", "Soul"]])
def test_only_the_genre_of_an_ape_tag_changes(mp3, key, end, genres):
    before = mp3 + ape_tag([APE_ITEMS[0], (key, b"Rock\0Pop"), *APE_ITEMS[1:], (key, b"Folk")]) + end
    assert read(before)[:3] == ["Rock", "Pop", "Folk"]
    new_end = id3v1(genre=8 if genres == ["Jazz"] else 255, title=b"T") if end else b""
    after = plan(before, *genres)
    assert after == mp3 + ape_tag([APE_ITEMS[0], ("Genre", "\0".join(genres).encode()), *APE_ITEMS[1:]]) + new_end
    assert list(APEv2(io.BytesIO(after))["Genre"]) == genres
    assert read(after)[: len(genres)] == genres


def test_an_ape_tag_without_genre_gets_one_where_there_is_no_id3v2(mp3):
    assert plan(mp3 + ape_tag(APE_ITEMS), "Jazz") == mp3 + ape_tag([*APE_ITEMS, ("Genre", b"Jazz")])
    front = id3(3, frame(3, b"TIT2", b"\0T"))
    after = plan(front + mp3 + ape_tag(APE_ITEMS), "Jazz")
    assert after == id3(3, genre_frame(3, "Jazz") + frame(3, b"TIT2", b"\0T")) + mp3 + ape_tag(APE_ITEMS)
    after = plan(front + mp3 + ape_tag([("Genre", b"Rock")]), "Jazz")
    assert after.endswith(mp3 + ape_tag([("Genre", b"Jazz")])) and read(after) == ["Jazz", "Jazz"]


GAIN = [("MP3GAIN_MINMAX", b"089,200"), ("REPLAYGAIN_TRACK_GAIN", b"-3.075000 dB")]


def test_an_ape_tag_with_nothing_but_loudness_hosts_no_genre_where_players_look_for_id3(mp3):
    assert plan(mp3 + ape_tag(GAIN), "Soul") == id3(3, genre_frame(3, "Soul")) + mp3 + ape_tag(GAIN)
    assert plan(mp3 + ape_tag(GAIN), "Soul", main="ape") == mp3 + ape_tag([*GAIN, ("Genre", b"Soul")])
    after = plan(mp3 + ape_tag(GAIN) + id3v1(genre=17, title=b"T"), "Soul")
    assert after == mp3 + ape_tag(GAIN) + id3v1(genre=42, title=b"T")


@pytest.mark.parametrize("begin", [b"", id3(3, b"")])
def test_an_ape_tag_in_front_counts(mp3, begin):
    assert read(begin + ape_tag([("Genre", b"Rock")]) + mp3) == ["Rock"]
    assert ape_tag([("Genre", b"Jazz")]) + mp3 in plan(begin + ape_tag([("Genre", b"Rock")]) + mp3, "Jazz")


def lyrics3(version: int) -> bytes:
    if version == 1:
        return b"LYRICSBEGIN" + b"[00:01]la la" + b"LYRICSEND"
    body = b"LYRICSBEGIN" + b"IND0000211" + b"EAL00004Home"
    return body + b"%06d" % len(body) + b"LYRICS200"


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("ape_first", [True, False])
def test_tags_around_lyrics3_are_found(mp3, version, ape_first):
    def file(genre: bytes, number: int) -> bytes:
        parts = [ape_tag([("Genre", genre)]), lyrics3(version)]
        return mp3 + b"".join(parts if ape_first else parts[::-1]) + id3v1(genre=number, title=b"T")

    assert read(file(b"Rock", 17)) == ["Rock", "Rock"]
    assert plan(file(b"Rock", 17), "Jazz") == file(b"Jazz", 8)
    assert edges.audio_span(io.BytesIO(file(b"Rock", 17))) == (0, len(mp3))


def test_an_ape_tag_of_version_1_holds_one_genre_in_ascii(mp3):
    before = mp3 + ape_tag([("Artist", b"\xc4rtist"), ("Genre", b"Caf\xe9")], version=1000)
    assert read(before) == ["Café"]
    after = plan(before, "Jazz")
    assert after == mp3 + ape_tag([("Artist", b"\xc4rtist"), ("Genre", b"Jazz")], version=1000)
    for genres in (["Früh"], ["Jazz", "Soul"]):
        with pytest.raises(DataError, match="version 1 holds a single genre in ASCII"):
            plan(before, *genres)


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        (ape_tag([("Genre", b"Rock")], item_flags=1), "read-only"),
        (ape_tag([("Genre", b"Rock")], flags=1), "read-only"),
        (ape_tag([("Genre", b"Rock")])[1:], "begins elsewhere than its footer says"),
        (ape_tag([("Genre", b"Rock")]).replace(b"\4\0\0\0\0\0\0\0Genre", b"\5\0\0\0\0\0\0\0Genre"), "do not fill it"),
    ],
)
def test_an_ape_tag_that_cannot_be_changed_safely_is_refused(mp3, tag, reason):
    with pytest.raises(DataError, match=reason):
        plan(mp3 + tag, "Jazz")


def test_an_ape_tag_that_looks_like_id3v1_is_none(mp3):
    length = 131 - 32 - 32 - 8 - len("Artist\0")
    before = mp3 + ape_tag([("Artist", b"x" * length)])
    assert before[-128:].startswith(b"TAGEX") and read(before) == []
    assert plan(before, "Jazz") == mp3 + ape_tag([("Artist", b"x" * length), ("Genre", b"Jazz")])


@pytest.mark.parametrize(
    ("codec", "container", "main"),
    [
        *(("mp2", "mp2", "id3"), ("aac", "adts", "id3"), ("tta", "tta", "id3")),
        *(("tta", "tta", "ape"), ("wavpack", "wv", "ape")),
    ],
)
def test_other_streams_are_tagged_too(tmp_path, codec, container, main):
    encode(tmp_path / "a", tone(0.3, hz=300, sr=44100), codec, container, 44100)
    stream = (tmp_path / "a").read_bytes()
    start, end = edges.audio_span(io.BytesIO(stream))
    after = plan(stream, "Fado", main=main)
    assert stream[start:end] in after
    assert read(after) == ["Fado"]
    with av.open(io.BytesIO(after)) as tagged, av.open(io.BytesIO(stream)) as original:
        assert {name.lower(): text for name, text in tagged.metadata.items()}["genre"] == "Fado"
        assert [bytes(packet) for packet in tagged.demux()] == [bytes(packet) for packet in original.demux()]


def test_a_stream_with_comments_of_its_own_keeps_edges_without_genre(mp3):
    flac = b"fLaC" + bytes(50)
    front, back = id3(3, frame(3, b"TIT2", b"\0T")), ape_tag(APE_ITEMS) + id3v1(genre=255, title=b"T")
    assert plan(front + flac + back, "Jazz", main="") == front + flac + back
    assert edges.audio_span(io.BytesIO(front + flac + back)) == (len(front), len(front) + len(flac))
    before = id3(3, frame(3, b"TCON", b"\0(17)")) + flac + ape_tag([("Genre", b"Rock")]) + id3v1(genre=17)
    after = plan(before, "Soul", main="")
    assert after == id3(3, genre_frame(3, "Soul"), padding=0) + flac + ape_tag([("Genre", b"Soul")]) + id3v1(genre=42)


def test_broken_bytes_raise_nothing_else(mp3):
    rng = np.random.default_rng(0)
    whole = (
        id3(4, odd_frames(4)[:900] + genre_frame(4, "Rock"), padding=9)
        + mp3[:2000]
        + ape_tag(APE_ITEMS)
        + id3v1(genre=1)
    )
    for n in range(300):
        data = bytearray(whole)
        for position in rng.choice([*range(40), *range(len(whole) - 300, len(whole))], 3):
            data[position] ^= 1 << rng.integers(8)
        broken = bytes(data[: len(data) - n % 3 * rng.integers(200)])
        try:
            read(broken)
            after = plan(broken, "Jazz")
        except DataError:
            continue
        assert "Jazz" in read(after)
