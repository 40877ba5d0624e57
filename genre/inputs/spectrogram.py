"""The log-mel spectrogram of a clip, stored as bytes, and its rendering as a coloured image."""

from __future__ import annotations

from functools import cache

import numpy as np

from genre.audio.clips import validate_audio
from genre.config import AudioConfig
from genre.errors import UsageError
from genre.inputs.backend import analyse_clip
from genre.inputs.stft import Analysis, power_to_db

#: Series that the spectrogram needs of every frame.
FRAME_SERIES = frozenset({"emphasised_mel"})


def log_mel(y: np.ndarray, config: AudioConfig) -> np.ndarray:
    """Compute the log-mel spectrogram of one clip below its own maximum, as bytes.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
        Mono audio at ``config.sr``, finite; samples beyond ``config.n_samples`` are ignored.
    config : AudioConfig
        Pre-emphasis, frame, hop, bands and range (Bahuleyan 2018, section 4.1, and the published code).

    Returns
    -------
    np.ndarray [shape=(n_mels, n_frames), dtype=uint8]
        0 at ``-config.top_db`` dB and below, 255 at the clip's maximum, rounded to the nearest step (0.31 dB). Low
        band first. A shorter clip is padded with 0 on the right.

    Raises
    ------
    AudioError
        ``too_short`` without a sample, ``not_finite`` with NaN or infinity.
    UsageError
        If `y` is not one-dimensional.
    """
    rows = analyse_clip(validate_audio(y[: config.n_samples]), config).by_frame(["emphasised_mel"])
    return quantise_mel_power(rows["emphasised_mel"], config)


def quantise_mel_power(S: np.ndarray, config: AudioConfig) -> np.ndarray:
    """Quantise the mel powers of a clip to bytes, as `log_mel` returns them.

    Parameters
    ----------
    S : np.ndarray [shape=(t, n_mels)]
        ``emphasised_mel`` of all frames of a clip, from `genre.inputs.stft.Analysis.by_frame`.
    config : AudioConfig
        Range, and number of frames of a full clip.

    Returns
    -------
    np.ndarray [shape=(n_mels, n_frames), dtype=uint8]
        See `log_mel`.
    """
    S_db = power_to_db(S, top_db=config.top_db)
    S_u8 = np.rint((S_db - S_db.max() + config.top_db) * (255 / config.top_db)).astype(np.uint8)
    return np.ascontiguousarray(np.pad(S_u8, ((0, config.n_frames - len(S_u8)), (0, 0))).T)


def shape(config: AudioConfig) -> tuple[int, ...]:
    """Return the shape of the spectrogram of one clip."""
    return config.n_mels, config.n_frames


def compute(a: Analysis, rows: dict[str, np.ndarray]) -> np.ndarray:
    """Compute the spectrogram of one clip from its frames.

    Parameters
    ----------
    a : Analysis
        The clip.
    rows : dict of str to np.ndarray [shape=(t, ...)]
        `FRAME_SERIES` of all its frames.

    Returns
    -------
    np.ndarray [shape=(n_mels, n_frames), dtype=uint8]
        See `log_mel`.

    Raises
    ------
    UsageError
        If the clip is longer than a spectrogram shows.
    """
    if len(a.y) > a.config.n_samples:
        raise UsageError(
            f"{len(a.y)} samples, but a spectrogram shows {a.config.n_samples}; cut the clip with prepare_clip first"
        )
    return quantise_mel_power(rows["emphasised_mel"], a.config)


def summarise(S_u8: np.ndarray) -> dict[str, float]:
    """Return the mean level of each mel band, ``mel_0`` and so on, in steps of the stored spectrogram."""
    return {f"mel_{n}": float(level) for n, level in enumerate(S_u8.mean(axis=1))}


def pack(S_u8: np.ndarray) -> np.ndarray:
    """Return each frame less the one before, modulo 256.

    Little changes from frame to frame: compressed, a clip of real music takes 31 kB so, and 40 as it is.

    Parameters
    ----------
    S_u8 : np.ndarray [shape=(..., n_mels, t), dtype=uint8]
        One or more spectrograms.

    Returns
    -------
    np.ndarray [shape=(..., n_mels, t), dtype=uint8]
        For `unpack`.
    """
    return np.diff(S_u8, axis=-1, prepend=np.uint8(0))


def unpack(steps: np.ndarray) -> np.ndarray:
    """Return the spectrograms that `pack` was given."""
    return np.cumsum(steps, axis=-1, dtype=np.uint8)


def render_rgb_image(S_u8: np.ndarray) -> np.ndarray:
    """Render stored spectrograms in the colours of the published images.

    Each is stretched from its own minimum to its own maximum, as matplotlib does by default.

    Parameters
    ----------
    S_u8 : np.ndarray [shape=(..., n_mels, t), dtype=uint8]
        One or more spectrograms from `log_mel`.

    Returns
    -------
    np.ndarray [shape=(..., n_mels, t, 3), dtype=uint8]
        RGB, colour map jet, low band in the last row. A spectrogram of one value throughout is jet's first colour.
    """
    S = S_u8[..., ::-1, :].astype(np.int32)
    low = S.min(axis=(-2, -1), keepdims=True)
    spread = np.maximum(S.max(axis=(-2, -1), keepdims=True) - low, 1)
    return _jet_colours()[np.minimum((S - low) * 256 // spread, 255)]


@cache
def _jet_colours() -> np.ndarray:
    """Return jet as 256 RGB bytes, rounded as by matplotlib's renderer (its ``bytes=True`` rounds otherwise)."""
    import matplotlib

    rgb = matplotlib.colormaps["jet"](np.arange(256))[:, :3]
    return np.floor(255 * rgb + 0.5).astype(np.uint8)
