import io
import os
import tracemalloc
from pathlib import Path

import av
import librosa
import numpy as np
import pytest
import scipy.signal
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from genre.audio import decoding
from genre.audio.clips import SILENCE_PEAK, prepare_clip, window_starts
from genre.audio.readers import by_pyav, stretches
from genre.audio.readers.limits import MAX_CHANNELS
from genre.config import AudioConfig
from genre.errors import AudioError, UsageError
from tests.support.project import ROOT
from tests.support.sounds import encode, mux

CONFIG = AudioConfig()
SR = 44100
SECONDS = 4.0
# Name, codec, container, encoder's sampling rate, allowed shift in samples at 44.1 kHz.
WITH_PYAV = {
    "m4a": ("aac", "mp4", 44100, 2),
    "aac": ("aac", "adts", 44100, 1100),  # a bare stream does not mark its first 1,024 samples as priming
    "webm": ("libopus", "webm", 48000, 48),  # time stamps are whole milliseconds
    "opus": ("libopus", "ogg", 48000, 2),
    "mka": ("aac", "matroska", 44100, 48),
}
WITH_SOUNDFILE = ["wav", "flac", "aiff", "au", "mp3", "ogg"]
LOSSLESS = ["wav", "flac", "aiff", "au"]


def tune(seconds: float = SECONDS, sr: int = SR) -> np.ndarray:
    """Low noise under a pulse and a rising tone: no two stretches are alike, and every codec preserves it."""
    t = np.arange(round(seconds * sr)) / sr
    noise = scipy.signal.lfilter([0.1], [1, -0.9], np.random.default_rng(0).normal(size=t.size))
    y = 0.2 * np.sin(2 * np.pi * (200 + 40 * t) * t) + noise * (0.6 + 0.4 * np.sin(2 * np.pi * 1.7 * t))
    return (0.5 * y).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("formats")
    y = tune()
    for suffix in WITH_SOUNDFILE:
        # Ogg Vorbis is kept short, for the sake of libsndfile's encoder.
        mono = y[: 2 * SR] if suffix == "ogg" else y
        soundfile.write(folder / f"tune.{suffix}", np.stack([mono, mono], axis=1), SR)
    for suffix, (codec, container, rate, _) in WITH_PYAV.items():
        encode(folder / f"tune.{suffix}", y, codec, container, rate)
    return {path.suffix[1:]: path for path in folder.iterdir()}


def lag(y: np.ndarray, reference: np.ndarray, first: int, n: int = 8192, max_lag: int = 1200) -> int:
    """Samples by which `y` comes after the reference, measured on n samples from `first` on."""
    stretches = np.lib.stride_tricks.sliding_window_view(y[first - max_lag : first + n + max_lag], n)
    return int(np.argmax([correlation(stretch, reference[first : first + n]) for stretch in stretches])) - max_lag


def correlation(y: np.ndarray, reference: np.ndarray) -> float:
    """Correlation of two stretches of equal length."""
    return float(np.corrcoef(y, reference)[0, 1])


# decode_audio


@pytest.mark.parametrize("suffix", WITH_SOUNDFILE + list(WITH_PYAV))
def test_every_format_decodes_to_the_same_audio(files, suffix):
    y = decoding.decode_audio(files[suffix], sr=SR)
    shift = lag(y, tune(), 20000)
    assert abs(shift) <= (WITH_PYAV[suffix][3] if suffix in WITH_PYAV else 0)
    assert y.dtype == np.float32 and y.ndim == 1
    assert y.size == pytest.approx((2 if suffix == "ogg" else SECONDS) * SR, abs=2100)
    assert correlation(y[20000 + shift : 60000 + shift], tune()[20000:60000]) > 0.95


@pytest.mark.parametrize("suffix", WITH_SOUNDFILE + list(WITH_PYAV))
def test_bytes_decode_as_the_file_does(files, suffix):
    np.testing.assert_array_equal(
        decoding.decode_audio(files[suffix].read_bytes(), sr=22050), decoding.decode_audio(str(files[suffix]), sr=22050)
    )


