"""Audio synthesised by the tests, and files of it."""

from pathlib import Path

import av
import mutagen
import numpy as np
import soundfile as sf
from mutagen.asf import ASF
from mutagen.id3 import ID3, TCON, TPE1, TPE2
from mutagen.mp4 import MP4

#: Sampling rate of the frames that `mux` encodes, Hz.
SR = 44100

#: Keys of the tags that `write_tags` writes, where they are not the names themselves.
_TAG_NAMES = {
    MP4: {"genre": "\xa9gen", "artist": "\xa9ART", "albumartist": "aART"},
    ASF: {"genre": "WM/Genre", "artist": "Author", "albumartist": "WM/AlbumArtist"},
}


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


def mux(path: Path, frame: av.AudioFrame, codec: str, container: str, rate: int, **options: str | int) -> None:
    """Encode one frame into a file with PyAV."""
    frame.sample_rate = SR
    frame.pts = 0
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout=frame.layout.name, **options)
        for frames in (frame, None):
            for packet in stream.encode(frames):
                out.mux(packet)


def write_tags(path: Path, **values: str | list[str]) -> None:
    """Write genre, artist and albumartist into the tags of a file of any format, and nothing else."""
    file = mutagen.File(path)
    if file.tags is None:
        file.add_tags()
    for name, value in values.items():
        texts = [value] if isinstance(value, str) else value
        if isinstance(file.tags, ID3):
            frame = {"genre": TCON, "artist": TPE1, "albumartist": TPE2}[name]
            file.tags.add(frame(encoding=3, text=texts))
        else:
            file.tags[_TAG_NAMES.get(type(file), {}).get(name, name)] = texts
    file.save()


def write_tagged_music(folder: Path, *, genres: dict[str, float], artists: int = 3) -> Path:
    """Write a folder of music with one track per artist, each genre with its own pitch and only in the tags."""
    folder.mkdir(parents=True)
    for genre, hz in genres.items():
        for n in range(artists):
            path = folder / f"{genre} {n}.flac"
            sf.write(path, tone(12, hz=hz * (1 + 0.02 * n), seed=n), 22050)
            write_tags(path, genre=genre, artist=f"{genre} artist {n}")
    return folder
