"""Synthetic music, as samples and as files."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf

#: Sampling rate of the files, Hz.
SR = 44_100


def make_chord(seconds: float = 2.0, sr: int = SR, channels: int = 1) -> np.ndarray:
    """Return a chord over noise, shape (n, channels)."""
    t = np.arange(round(seconds * sr)) / sr
    y = sum(0.2 * np.sin(2 * np.pi * hz * t) for hz in (220.0, 277.2, 329.6))
    y += 0.05 * np.random.default_rng(0).normal(size=t.size)
    return np.repeat(y[:, np.newaxis], channels, axis=1)


def make_beating_chord(seconds: float, *, hz: float, seed: int = 0, sr: int = 22050) -> np.ndarray:
    """Return a chord over noise that beats twice per second, float32 (n,)."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * sr)) / sr
    y = sum(np.sin(2 * np.pi * hz * k * t) / k for k in (1, 1.25, 1.5)) + rng.normal(0, 0.2, len(t))
    return (0.2 * y * (1 + 0.5 * np.sign(np.sin(4 * np.pi * t)))).astype(np.float32)


def write_varied_music(folder: Path, n: int = 8) -> list[str]:
    """Write wav files of ten seconds at 44.1 kHz, each with tones, beats and noise; return their paths."""
    rng = np.random.default_rng(0)
    t = np.arange(10 * SR) / SR
    for i in range(n):
        tones = sum(np.sin(2 * np.pi * f * t) for f in 110 * 2 ** (rng.integers(0, 48, 4) / 12))
        y = 0.1 * tones * np.exp(-4 * ((t * (1.5 + i / 8)) % 1)) + rng.normal(0, 0.02, t.size)
        sf.write(folder / f"{i}.wav", y, SR)
    return sorted(str(path) for path in folder.glob("*.wav"))


def encode_audio(y: np.ndarray, sr: int = SR, file_format: str = "WAV", subtype: str | None = None) -> bytes:
    """Return the bytes of an audio file."""
    buffer = io.BytesIO()
    sf.write(buffer, y, sr, format=file_format, subtype=subtype)
    return buffer.getvalue()


def make_clips_table(paths: list[Path]) -> pd.DataFrame:
    """Return a clips table that promises ten seconds of each file."""
    rows = [{"clip_id": p.name, "path": str(p), "stamp": "1", "start_s": 0.0, "end_s": 10.0} for p in paths]
    return pd.DataFrame(rows).assign(status="pending", reason="")
