"""Files of chunks: the genre is written, every other byte stays and sizes are right, or the file is refused."""

import dataclasses
import io
import struct
import wave

import av
import mutagen
import numpy as np
import pytest
import soundfile as sf

from genre.errors import DataError
from genre.tags import chunks
from genre.tags.chunks import structure
from genre.tags.splices import Splice
from tests.support.edits import apply_splices
from tests.support.sounds import tone
from tests.support.tag_bytes import frame, genre_frame, id3, id3v1

PCM = bytes(range(1, 200)) * 2


def chunk(name: bytes, content: bytes, *, order: str = "little", width: int = 4, pad: bool = True) -> bytes:
    return name + len(content).to_bytes(width, order) + content + bytes(len(content) % 2 * pad)


def wav(*others: bytes, before: bytes = b"", pcm: bytes = PCM, pad: bool = True, size: int = 0) -> bytes:
    """Return a mono WAV with chunks behind the samples and before them; `size` is added to the size of the form."""
    fmt = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 8000, 8000, 1, 8))
    body = b"WAVE" + fmt + before + chunk(b"data", pcm, pad=pad) + b"".join(others)
    return b"RIFF" + (len(body) + size).to_bytes(4, "little") + body


def aiff(*others: bytes, pcm: bytes = PCM, pad: bool = True, size: int = 0, kind: bytes = b"AIFF") -> bytes:
    """Return a mono AIFF."""
    rate = b"\x40\x0b\xfa" + bytes(7)  # 8000 as an 80-bit float
    codec = b"raw \0\0" if kind == b"AIFC" else b""
    common = chunk(b"COMM", struct.pack(">HIH", 1, len(pcm), 8) + rate + codec, order="big")
    body = kind + common + chunk(b"SSND", bytes(8) + pcm, order="big", pad=pad) + b"".join(others)
    return b"FORM" + (len(body) + size).to_bytes(4, "big") + body


def info(*items: tuple[bytes, bytes]) -> bytes:
    return chunk(b"LIST", b"INFO" + b"".join(chunk(name, text) for name, text in items))


def tag_chunk(*frames: bytes, padding: int = 0, order: str = "little") -> bytes:
    return chunk(b"id3 " if order == "little" else b"ID3 ", id3(3, b"".join(frames), padding=padding), order=order)


def plan(data: bytes, *genres: str) -> bytes:
    return apply_splices(data, chunks.plan_genres(io.BytesIO(data), genres))


def read(data: bytes) -> list[str]:
    return chunks.read_genres(io.BytesIO(data))


def packets(data: bytes) -> bytes:
    with av.open(io.BytesIO(data), metadata_errors="ignore") as container:
        return b"".join(bytes(packet) for packet in container.demux())


JAZZ, ROCK, TITLE = genre_frame(3, "Jazz"), frame(3, b"TCON", b"\0(17)"), frame(3, b"TIT2", b"\0T")
ISFT = (b"ISFT", b"Lavf62.3.100\0")
BEXT = chunk(b"bext", bytes(602) + b"odd")
CUE = chunk(b"cue ", struct.pack("<IIIIIII", 1, 1, 0, 0x61746164, 0, 0, 100)) + chunk(b"LIST", b"adtllabl")

