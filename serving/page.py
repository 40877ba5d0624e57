"""Web page that classifies audio with a served model: ``python -m serving.page [--url URL] [--port PORT]``.

Streamlit runs this file as a script, once per visitor and again after every action on the page.
"""

import argparse
import io
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from genre.audio import decoding
from genre.config import UNKNOWN, AudioConfig
from genre.errors import AudioError, GenreError, hide_secrets
from genre.inputs import spectrogram
from genre.plots import style
from genre.proxies import exempt_loopback
from serving.request import URL, predict_audio

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Largest file that the page accepts, MB: the limit of the served model.
MAX_MB = 128

#: Length of the stretch of a file that is drawn, seconds.
MAX_DRAWN_S = 600.0

#: Columns of the drawing, about as many as the pixels it is shown with.
COLUMNS = 1600

#: Sources to choose from, as the page shows them.
FROM_FILE = "A file"
FROM_RECORDING = "A recording"

#: Settings of Streamlit: nothing leaves this machine, nothing is loaded from another, and visitors see no code.
SETTINGS = {
    "server.address": "127.0.0.1",
    "server.headless": "true",
    "server.maxUploadSize": str(MAX_MB),
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    "theme.base": "light",
    "theme.primaryColor": style.COLOURS[0],
}


def draw_page(url: str) -> None:
    """Draw the page: the uploader, and the prediction of a file that was uploaded or recorded.

    Parameters
    ----------
    url : str
        Address of the served model.
    """
    import streamlit as st

    st.set_page_config(page_title="Genre")  # no icon: Streamlit would have the browser load it from the internet
    st.title("What genre is this?")
    kind = st.segmented_control("Source", [FROM_FILE, FROM_RECORDING], default=FROM_FILE, label_visibility="collapsed")
    if kind == FROM_RECORDING:
        upload = st.audio_input("Record a few seconds of music")
    else:
        upload = st.file_uploader("Drop an audio file: any format, rate and length")
    if upload is None:
        st.caption(f"Your audio is sent only to the model at {hide_secrets(url)}.")
        return
    data = upload.getvalue()
    st.audio(data)
    try:
        with st.spinner("Classifying ..."):
            [prediction] = predict_audio([data], url, {"timeline": True})
    except GenreError as error:
        st.error(str(error))
        return
    if prediction["error"]:
        st.error(f"{prediction['error']['message']} ({prediction['error']['code']})")
        return
    _show_prediction(prediction)
    try:
        st.image(_track_png(data, prediction), width="stretch")
    except AudioError as error:
        st.caption(f"The waveform and spectrogram cannot be drawn: {error}")


def _show_prediction(prediction: dict[str, Any]) -> None:
    """Show genre, confidence, version, the model's warning and the note on the file, and all genres as bars."""
    import altair as alt
    import pandas as pd
    import streamlit as st

    genre = prediction["genre"]
    version = prediction["model_version"]
    st.header("Not sure" if genre == UNKNOWN else genre, anchor=False)
    caption = f"{prediction['confidence']:.0%} confident"
    caption += ", too little to name a genre" if genre == UNKNOWN else ""
    st.caption(f"{caption} · model {version}" if version else caption)
    if prediction["warning"]:
        st.warning(prediction["warning"])
    if prediction["note"]:
        st.info(prediction["note"])
    table = pd.DataFrame(prediction["probabilities"].items(), columns=["genre", "probability"])
    bars = alt.Chart(table).encode(
        x=alt.X("probability", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5), title=None),
        y=alt.Y("genre", sort=None, title=None),
        tooltip=["genre", alt.Tooltip("probability", format=".1%")],
    )
    labels = bars.mark_text(align="left", dx=4).encode(text=alt.Text("probability", format=".0%"))
    st.altair_chart(bars.mark_bar(color=style.COLOURS[0]) + labels, width="stretch")


def _track_png(data: bytes, prediction: dict[str, Any]) -> bytes:
    """Return the figure of `plot_track` as the bytes of a PNG file."""
    file = io.BytesIO()
    plot_track(data, prediction["timeline"] or []).savefig(file, format="png", dpi=style.DPI)
    return file.getvalue()


