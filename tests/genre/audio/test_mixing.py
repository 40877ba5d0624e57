"""Channels that cancel each other out, and samples that are no sound."""

import numpy as np
import pytest
import soundfile as sf

from genre.audio import decoding
from genre.audio.readers.bitstreams import find_bitstream
from genre.audio.readers.mixing import CANCELLED_NOTE, mix_interleaved, mix_planes
from genre.config import AudioConfig
from genre.errors import AudioError
from tests.support import odd_files as odd

CONFIG = AudioConfig(clip_s=2.0)
RNG = np.random.default_rng(0)

#: Gain of each channel of one recording, and the channel that is taken; None where it is the mean.
POLARITIES = {
    "stereo": ([1, 1], None),
    "inverted": ([1, -1], 0),
    "inverted and quieter": ([0.9, -1], 1),
    "inverted, much quieter": ([0.3, -1], None),
    "one channel silent": ([1, 0], None),
    "one channel of six": ([0, 0, 1, 0, 0, 0], None),
    "two of six inverted": ([1, -1, 0, 0, 0, 0], 0),
    "four channels in pairs": ([0.5, -0.5, 1, -1], 2),
    "all silent": ([0, 0], None),
}


def music(n: int = 40_000) -> np.ndarray:
    """Tones under bursts of noise, of which a codec keeps the least."""
    t = np.arange(n) / odd.SR
    return (0.2 * np.sin(2 * np.pi * 220 * t) + 0.1 * RNG.normal(size=n) * (np.arange(n) % 5000 < 1000)).astype(
        np.float32
    )


@pytest.mark.parametrize("name", POLARITIES)
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_the_loudest_channel_is_taken_where_the_mean_is_cancelled(name, dtype):
    gains, taken = POLARITIES[name]
    y = music()[:, None] * np.array(gains, np.float32)
    scale = 2.0**-15 if dtype == "int16" else 1.0
    block = (y / scale).astype(dtype)
    floats = block.astype(np.float32) * np.float32(scale)
    notes: set[str] = set()
    mono = mix_interleaved(block, scale, notes)
    planar = mix_planes(np.ascontiguousarray(floats.T), notes)
    if taken is None:
        weights = np.full(len(gains), scale / len(gains), np.float32)
        np.testing.assert_array_equal(mono, block.astype(np.float32) @ weights)
        np.testing.assert_array_equal(planar, floats.T.mean(axis=0))
    else:
        np.testing.assert_array_equal(mono, floats[:, taken])
        np.testing.assert_array_equal(planar, floats[:, taken])
    assert notes == ({CANCELLED_NOTE} if taken is not None else set())
    assert mono.dtype == planar.dtype == np.float32 and mono.flags.c_contiguous


@pytest.mark.parametrize("n_channels", [2, 6, 8])
def test_the_mean_of_unrelated_channels_is_taken(n_channels):
    y = RNG.normal(0, 0.1, (5000, n_channels)).astype(np.float32)
    weights = np.full(n_channels, 1 / n_channels, np.float32)
    np.testing.assert_array_equal(mix_interleaved(y, 1.0, notes := set()), y @ weights)
    assert not notes


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_samples_out_of_range_are_left_to_be_reported(value):
    y = np.stack([music(), -music()], axis=1)
    y[100] = value
    with np.errstate(all="ignore"):
        mono = mix_interleaved(y, 1.0, set())
    assert not np.abs(mono).max() <= 1e12


INVERTED = {
    "WAV": lambda y: odd.by_soundfile(y, format="WAV"),
    "24-bit FLAC": lambda y: odd.by_soundfile(y, format="FLAC", subtype="PCM_24"),
    "MP3": lambda y: odd.by_soundfile(y, format="MP3"),
    "Vorbis": lambda y: odd.by_soundfile(y, format="OGG", subtype="VORBIS"),
    "Opus": lambda y: odd.by_pyav(y, "libopus", "ogg", 48_000),
    "AAC": lambda y: odd.by_pyav(y, "aac", "mp4"),
    "joined FLAC": lambda y: odd.by_soundfile(y, format="FLAC") + odd.by_soundfile(y, format="FLAC"),
}


@pytest.mark.parametrize("kind", INVERTED)
def test_an_inverted_recording_is_heard_in_training_and_serving(kind, tmp_path):
    y = music(4 * odd.SR)
    data = INVERTED[kind](np.stack([y, -y], axis=1))
    path = tmp_path / "inverted"
    path.write_bytes(data)
    notes: set[str] = set()
    for start_s, window in decoding.decode_windows(data, CONFIG, notes=notes):
        alone = decoding.decode_audio(path, sr=CONFIG.sr, start_s=start_s, duration_s=2)
        assert np.std(window) == pytest.approx(0.15, rel=0.1)
        assert np.corrcoef(window[:20_000], alone[:20_000])[0, 1] > 0.95
    assert notes == {CANCELLED_NOTE}