#: Before and after "Jazz" is written.
FILES = {
    "wav": (wav(), wav(tag_chunk(JAZZ))),
    "wav with bext and cue": (wav(CUE, before=BEXT), wav(CUE, tag_chunk(JAZZ), before=BEXT)),
    "wav of ffmpeg": (wav(info(ISFT)), wav(info(ISFT, (b"IGNR", b"Jazz\0")), tag_chunk(JAZZ))),
    "wav with id3": (wav(tag_chunk(TITLE, padding=40)), wav(tag_chunk(JAZZ, TITLE, padding=25))),
    "wav with full id3": (wav(tag_chunk(TITLE)), wav(tag_chunk(JAZZ, TITLE))),
    "wav with id3 before the samples": (wav(before=tag_chunk(TITLE)), wav(before=tag_chunk(JAZZ, TITLE))),
    "wav with genre in id3": (wav(tag_chunk(ROCK, TITLE)), wav(tag_chunk(JAZZ, TITLE))),
    "wav with info": (
        wav(info((b"INAM", b"Title\0"), ISFT)),
        wav(info((b"INAM", b"Title\0"), ISFT, (b"IGNR", b"Jazz\0"))),
    ),
    "wav with genre in info": (
        wav(info((b"IGNR", b"Hip-Hop\0"), (b"IART", b"caf\xe9\0"), (b"IGNR", b"Pop\0")), CUE),
        wav(info((b"IGNR", b"Jazz\0"), (b"IART", b"caf\xe9\0")), CUE),
    ),
    "wav with genre in info before the samples": (
        wav(before=info((b"IGNR", b"Hip-Hop\0"))),
        wav(before=info((b"IGNR", b"Jazz\0"))),
    ),
    "wav with genre in both": (
        wav(info((b"IGNR", b"Rock\0"), ISFT), tag_chunk(TITLE, ROCK)),
        wav(info((b"IGNR", b"Jazz\0"), ISFT), tag_chunk(TITLE, JAZZ)),
    ),
    "wav with id3 and info": (
        wav(info((b"INAM", b"T\0")), tag_chunk(TITLE)),
        wav(info((b"INAM", b"T\0"), (b"IGNR", b"Jazz\0")), tag_chunk(JAZZ, TITLE)),
    ),
    "wav with ID3 in capitals": (
        wav(chunk(b"ID3 ", id3(3, TITLE))),
        wav(chunk(b"ID3 ", id3(3, JAZZ + TITLE))),
    ),
    "wav with two id3": (
        wav(tag_chunk(TITLE), tag_chunk(ROCK)),
        wav(tag_chunk(JAZZ, TITLE), tag_chunk(JAZZ)),
    ),
    "wav with id3 of odd length": (
        wav(tag_chunk(frame(3, b"TIT2", b"\0Ti")), CUE),
        wav(tag_chunk(JAZZ, frame(3, b"TIT2", b"\0Ti")), CUE),
    ),
    "wav with odd samples": (wav(pcm=PCM[:-1]), wav(tag_chunk(JAZZ), pcm=PCM[:-1])),
    "wav without pad byte": (wav(pcm=PCM[:-1], pad=False), wav(tag_chunk(JAZZ), pcm=PCM[:-1])),
    "wav without pad byte, counted": (wav(pcm=PCM[:-1], pad=False, size=1), wav(tag_chunk(JAZZ), pcm=PCM[:-1])),
    "wav with pad byte, not counted": (wav(pcm=PCM[:-1], size=-1), wav(tag_chunk(JAZZ), pcm=PCM[:-1])),
    "wav without pad byte, with info": (
        wav(before=info((b"INAM", b"T\0")), pcm=PCM[:-1], pad=False),
        wav(before=info((b"INAM", b"T\0"), (b"IGNR", b"Jazz\0")), pcm=PCM[:-1], pad=False),
    ),
    "aiff": (aiff(), aiff(tag_chunk(JAZZ, order="big"))),
    "aifc": (aiff(kind=b"AIFC"), aiff(tag_chunk(JAZZ, order="big"), kind=b"AIFC")),
    "aiff with texts": (
        aiff(chunk(b"NAME", b"odd", order="big")),
        aiff(chunk(b"NAME", b"odd", order="big"), tag_chunk(JAZZ, order="big")),
    ),
    "aiff with id3": (
        aiff(tag_chunk(TITLE, ROCK, order="big")),
        aiff(tag_chunk(TITLE, JAZZ, order="big")),
    ),
    "aiff without pad byte": (aiff(pcm=PCM[:-1], pad=False), aiff(tag_chunk(JAZZ, order="big"), pcm=PCM[:-1])),
    "aiff without pad byte, counted": (
        aiff(pcm=PCM[:-1], pad=False, size=1),
        aiff(tag_chunk(JAZZ, order="big"), pcm=PCM[:-1]),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_only_the_genre_and_sizes_of_a_file_change(name):
    before, expected = FILES[name]
    after = plan(before, "Jazz")
    assert after == expected
    assert set(read(after)) == {"Jazz"}
    assert plan(after, "Jazz") == after
    assert packets(after) == packets(before)
    with av.open(io.BytesIO(after), metadata_errors="ignore") as container:
        assert container.metadata["genre"] == "Jazz"
    if b"TCON" in after:
        assert mutagen.File(io.BytesIO(after)).tags.getall("TCON")[0].text == ["Jazz"]


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("wav with") or name == "aiff with id3"])
@pytest.mark.parametrize("genres", [["Fado — 日本", "Soul"], ["R" * 99], ["R" * 98]])
def test_longer_genres_are_read_back_and_the_sound_stays(name, genres):
    before = FILES[name][0]
    after = plan(before, *genres)
    assert read(after)[: len(genres)] == genres
    assert set(read(after)) == set(genres)
    assert packets(after) == packets(before)
    assert read(plan(after, "Jazz"))[0] == "Jazz"


