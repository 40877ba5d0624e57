"""Genres in Ogg files of every codec and arrangement of pages, against mutagen and FFmpeg."""

import struct
from contextlib import suppress
from io import BytesIO

import av
import mutagen
import numpy as np
import pytest
import soundfile as sf
from mutagen.ogg import OggPage

from genre.errors import DataError
from genre.tags.vorbis import ogg
from tests.genre.tags.test_vorbis_comments import make_block
from tests.support.edits import apply_splices, packets_of
from tests.support.oggs import read_pages, read_streams, replace_packet
from tests.support.sounds import tone

PREFIXES = {"vorbis": b"\3vorbis", "opus": b"OpusTags", "speex": b"", "flac": b"\4\0\0\0"}
CODECS = list(PREFIXES)
GENRES = [["Rock"], ["Drum & Bass — 日本", "Jazz"], ["Fado" * 600], ["J"]]
TITLE = b"TITLE=caf\xe9"
COVER = b"METADATA_BLOCK_PICTURE=" + b"AbCd" * 30_000


def make_speex() -> bytes:
    """A Speex file of packets of noise, since FFmpeg's builds have no encoder."""
    fields = (1, 80, 16000, 1, 4, 1, -1, 320, 0, 1, 0, 0, 0)
    header = b"Speex   " + b"1.2".ljust(20, b"\0") + struct.pack("<13i", *fields)
    audio = OggPage.from_packets([bytes([n] * 20) for n in range(90)], sequence=2, default_size=400)
    pages = [*OggPage.from_packets([header]), *OggPage.from_packets([make_block()], sequence=1), *audio]
    for n, page in enumerate(pages):
        page.position = 320 * max(n - 1, 0)
    pages[0].first = pages[-1].last = True
    return b"".join(page.write() for page in pages)


def make_flac() -> bytes:
    y = (np.tile(tone(2, hz=300, sr=48000), (1, 1)) * 9000).astype(np.int16)
    file = BytesIO()
    with av.open(file, "w", format="ogg") as out:
        stream = out.add_stream("flac", rate=48000, layout="mono", format="s16")
        for start in range(0, y.size, 4096):
            frame = av.AudioFrame.from_ndarray(y[:, start : start + 4096], "s16", "mono")
            frame.sample_rate, frame.pts = 48000, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def make_sound(subtype: str) -> bytes:
    file = BytesIO()
    sf.write(file, tone(2, hz=300, sr=48000), 48000, format="OGG", subtype=subtype)
    return file.getvalue()


@pytest.fixture(scope="module")
def originals() -> dict[str, bytes]:
    """A file of each codec."""
    return {"vorbis": make_sound("VORBIS"), "opus": make_sound("OPUS"), "flac": make_flac(), "speex": make_speex()}


def make_packet(codec: str, *fields: bytes, padding: bytes = b"") -> bytes:
    block = make_block(*fields, rest=(b"\1" if codec == "vorbis" else b"") + padding)
    return b"\4" + len(block).to_bytes(3, "big") + block if codec == "flac" else PREFIXES[codec] + block


def edit(data: bytes, genres: list[str]) -> bytes:
    edited = apply_splices(data, ogg.plan_genres(BytesIO(data), genres))
    assert packets_of(edited) == packets_of(data)
    return edited


def fields_of(genres: list[str]) -> list[bytes]:
    return [b"Genre=" + genre.encode() for genre in genres]


@pytest.mark.parametrize("genres", GENRES)
@pytest.mark.parametrize("codec", CODECS)
def test_a_genre_is_added_to_a_file_as_its_encoder_wrote_it(originals, codec, genres):
    data = originals[codec]
    assert ogg.read_genres(BytesIO(data)) == []
    edited = edit(data, genres)
    assert ogg.read_genres(BytesIO(edited)) == genres
    assert mutagen.File(BytesIO(edited)).tags["genre"] == genres
    (old,), (new,) = read_streams(data), read_streams(edited)
    assert [packet for n, packet in enumerate(new) if n != 1] == [packet for n, packet in enumerate(old) if n != 1]


