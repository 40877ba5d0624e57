"""Figures of spectrograms."""

from typing import TYPE_CHECKING, Any

import numpy as np

from genre.config import AudioConfig
from genre.errors import UsageError
from genre.inputs import filterbanks
from genre.plots.style import add_colour_bar, genre_label, make_panels, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Frequencies marked on the mel axis, Hz: octaves.
MEL_TICKS_HZ = (250, 500, 1000, 2000, 4000, 8000, 16000)


def spectrograms_per_genre(spectrograms: dict[str, np.ndarray], config: AudioConfig) -> "Figure":
    """Draw one log-mel spectrogram per genre, as in the paper's figure 1.

    Parameters
    ----------
    spectrograms : dict of str to np.ndarray [shape=(n_mels, t), dtype=uint8]
        By genre; 0…255 stands for −`config.top_db`…0 dB below the clip's maximum.
    config : AudioConfig
        Configuration that the spectrograms were computed with.

    Returns
    -------
    Figure
        Time in seconds, frequency in kHz on the mel scale, level in dB; at most four per row.

    Raises
    ------
    UsageError
        If there is no spectrogram, or one does not have `config.n_mels` rows.
    """
    if not spectrograms:
        raise UsageError("no spectrogram to draw; pass one per genre")
    for genre, S in spectrograms.items():
        if S.ndim != 2 or len(S) != config.n_mels:
            raise UsageError(f"the spectrogram of {genre!r} has shape {S.shape}, not ({config.n_mels}, frames)")
    n_columns = min(4, len(spectrograms)) if len(spectrograms) != 3 else 3
    n_rows = -(-len(spectrograms) // n_columns)
    figure, panels = make_panels(n_rows, n_columns, 1.6 + 3.1 * n_columns, 0.7 + 2.4 * n_rows, grid=False)
    for axes, (genre, S) in zip(panels, spectrograms.items(), strict=False):
        image = _draw_spectrogram(axes, S, config)
        set_title(axes, genre_label(genre))
    for k, axes in enumerate(panels):
        axes.set_visible(k < len(spectrograms))
        if k % n_columns == 0:
            axes.set_ylabel("Frequency (kHz, mel)")
        if k + n_columns >= len(spectrograms):
            axes.set_xlabel("Time (s)")
    ticks_db = np.linspace(-config.top_db, 0, 5).tolist()
    add_colour_bar(figure, panels, image, "Level below the clip's maximum (dB)", ticks_db)
    return figure


def _draw_spectrogram(axes: "Axes", S: np.ndarray, config: AudioConfig) -> Any:
    """Draw one spectrogram over seconds and kilohertz; return matplotlib's image, for the colour bar."""
    centres = filterbanks.mel_corners_hz(config.sr, config.n_mels)[1:-1]
    ticks_hz = [hz for hz in MEL_TICKS_HZ if centres[0] <= hz <= centres[-1]]
    level_db = S.astype(np.float32) / 255 * config.top_db - config.top_db
    length_s = S.shape[1] * config.hop_length / config.sr
    extent = (0.0, length_s, -0.5, config.n_mels - 0.5)
    image = axes.imshow(
        level_db, cmap="magma", vmin=-config.top_db, vmax=0, origin="lower", aspect="auto", extent=extent
    )
    axes.set_yticks(np.interp(ticks_hz, centres, np.arange(config.n_mels)), [f"{hz / 1000:g}" for hz in ticks_hz])
    axes.tick_params(labelsize=8)
    return image
