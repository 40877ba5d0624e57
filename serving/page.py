"""Web page that classifies audio with a served model: ``python -m serving.page [--url URL] [--port PORT]``.

Streamlit runs this file as a script, once per visitor and again after every action on the page.
"""

import argparse
import io
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from genre.audio import decoding
from genre.config import UNKNOWN, AudioConfig
from genre.errors import AudioError, GenreError, hide_secrets
from genre.inputs import spectrogram
from genre.plots import style
from genre.proxies import exempt_loopback
from serving.description import ModelDescription, describe_model
from serving.request import URL, NoServerError, Prediction, failed_prediction, predict_audio

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Largest file that the page accepts, MB: the limit of the served model.
MAX_MB = 128

#: Length of the stretch of a file that is drawn, seconds.
MAX_DRAWN_S = 600.0

#: Columns of the drawing, about as many as the pixels it is shown with.
COLUMNS = 1600

#: Sources to choose from, as the page shows them.
FROM_FILE = "Files"
FROM_RECORDING = "A recording"

#: Number of genres among the best guesses.
N_GUESSES = 3

#: Age up to which the description of the model is shown again without asking, seconds.
DESCRIBED_S = 60

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
    """Draw the page: what the model is, the uploader, and the predictions of files that were uploaded or recorded.

    Parameters
    ----------
    url : str
        Address of the served model.
    """
    import streamlit as st

    st.set_page_config(page_title="Genre")  # no icon: Streamlit would have the browser load it from the internet
    st.title("What genre is this?")
    try:
        model = _describe_model(url)
        _show_model(model)
    except NoServerError as error:
        st.error(str(error))
        return
    except GenreError:  # such as too many requests at the moment
        model = ModelDescription()
    uploads = _ask_for_audio()
    if not uploads:
        st.caption(f"Your audio is sent only to the model at {hide_secrets(url)}.")
        return
    predictions = _classify(uploads, url)
    chosen = 0
    if len(uploads) > 1:
        names = [f"{n}. {upload.name}" for n, upload in enumerate(uploads, start=1)]
        st.table(_result_table(names, predictions))
        chosen = st.selectbox("Details of", range(len(names)), format_func=names.__getitem__)
    _show_details(uploads[chosen].getvalue(), predictions[chosen], model)


def _describe_model(url: str) -> ModelDescription:
    """Return what is known of the served model, as it was a minute ago at most."""
    import streamlit as st

    return st.cache_data(ttl=DESCRIBED_S, show_spinner=False)(describe_model)(url)


def _show_model(model: ModelDescription) -> None:
    """Show version, data set and genres of the model, its warning, and its model card or a link to it."""
    import streamlit as st

    st.markdown(_describe_in_words(model))
    if model.warning:
        st.warning(model.warning)
    if model.page:
        st.markdown(f"[Model card in MLflow]({model.page})")
    elif model.card:
        with st.expander("Model card"):
            st.markdown(re.sub(r"\[([^]]*)]\(#[^)]*\)", r"\1", model.card))  # its links lead to MLflow's pages


def _describe_in_words(model: ModelDescription) -> str:
    """Return sentences on what a model was trained on and which genres it knows, in Markdown."""
    name = f"Model **{_plain(model.version)}**" if model.version else "A model without a registered version"
    n_tracks = f", {model.n_tracks} tracks" if model.n_tracks else ""
    if model.pretrained:
        name += ", a published network, trained elsewhere"
    elif model.data_set:
        name += f", trained on the data set {_plain(model.data_set)}{n_tracks}"
    else:
        name += ". What it was trained on is not known here: MLflow, see MLFLOW_TRACKING_URI, does not have it"
    genres = f" It knows {len(model.genres)} genres: {', '.join(map(_plain, model.genres))}." if model.genres else ""
    return f"{name}.{genres}"


def _ask_for_audio() -> list[Any]:
    """Let the visitor choose files or record one, and return what there is."""
    import streamlit as st

    kind = st.segmented_control("Source", [FROM_FILE, FROM_RECORDING], default=FROM_FILE, label_visibility="collapsed")
    if kind == FROM_RECORDING:
        recording = st.audio_input("Record a few seconds of music")
        return [recording] if recording else []
    return st.file_uploader("Drop audio files: any format, rate and length", accept_multiple_files=True) or []