def test_only_the_windows_that_are_cancelled_are_replaced():
    y = music(4 * odd.SR)
    y = np.stack([y, np.where(np.arange(y.size) < 2 * odd.SR, y, -y)], axis=1)
    first, second = decoding.decode_windows(odd.by_soundfile(y, format="WAV"), CONFIG)
    assert np.std(first[1]) == pytest.approx(np.std(second[1]), rel=0.05)


# Bit streams


def pcm(samples: np.ndarray, kind: str, subtype: str = "PCM_16") -> bytes:
    import io

    file = io.BytesIO()
    y = samples.astype(np.int32) << 16 if subtype != "PCM_16" else samples
    sf.write(file, y, odd.SR, format=kind, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["DTS", "DTS14", "AC-3", "S/PDIF"])
@pytest.mark.parametrize("is_swapped", [False, True])
@pytest.mark.parametrize("n_silent", [0, 3000])
def test_a_bit_stream_is_found_in_either_order_of_bytes_and_after_silence(kind, is_swapped, n_silent):
    samples = odd.bit_stream(kind)
    samples = samples.byteswap() if is_swapped else samples
    samples = np.concatenate([np.zeros((n_silent, 2), np.int16), samples])
    assert find_bitstream(samples).startswith(kind[:3])


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", "PCM_16"), ("AIFF", "PCM_16"), ("WAV", "PCM_24")])
@pytest.mark.parametrize("kind", ["DTS", "S/PDIF"])
def test_a_bit_stream_that_ffmpeg_takes_for_samples_is_refused(container, subtype, kind):
    data = pcm(np.concatenate([np.zeros((8000, 2), np.int16), odd.bit_stream(kind, 80)]), container, subtype)
    for read in (
        lambda: decoding.decode_audio(data, sr=CONFIG.sr, start_s=0.2, duration_s=1),
        lambda: list(decoding.decode_windows(data, CONFIG)),
    ):
        with pytest.raises(AudioError, match=f"bit stream of {kind}") as caught:
            read()
        assert caught.value.status == "undecodable"


@pytest.mark.parametrize("kind", ["DTS", "AC-3", "S/PDIF"])
def test_a_bit_stream_in_a_wav_is_never_heard_as_noise(kind):
    data = pcm(odd.bit_stream(kind, 200), "WAV")
    try:
        y = decoding.decode_audio(data, sr=CONFIG.sr)
    except AudioError as error:
        assert error.status == "undecodable"
    else:
        assert np.std(y) < 0.1  # noise at full level has 0.58; what FFmpeg makes of these frames is next to nothing


@pytest.mark.parametrize(
    ("gain", "is_cancelled"), [(-1.0, True), (-0.8, True), (-0.5, False), (0.0, False), (0.8, False)]
)
def test_an_inverted_channel_may_be_a_little_softer(gain, is_cancelled):
    y = np.random.default_rng(5).normal(0, 0.1, 20_000).astype(np.float32)
    notes: set[str] = set()
    mono = mix_interleaved(np.stack([y, np.float32(gain) * y], axis=1), 1.0, notes)
    np.testing.assert_allclose(mono, y if is_cancelled else y * (1 + gain) / 2, atol=1e-6)
    assert bool(notes) == is_cancelled


def test_the_first_burst_and_frames_of_e_ac3_are_found():
    noise = np.random.default_rng(4).bytes
    burst = bytes.fromhex("F8724E1F0015") + noise(24_570)
    frames = b"".join(bytes.fromhex("0B7702FF3F80") + noise(1530) for _ in range(20))  # 768 words, version 16
    for data in (burst, frames):
        assert find_bitstream(np.frombuffer(data, ">i2").astype(np.int16).reshape(-1, 2))


def test_a_bit_stream_after_long_silence_is_refused():
    data = pcm(np.concatenate([np.zeros((8 * 44_100, 2), np.int16), odd.bit_stream("DTS", 80)]), "FLAC", "PCM_16")
    with pytest.raises(AudioError, match="bit stream of DTS"):
        decoding.decode_audio(data, sr=CONFIG.sr, start_s=8, duration_s=1)


def test_music_is_no_bit_stream():
    y = (RNG.uniform(-1, 1, (50_000, 2)) * 32767).astype(np.int16)
    assert find_bitstream(y) == ""
    y[1000] = (0x7FFE, -0x7FFF)  # the words that begin a frame of DTS, by chance
    y[20_000] = (0x7FFE, -0x7FFF)
    assert find_bitstream(y) == ""
    assert find_bitstream(np.zeros((5000, 2), np.int16)) == ""
    assert find_bitstream(np.full((3, 1), 0x0B77, np.int16)) == ""