@pytest.mark.parametrize("page_size", [600, 4096, 65025])
@pytest.mark.parametrize("genres", GENRES)
@pytest.mark.parametrize("codec", CODECS)
def test_only_the_genre_changes_whatever_the_pages(originals, codec, genres, page_size):
    old = make_packet(codec, TITLE, b"Genre=Pop", COVER, b"GENRE=Jazz", b"no equals sign")
    data = replace_packet(originals[codec], old, page_size)
    assert ogg.read_genres(BytesIO(data)) == ["Pop", "Jazz"]
    (stream,) = read_streams(edited := edit(data, genres))
    assert stream[1] == make_packet(codec, TITLE, *fields_of(genres), COVER, b"no equals sign")
    assert stream[0] == read_streams(data)[0][0] and stream[2:] == read_streams(data)[0][2:]
    first_audio = next(page.offset for page in read_pages(data) if page.position > 0)
    if len(read_pages(edited)) == len(read_pages(data)):
        assert edited.endswith(data[first_audio:])


def test_splices_are_as_small_as_the_change(originals):
    data = replace_packet(originals["vorbis"], make_packet("vorbis", b"GENRE=Pop", COVER), 65025)
    splices = ogg.plan_genres(BytesIO(data), ["Rock"])
    assert sum(len(splice.content) for splice in splices) < 900 * len(read_pages(data))
    assert sum(splice.end - splice.start for splice in splices) < 3000


# mutagen cannot write comments that leave no room on a page for the set-up of Vorbis, hence its sizes.
@pytest.mark.parametrize(("codec", "largest"), [("vorbis", 60_500), ("opus", 66_600), ("flac", 66_600)])
def test_every_fill_of_the_last_page_can_grow_and_shrink(originals, codec, largest):
    for size in (*range(largest - 3600, largest, 254), 127_000):
        old = make_packet(codec, b"GENRE=Pop", b"X=" + bytes(size))
        data = replace_packet(originals[codec], old, 65025)
        for genre in ("P", "Pop" * 300):
            (stream,) = read_streams(edited := edit(data, [genre]))
            assert stream[1] == make_packet(codec, b"GENRE=" + genre.encode(), b"X=" + bytes(size))
            assert edit(edited, ["Pop"]) == data or len(read_pages(edited)) != len(read_pages(data))


@pytest.mark.parametrize("codec", ["vorbis", "opus"])
@pytest.mark.parametrize("genre", ["Rock", "P", "Progressive rock"])
def test_padding_makes_up_for_the_difference(originals, codec, genre):
    data = replace_packet(originals[codec], make_packet(codec, b"Genre=Jazz", padding=bytes(100)))
    edited = edit(data, [genre])
    assert len(edited) == len(data)
    padding = bytes(100 + len("Jazz") - len(genre))
    assert read_streams(edited)[0][1] == make_packet(codec, *fields_of([genre]), padding=padding)


def test_binary_data_behind_the_comments_of_opus_is_kept(originals):
    data = replace_packet(originals["opus"], make_packet("opus", b"Genre=Jazz", padding=b"\1data\0\0\0\0"))
    assert read_streams(edit(data, ["Rock music"]))[0][1] == make_packet(
        "opus", b"Genre=Rock music", padding=b"\1data\0\0\0\0"
    )


@pytest.mark.parametrize("codecs", [("vorbis", "vorbis"), ("vorbis", "opus"), ("flac", "flac"), ("opus", "opus")])
@pytest.mark.parametrize("same_serial", [False, True])
def test_every_part_of_a_chained_file_is_tagged(originals, codecs, same_serial):
    packets = [
        make_packet(codec, TITLE, b"Genre=" + genre) for codec, genre in zip(codecs, (b"Jazz", b"Pop"), strict=True)
    ]
    parts = [
        replace_packet(originals[codec], packet, serial=7 if same_serial else n)
        for n, (codec, packet) in enumerate(zip(codecs, packets, strict=True))
    ]
    data = b"".join(parts)
    assert ogg.read_genres(BytesIO(data)) == ["Jazz", "Pop"]
    edited = apply_splices(data, ogg.plan_genres(BytesIO(data), ["Rock"]))
    assert edited == b"".join(edit(part, ["Rock"]) for part in parts)
    assert [stream[1] for stream in read_streams(edited)] == [make_packet(c, TITLE, b"Genre=Rock") for c in codecs]


