"""Published scripts on current librosa and matplotlib: a call per feature, and a figure per spectrogram.

Bahuleyan 2018, notebook 5 and `generate_spectrograms.py`; only names that have changed since are replaced (`rmse` by
`rms`, `beat.tempo` by `feature.tempo`). Each of the two scripts decodes the clip.
"""

import io

import librosa
import librosa.display
import matplotlib
import numpy as np
import scipy.stats

matplotlib.use("Agg")

import matplotlib.pyplot as plt

SR = 22050
N_FFT = 2048
HOP = 512


def extract_features(path: str) -> np.ndarray:
    """Return the row of the published table, shape (97,)."""
    y, sr = librosa.load(path, sr=SR)
    level = y + 0.0001
    offset = y + 0.01
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


def draw_spectrogram(path: str) -> bytes:
    """Return the published spectrogram, a JPEG of 300 × 300."""
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
    """Return the means, then the standard deviations, over the frames."""
    return [*rows.mean(axis=1), *rows.std(axis=1)]
