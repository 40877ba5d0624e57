"""Reading of audio files by soundfile."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import soundfile

from genre.audio.readers.bitstreams import N_SEARCHED, find_bitstream
from genre.audio.readers.limits import check_channels, refuse_length
from genre.audio.readers.mixing import mix_interleaved
from genre.audio.scans.content import Content, find_size
from genre.audio.scans.memory import Memory

#: Samples decoded at a time, of all channels together.
_BLOCK_SAMPLES = 1 << 22

#: Largest difference between a header and the packets, seconds, at which soundfile's reading is taken.
_MAX_DIFFERENCE_S = 1.0

#: Size of a file, bytes, that may be without a sample: it holds tags only.
_MAX_EMPTY = 1 << 16

#: Rate of decoded Opus, Hz: that in its header is only what was encoded (RFC 7845 section 5.1).
_OPUS_RATE = 48_000

#: Samples, of all channels together, in which the beginning of a bit stream is looked for: 47 seconds of a CD, for some
#: tracks begin with silence.
_MAX_LEAD = 1 << 22

#: Encodings of samples in which a bit stream may hide.
_PCM = {"PCM_16", "PCM_24", "PCM_32"}


_bitstreams = Memory[str]()


class MisleadingHeader(soundfile.SoundFileRuntimeError):
    """A header by which soundfile does not read all of the sound, or not at its rate, or what is no sound."""


def read_duration_by_soundfile(file: BinaryIO, content: Content) -> float:
    """Return the length of an open file, seconds, as its header or, failing that, its content has it.

    Parameters
    ----------
    file, content
        As in `decode_by_soundfile`.

    Raises
    ------
    MisleadingHeader
        As in `decode_by_soundfile`.
    """
    with _open_soundfile(file, content) as sound:
        n = sound.frames
        sr = sound.samplerate
        if not _has_audio_at(sound, max(0, n - sr)):
            sound.seek(0)
            n = sum(len(block) for block in _read_blocks(sound, n, set()))
        return n / sr


def decode_by_soundfile(
    file: BinaryIO, content: Content, start_s: float, duration_s: float | None
) -> tuple[np.ndarray, int]:
    """Decode a window of an open file.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.
    content : Content
        What its packets say.
    start_s : float
        Start of the window, seconds.
    duration_s : float or None
        Length of the window, seconds; None for all that follows.

    Returns
    -------
    (np.ndarray [shape=(n,), dtype=float32], int)
        Mono samples, none where the file ends before the window, and their sampling rate.

    Raises
    ------
    MisleadingHeader
        If it is more than a second from the packets, the rate is not that of the sound, or the samples are a bit
        stream of compressed sound.
    SoundFileRuntimeError
        If there should be frames in the window and none can be decoded.
    """
    with _open_soundfile(file, content) as sound:
        sr = sound.samplerate
        first = min(round(start_s * sr), sound.frames)
        n_wanted = sound.frames - first if duration_s is None else round(duration_s * sr)
        sound.seek(first)
        parts = list(_read_blocks(sound, n_wanted, set()))
        if not parts and first < sound.frames:
            raise soundfile.SoundFileRuntimeError(f"none of {sound.frames} frames decoded")
    # Most files are one block: copying it would take longer than reading it did.
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.float32), *parts]), sr


def read_windows_by_soundfile(
    file: BinaryIO, content: Content, clip_s: float, max_s: float, notes: set[str]
) -> Iterator[tuple[np.ndarray, int]]:
    """Decode consecutive windows of an open file, one at a time.

    Parameters
    ----------
    file, content
        As in `decode_by_soundfile`.
    clip_s : float
        Length of a window, seconds.
    max_s : float
        Longest file accepted, seconds. Only lengths of more than a window above it are refused here.
    notes : set of str
        What to say of the file is added to it.

    Yields
    ------
    (np.ndarray [shape=(n,), dtype=float32], int)
        Mono samples and their sampling rate; the last window may be shorter.

    Raises
    ------
    AudioError
        ``undecodable`` with more than `MAX_CHANNELS` channels, ``too_long`` beyond `max_s`.
    MisleadingHeader
        As in `decode_by_soundfile`.
    SoundFileRuntimeError
        If the header promises frames and none can be decoded.
    """
    n_read = 0
    with _open_soundfile(file, content) as sound:
        sr = sound.samplerate
        check_channels(sound.channels)
        if sound.frames > (max_s + clip_s) * sr:
            if _has_audio_at(sound, round((max_s + clip_s) * sr)):
                refuse_length(max_s)
            sound.seek(0)
        while parts := list(_read_blocks(sound, round(clip_s * sr), notes)):
            y = parts[0] if len(parts) == 1 else np.concatenate(parts)
            n_read += y.size
            yield y, sr
        if not n_read and sound.frames:
            raise soundfile.SoundFileRuntimeError(f"none of {sound.frames} frames decoded")


def _open_soundfile(file: BinaryIO, content: Content) -> soundfile.SoundFile:
    """Open a file with soundfile, unless its header misleads.

    A file on disk is opened by its descriptor, which lets other threads run during a read.
    """
    file.seek(0)
    is_on_disk = isinstance(file, io.FileIO)
    sound = soundfile.SoundFile(file.fileno(), closefd=False) if is_on_disk else soundfile.SoundFile(file)
    if reason := _find_contradiction(sound, file, content):
        sound.close()
        raise MisleadingHeader(reason)
    return sound


def _find_contradiction(sound: soundfile.SoundFile, file: BinaryIO, content: Content) -> str:
    """Return how a header contradicts the packets; empty if it does not."""
    claimed_s = sound.frames / sound.samplerate
    if claimed_s < 0 or (content.seconds is not None and abs(claimed_s - content.seconds) > _MAX_DIFFERENCE_S):
        return f"the header counts {claimed_s:.1f} s, the packets {content.seconds or 0:.1f} s"
    if not sound.frames and find_size(file) > _MAX_EMPTY:
        return f"the header counts no samples, in a file of {find_size(file)} bytes"
    if sound.subtype == "OPUS" and sound.samplerate != _OPUS_RATE:
        return f"the header says {sound.samplerate} Hz, but Opus is decoded to {_OPUS_RATE} Hz"
    name = _bitstreams.recall(file, lambda: _find_bitstream(sound)) if sound.subtype in _PCM else ""
    return f"the samples are a bit stream of {name}, not sound" if name else ""


def _find_bitstream(sound: soundfile.SoundFile) -> str:
    """Return the format of a bit stream that begins within a few seconds; empty if the samples are sound."""
    n = N_SEARCHED // sound.channels
    blocks = [np.empty((0, sound.channels), np.float32)]
    for _ in range(0, _MAX_LEAD, N_SEARCHED):
        blocks.append(sound.read(n, dtype="int16" if sound.subtype == "PCM_16" else "float32", always_2d=True))
        if blocks[-2].any() or (len(blocks[-1]) and blocks[-1][0].any()):
            break  # there is a whole block from the first sample on that is not zero
    sound.seek(0)
    samples = blocks[-1] if len(blocks) == 2 else np.concatenate(blocks[-2:])
    return find_bitstream(samples) if len(samples) else ""


def _has_audio_at(sound: soundfile.SoundFile, frame: int) -> bool:
    """Check that at least one frame can be decoded at a position."""
    try:
        sound.seek(frame)
        return len(sound.read(1)) > 0
    except soundfile.SoundFileError:
        return False


def _read_blocks(sound: soundfile.SoundFile, n: int, notes: set[str]) -> Iterator[np.ndarray]:
    """Read the next n frames, or as many as there are, as mono float32.

    In blocks, so that memory depends on the frames in the file, not on the number that its header promises.
    """
    # Equal to reading float32, in a fraction of the time: 2**15 is a power of two, so the product is exact.
    dtype, scale = ("int16", 2.0**-15) if sound.subtype == "PCM_16" else ("float32", 1.0)
    size = max(1, _BLOCK_SAMPLES // sound.channels)
    while n > 0 and len(block := sound.read(min(n, size), dtype=dtype, always_2d=True)):
        yield mix_interleaved(block, scale, notes)
        n -= len(block)