def multiplex(*files: bytes) -> bytes:
    """Files whose pages run beside each other, all first pages first."""
    streams = [read_pages(file) for file in files]
    for n, pages in enumerate(streams):
        for page in pages:
            page.serial = n
    firsts = [pages.pop(0) for pages in streams]
    rest = [pages[n] for n in range(max(map(len, streams))) for pages in streams if n < len(pages)]
    return b"".join(page.write() for page in (*firsts, *rest))


@pytest.mark.parametrize("genre", ["P", "Pop" * 300, "Pop" * 30_000])
def test_streams_beside_each_other_are_told_apart(originals, genre):
    opus = replace_packet(originals["opus"], make_packet("opus", b"Genre=Jazz", COVER), 65025)
    video = [*OggPage.from_packets([b"\x80theora header"]), *OggPage.from_packets([b"\x81theora"] * 9, sequence=1)]
    video[0].first = True
    data = multiplex(opus, b"".join(page.write() for page in video))
    edited = apply_splices(data, ogg.plan_genres(BytesIO(data), [genre]))
    assert read_streams(edited)[1] == read_streams(data)[1]
    assert read_streams(edited)[0] == read_streams(edit(opus, [genre]))[0]


def test_a_page_cut_short_at_the_end_does_not_matter(originals):
    data = originals["vorbis"][:-40]
    edited = apply_splices(data, ogg.plan_genres(BytesIO(data), ["Rock"]))
    assert packets_of(edited) == packets_of(data)
    assert ogg.read_genres(BytesIO(edited)) == ["Rock"]


@pytest.mark.parametrize("genre", ["Rock", "Pop" * 30_000])
def test_bytes_that_are_no_page_stay(originals, genre):
    data = originals["vorbis"]
    middle = read_pages(data)[-2].offset
    for parts in (
        (b"ID3\4\0\0\0\0\0\x0a" + bytes(10), data),
        (data[:middle], b"junk" * 100, data[middle:]),
        (data, b"TAG", bytes(125)),
    ):
        with_junk = b"".join(parts)
        edited = apply_splices(with_junk, ogg.plan_genres(BytesIO(with_junk), [genre]))
        assert packets_of(edited) == packets_of(with_junk)
        assert ogg.read_genres(BytesIO(edited)) == [genre]
        assert edited.count(b"junk") == with_junk.count(b"junk")
        assert edited.startswith(with_junk[:20]) and edited.endswith(with_junk[-20:])


def test_a_damaged_page_is_read_but_not_written(originals):
    data = replace_packet(originals["vorbis"], make_packet("vorbis", b"GENRE=Jazz"))
    data = damage(data, data.index(b"\3vorbis") + 12)
    assert ogg.read_genres(BytesIO(data)) == ["Jazz"]
    with pytest.raises(DataError, match="the Ogg page at byte 58 is damaged"):
        ogg.plan_genres(BytesIO(data), ["Rock"])


def damage(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def skeleton(data: bytes, version: int) -> bytes:
    page = OggPage()
    page.first, page.packets = True, [b"fishead\0" + struct.pack("<HH", version, 0) + bytes(60)]
    return multiplex(data, page.write())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: skeleton(data, 4), "index of byte positions"),
        (lambda data: data[:58], "ends before its comments do"),
        (lambda data: data[58:], "none of its Ogg streams"),
        (lambda data: replace_packet(data, b"\5vorbis"), "holds no comments"),
        (lambda data: replace_packet(data, b""), "holds no comments"),
        (lambda data: replace_packet(data, make_packet("vorbis", b"GENRE=" + b"x" * 999), 255), "on more Ogg pages"),
        (lambda data: b"", "none of its Ogg streams"),
    ],
)
def test_what_cannot_be_edited_is_refused(originals, change, message):
    with pytest.raises(DataError, match=message):
        ogg.plan_genres(BytesIO(change(originals["vorbis"])), ["Rock"])


def test_a_skeleton_without_index_stays(originals):
    data = skeleton(originals["vorbis"], 3)
    assert read_streams(edit(data, ["Rock"]))[1] == read_streams(data)[1]


def test_a_broken_file_is_edited_or_refused(originals):
    for data in originals.values():
        for n in range(0, 400, 3):
            broken = data[:n] + bytes([data[n] ^ 0x55]) + data[n + 1 :]
            for content in (broken, data[:n]):
                for call in (ogg.read_genres, lambda file: ogg.plan_genres(file, ["Rock"])):
                    with suppress(DataError):
                        call(BytesIO(content))