@pytest.mark.parametrize("suffix", WITH_SOUNDFILE + list(WITH_PYAV))
@pytest.mark.parametrize("buffering", [0, -1])
def test_an_open_file_can_be_decoded_repeatedly(files, suffix, buffering):
    path = files[suffix]
    with path.open("rb", buffering=buffering) as file:
        assert decoding.read_duration_s(file) == decoding.read_duration_s(path)
        for _ in range(2):
            np.testing.assert_array_equal(decoding.decode_audio(file, sr=SR), decoding.decode_audio(path, sr=SR))


@pytest.mark.parametrize("suffix", [*LOSSLESS, "mp3"])
@pytest.mark.parametrize("start_s", [0.5, 1.5, 2.25])
def test_a_window_equals_that_stretch_of_the_whole(files, suffix, start_s):
    whole = decoding.decode_audio(files[suffix], sr=SR)
    window = decoding.decode_audio(files[suffix], sr=SR, start_s=start_s, duration_s=1.25)
    first = round(start_s * SR)
    assert window.size == round(1.25 * SR)
    np.testing.assert_allclose(window, whole[first : first + window.size], atol=1e-6)


@pytest.mark.parametrize("suffix", list(WITH_PYAV))
def test_a_window_read_by_pyav_begins_at_its_start(files, suffix):
    # Not sample for sample: AAC fills its upper bands with fresh noise, and Matroska counts whole milliseconds.
    whole = decoding.decode_audio(files[suffix], sr=SR)
    window = decoding.decode_audio(files[suffix], sr=SR, start_s=2.25, duration_s=1.25)
    padded = np.concatenate([np.zeros(round(2.25 * SR), np.float32), window])
    assert window.size == round(1.25 * SR)
    shift = lag(padded, whole, round(2.5 * SR))
    assert abs(shift) <= (SR // 1000 if suffix in ("webm", "mka") else 0)
    assert correlation(padded[3 * SR + shift :][:20000], whole[3 * SR :][:20000]) > 0.99


def test_a_window_does_not_depend_on_the_audio_around_it(tmp_path):
    y = tune()
    path = tmp_path / "a.wav"
    path_loud = tmp_path / "b.wav"
    loud = y.copy()
    loud[:SR] = loud[2 * SR :] = 0.9
    soundfile.write(path, y, SR)
    soundfile.write(path_loud, loud, SR)
    window = {"sr": 22050, "start_s": 1.0, "duration_s": 1.0}
    np.testing.assert_array_equal(decoding.decode_audio(path, **window), decoding.decode_audio(path_loud, **window))


@pytest.mark.parametrize("sr", [8000, 22050, 44100, 48000])
def test_decoding_equals_librosa_load(tmp_path, sr):
    path = tmp_path / "a.wav"
    y = tune(sr=sr)
    soundfile.write(path, np.stack([y, -0.3 * y], axis=1), sr)
    decoded = decoding.decode_audio(path, sr=22050, start_s=0.5, duration_s=2.0)
    reference, _ = librosa.load(path, sr=22050, offset=0.5, duration=2.0, res_type="soxr_hq")
    np.testing.assert_array_equal(decoded, reference)
    assert decoded.size == 2 * 22050


@pytest.mark.parametrize("n", [1, 2, 3, 7, 44099, 44101])
def test_resampled_length_equals_that_of_librosa(tmp_path, n):
    path = tmp_path / "a.wav"
    soundfile.write(path, tune()[:n], SR)
    assert decoding.decode_audio(path, sr=22050).size == librosa.load(path, sr=22050)[0].size


def test_the_named_resampler_is_used(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tune(), SR)
    quick = decoding.decode_audio(path, sr=22050, resampler="soxr_qq")
    np.testing.assert_array_equal(quick, librosa.load(path, sr=22050, res_type="soxr_qq")[0])
    assert not np.array_equal(quick, decoding.decode_audio(path, sr=22050))


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_channels_are_averaged(tmp_path, channels):
    path = tmp_path / "a.wav"
    y = np.random.default_rng(0).uniform(-1, 1, (5000, channels)).astype(np.float32)
    soundfile.write(path, y, SR, subtype="FLOAT")
    np.testing.assert_allclose(decoding.decode_audio(path, sr=SR), y.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_channels_of_integer_samples_are_averaged(tmp_path, channels, subtype):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, (5000, channels)), SR, subtype=subtype)
    floats = soundfile.read(path, dtype="float32", always_2d=True)[0]
    np.testing.assert_array_equal(
        decoding.decode_audio(path, sr=SR), floats @ np.full(channels, 1 / channels, np.float32)
    )


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1", "6.1"])
def test_channels_that_only_pyav_reads_are_averaged(tmp_path, layout):
    check_channels_read_by_pyav(tmp_path / "a.wv", layout)


