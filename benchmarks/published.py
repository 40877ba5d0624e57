"""The published scripts on today's librosa and matplotlib: every feature by a call of its own, the picture by a figure.

Bahuleyan 2018, notebook 5 and `generate_spectrograms.py`, with the names that have changed since (`rmse` is `rms`,
`beat.tempo` is `feature.tempo`) and no more. Two scripts, so each clip is decoded twice.
"""

import io

import librosa
import librosa.display
import matplotlib
import numpy as np
import scipy.stats

matplotlib.use("Agg")

import matplotlib.pyplot as plt

SR, N_FFT, HOP = 22050, 2048, 512


def features(path: str) -> np.ndarray:
    """The row of the published table, shape (97,)."""
    y, sr = librosa.load(path, sr=SR)
    level, offset = y + 0.0001, y + 0.01
    stft = {"sr": sr, "n_fft": N_FFT, "hop_length": HOP}
    values = [np.mean(abs(y)), np.std(y), scipy.stats.skew(abs(y)), scipy.stats.kurtosis(y)]
    values += _mean_std(librosa.feature.zero_crossing_rate(level, frame_length=N_FFT, hop_length=HOP))
    values += _mean_std(librosa.feature.rms(y=level, frame_length=N_FFT, hop_length=HOP))
    values += [librosa.feature.tempo(y=y, sr=sr)[0]]
    values += _mean_std(librosa.feature.spectral_centroid(y=offset, **stft))
    second, third, _ = (librosa.feature.spectral_bandwidth(y=offset, p=p, **stft) for p in (2, 3, 4))
    values += [*_mean_std(second), *_mean_std(third), *_mean_std(third)]  # sic: the fourth is thrown away
    values += _mean_std(librosa.feature.spectral_contrast(y=y, n_bands=6, fmin=200.0, **stft))
    values += _mean_std(librosa.feature.spectral_rolloff(y=offset, roll_percent=0.85, **stft))
    values += _mean_std(librosa.feature.mfcc(y=y, n_mfcc=20, **stft))
    values += _mean_std(librosa.feature.chroma_stft(y=y, sr=sr, hop_length=1024))
    return np.round(np.array(values), 3)


def picture(path: str) -> bytes:
    """The published picture, a JPEG of 300 × 300."""
    y, sr = librosa.load(path, sr=SR)
    emphasised = np.append(y[0], y[1:] - 0.97 * y[:-1])
    S = librosa.feature.melspectrogram(y=emphasised, sr=sr, n_fft=N_FFT, hop_length=HOP, n_mels=96, fmax=sr / 2)
    figure = plt.figure(figsize=(3, 3))
    axes = plt.Axes(figure, [0.0, 0.0, 1.0, 1.0])
    axes.set_axis_off()
    figure.add_axes(axes)
    librosa.display.specshow(
        librosa.power_to_db(S, ref=np.max), sr=sr, cmap="jet", ax=axes, y_axis="mel", x_axis="time"
    )
    file = io.BytesIO()
    figure.savefig(file, format="jpg", dpi=100)
    plt.close(figure)
    return file.getvalue()


def _mean_std(rows: np.ndarray) -> list[float]:
    """Means, then standard deviations, over the frames."""
    return [*rows.mean(axis=1), *rows.std(axis=1)]