def _classify(uploads: Sequence[Any], url: str) -> list[Prediction]:
    """Classify files, each in a request of its own, so that no file fails with another; none is classified twice."""
    import streamlit as st

    done = st.session_state.setdefault("predictions", {})
    predictions = []
    for n, upload in enumerate(uploads, start=1):
        if upload.file_id not in done:
            try:
                with st.spinner(f"Classifying {n} of {len(uploads)} ..."):
                    [done[upload.file_id]] = predict_audio([upload.getvalue()], url, {"timeline": True})
            except GenreError as error:  # tried again at the visitor's next action
                predictions.append(failed_prediction("refused", str(error)))
                continue
        predictions.append(done[upload.file_id])
    return predictions


def _result_table(names: Sequence[str], predictions: Sequence[Prediction]) -> "pd.DataFrame":
    """Return a row per file: its genre and the best guesses, or why it has none."""
    import pandas as pd

    rows = []
    for prediction in predictions:
        if error := prediction["error"]:
            rows.append(("not classified", error["message"]))
        else:
            genre = "not sure" if prediction["genre"] == UNKNOWN else prediction["genre"]
            rows.append((genre, _format_guesses(prediction)))
    cells = [[_plain(cell) for cell in row] for row in rows]
    return pd.DataFrame(cells, [_plain(name) for name in names], ["Genre", "Best guesses"])


def _format_guesses(prediction: Prediction) -> str:
    """Return the likeliest genres of a prediction as text, such as ``pop 48%, rock 46%``."""
    best = list(prediction["probabilities"].items())[:N_GUESSES]
    return ", ".join(f"{genre} {p:.0%}" for genre, p in best)


def _show_details(data: bytes, prediction: Prediction, model: ModelDescription) -> None:
    """Show one file: a player, its prediction, waveform and spectrogram; or why it could not be classified."""
    import streamlit as st

    st.audio(data)
    if error := prediction["error"]:
        st.error(f"{error['message']} ({error['code']})")
        return
    _show_prediction(prediction, model)
    try:
        caption = "Waveform with the best genre of each ten seconds, above the spectrogram"
        st.image(_track_png(data, prediction), width="stretch", caption=caption)
    except AudioError as error:
        st.caption(f"The waveform and spectrogram cannot be drawn: {error}")


def _show_prediction(prediction: Prediction, model: ModelDescription) -> None:
    """Show the genre, or why there is none, what is to be said of the model and the file, and all genres as bars."""
    import streamlit as st

    is_unknown = prediction["genre"] == UNKNOWN
    st.header("Not sure" if is_unknown else _plain(prediction["genre"]), anchor=False)
    if is_unknown:
        st.info(f"Not sure enough to name one genre. Best guesses: {_plain(_format_guesses(prediction))}.")
    version = prediction["model_version"]
    confidence = f"{prediction['confidence']:.0%} confident"
    st.caption(f"{confidence} · model {_plain(version)}" if version else confidence)
    if prediction["warning"] and prediction["warning"] != model.warning:
        st.warning(prediction["warning"])
    if model.genres and version == model.version and set(model.genres) != set(prediction["probabilities"]):
        st.warning("MLFLOW_TRACKING_URI names a store with another model of this name: the description is not of this.")
    if prediction["note"]:
        st.info(prediction["note"])
    _show_bars(prediction)


def _show_bars(prediction: Prediction) -> None:
    """Show the probabilities of all genres, the best first."""
    import altair as alt
    import pandas as pd
    import streamlit as st

    table = pd.DataFrame(prediction["probabilities"].items(), columns=["genre", "probability"])
    bars = alt.Chart(table).encode(
        x=alt.X("probability", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5), title=None),
        y=alt.Y("genre", sort=None, title=None),
        tooltip=["genre", alt.Tooltip("probability", format=".1%")],
    )
    labels = bars.mark_text(align="left", dx=4).encode(text=alt.Text("probability", format=".0%"))
    st.altair_chart(bars.mark_bar(color=style.COLOURS[0]) + labels, width="stretch")


def _plain(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]()#+.!|<>$~:-])", r"\\\1", text)


def _track_png(data: bytes, prediction: Prediction) -> bytes:
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