@pytest.mark.parametrize("layout", ["stereo", "5.1"])
def test_frames_of_more_channels_than_pyav_reads_safely_are_averaged_too(tmp_path, layout, monkeypatch):
    """Above the real limit PyAV once crashed the process: here a lowered one, and a file that is harmless."""
    monkeypatch.setattr(stretches, "_MAX_PLANES", 1)
    check_channels_read_by_pyav(tmp_path / "a.wv", layout)


def test_frames_are_read_as_planar_samples_up_to_the_limit_only():
    assert stretches._sample_format(1) == stretches._sample_format(stretches._MAX_PLANES) == "fltp"
    assert stretches._sample_format(stretches._MAX_PLANES + 1) == stretches._sample_format(MAX_CHANNELS) == "flt"


def check_channels_read_by_pyav(path: Path, layout: str) -> None:
    """Write noise of its own in every channel, as WavPack, and compare what is decoded with the mean."""
    n_channels = av.AudioLayout(layout).nb_channels
    y = np.random.default_rng(0).integers(-(2**15), 2**15, (5000, n_channels), dtype=np.int16)
    frame = av.AudioFrame.from_ndarray(y.reshape(1, -1), format="s16", layout=layout)
    mux(path, frame, "wavpack", "wv", SR, format="s16p")
    expected = y.mean(axis=1) / 2**15
    np.testing.assert_allclose(decoding.decode_audio(path, sr=SR), expected, atol=1e-6)
    np.testing.assert_allclose(
        next(decoding.decode_windows(path, CONFIG))[1][:2000], decoding.decode_audio(path, sr=CONFIG.sr)[:2000]
    )


def test_a_window_that_the_file_ends_in_is_shorter(files):
    for suffix in ("wav", "m4a"):
        y = decoding.decode_audio(files[suffix], sr=SR, start_s=3.0, duration_s=10.0)
        assert y.size == pytest.approx(SR, abs=1100)


@pytest.mark.parametrize("suffix", ["wav", "mp3", "m4a", "opus"])
def test_a_window_beyond_the_end_is_too_short(files, suffix):
    with pytest.raises(AudioError, match="ends before 30 s") as caught:
        decoding.decode_audio(files[suffix], sr=22050, start_s=30.0, duration_s=10.0)
    assert caught.value.status == "too_short"


@pytest.mark.parametrize("window", [{"start_s": -1.0}, {"duration_s": 0.0}, {"start_s": float("nan")}])
def test_an_impossible_window_is_a_usage_error(files, window):
    with pytest.raises(UsageError, match="start >= 0"):
        decoding.decode_audio(files["wav"], sr=22050, **window)


# Files that are no audio, or damaged


@pytest.mark.parametrize("suffix", [None, ".wav", ".mp3", ".raw", ".m4a"])
@pytest.mark.parametrize("content", ["empty", "noise", "text", "zeros"])
def test_a_file_that_is_no_audio_is_undecodable(tmp_path, suffix, content):
    contents = {
        "empty": b"",
        "noise": np.random.default_rng(1).bytes(50_000),
        "text": b"Never gonna give you up.\n" * 500,
        "zeros": bytes(50_000),
    }[content]
    source: bytes | Path = contents
    if suffix:
        source = tmp_path / f"x{suffix}"
        source.write_bytes(contents)
        with pytest.raises(AudioError):
            decoding.read_duration_s(source)
    with pytest.raises(AudioError, match=r"not a readable audio file \(soundfile: .+; PyAV: .+\)") as caught:
        decoding.decode_audio(source, sr=22050)
    assert caught.value.status == "undecodable"
    assert ("x" + suffix if suffix else f"{len(contents)} bytes") in caught.value.reason


@pytest.mark.parametrize(
    "read",
    [
        decoding.read_duration_s,
        lambda data: decoding.decode_audio(data, sr=SR),
        lambda data: list(decoding.decode_windows(data, CONFIG)),
    ],
)
def test_an_unknown_codec_is_undecodable(files, read):
    data = bytearray(files["wav"].read_bytes())
    data[20:22] = b"\xff\x7f"
    with pytest.raises(AudioError, match="codec unknown to FFmpeg") as caught:
        read(bytes(data))
    assert caught.value.status == "undecodable"


