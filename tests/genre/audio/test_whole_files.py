"""All of a file is decoded or it is refused, alike in listing, training and serving."""

import errno
import io
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from genre.audio import decoding, scans
from genre.audio.readers import by_pyav
from genre.config import AudioConfig
from genre.errors import AudioError
from tests.support import odd_files as odd

CONFIG = AudioConfig(clip_s=2.0)
FIRST = slice(0, 1)
OTHERS = slice(1, None)


def parts(encode: Callable[..., bytes], sr: int = odd.SR, **kind: object) -> tuple[bytes, bytes]:
    """Encode the first part of the sound, and the others."""
    return encode(odd.sound(sr, end=1), sr=sr, **kind), encode(odd.sound(sr, first=1), sr=sr, **kind)


def joined(encode: Callable[..., bytes], sr: int = odd.SR, **kind: object) -> bytes:
    return b"".join(parts(encode, sr, **kind))


def wav(y: np.ndarray, sr: int = odd.SR, kind: str = "WAV") -> bytes:
    return odd.by_soundfile(y, sr, format=kind)


def flac(y: np.ndarray, sr: int = odd.SR) -> bytes:
    return odd.by_soundfile(y, sr, format="FLAC")


def vorbis(y: np.ndarray, sr: int = odd.SR) -> bytes:
    return odd.by_soundfile(y, sr, format="OGG", subtype="VORBIS")


def pyav(y: np.ndarray, codec: str, container: str, sr: int = odd.SR) -> bytes:
    return odd.by_pyav(y, codec, container, sr)


def same_serial(files: tuple[bytes, bytes]) -> bytes:
    return b"".join(odd.edit_pages(data, 7) for data in files)


def vbr_without_count() -> bytes:
    return odd.bare_frames(odd.mp3(odd.sound(), vbr=True))


def joined_with_tags() -> bytes:
    first, others = parts(odd.mp3)
    return odd.id3(b"one") + first + b"TAG" + bytes(125) + odd.id3(b"two") + others


def of_two_rates(first_sr: int, then_sr: int = odd.SR) -> bytes:
    bare = odd.bare_frames
    return bare(odd.mp3(odd.sound(first_sr, end=1), first_sr)) + bare(odd.mp3(odd.sound(then_sr, first=1), then_sr))


def mono_then_stereo(encode: Callable[[np.ndarray], bytes]) -> bytes:
    return encode(odd.sound(channels=1, end=1)) + encode(odd.sound(first=1))


def in_fragments(y: np.ndarray) -> bytes:
    return odd.by_pyav(y, "aac", "mp4", movflags="frag_keyframe+empty_moov", frag_duration="1000000")


def aac_of_two_rates() -> bytes:
    first = pyav(odd.sound(48_000, end=1), "aac", "adts", 48_000)
    return first + pyav(odd.sound(first=1), "aac", "adts")


