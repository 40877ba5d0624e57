"""A page that asks a served model: ``python -m serving.page [--url URL] [--port PORT]``.

Streamlit runs this file as a script, anew for each visitor and each thing done on the page.
"""

import argparse
import io
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from genre.audio import decoding
from genre.config import UNKNOWN, AudioConfig
from genre.errors import AudioError, GenreError
from genre.inputs import spectrogram
from genre.plots import style
from serving.request import URL, predict_audio

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Largest file that the page takes, MB, as the served model does; and the stretch of it that is drawn, seconds.
MAX_MB, MAX_DRAWN_S = 128, 600.0

#: Columns of the drawing: about the pixels it gets.
COLUMNS = 1600

#: Sources to choose from, as the page shows them.
FROM_FILE, FROM_RECORDING = "A file", "A recording"

#: Nothing leaves this machine, nothing is fetched from another, and a visitor sees no code.
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
    """Draw the page, as far as its visitor has come.

    Parameters
    ----------
    url : str
        Where the model is served.
    """
    import streamlit as st

    st.set_page_config(page_title="Genre")  # with an icon of its own, the browser would fetch it from the net
    st.title("What genre is this?")
    kind = st.segmented_control("Source", [FROM_FILE, FROM_RECORDING], default=FROM_FILE, label_visibility="collapsed")
    if kind == FROM_RECORDING:
        given = st.audio_input("Record some seconds of music")
    else:
        given = st.file_uploader("Drop an audio file: any format, rate and length")
    if given is None:
        st.caption(f"It goes to the model served at {url}, and nowhere else.")
        return
    data = given.getvalue()
    st.audio(data)
    try:
        with st.spinner("Listening ..."):
            [answer] = predict_audio([data], url, {"timeline": True})
    except GenreError as error:
        st.error(str(error))
        return
    if answer["error"]:
        st.error(f"{answer['error']['message']} ({answer['error']['code']})")
        return
    _show_prediction(answer)
    try:
        st.image(_track_png(data, answer), width="stretch")
    except AudioError as error:
        st.caption(f"No picture of it: {error}")


def _show_prediction(answer: dict[str, Any]) -> None:
    """Genre, confidence and version, and all genres as bars."""
    import altair as alt
    import pandas as pd
    import streamlit as st

    genre, version = answer["genre"], answer["model_version"]
    st.header("Not sure" if genre == UNKNOWN else genre, anchor=False)
    said = f"{answer['confidence']:.0%} confident" + (", too little to name a genre" if genre == UNKNOWN else "")
    st.caption(f"{said} · model {version}" if version else said)
    table = pd.DataFrame(answer["probabilities"].items(), columns=["genre", "probability"])
    bars = alt.Chart(table).encode(
        x=alt.X("probability", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5), title=None),
        y=alt.Y("genre", sort=None, title=None),
        tooltip=["genre", alt.Tooltip("probability", format=".1%")],
    )
    labels = bars.mark_text(align="left", dx=4).encode(text=alt.Text("probability", format=".0%"))
    st.altair_chart(bars.mark_bar(color=style.COLOURS[0]) + labels, width="stretch")


def _track_png(data: bytes, answer: dict[str, Any]) -> bytes:
    """Picture of a track: `plot_track` as the bytes of a PNG file."""
    file = io.BytesIO()
    plot_track(data, answer["timeline"] or []).savefig(file, format="png", dpi=style.DPI)
    return file.getvalue()


def plot_track(data: bytes, timeline: list[dict[str, Any]]) -> "Figure":
    """Waveform of a track with the best genre of each window, above its spectrogram.

    Parameters
    ----------
    data : bytes
        An audio file; what lies beyond `MAX_DRAWN_S` is not drawn.
    timeline : list of dict
        ``start_s``, ``end_s`` and ``probabilities`` of each window, as in an answer; may be empty.

    Returns
    -------
    Figure

    Raises
    ------
    AudioError
        If the file cannot be decoded.
    """
    from matplotlib.figure import Figure

    config, windows = AudioConfig(), []
    for start_s, y in decoding.decode_windows(data, config):
        if start_s >= MAX_DRAWN_S:
            break
        windows.append(y)
    y = np.concatenate(windows)
    out = Figure(figsize=(9, 4.6), layout="constrained")
    above, below = out.subplots(2, sharex=True, height_ratios=(2, 3))
    _draw_wave(above, y, config)
    _draw_timeline(above, timeline)
    # as a model sees it: each window below its own maximum
    width = [round(w.size / config.hop_length) for w in windows]
    S = np.hstack([spectrogram.log_mel(w, config)[:, :n] for w, n in zip(windows, width, strict=True)])
    S = S[:, :: max(1, S.shape[1] // COLUMNS)]
    below.imshow(
        S, aspect="auto", origin="lower", cmap="magma", extent=(0, y.size / config.sr, 0, len(S)), rasterized=True
    )
    below.set(xlabel="Seconds", ylabel="Mel band")
    return out


def _draw_wave(axes: "Axes", y: np.ndarray, config: AudioConfig) -> None:
    step = max(1, y.size // COLUMNS)
    blocks = y[: y.size // step * step].reshape(-1, step)
    t = np.arange(len(blocks)) * step / config.sr
    axes.fill_between(t, blocks.min(axis=1), blocks.max(axis=1), color=style.INK, lw=0)
    peak = max(float(np.abs(y).max()), 1e-6)
    axes.set(ylim=(-1.1 * peak, 1.1 * peak), yticks=[], ylabel="Waveform")


def _draw_timeline(axes: "Axes", timeline: list[dict[str, Any]]) -> None:
    """Each window in the colour of its best genre, the paler the less sure."""
    from matplotlib.patches import Patch

    best = [max(w["probabilities"].items(), key=lambda item: item[1]) for w in timeline]
    colours = {genre: style.COLOURS[n % len(style.COLOURS)] for n, genre in enumerate(dict(best))}
    for window, (genre, p) in zip(timeline, best, strict=True):
        axes.axvspan(window["start_s"], window["end_s"], color=colours[genre], alpha=0.15 + 0.6 * p, lw=0, zorder=0)
    if colours:
        patches = [Patch(color=colour, alpha=0.6, label=genre) for genre, colour in colours.items()]
        axes.legend(handles=patches, ncols=7, loc="lower left", bbox_to_anchor=(0, 1), frameon=False, borderaxespad=0)


def main() -> int:
    """Serve the page until Ctrl-C; as the script that Streamlit runs, draw it."""
    parser = argparse.ArgumentParser(prog="python -m serving.page", description="A page that asks a served model.")
    parser.add_argument("--url", default=URL, help="where the model is served (default: %(default)s)")
    parser.add_argument("--port", type=int, default=5002, help="of the page (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        from streamlit import runtime
        from streamlit.web import cli
    except ModuleNotFoundError:
        print("error: the page needs Streamlit: pip install -c requirements.txt '.[page]'", file=sys.stderr)
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