@pytest.mark.parametrize("name", [".", "pipe.wav", "zero\0byte.wav"])
def test_a_path_that_is_no_file_is_undecodable(tmp_path, name):
    os.mkfifo(tmp_path / "pipe.wav")
    for read in (lambda path: decoding.decode_audio(path, sr=22050), decoding.read_duration_s):
        with pytest.raises(AudioError, match="cannot be opened") as caught:
            read(tmp_path / name)
        assert caught.value.status == "undecodable"


def test_what_the_system_reports_of_a_file_is_no_fault_of_its_content(tmp_path):
    """A disk that is away shows as a missing file."""
    for read in (lambda path: decoding.decode_audio(path, sr=22050), decoding.read_duration_s):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "missing.wav")


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile 'tune.aac'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\ntune.aac\n#EXT-X-ENDLIST\n",
    ],
)
def test_files_named_by_a_playlist_are_not_opened(files, monkeypatch, playlist):
    monkeypatch.chdir(files["aac"].parent)
    with pytest.raises(AudioError):
        decoding.decode_audio(playlist.encode(), sr=22050)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "aac", "webm", "opus"])
def test_a_truncated_file_is_decoded_up_to_its_end(files, suffix):
    data = files[suffix].read_bytes()
    y = decoding.decode_audio(data[: len(data) // 2], sr=22050)
    assert 1.5 * 22050 < y.size < 2.6 * 22050
    assert np.isfinite(y).all() and np.abs(y).max() > 0.1


def test_a_truncated_m4a_has_no_index_and_is_refused(files):
    data = files["m4a"].read_bytes()
    with pytest.raises(AudioError):
        decoding.decode_audio(data[: len(data) // 2], sr=22050)


@pytest.mark.parametrize("suffix", WITH_SOUNDFILE + list(WITH_PYAV))
def test_a_damaged_file_is_decoded_or_refused_with_a_status(files, suffix):
    rng = np.random.default_rng(2)
    for size in (20, 60, 400, 5000):
        data = bytearray(files[suffix].read_bytes())
        first = len(data) // 3
        data[first : first + size] = rng.bytes(size)
        for damaged in (bytes(data), bytes(data[:size])):
            try:
                assert decoding.decode_audio(damaged, sr=22050, duration_s=2.0).size > 0
            except AudioError as error:
                assert error.status in ("undecodable", "too_short")


def test_a_few_damaged_packets_are_skipped(files):
    whole = files["aac"].read_bytes()
    for seed in range(100):
        data = bytearray(whole)
        rng = np.random.default_rng(seed)
        for position in rng.integers(len(data) // 2, len(data), 10):
            data[position] ^= 1 << int(rng.integers(8))
        assert decoding.decode_audio(bytes(data), sr=22050).size > 0.8 * SECONDS * 22050


def test_no_more_than_the_duration_is_decoded(files, monkeypatch):
    for suffix in ("wav", "m4a"):
        assert decoding.decode_audio(files[suffix], sr=SR, duration_s=0.5).size == SR // 2
    frames = []
    decode_frames = by_pyav.decode_frames
    monkeypatch.setattr(by_pyav, "decode_frames", lambda stream: (frames.append(f) or f for f in decode_frames(stream)))
    decoding.decode_audio(files["m4a"], sr=SR, duration_s=0.5)
    assert sum(frame.samples for frame in frames) < SR


def test_a_header_that_promises_hours_does_not_slow_down_decoding(tmp_path):
    data = bytearray(soundfile_bytes(tune(), "FLAC"))
    # Total samples of the STREAMINFO block: 36 bits that end at byte 26 of the file.
    data[22:26] = b"\xff\xff\xff\xff"
    y = decoding.decode_audio(bytes(data), sr=SR)
    assert y.size <= tune().size


def soundfile_bytes(y: np.ndarray, file_format: str, subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, y, SR, format=file_format, subtype=subtype)
    return buffer.getvalue()


def test_nan_survives_decoding_and_is_reported_by_prepare_clip():
    y = tune()
    y[SR] = np.nan
    decoded = decoding.decode_audio(soundfile_bytes(y, "WAV", "FLOAT"), sr=22050)
    with pytest.raises(AudioError) as caught:
        prepare_clip(decoded, CONFIG)
    assert caught.value.status == "not_finite"


# read_duration_s


@pytest.mark.parametrize("suffix", WITH_SOUNDFILE + list(WITH_PYAV))
def test_duration_of_every_format(files, suffix):
    expected = 2.0 if suffix == "ogg" else SECONDS
    # The length of a bare AAC stream is estimated from its bit rate.
    assert decoding.read_duration_s(files[suffix]) == pytest.approx(expected, rel=0.2 if suffix == "aac" else 0.02)


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "webm", "mka"])
def test_duration_of_a_truncated_file_is_that_of_its_content(files, tmp_path, suffix):
    path = tmp_path / f"half.{suffix}"
    data = files[suffix].read_bytes()
    path.write_bytes(data[: len(data) // 2])
    decoded_s = decoding.decode_audio(path, sr=SR).size / SR
    assert decoded_s < 0.8 * decoding.read_duration_s(files[suffix])
    assert decoding.read_duration_s(path) == pytest.approx(decoded_s, abs=0.1)


def test_duration_does_not_believe_a_header_that_promises_hours(tmp_path):
    data = bytearray(soundfile_bytes(tune(), "FLAC"))
    data[22:26] = b"\xff\xff\xff\xff"
    path = tmp_path / "hours.flac"
    path.write_bytes(data)
    assert soundfile.info(path).duration > 20 * 3600
    assert decoding.read_duration_s(path) == pytest.approx(SECONDS, abs=0.1)


# prepare_clip


def test_a_clip_is_cut_to_its_length():
    y = tune(12.0, CONFIG.sr)
    cut = prepare_clip(y.astype(np.float64), CONFIG)
    assert cut.size == CONFIG.n_samples and cut.dtype == np.float32 and cut.flags.c_contiguous
    np.testing.assert_array_equal(cut, y[: CONFIG.n_samples])
    assert prepare_clip(y[: 3 * CONFIG.sr], CONFIG).size == 3 * CONFIG.sr


@pytest.mark.parametrize(
    ("y", "status"),
    [
        (np.zeros(0), "too_short"),
        (np.full(CONFIG.sr - 1, np.nan), "too_short"),
        (np.zeros(CONFIG.sr), "silent"),
        (np.full(CONFIG.sr, 0.99 * SILENCE_PEAK), "silent"),
        (np.r_[np.nan, np.zeros(CONFIG.sr)], "not_finite"),
        (np.r_[-np.inf, np.ones(CONFIG.sr)], "not_finite"),
    ],
)
def test_audio_that_is_no_clip_is_refused_with_its_status(y, status):
    with pytest.raises(AudioError) as caught:
        prepare_clip(y, CONFIG)
    assert caught.value.status == status
    assert len(caught.value.reason) > 20


def test_the_quietest_and_shortest_clip_is_accepted():
    assert prepare_clip(np.full(CONFIG.sr, 1.01 * SILENCE_PEAK), CONFIG).size == CONFIG.sr


def test_samples_beyond_the_clip_are_not_checked():
    y = np.r_[tune(10.0, CONFIG.sr), np.nan]
    assert prepare_clip(y, CONFIG).size == CONFIG.n_samples


# window_starts and decode_windows


@pytest.mark.parametrize(
    ("seconds", "starts"),
    [
        (0.5, [0.0]),
        (9.99, [0.0]),
        (10.0, [0.0]),
        (14.9, [0.0]),
        (15.0, [0.0, 10.0]),
        (20.0, [0.0, 10.0]),
        (27.0, [0.0, 10.0, 20.0]),
        (34.9, [0.0, 10.0, 20.0]),
    ],
)
def test_windows_start_every_ten_seconds(seconds, starts):
    assert window_starts(seconds, CONFIG) == starts


@pytest.mark.parametrize(
    ("n", "starts"), [(1, [50.0]), (2, [20.0, 70.0]), (3, [10.0, 50.0, 80.0]), (10, list(np.arange(10) * 10.0))]
)
def test_window_starts_are_spread_over_the_track(n, starts):
    assert window_starts(100.0, CONFIG, max_windows=n) == starts


@given(seconds=st.floats(0, 5000), n=st.integers(1, 40))
def test_window_starts_of_any_duration_and_number(seconds, n):
    all_starts = window_starts(seconds, CONFIG)
    starts = window_starts(seconds, CONFIG, max_windows=n)
    assert len(starts) == min(n, len(all_starts)) and set(starts) <= set(all_starts)
    assert starts == sorted(set(starts))
    assert all_starts[0] == 0.0 and (len(all_starts) == 1 or seconds - all_starts[-1] >= 0.499 * CONFIG.clip_s)
    assert seconds - all_starts[-1] < 1.501 * CONFIG.clip_s


def test_a_limit_of_no_windows_is_a_usage_error():
    with pytest.raises(UsageError, match="at least 1"):
        window_starts(60.0, CONFIG, max_windows=0)


@pytest.mark.parametrize("suffix", ["wav", "mp3", "m4a"])
def test_decoded_windows_equal_clips_decoded_alone(files, suffix):
    config = AudioConfig(clip_s=1.5)
    cuts = list(decoding.decode_windows(files[suffix].read_bytes(), config))
    assert [start for start, _ in cuts] == [0.0, 1.5, 3.0]
    for start, y in cuts:
        alone = decoding.decode_audio(files[suffix], sr=config.sr, start_s=start, duration_s=1.5)
        assert y.size == alone.size and correlation(y, alone) > 0.99
        if suffix == "wav":
            np.testing.assert_array_equal(y, alone)
    assert len(list(decoding.decode_windows(files[suffix], config, max_s=4.5))) == 3
    with pytest.raises(AudioError, match=r"longer than 0\.05 minutes") as caught:
        list(decoding.decode_windows(files[suffix], config, max_s=3.0))
    assert caught.value.status == "too_long"


def flac_hours(hours: int, *, claimed: bool) -> bytes:
    """A constant as FLAC at 1 kHz, some kilobytes per hour; its header may lack the number of samples."""
    file = io.BytesIO()
    soundfile.write(file, np.full(hours * 3_600_000, 0.5), 1000, format="FLAC")
    data = bytearray(file.getvalue())
    if not claimed:  # STREAMINFO ends with 36 bits for the number of samples, then 16 bytes of MD5
        data[21] &= 0xF0
        data[22:26] = bytes(4)
    return bytes(data)


@pytest.mark.parametrize("claimed", [True, False])
def test_a_small_file_that_lasts_for_hours_is_refused_before_it_is_decoded(claimed):
    data = flac_hours(6, claimed=claimed)
    assert len(data) < 80_000
    tracemalloc.start()
    try:
        with pytest.raises(AudioError, match="longer than 10 minutes") as caught:
            next(decoding.decode_windows(data, CONFIG, max_s=600))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.status == "too_long"
    assert peak < 10_000_000  # six hours would be a hundred times as much


def test_memory_does_not_grow_with_the_length_of_a_track():
    data = flac_hours(2, claimed=True)
    tracemalloc.start()
    try:
        assert sum(1 for _ in decoding.decode_windows(data, CONFIG)) == 720
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_header_that_promises_hours_over_a_short_file_is_not_believed():
    data = bytearray(flac_hours(1, claimed=True)[:1000])  # five minutes are left
    data[22:26] = b"\xff" * 4
    assert len(list(decoding.decode_windows(bytes(data), CONFIG, max_s=600))) == 31


def test_a_file_of_hundreds_of_channels_is_refused():
    file = io.BytesIO()
    soundfile.write(file, np.zeros((3, MAX_CHANNELS + 1)), 22050, format="WAV")
    with pytest.raises(AudioError, match=f"has {MAX_CHANNELS + 1} channels; at most {MAX_CHANNELS}"):
        list(decoding.decode_windows(file.getvalue(), CONFIG))


# Clips of the paper


def test_published_clips_decode_as_librosa_does():
    shared = Path(os.environ.get("GENRE_SHARED", ROOT.parent / "shared"))
    paths = sorted((shared / "data/audioset_clips").glob("*.wav"))
    if not paths:
        pytest.skip(f"no clips of the paper under {shared}")
    for path in paths[:3]:
        y = prepare_clip(decoding.decode_audio(path, sr=CONFIG.sr, duration_s=CONFIG.clip_s), CONFIG)
        assert y.size == CONFIG.n_samples
        np.testing.assert_array_equal(y, librosa.load(path, sr=CONFIG.sr, duration=CONFIG.clip_s)[0])