#: Files whose header, or that of the first part, is not true of all; every one has all of `odd.sound`.
MISLEADING: dict[str, Callable[[], bytes]] = {
    "VBR MP3 without a count": vbr_without_count,
    "MP3 that counts 100 frames": lambda: odd.with_count(odd.mp3(odd.sound()), 100),
    "MP3 that counts 9000 frames": lambda: odd.with_count(odd.mp3(odd.sound()), 9000),
    "MP3 from 48 to 44.1 kHz": lambda: of_two_rates(48_000),
    "MP3 from 22.05 to 44.1 kHz": lambda: of_two_rates(22_050),
    "MP3 from 44.1 to 32 kHz": lambda: of_two_rates(44_100, 32_000),
    "MP3 from mono to stereo": lambda: mono_then_stereo(lambda y: odd.bare_frames(odd.mp3(y))),
    "joined MP3s": lambda: joined(odd.mp3),
    "joined VBR MP3s": lambda: joined(odd.mp3, vbr=True),
    "joined MP3s with tags": joined_with_tags,
    "chained Vorbis": lambda: joined(vorbis),
    "chained Vorbis, equal serials": lambda: same_serial(parts(vorbis)),
    "chained Vorbis from 48 to 44.1 kHz": lambda: vorbis(odd.sound(48_000, end=1), 48_000) + vorbis(odd.sound(first=1)),
    "chained Vorbis from mono to stereo": lambda: mono_then_stereo(vorbis),
    "chained Opus": lambda: joined(pyav, 48_000, codec="libopus", container="ogg"),
    "chained Ogg FLAC": lambda: joined(pyav, codec="flac", container="ogg"),
    "chained Ogg FLAC, equal serials": lambda: same_serial(parts(pyav, codec="flac", container="ogg")),
    "joined FLAC": lambda: joined(flac),
    "joined FLAC from 44.1 to 48 kHz": lambda: flac(odd.sound(end=1)) + flac(odd.sound(48_000, first=1), 48_000),
    "FLAC that counts too little": lambda: odd.with_total(flac(odd.sound()), 4 * odd.SR),
    "FLAC that counts too much": lambda: odd.with_total(flac(odd.sound()), 60 * odd.SR),
    "FLAC that counts nothing": lambda: odd.with_total(flac(odd.sound()), 0),
    "joined WAV": lambda: joined(wav),
    "joined AIFF": lambda: joined(wav, kind="AIFF"),
    "joined AU": lambda: joined(wav, kind="AU"),
    "joined MPEG-TS": lambda: joined(pyav, codec="aac", container="mpegts"),
    "MP3 behind junk": lambda: np.random.default_rng(1).bytes(100_000) + odd.mp3(odd.sound()),
    "MP3 around junk": lambda: np.random.default_rng(1).bytes(20_000).join(map(odd.bare_frames, parts(odd.mp3))),
    "WAV that was never closed": lambda: odd.with_data_size(wav(odd.sound()), 0),
    "joined M4A": lambda: joined(pyav, codec="aac", container="mp4"),
    "joined M4A in fragments": lambda: b"".join(map(in_fragments, (odd.sound(end=1), odd.sound(first=1)))),
    "joined Matroska": lambda: joined(pyav, codec="aac", container="matroska"),
    "AAC from 48 to 44.1 kHz": aac_of_two_rates,
    "AAC from mono to stereo": lambda: mono_then_stereo(lambda y: pyav(y, "aac", "adts")),
}


def in_container(codec: str, container: str) -> Callable[[np.ndarray], bytes]:
    return lambda y: pyav(y, codec, container)


#: Encoders of the formats of which one may follow another in one file.
FORMATS: dict[str, Callable[[np.ndarray], bytes]] = {
    "MP3": odd.mp3,
    "FLAC": flac,
    "WAV": wav,
    "AIFF": lambda y: wav(y, kind="AIFF"),
    "AU": lambda y: wav(y, kind="AU"),
    "W64": lambda y: wav(y, kind="W64"),
    "RF64": lambda y: wav(y, kind="RF64"),
    "CAF": lambda y: wav(y, kind="CAF"),
    "Vorbis": vorbis,
    "AAC": in_container("aac", "adts"),
    "M4A": in_container("aac", "mp4"),
    "Matroska": in_container("aac", "matroska"),
    "WMA": in_container("wmav2", "asf"),
    "WavPack": in_container("wavpack", "wv"),
    "TTA": in_container("tta", "tta"),
    "AC-3": in_container("ac3", "ac3"),
}


@cache
def halves(name: str) -> tuple[bytes, bytes]:
    """The first part of the sound, and the others, in one format."""
    return FORMATS[name](odd.sound(end=1)), FORMATS[name](odd.sound(first=1))


def mixed(*names: str) -> Callable[[], bytes]:
    return lambda: halves(names[0])[0] + halves(names[1])[1]


MISLEADING |= {
    f"{first} and then {then}": mixed(first, then)
    for first, then in [
        *((name, "MP3") for name in FORMATS if name != "MP3"),
        *(("MP3", name) for name in FORMATS if name not in ("MP3", "AC-3")),
        *(("WAV", name) for name in ("FLAC", "WavPack", "Vorbis")),
        *((name, "FLAC") for name in ("M4A", "AAC", "Vorbis", "W64", "AC-3")),
        ("FLAC", "AC-3"),
        ("WMA", "WMA"),
        ("WavPack", "WavPack"),
    ]
}
MISLEADING["MP3 cut within a frame and then FLAC"] = lambda: halves("MP3")[0][:-100] + halves("FLAC")[1]
MISLEADING["FLAC, MP3 and then WAV"] = lambda: (
    flac(odd.sound(end=1)) + odd.mp3(odd.sound(first=1, end=2)) + wav(odd.sound(first=2))
)
MISLEADING["MP3 with a tag and then FLAC with one"] = lambda: (
    odd.id3(b"one") + halves("MP3")[0] + b"TAG" + bytes(125) + odd.id3(b"two") + halves("FLAC")[1]
)
MISLEADING["AAC behind a large cover"] = lambda: (
    b"ID3\4\0\0\0\x40\0\0" + bytes(1 << 20) + pyav(odd.sound(), "aac", "adts")
)


