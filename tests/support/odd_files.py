"""Files as people have them that mislead a reader: joined, chained, with a wrong count, cancelled out."""

import io
import struct
from collections.abc import Callable
from functools import cache

import av
import numpy as np
import soundfile as sf

#: Sampling rate of most files, Hz.
SR = 44_100

#: Pitch of each part of `sound` and its length, by which a listener tells what was decoded.
PARTS = ((440, 4.0), (1000, 4.0), (2000, 3.0))

#: Length of `sound`, seconds.
SECONDS = sum(seconds for _, seconds in PARTS)

_MPEG_RATES = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_LOW_RATES = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def part(hz: float, seconds: float, sr: int = SR, channels: int = 2) -> np.ndarray:
    """Return a tone with a little noise, [time, channel]."""
    t = np.arange(round(seconds * sr)) / sr
    y = 0.3 * np.sin(2 * np.pi * hz * t) + 0.003 * np.random.default_rng(int(hz)).normal(size=t.size)
    return np.stack([y] * channels, axis=1).astype(np.float32)


def sound(sr: int = SR, channels: int = 2, first: int = 0, end: int | None = None) -> np.ndarray:
    """Return the parts one after another, [time, channel]."""
    return np.concatenate([part(hz, seconds, sr, channels) for hz, seconds in PARTS[first:end]])


def by_soundfile(y: np.ndarray, sr: int = SR, **kind: object) -> bytes:
    """Encode with soundfile, in blocks, for libsndfile's Vorbis encoder overflows on a long one."""
    file = io.BytesIO()
    with sf.SoundFile(file, "w", sr, y.shape[1], **kind) as out:
        for start in range(0, len(y), 4096):
            out.write(y[start : start + 4096])
    return file.getvalue()


def by_pyav(y: np.ndarray, codec: str, container: str, sr: int = SR, *, first: int = 0, **options: str) -> bytes:
    """Encode with PyAV, from a sample on; options are the container's."""
    file = io.BytesIO()
    layout = "stereo" if y.shape[1] == 2 else "mono"
    with av.open(file, "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=sr, layout=layout)
        if codec == "wmav2":  # it has no bit rate of its own
            stream.bit_rate = 128_000
        for start in range(0, len(y), 1024):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(y[start : start + 1024].T), "fltp", layout)
            frame.sample_rate = sr
            frame.pts = first + start
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def mp3(y: np.ndarray, sr: int = SR, *, vbr: bool = False) -> bytes:
    """Encode as MP3 with a frame that counts the others."""
    kind = {"bitrate_mode": "VARIABLE", "compression_level": 0.2} if vbr else {}
    return by_soundfile(y, sr, format="MP3", **kind)


def constant_mp3(y: np.ndarray, sr: int = SR) -> bytes:
    """Encode as MP3 of one bit rate."""
    return by_soundfile(y, sr, format="MP3", bitrate_mode="CONSTANT", compression_level=0.5)


def bare_frames(data: bytes) -> bytes:
    """Return the frames of an MP3 without the one that counts them."""
    at = 0
    frames = []
    while at + 4 <= len(data) and data[at] == 0xFF:
        is_first_version = data[at + 1] & 0x08
        rate = (44100, 48000, 32000)[data[at + 2] >> 2 & 3] // (1 if is_first_version else 2)
        kbps = (_MPEG_RATES if is_first_version else _LOW_RATES)[data[at + 2] >> 4]
        end = at + (144 if is_first_version else 72) * kbps * 1000 // rate + (data[at + 2] >> 1 & 1)
        frames.append(data[at:end])
        at = end
    return b"".join(frame for frame in frames if b"Xing" not in frame[:64] and b"Info" not in frame[:64])


def with_count(data: bytes, n_frames: int) -> bytes:
    """Return an MP3 whose first frame counts so many."""
    at = max(data.find(b"Xing"), data.find(b"Info"))
    return data[: at + 8] + n_frames.to_bytes(4, "big") + data[at + 12 :]


def with_total(data: bytes, n_samples: int) -> bytes:
    """Return a FLAC whose STREAMINFO counts so many samples."""
    return data[:21] + bytes([data[21] & 0xF0]) + n_samples.to_bytes(4, "big") + data[26:]


@cache
def _ogg_crc_table() -> list[int]:
    table = []
    for n in range(256):
        crc = n << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(crc)
    return table


def edit_pages(data: bytes, serial: int, edit: Callable[[bytearray], None] = lambda page: None) -> bytes:
    """Return an Ogg file with another serial number and edited pages, their checksums corrected."""
    out = b""
    at = 0
    table = _ogg_crc_table()
    while at < len(data):
        n_segments = data[at + 26]
        end = at + 27 + n_segments + sum(data[at + 27 : at + 27 + n_segments])
        page = bytearray(data[at:end])
        page[14:18] = serial.to_bytes(4, "little")
        page[22:26] = bytes(4)
        edit(page)
        crc = 0
        for byte in page:
            crc = (crc << 8 & 0xFFFFFFFF) ^ table[crc >> 24 ^ byte]
        page[22:26] = crc.to_bytes(4, "little")
        out += page
        at = end
    return out


def opus_of_rate(rate: int) -> bytes:
    """Return an Ogg Opus file whose header names a rate of what was encoded."""

    def edit(page: bytearray) -> None:
        at = page.find(b"OpusHead")
        if at >= 0:
            page[at + 12 : at + 16] = rate.to_bytes(4, "little")

    return edit_pages(by_pyav(part(440, 2, 48_000), "libopus", "ogg", 48_000), 9, edit)


def with_data_size(data: bytes, size: int) -> bytes:
    """Return a WAV whose header gives its chunk of samples another size."""
    at = data.find(b"data")
    return data[: at + 4] + size.to_bytes(4, "little") + data[at + 8 :]


def bit_stream(kind: str, n_frames: int = 40) -> np.ndarray:
    """Return frames of compressed sound as 16-bit samples of two channels; their content is noise."""
    n_bytes = {"DTS": 2048, "DTS14": 2048, "AC-3": 1792, "S/PDIF": 6144}[kind]
    head = {
        "DTS": bytes.fromhex("7FFE8001FC3C"),
        "DTS14": bytes.fromhex("1FFFE80007F0"),
        "AC-3": bytes.fromhex("0B7700001E40"),  # 48 kHz, 448 kbit/s
        "S/PDIF": bytes.fromhex("F8724E1F0001"),
    }[kind]
    rng = np.random.default_rng(0)
    frames = b"".join(head + rng.bytes(n_bytes - len(head)) for _ in range(n_frames))
    return np.frombuffer(frames, ">i2").astype(np.int16).reshape(-1, 2)


def id3(text: bytes) -> bytes:
    """Return an ID3v2.3 tag with a title."""
    frame = b"TIT2" + struct.pack(">I", len(text) + 1) + b"\0\0\0" + text
    return b"ID3\3\0\0" + struct.pack(">I", len(frame)) + frame
