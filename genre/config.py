"""Configuration that training and serving share: audio, genres, splits."""

import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import soundfile

Variant = Literal["corrected", "paper"]

#: Splits of a data set, in order.
SPLITS = ("train", "validation", "test")

#: Prediction below the confidence threshold, so no genre may have that name.
UNKNOWN = "unknown"

#: Version of features and spectrograms, raised by hand whenever the same audio and configuration give other values.
FEATURES_VERSION = 2

#: Libraries whose version affects features (decoders, resampler, transforms); stored with every part. They are not part
#: of the fingerprint, or each patch release would make every track be computed anew: `genre.store.reference_clip`
#: detects a release that changes values.
FEATURE_LIBRARIES = ("soundfile", "av", "soxr", "numpy", "scipy", "numba")


@dataclass(frozen=True)
class AudioConfig:
    """Parameters that turn a clip into features and a log-mel spectrogram.

    The values are those of the paper's published code (Bahuleyan 2018, arXiv 1804.01149, sections 3 and 4).

    Attributes
    ----------
    sr : int
        Sampling rate, Hz.
    clip_s : float
        Length of a clip, seconds: that of an AudioSet segment.
    min_s : float
        Length of the shortest clip accepted, seconds: that of the shortest AudioSet segment.
    n_fft, hop_length : int
        Frame and hop of the STFT, samples.
    n_mels : int
        Mel bands of the spectrogram, between 0 Hz and half of `sr`.
    pre_emphasis : float
        Coefficient of the filter before the spectrogram. The features have none, as in the published code.
    top_db : float
        Range of the spectrogram below the clip's maximum, dB.
    resampler : str
        Quality by soxr's name. Part of the configuration: another one moves half of the features by over 1 %.
    variant : {"corrected", "paper"}
        ``paper`` keeps the published code's offsets, rounding, chroma hop and repeated bandwidth column.
    """

    sr: int = 22050
    clip_s: float = 10.0
    min_s: float = 1.0
    n_fft: int = 2048
    hop_length: int = 512
    n_mels: int = 96
    pre_emphasis: float = 0.97
    top_db: float = 80.0
    resampler: str = "soxr_hq"
    variant: Variant = "corrected"

    @property
    def n_samples(self) -> int:
        """Samples in a clip of full length."""
        return round(self.clip_s * self.sr)

    @property
    def n_frames(self) -> int:
        """Frames of a clip of full length, the first and the last centred on its ends."""
        return 1 + self.n_samples // self.hop_length

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that name the store of this configuration."""
        return self.digest(FEATURES_VERSION)

    def digest(self, version: int) -> str:
        """Return twelve hexadecimal digits that name this configuration and a version of what is computed by it."""
        text = json.dumps({"features_version": version, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary from which ``AudioConfig(**d)`` is made again."""
        return asdict(self)


@cache
def library_versions() -> dict[str, str]:
    """Return the version of each of `FEATURE_LIBRARIES`, of libsndfile and of Python, and the processor's instructions.

    Sums are rounded differently with other instructions: of 80 clips, three had a byte of the spectrogram one step off.
    """
    own = {"python": platform.python_version(), "libsndfile": soundfile.__libsndfile_version__}
    found = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])
    return (
        own
        | {name: version(name) for name in FEATURE_LIBRARIES}
        | {"processor": " ".join([platform.machine(), *found])}
    )