@cache
def made(name: str) -> bytes:
    return MISLEADING[name]()


def pitch(y: np.ndarray, sr: int) -> int:
    """Return the pitch of a tone, rounded to 20 Hz."""
    peak = np.abs(np.fft.rfft(y * np.hanning(y.size))).argmax()
    return 20 * round(peak * sr / y.size / 20)


@pytest.mark.parametrize("name", MISLEADING)
def test_all_of_a_misleading_file_is_decoded_at_its_time(name, tmp_path):
    path = tmp_path / "odd"
    path.write_bytes(made(name))
    length = decoding.read_length(path)
    assert length.is_ordered
    assert length.seconds == pytest.approx(odd.SECONDS, abs=0.2)
    assert decoding.decode_audio(path, sr=CONFIG.sr).size / CONFIG.sr == pytest.approx(length.seconds, abs=0.01)
    windows = dict(decoding.decode_windows(path.read_bytes(), CONFIG))
    assert list(windows) == [0, 2, 4, 6, 8, *([10] if 10 in windows else [])]
    for start_s, y in windows.items():
        alone = decoding.decode_audio(path, sr=CONFIG.sr, start_s=start_s, duration_s=CONFIG.clip_s)
        if "AAC" in name:  # its substituted noise begins anew
            np.testing.assert_allclose(alone, y, atol=0.02)
        else:
            np.testing.assert_array_equal(alone, y)
        middle = y[y.size // 4 : 3 * y.size // 4]
        assert pitch(middle, CONFIG.sr) == (440 if start_s < 4 else 1000 if start_s < 8 else 2000)


def unlike(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference of two signals where both have samples."""
    n = min(a.size, b.size)
    return float(np.abs(a[:n] - b[:n]).max())


@pytest.mark.parametrize(
    "name", ["joined FLAC", "FLAC that counts too little", "FLAC that counts nothing", "joined WAV"]
)
def test_what_is_lossless_comes_out_sample_by_sample(name):
    y = decoding.decode_audio(made(name), sr=odd.SR)
    assert y.size == round(odd.SECONDS * odd.SR)
    assert unlike(y, odd.sound().mean(axis=1)) < 2**-14


ORDINARY: dict[str, Callable[[], bytes]] = {
    "MP3": lambda: odd.mp3(odd.sound()),
    "VBR MP3": lambda: odd.mp3(odd.sound(), vbr=True),
    "MP3 without a count": lambda: odd.bare_frames(odd.constant_mp3(odd.sound())),
    "MP3 at 22.05 kHz": lambda: odd.mp3(odd.sound(22_050), 22_050),
    "MP3 with tags": lambda: odd.id3(b"a") + odd.mp3(odd.sound()) + b"TAG" + bytes(125),
    "MP3 in mono": lambda: odd.mp3(odd.sound(channels=1)),
    "FLAC": lambda: flac(odd.sound()),
    "FLAC with a tag in front": lambda: odd.id3(b"a") + flac(odd.sound()),
    "FLAC with a tag behind": lambda: flac(odd.sound()) + b"TAG" + bytes(125),
    "Vorbis": lambda: vorbis(odd.sound()),
    "Opus": lambda: pyav(odd.sound(48_000), "libopus", "ogg", 48_000),
    "WAV": lambda: wav(odd.sound()),
    "WAV of unknown length": lambda: odd.with_data_size(wav(odd.sound()), 2**32 - 1),
    "AIFF": lambda: wav(odd.sound(), kind="AIFF"),
    "M4A": lambda: pyav(odd.sound(), "aac", "mp4"),
    "M4A in fragments": lambda: in_fragments(odd.sound()),
    "Matroska": lambda: pyav(odd.sound(), "aac", "matroska"),
    "AAC": lambda: pyav(odd.sound(), "aac", "adts"),
    "Ogg FLAC": lambda: pyav(odd.sound(), "flac", "ogg"),
    "AU": lambda: wav(odd.sound(), kind="AU"),
    "MPEG-TS": lambda: pyav(odd.sound(), "aac", "mpegts"),
    "WavPack": lambda: pyav(odd.sound(), "wavpack", "wv"),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_file_is_read_by_its_header(name):
    length = decoding.read_length(ORDINARY[name]())
    assert not length.is_ordered
    assert length.seconds == pytest.approx(odd.SECONDS, abs=0.1)


@pytest.mark.parametrize("name", ["WAV", "FLAC", "MP3", "VBR MP3", "Vorbis", "Opus"])
@pytest.mark.parametrize("start_s", [0.0, 4.0])
def test_the_samples_of_an_ordinary_file_are_those_of_soundfile_averaged(name, start_s):
    data = ORDINARY[name]()
    with sf.SoundFile(io.BytesIO(data)) as file:
        sr = file.samplerate
        file.seek(round(start_s * sr))
        y = file.read(2 * sr, dtype="float32", always_2d=True) @ np.full(2, 0.5, np.float32)
    expected = soxr.resample(y, sr, CONFIG.sr, quality="soxr_hq")[: 2 * CONFIG.sr]
    decoded = decoding.decode_audio(data, sr=CONFIG.sr, start_s=start_s, duration_s=2)
    np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize("rate", [0, 8_000, 16_000, 24_000, 44_100, 96_000])
def test_opus_is_decoded_at_48_khz_whatever_its_header_says(rate, monkeypatch):
    rates = []
    resample = decoding.soxr.resample
    monkeypatch.setattr(
        decoding.soxr, "resample", lambda y, sr, *args, **kw: rates.append(sr) or resample(y, sr, *args, **kw)
    )
    data = odd.opus_of_rate(rate)
    assert decoding.read_duration_s(data) == pytest.approx(2, abs=0.05)
    decoding.decode_audio(data, sr=22_050)
    assert rates == [48_000]


def test_a_wav_that_counts_too_little_is_refused_with_the_reason():
    data = odd.with_data_size(wav(odd.sound()), 4 * odd.SR)
    for read in (decoding.read_duration_s, lambda d: decoding.decode_audio(d, sr=CONFIG.sr)):
        with pytest.raises(AudioError, match=r"176400 bytes of samples and .* more follow"):
            read(data)


@pytest.mark.parametrize(
    "tail", [b"LIST" + (4).to_bytes(4, "little") + b"INFO", b"id3 " + (2**19).to_bytes(4, "little") + bytes(2**19)]
)
@pytest.mark.parametrize("n_odd", [0, 1])
def test_chunks_behind_the_samples_of_a_wav_are_no_sound(tail, n_odd):
    data = wav(part := odd.part(440, 2, 8000, channels=1), 8000)
    data = odd.with_data_size(data + bytes(n_odd), 2 * len(part) + n_odd) + tail
    assert decoding.read_length(data) == (pytest.approx(2, abs=0.01), False)


@pytest.mark.parametrize("seconds", [0.001, 0.01, 0.03, 0.1])
def test_an_mp3_too_short_for_its_frames_has_a_length(seconds):
    data = odd.mp3(odd.part(440, seconds))
    assert 0 < decoding.read_duration_s(data) < 0.3
    assert 0 < decoding.decode_audio(data, sr=odd.SR).size < 0.3 * odd.SR


def test_of_several_streams_the_one_marked_as_default_is_decoded(tmp_path):
    import av

    path = tmp_path / "two.mka"
    with av.open(str(path), "w", format="matroska") as out:
        streams = [out.add_stream("pcm_s16le", rate=odd.SR, layout="mono") for _ in range(2)]
        streams[0].disposition = 0
        streams[1].disposition = av.stream.Disposition.default
        for stream, hz in zip(streams, (440, 1000), strict=True):
            y = (odd.part(hz, 2, channels=1).T * 2**15).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(y, "s16", "mono")
            frame.sample_rate = odd.SR
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                out.mux(packet)
    assert pitch(decoding.decode_audio(path, sr=odd.SR), odd.SR) == 1000


@pytest.mark.parametrize(
    "error", [IndexError("x"), AssertionError(), OverflowError("y"), KeyError(3), RuntimeError("z")]
)
@pytest.mark.parametrize("name", ["joined WAV", "M4A"])
def test_whatever_a_decoder_raises_is_undecodable_with_its_words(name, error, monkeypatch):
    def fail(*arguments: object) -> Iterator[object]:
        raise error
        yield

    monkeypatch.setattr(by_pyav, "decode_frames", fail)
    monkeypatch.setattr(by_pyav, "decode_all", fail)
    with pytest.raises(AudioError, match=str(error) or "AssertionError") as caught:
        decoding.decode_audio((MISLEADING | ORDINARY)[name](), sr=CONFIG.sr)
    assert caught.value.status == "undecodable"


class BrokenDisk(io.BytesIO):
    """A file of which the system cannot read the second half."""

    def __init__(self, data: bytes, number: int) -> None:
        super().__init__(data)
        self._number = number

    def read(self, n: int | None = -1) -> bytes:
        if self.tell() > len(self.getvalue()) // 2:
            raise OSError(self._number, "the disk is away")
        return super().read(n)

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


@pytest.mark.parametrize("name", ["FLAC", "M4A", "MP3"])
def test_what_the_system_says_is_no_fault_of_the_file(name):
    for number in (errno.EIO, errno.ESTALE):
        with pytest.raises(OSError, match="disk is away"):
            decoding.decode_audio(BrokenDisk(ORDINARY[name](), number), sr=CONFIG.sr)


def test_a_damaged_file_is_scanned_without_an_error():
    rng = np.random.default_rng(0)
    for make in (*ORDINARY.values(), lambda: made("joined FLAC"), lambda: made("chained Vorbis")):
        data = bytearray(make()[:60_000])
        for _ in range(3):
            damaged = bytearray(data)
            for at in rng.integers(0, min(len(data), 400), 5):
                damaged[at] = rng.integers(256)
            for end in (len(damaged), int(rng.integers(1, 200))):
                try:
                    scans.scan_content(io.BytesIO(bytes(damaged[:end])))
                except AudioError as error:
                    assert error.status == "undecodable"


def test_a_file_is_scanned_once_as_long_as_it_does_not_change(tmp_path, monkeypatch):
    path = tmp_path / "a.mp3"
    path.write_bytes(ORDINARY["MP3"]())
    n_scans = []
    scan = scans.scan_mpeg
    monkeypatch.setattr(scans, "scan_mpeg", lambda *arguments: n_scans.append(1) or scan(*arguments))
    for start_s in (0, 2, 4):
        decoding.decode_audio(path, sr=CONFIG.sr, start_s=start_s, duration_s=2)
    assert len(n_scans) == 1
    path.write_bytes(made("joined MP3s"))
    assert decoding.read_length(Path(path)).is_ordered
    assert len(n_scans) == 2


@pytest.mark.parametrize(("codec", "container"), [("flac", "matroska"), ("aac", "matroska"), ("aac", "mp4")])
def test_the_time_before_the_sound_begins_is_no_part_of_the_length(codec, container):
    data = odd.by_pyav(odd.part(440, 4), codec, container, first=3 * odd.SR)
    assert decoding.read_duration_s(data) == pytest.approx(4, abs=0.1)
    assert decoding.decode_audio(data, sr=CONFIG.sr).size / CONFIG.sr == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("container", ["jpeg", "heif"])
def test_a_cover_behind_the_sound_is_no_second_file(container):
    cover = {"jpeg": b"\xff\xd8\xff\xe0", "heif": (32).to_bytes(4, "big") + b"ftypheic" + bytes(20)}[container]
    cover += np.random.default_rng(3).bytes(300_000)
    data = odd.constant_mp3(odd.sound()) + b"APETAGEX" + bytes(24) + cover
    assert not scans.scan_content(io.BytesIO(data)).spans


def test_a_file_whose_format_changes_all_the_time_is_refused():
    data = (halves("CAF")[0] + halves("TTA")[0]) * 12
    with pytest.raises(AudioError, match="changes more than 16 times") as caught:
        decoding.read_duration_s(data)
    assert caught.value.status == "undecodable"