def plot_track(data: bytes, timeline: list[dict[str, Any]]) -> "Figure":
    """Plot the waveform of a track with the best genre of each window, above its spectrogram.

    Parameters
    ----------
    data : bytes
        An audio file; only its first `MAX_DRAWN_S` seconds are drawn.
    timeline : list of dict
        ``start_s``, ``end_s`` and ``probabilities`` of each window, as in a prediction; may be empty.

    Returns
    -------
    Figure

    Raises
    ------
    AudioError
        If the file cannot be decoded.
    """
    from matplotlib.figure import Figure

    config = AudioConfig()
    windows = []
    for start_s, y in decoding.decode_windows(data, config):
        if start_s >= MAX_DRAWN_S:
            break
        windows.append(y)
    y = np.concatenate(windows)
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(2, 3))
    _draw_wave(above, y, config)
    _draw_timeline(above, timeline)
    # as a model gets it: each window in dB below its own maximum
    n_frames = [round(w.size / config.hop_length) for w in windows]
    S = np.hstack([spectrogram.log_mel(w, config)[:, :n] for w, n in zip(windows, n_frames, strict=True)])
    S = S[:, :: max(1, S.shape[1] // COLUMNS)]
    below.imshow(
        S, aspect="auto", origin="lower", cmap="magma", extent=(0, y.size / config.sr, 0, len(S)), rasterized=True
    )
    below.set(xlabel="Seconds", ylabel="Mel band")
    return figure


def _draw_wave(axes: "Axes", y: np.ndarray, config: AudioConfig) -> None:
    step = max(1, y.size // COLUMNS)
    blocks = y[: y.size // step * step].reshape(-1, step)
    t = np.arange(len(blocks)) * step / config.sr
    axes.fill_between(t, blocks.min(axis=1), blocks.max(axis=1), color=style.INK, lw=0)
    peak = max(float(np.abs(y).max()), 1e-6)
    axes.set(ylim=(-1.1 * peak, 1.1 * peak), yticks=[], ylabel="Waveform")


def _draw_timeline(axes: "Axes", timeline: list[dict[str, Any]]) -> None:
    """Shade each window in the colour of its best genre, paler where the model is less confident."""
    from matplotlib.patches import Patch

    best = [max(w["probabilities"].items(), key=lambda item: item[1]) for w in timeline]
    colours = {genre: style.COLOURS[n % len(style.COLOURS)] for n, genre in enumerate(dict(best))}
    for window, (genre, p) in zip(timeline, best, strict=True):
        axes.axvspan(window["start_s"], window["end_s"], color=colours[genre], alpha=0.15 + 0.6 * p, lw=0, zorder=0)
    if colours:
        patches = [Patch(color=colour, alpha=0.6, label=genre) for genre, colour in colours.items()]
        axes.legend(handles=patches, ncols=7, loc="lower left", bbox_to_anchor=(0, 1), frameon=False, borderaxespad=0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.page", description="Web page that classifies audio with a served model."
    )
    parser.add_argument("--url", default=URL, help="address of the served model (default: %(default)s)")
    parser.add_argument("--port", type=int, default=5002, help="port of the page (default: %(default)s)")
    return parser


def main() -> int:
    """Serve the page until Ctrl-C; draw it when Streamlit runs this file as its script."""
    exempt_loopback()
    arguments = _parser().parse_args()
    try:
        from streamlit import runtime
        from streamlit.web import cli
    except ModuleNotFoundError:
        install = 'pip install -c requirements.txt -e ".[page]"'
        print(f"error: the page needs Streamlit; install it with: {install}", file=sys.stderr)
        return 1
    if runtime.exists():
        draw_page(arguments.url)
        return 0
    settings = SETTINGS | {"server.port": str(arguments.port)}
    options = [f"--{name}={value}" for name, value in settings.items()]
    cli.main(["run", __file__, *options, "--", "--url", arguments.url])
    return 0


if __name__ == "__main__" and main():
    sys.exit(1)