def test_numbers_of_rifx_have_their_first_byte_first():
    def rifx(genre: bytes) -> bytes:
        items = b"INFO" + chunk(b"IGNR", genre, order="big")
        body = b"WAVE" + chunk(b"data", PCM, order="big") + chunk(b"LIST", items, order="big")
        return chunk(b"RIFX", body, order="big")

    assert read(rifx(b"Hip-Hop\0")) == ["Hip-Hop"]
    assert plan(rifx(b"Hip-Hop\0"), "Jazz") == rifx(b"Jazz\0")


@pytest.mark.parametrize("pad", [True, False])
def test_places_at_the_end_follow_each_other(pad):
    items = b"INFO" + chunk(b"ISFT", b"Lavf\0", pad=False)
    after = wav(chunk(b"LIST", items + b"\0" + chunk(b"IGNR", b"Jazz\0")), tag_chunk(JAZZ))
    assert plan(wav(chunk(b"LIST", items, pad=pad)), "Jazz") == after
    assert read(plan(after, "Long Jazz")) == ["Long Jazz"] * 2


def test_an_info_chunk_of_odd_length_is_padded():
    items = b"INFO" + chunk(b"INAM", b"Title\0") + chunk(b"IART", b"Me\0", pad=False)
    before = wav(chunk(b"LIST", items), CUE)
    assert plan(before, "Jazz") == wav(chunk(b"LIST", items + b"\0" + chunk(b"IGNR", b"Jazz\0")), CUE)
    items = b"INFO" + chunk(b"INAM", b"Title\0") + chunk(b"IGNR", b"Ro\0", pad=False)
    before = wav(chunk(b"LIST", items), CUE)
    assert read(before) == ["Ro"]
    assert plan(before, "Jazz") == wav(info((b"INAM", b"Title\0"), (b"IGNR", b"Jazz\0")), CUE)


@pytest.mark.parametrize(
    ("text", "genres"),
    [
        (b"Caf\xe9\0", ["Café"]),
        (b"Caf\xc3\xa9", ["Café"]),
        (b"Soul; Funk\0", ["Soul", "Funk"]),
        (b"\0old", []),
        (b"80", ["80"]),
    ],
)
def test_a_genre_in_info_is_read_in_any_encoding(text, genres):
    assert read(wav(info((b"IGNR", text)))) == genres


def unpadded(data: bytes) -> bytes:
    return wav(chunk(b"LIST", b"INFOxxxx"), pcm=data[:-1], pad=False)


