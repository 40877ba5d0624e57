"""Robustness: audio degraded as clients send it, and the scores of a model on it."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import soundfile
import soxr

from genre import evaluate
from genre.errors import UsageError
from genre.probabilities.tables import genres_of, labels_of, proba_of

#: Rate at which the sources are degraded, Hz: that of most music files.
SR = 44100

#: Name of the audio without degradation.
CLEAN = "as it is"


@dataclass(frozen=True)
class Degradation:
    """One degradation of audio.

    Attributes
    ----------
    name : str
        Name in the card.
    encode : callable
        From mono audio at `SR` [shape=(n,), dtype=float32] and a generator to the bytes of an audio file.
    """

    name: str
    encode: Callable[[np.ndarray, np.random.Generator], bytes]


def compile_degradations() -> None:
    """Apply every degradation once, to a moment of silence, before several processes do.

    librosa has numba compile functions when it is first imported on a machine, and keep them beside its own files. Two
    processes that do so at once mix their files up, and every later process that uses them is killed.
    """
    for name in DEGRADATIONS:
        degrade_clip(np.zeros(SR // 20, np.float32), name)


def degrade_clip(y: np.ndarray, name: str, *, seed: int = 0) -> bytes:
    """Encode a degraded clip as a file.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
        Mono audio at `SR`, within -1 to 1.
    name : str
        A degradation of `DEGRADATIONS`.
    seed : int
        Seed of the noise. Default 0.

    Returns
    -------
    bytes
        MP3 file, or 16-bit WAV file clipped at full scale as by any player.

    Raises
    ------
    UsageError
        If there is no such degradation.
    """
    if name not in DEGRADATIONS:
        raise UsageError(f"unknown degradation {name!r}; choose from {', '.join(DEGRADATIONS)}")
    return DEGRADATIONS[name].encode(np.asarray(y, dtype=np.float32), np.random.default_rng(seed))


def robustness_card(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Compare the scores under each degradation with those of the original audio.

    Parameters
    ----------
    tables : mapping of str to pd.DataFrame
        Degradation to probability table of the same clips; `CLEAN` among them.

    Returns
    -------
    pd.DataFrame
        Columns ``degradation``, ``clips``, ``accuracy``, ``macro_auc`` and ``change`` (of the macro AUC), both with
        95 % intervals by recording, and ``same_answer``, the share of clips given the genre they were given clean.

    Raises
    ------
    UsageError
        If the clean table is missing or the tables share no clips.
    """
    if CLEAN not in tables:
        raise UsageError(f"no table of the audio {CLEAN!r}, which the others are compared with")
    clean = tables[CLEAN]
    rows = []
    for name, table in tables.items():
        scores = evaluate.compute_metrics(labels_of(table), proba_of(table), genres_of(table))
        low, high = evaluate.confidence_intervals(table)["macro_auc"]
        gain = evaluate.paired_gain(table, clean)
        answers = [proba_of(t.loc[table.index]).argmax(axis=1) for t in (table, clean)]
        row = {"degradation": name, "clips": len(table), "accuracy": scores["accuracy"]}
        row |= {"macro_auc": scores["macro_auc"], "macro_auc_low": low, "macro_auc_high": high}
        row |= {"change": gain["gain"], "change_low": gain["interval"][0], "change_high": gain["interval"][1]}
        rows.append(row | {"same_answer": float((answers[0] == answers[1]).mean())})
    return pd.DataFrame(rows)


def _encode_wav(y: np.ndarray, sr: int = SR) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.clip(y, -1, 1), sr, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _encode_mp3(y: np.ndarray, kbit: int) -> bytes:
    """Encode MP3 at a constant bit rate, by PyAV, since libsndfile takes a quality and no rate."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=SR)
        stream.bit_rate = 1000 * kbit
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.clip(y, -1, 1)[None], format="fltp", layout="mono")
        frame.sample_rate = SR
        for piece in (frame, None):
            container.mux(stream.encode(piece))
    return file.getvalue()


def _add_noise(y: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Add white noise at a signal-to-noise ratio relative to the clip's mean power."""
    level = np.sqrt(np.mean(y.astype(np.float64) ** 2)) * 10 ** (-snr_db / 20)
    return y + (level * rng.standard_normal(y.size)).astype(np.float32)


def _shift_pitch(y: np.ndarray, semitones: float) -> np.ndarray:
    import librosa

    return librosa.effects.pitch_shift(y, sr=SR, n_steps=semitones, res_type="soxr_hq")


def _change_speed(y: np.ndarray, factor: float) -> np.ndarray:
    """Change the speed, and the pitch with it, as a turntable does."""
    return soxr.resample(y, SR * factor, SR)


_ALL = [
    Degradation(CLEAN, lambda y, rng: _encode_wav(y)),
    Degradation("MP3, 128 kbit/s", lambda y, rng: _encode_mp3(y, 128)),
    Degradation("MP3, 64 kbit/s", lambda y, rng: _encode_mp3(y, 64)),
    Degradation("gain +6 dB", lambda y, rng: _encode_wav(y * 10 ** (6 / 20))),
    Degradation("gain -6 dB", lambda y, rng: _encode_wav(y * 10 ** (-6 / 20))),
    Degradation("gain -20 dB", lambda y, rng: _encode_wav(y * 10 ** (-20 / 20))),
    Degradation("resampled to 16 kHz", lambda y, rng: _encode_wav(soxr.resample(y, SR, 16000), 16000)),
    Degradation("resampled to 48 kHz", lambda y, rng: _encode_wav(soxr.resample(y, SR, 48000), 48000)),
    Degradation("white noise, 20 dB below", lambda y, rng: _encode_wav(_add_noise(y, 20, rng))),
    Degradation("pitch +1 semitone", lambda y, rng: _encode_wav(_shift_pitch(y, 1))),
    Degradation("pitch -1 semitone", lambda y, rng: _encode_wav(_shift_pitch(y, -1))),
    Degradation("speed +5 %", lambda y, rng: _encode_wav(_change_speed(y, 1.05))),
    Degradation("speed -5 %", lambda y, rng: _encode_wav(_change_speed(y, 0.95))),
    Degradation("first five seconds", lambda y, rng: _encode_wav(y[: 5 * SR])),
]

#: Every degradation by name, in the order of the card.
DEGRADATIONS: dict[str, Degradation] = {d.name: d for d in _ALL}
