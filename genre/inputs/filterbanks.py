"""Filter banks over the bins of a spectrum, equal to librosa's.

librosa itself compiles for a quarter of a minute at its first use on a machine, a second in every process after that,
and cannot be imported at all where nothing may be written: a served model should not need it.
"""

from functools import cache, lru_cache
from itertools import pairwise

import numpy as np


@cache
def mel_filterbank(sr: int, n_fft: int, n_mels: int) -> np.ndarray:
    """Return triangular bands of equal area, evenly spaced on Slaney's mel scale from 0 Hz to half of `sr`.

    The scale is that of Slaney 1998, *Auditory Toolbox*: 200/3 Hz a mel below 1000 Hz, above it 27 mels to a factor of
    6.4.

    Parameters
    ----------
    sr : int
        Sampling rate, Hz.
    n_fft : int
        Frame of the STFT, samples.
    n_mels : int
        Number of bands.

    Returns
    -------
    np.ndarray [shape=(1 + n_fft // 2, n_mels), dtype=float32]
        One column per band.
    """
    hz = np.arange(1 + n_fft // 2) * sr / n_fft
    corners = mel_corners_hz(sr, n_mels)
    left = corners[:-2]
    centre = corners[1:-1]
    right = corners[2:]
    rising = (hz[:, np.newaxis] - left) / (centre - left)
    falling = (right - hz[:, np.newaxis]) / (right - centre)
    return (np.maximum(0, np.minimum(rising, falling)) * 2 / (right - left)).astype(np.float32)


def mel_corners_hz(sr: int, n_mels: int) -> np.ndarray:
    """Return the corner frequencies of the bands of `mel_filterbank`, Hz: band i spans values i to i + 2.

    Parameters
    ----------
    sr : int
        Sampling rate, Hz, above 2000.
    n_mels : int
        Number of bands.

    Returns
    -------
    np.ndarray [shape=(n_mels + 2,)]
        From 0 to half of `sr`.
    """
    top = 15 + 27 * np.log(sr / 2 / 1000) / np.log(6.4)
    mels = np.linspace(0, top, n_mels + 2)
    return np.where(mels < 15, 200 / 3 * mels, 1000 * 6.4 ** ((mels - 15) / 27))


@cache
def sparse_mel_filterbank(sr: int, n_fft: int, n_mels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the non-zero weights of `mel_filterbank`, band after band.

    Parameters
    ----------
    sr, n_fft, n_mels : int
        As for `mel_filterbank`.

    Returns
    -------
    np.ndarray [shape=(n_mels,), dtype=int64]
        First bin of each band.
    np.ndarray [shape=(n_mels + 1,), dtype=int64]
        Where each band's weights begin, and where the last one's end.
    np.ndarray [shape=(n,), dtype=float32]
        The weights.
    """
    bank = mel_filterbank(sr, n_fft, n_mels)
    first = (bank > 0).argmax(axis=0)
    ends = np.concatenate([[0], np.cumsum(np.count_nonzero(bank, axis=0))])
    return first, ends, bank.T[bank.T > 0]


@lru_cache(maxsize=128)
def chroma_filterbank(sr: int, n_fft: int, tuning: float) -> np.ndarray:
    """Return the share of each bin in each of the twelve pitch classes, from C.

    A bin is spread as a Gaussian over the classes about it, as wide as the bin and at least a semitone, scaled to unit
    length, and weighted by a second Gaussian of two octaves about 440 Hz (Ellis 2007, *Chroma feature analysis and
    synthesis*).

    Parameters
    ----------
    sr : int
        Sampling rate, Hz.
    n_fft : int
        Frame of the STFT, samples.
    tuning : float
        Tuning of the music relative to A = 440 Hz, semitones.

    Returns
    -------
    np.ndarray [shape=(1 + n_fft // 2, 12), dtype=float32]
        One column per pitch class.
    """
    hz = np.arange(1, n_fft) * sr / n_fft
    semitones = 12 * np.log2(hz / 27.5) - tuning  # above A0
    semitones = np.concatenate([[semitones[0] - 18], semitones])  # 0 Hz counts as one and a half octaves below bin 1
    width = np.append(np.maximum(np.diff(semitones), 1), 1)
    distance = (semitones[:, np.newaxis] - np.arange(12) + 6) % 12 - 6
    bumps = np.exp(-0.5 * (2 * distance / width[:, np.newaxis]) ** 2)
    bumps /= np.linalg.norm(bumps, axis=1, keepdims=True)
    bumps *= np.exp(-0.5 * ((semitones / 12 - 5) / 2) ** 2)[:, np.newaxis]
    return np.roll(bumps[: 1 + n_fft // 2], -3, axis=1).astype(np.float32)


@cache
def octave_bands(sr: int, n_fft: int) -> tuple[tuple[slice, int], ...]:
    """Return the bins of the seven bands of spectral contrast, and the number of peaks, or valleys, in each.

    What lies below 200 Hz and six octaves from there, the last of which runs on to half of `sr`; 2 % of a band are its
    peaks and valleys, at least one bin (Jiang et al. 2002, with the defaults of `librosa.feature.spectral_contrast`).

    Parameters
    ----------
    sr : int
        Sampling rate, Hz.
    n_fft : int
        Frame of the STFT, samples.

    Returns
    -------
    tuple of (slice, int)
        One per band, low to high.
    """
    hz = np.arange(1 + n_fft // 2) * sr / n_fft
    edges = [0.0, *(200.0 * 2.0 ** np.arange(7))]
    bands = []
    for i, (low, high) in enumerate(pairwise(edges)):
        inside = np.flatnonzero((low <= hz) & (hz <= high))
        # librosa's bands begin one bin early, end one bin early, and count both when they take 2 %.
        first = max(inside[0] - 1, 0) if i else inside[0]
        last = inside[-1] + 1
        if i == 6:
            last = len(hz)
        n_extreme = max(int(np.rint(0.02 * (last - first))), 1)
        bands.append((slice(first, last if i == 6 else last - 1), n_extreme))
    return tuple(bands)