DATA = wav().find(b"data")
REFUSED = {
    "cut": (wav()[:-100], "its header counts 100 bytes more than the file has"),
    "cut before the tag": (wav(tag_chunk(JAZZ))[:-40], "bytes more than the file has"),
    "too small by 36": (wav(size=-36), "its header counts 36 bytes less than the file has"),
    "too small by 300": (wav(size=-300), "its header counts 300 bytes less than the file has"),
    "too small by its tag": (wav(tag_chunk(ROCK), size=-len(tag_chunk(ROCK))), "bytes less than the file has"),
    "too large": (wav(size=8), "its header counts 8 bytes more than the file has"),
    "sizes of a stream": (wav()[:4] + b"\xff" * 4 + wav()[8:], "never filled in"),
    "size 0": (wav()[:4] + bytes(4) + wav()[8:], "never filled in"),
    "samples of size 0": (wav()[: DATA + 4] + bytes(4) + wav()[DATA + 8 :], "never filled in"),
    "samples of unknown size": (
        wav()[: DATA + 4] + b"\xff" * 4 + wav()[DATA + 8 :],
        "no whole chunk begins at byte 36",
    ),
    "samples of too small a size": (
        wav(pcm=b"\x90" * 40).replace(b"\x28\0\0\0\x90", b"\x20\0\0\0\x90"),
        "no whole chunk",
    ),
    "junk behind": (wav() + b"junk junk", "9 bytes follow the end that its header names"),
    "ID3v1 behind": (wav() + id3v1(genre=17), "128 bytes follow the end that its header names"),
    "no pad byte before a chunk": (unpadded(PCM), "no whole chunk begins"),
    "no samples": (b"RIFF" + (4 + 24).to_bytes(4, "little") + wav()[8:36], "it has no sound"),
    "id3 chunk without a tag": (wav(chunk(b"id3 ", b"nothing here")), "no whole ID3v2 tag in its chunk"),
    "id3 chunk shorter than its tag": (wav(chunk(b"id3 ", id3(3, TITLE, padding=20)[:-4]), CUE), "no whole ID3v2 tag"),
    "broken info": (
        wav(info((b"INAM", b"T\0"))[:-2] + b"\0\0IGNR").replace(b"\x0e\0\0\0INFO", b"\x12\0\0\0INFO"),
        "do not fill it",
    ),
    "cut aiff": (aiff()[:-100], "its header counts 100 bytes more than the file has"),
    "too small aiff": (aiff(size=-36), "its header counts 36 bytes less than the file has"),
    "aiff of size 0": (aiff()[:4] + bytes(4) + aiff()[8:], "never filled in"),
    "no pad byte before a chunk of an aiff": (
        aiff(tag_chunk(ROCK, order="big"), pcm=PCM[:-1], pad=False),
        "no whole chunk",
    ),
    "not of chunks": (b"OggS" + bytes(60), "it is no WAV, AIFF, DSDIFF or DSF file"),
    "empty": (b"", "it is no WAV, AIFF, DSDIFF or DSF file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_whose_sizes_are_wrong_is_refused(name):
    data, reason = REFUSED[name]
    with pytest.raises(DataError, match=reason):
        plan(data, "Jazz")


def test_a_genre_with_a_semicolon_is_refused():
    with pytest.raises(DataError, match="divides genres by semicolons"):
        plan(wav(info((b"IGNR", b"Rock\0"))), "Drum; Bass")


@pytest.mark.parametrize("name", ["cut", "junk behind", "sizes of a stream", "cut aiff"])
def test_a_file_whose_sizes_are_wrong_is_read(name):
    assert read(REFUSED[name][0]) == []


def test_a_genre_behind_sizes_that_are_wrong_is_seen():
    assert read(REFUSED["too small by its tag"][0]) == ["Rock"]


def write_with_wave(width: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, width, 8000, 0, "NONE", ""))
        out.writeframes(bytes(range(1, 34)) * width)
    return file.getvalue()


def write_with_soundfile(format: str, *, subtype: str = "PCM_24", endian: str = "FILE") -> bytes:
    file = io.BytesIO()
    sf.write(file, tone(0.1, hz=300)[:333], 22050, format=format, subtype=subtype, endian=endian)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        *(write_with_wave(width) for width in (1, 3)),
        *(write_with_soundfile(name) for name in ("WAV", "AIFF", "RF64", "WAVEX")),
        write_with_soundfile("WAV", endian="BIG"),
        write_with_soundfile("AIFF", subtype="ALAW"),
    ],
    ids=["wave 8", "wave 24", "wav", "aiff", "rf64", "wavex", "rifx", "aifc"],
)
def test_files_of_other_programs_keep_their_sound(data):
    after = plan(plan(data, "Rock"), "Jazz")
    assert read(after) == ["Jazz"]
    assert len(after) == len(data) + len(data) % 2 + 8 + 26
    np.testing.assert_array_equal(sf.read(io.BytesIO(after))[0], sf.read(io.BytesIO(data))[0])
    with av.open(io.BytesIO(after), metadata_errors="ignore") as container:
        assert container.metadata["genre"] == "Jazz"


def test_a_file_does_not_grow_beyond_its_header():
    form = structure.read_form(io.BytesIO(wav()))
    assert form is not None
    large = dataclasses.replace(form, file_bytes=(1 << 32) - 100)
    with pytest.raises(DataError, match="larger than 4 GB"):
        structure.resize_form(large, [Splice(0, 0, bytes(108))])
    assert structure.resize_form(large, [Splice(0, 0, bytes(50))])


