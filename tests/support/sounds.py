"""Audio synthesised by the tests, and files of it."""

from pathlib import Path

import av
import numpy as np
import soundfile as sf

#: Sampling rate of the frames that `mux` encodes, Hz.
SR = 44100


def tone(seconds: float, *, hz: float, seed: int = 0, sr: int = 22050) -> np.ndarray:
    """A chord over noise that pulses twice per second: enough music for every feature to be defined."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * sr)) / sr
    y = sum(np.sin(2 * np.pi * hz * k * t) / k for k in (1, 1.25, 1.5)) + rng.normal(0, 0.2, len(t))
    return (0.2 * y * (1 + 0.5 * np.sign(np.sin(4 * np.pi * t)))).astype(np.float32)


def write_music(folder: Path, *, genres: dict[str, float], tracks: int = 4, seconds: float = 12.0) -> Path:
    """Write a folder of music: one sub-folder per genre, each with its own pitch."""
    for genre, hz in genres.items():
        (folder / genre).mkdir(parents=True)
        for n in range(tracks):
            y = tone(seconds, hz=hz * (1 + 0.02 * n), seed=n)
            sf.write(folder / genre / f"{n}.wav", y, 22050)
    return folder


def encode(path: Path, y: np.ndarray, codec: str, container: str, rate: int) -> None:
    """Encode mono audio as a stereo file with PyAV."""
    mux(path, av.AudioFrame.from_ndarray(np.stack([y, y]), format="fltp", layout="stereo"), codec, container, rate)


def mux(path: Path, frame: av.AudioFrame, codec: str, container: str, rate: int, **options: str) -> None:
    """Encode one frame into a file with PyAV."""
    frame.sample_rate = SR
    frame.pts = 0
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout=frame.layout.name, **options)
        for frames in (frame, None):
            for packet in stream.encode(frames):
                out.mux(packet)