def rf64(*others: bytes) -> bytes:
    """Return a WAV of 64-bit sizes."""
    plain = wav(*others)
    sizes = struct.pack("<QQQI", len(plain) + 36 - 8, len(PCM), len(PCM), 0)
    body = plain[12:].replace(b"data" + len(PCM).to_bytes(4, "little"), b"data\xff\xff\xff\xff")
    return b"RF64\xff\xff\xff\xffWAVE" + chunk(b"ds64", sizes) + body


def test_sizes_of_64_bits_follow():
    assert plan(rf64(CUE), "Jazz") == rf64(CUE, tag_chunk(JAZZ))
    assert read(rf64(tag_chunk(ROCK))) == ["Rock"]
    with pytest.raises(DataError, match="100 bytes more than the file has"):
        plan(rf64(CUE)[:-100], "Jazz")


def dsdiff(*others: bytes) -> bytes:
    body = b"DSD " + chunk(b"FVER", b"\1\5\0\0", order="big", width=8) + chunk(b"DSD ", PCM, order="big", width=8)
    return chunk(b"FRM8", body + b"".join(others), order="big", width=8)


def test_dsdiff_has_sizes_of_64_bits():
    def id3_chunk(*frames: bytes) -> bytes:
        return chunk(b"ID3 ", id3(3, b"".join(frames)), order="big", width=8)

    assert plan(dsdiff(), "Jazz") == dsdiff(id3_chunk(JAZZ))
    assert plan(dsdiff(id3_chunk(TITLE)), "Jazz") == dsdiff(id3_chunk(JAZZ, TITLE))
    assert read(dsdiff(id3_chunk(ROCK))) == ["Rock"]
    with pytest.raises(DataError, match="bytes more than the file has"):
        plan(dsdiff()[:-20], "Jazz")


def dsf(*frames: bytes, padding: int = 0, size: int = 0, pointer: int | None = None) -> bytes:
    fmt = b"fmt " + struct.pack("<QIIIIIIQII", 52, 1, 0, 1, 1, 2822400, 1, 32768, 4096, 0)
    body = fmt + b"data" + (12 + 4096).to_bytes(8, "little") + bytes(4096)
    tag = id3(3, b"".join(frames), padding=padding) if frames else b""
    pointer = pointer if pointer is not None else (28 + len(body)) * bool(tag)
    return b"DSD " + struct.pack("<QQQ", 28, 28 + len(body + tag) + size, pointer) + body + tag


def test_the_header_of_a_dsf_file_points_to_its_tag():
    assert read(dsf()) == []
    assert read(dsf(ROCK)) == ["Rock"]
    assert plan(dsf(), "Jazz") == dsf(JAZZ)
    assert plan(dsf(TITLE), "Jazz") == dsf(JAZZ, TITLE)
    assert plan(dsf(TITLE, padding=20), "Jazz") == dsf(JAZZ, TITLE, padding=5)
    assert mutagen.File(io.BytesIO(plan(dsf(TITLE), "Jazz"))).tags["TCON"].text == ["Jazz"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (dsf(size=1), "its header counts 4189 bytes, and the file has 4188"),
        (dsf(TITLE) + b"x", "header counts"),
        (dsf(TITLE, size=1) + b"x", "something follows its ID3v2 tag"),
        (dsf(pointer=50), "no ID3v2 tag where its header says"),
        (dsf(pointer=9999), "no ID3v2 tag where its header says"),
    ],
)
def test_a_dsf_file_whose_header_is_wrong_is_refused(data, reason):
    with pytest.raises(DataError, match=reason):
        plan(data, "Jazz")


@pytest.mark.parametrize("whole", [FILES["wav with genre in both"][0], FILES["aiff with id3"][0], dsf(ROCK), rf64(CUE)])
def test_broken_bytes_raise_nothing_else(whole):
    rng = np.random.default_rng(0)
    for n in range(300):
        data = bytearray(whole)
        for position in rng.choice([*range(60), *range(len(whole) - 120, len(whole))], 3):
            data[position] ^= 1 << rng.integers(8)
        broken = bytes(data[: len(data) - n % 3 * rng.integers(90)])
        try:
            read(broken)
            after = plan(broken, "Jazz")
        except DataError:
            continue
        assert set(read(after)) <= {"Jazz"}
