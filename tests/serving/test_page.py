"""The page in a real browser, in front of a served model."""

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from mlflow import MlflowClient

from genre.datasets import SYNTHETIC_WARNING
from serving.description import describe_model
from tests.serving.deploy.backend import proxied
from tests.support.browser import chromium
from tests.support.project import ROOT
from tests.support.servers import free_port, wait_until_up
from tests.support.sounds import tone

pytest.importorskip("streamlit", reason="the extra page is not installed")
AppTest = pytest.importorskip("streamlit.testing.v1").AppTest

#: Tags that `described` gives to the served version, as a promotion does.
TAGS = {"data_set": "folder-mine", "n_tracks": "12", "synthetic": "false", "genres": '["high", "low"]'}

#: Its model card, with a link that leads nowhere outside MLflow's pages.
CARD = "**Test scores per track: macro AUC 1.000**\n\nSee the [figures of the run](#/experiments/1/runs/abc)."


#: A prediction as older code made it, of genres with characters that mean something in Markdown.
ANSWER = {
    "genre": "drum__bass",
    "confidence": 0.48,
    "probabilities": {"drum__bass": 0.48, "rock": 0.46, "pop": 0.06},
    "error": None,
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium of this machine, whose microphone hears the low tone."""
    heard = tmp_path_factory.mktemp("microphone") / "low.wav"
    sf.write(heard, tone(20, hz=110, sr=48000), 48000)
    microphone = ("--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={heard}")
    with chromium(*microphone, "--use-fake-ui-for-media-stream") as started:
        yield started


@pytest.fixture(autouse=True)
def no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No database of MLflow, unless a test names one."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'none.db'}")


@pytest.fixture(scope="module")
def described(model_path: Path) -> str:
    """Address of the store in which the served version is registered, with the tags and the card of a promotion."""
    uri = f"sqlite:///{model_path.parent / 'mlflow.db'}"
    client = MlflowClient(uri)
    for tag, value in TAGS.items():
        client.set_model_version_tag("genre", "1", tag, value)
    client.update_model_version("genre", "1", CARD)
    return uri


@contextmanager
def page_for(url: str, folder: Path, store: str = "") -> Iterator[str]:
    """Start the page for the model at `url`, as a user does; its address."""
    port = free_port()
    command = [sys.executable, "-m", "serving.page", "--url", url, "--port", str(port)]
    with (folder / "page.log").open("w") as log:
        environment = os.environ | {"MLFLOW_TRACKING_URI": store or f"sqlite:///{folder / 'none.db'}"}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    wait_until_up(f"http://127.0.0.1:{port}/_stcore/health", process, folder / "page.log")
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="module")
def address(url: str, described: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with page_for(url, tmp_path_factory.mktemp("page"), described) as address:
        yield address


@pytest.fixture
def tab(browser: Any, address: str) -> Iterator[Any]:
    """The page in a new window, which must load nothing from other machines."""
    context = browser.new_context(viewport={"width": 1000, "height": 1300}, permissions=["microphone"])
    tab = context.new_page()
    links = []
    tab.on("request", lambda request: links.append(request.url))
    tab.set_default_timeout(60_000)
    tab.goto(address)
    yield tab
    context.close()
    local = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")
    assert [link for link in links if not link.startswith(local)] == []


def drop(tab: Any, *paths: Path) -> None:
    tab.locator("input[type=file]").set_input_files(paths)


def test_the_page_says_what_the_model_was_trained_on_and_what_it_knows(tab):
    sentence = "Model genre/1, trained on the data set folder-mine, 12 tracks. It knows 2 genres: high, low."
    tab.get_by_text(sentence).wait_for()
    tab.locator("summary", has_text="Model card").focus()
    tab.keyboard.press("Enter")
    tab.get_by_text("macro AUC 1.000").wait_for()
    assert tab.get_by_text("See the figures of the run.").locator("a").count() == 0


def test_each_of_several_files_has_a_row_and_a_bad_one_hides_no_other(tab, tmp_path):
    sf.write(tmp_path / "a *high* one.flac", tone(5, hz=900), 22050)
    sf.write(tmp_path / "low.flac", tone(5, hz=110), 22050)
    (tmp_path / "text.mp3").write_text("no music")
    drop(tab, tmp_path / "a *high* one.flac", tmp_path / "text.mp3", tmp_path / "low.flac")
    tab.get_by_role("row", name="3. low.flac low low ").wait_for()
    rows = [" ".join(row.inner_text().split()) for row in tab.get_by_role("row").all()]
    assert rows[0] == "Genre Best guesses"
    assert rows[1].startswith("1. a *high* one.flac high high ")
    assert rows[2].startswith("2. text.mp3 not classified audio of 8 bytes: not a readable audio file")
    tab.get_by_role("combobox", name="Details of").press("ArrowDown")
    tab.get_by_role("option", name="2. text.mp3").click()
    tab.get_by_role("alert").get_by_text("(undecodable)").wait_for()


def test_a_dropped_file_shows_genre_bars_timeline_spectrogram_and_version(tab, tmp_path):
    sf.write(tmp_path / "both.flac", np.concatenate([tone(10, hz=900), tone(20, hz=110)]), 22050)
    drop(tab, tmp_path / "both.flac")
    tab.get_by_role("heading", name="low").wait_for()
    assert "model genre/1" in tab.content()
    tab.locator("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg").first.wait_for()
    tab.locator("[data-testid=stImage] img").wait_for()
    tab.wait_for_function("document.querySelector('[data-testid=stImage] img').naturalWidth > 1000")


def test_a_file_that_is_not_audio_is_an_error_message(tab, tmp_path):
    (tmp_path / "text.mp3").write_text("no music")
    drop(tab, tmp_path / "text.mp3")
    tab.get_by_role("alert").get_by_text("(undecodable)").wait_for()
    assert "Traceback" not in tab.content()


def test_a_recording_is_classified(tab):
    """Chromium's microphone plays a file: the genre shows that what was recorded arrived."""
    tab.get_by_text("A recording").click()
    tab.get_by_role("button", name="Record", exact=True).click()
    tab.wait_for_timeout(4000)
    tab.get_by_role("button", name="Stop recording").click()
    tab.get_by_role("heading", name="low").wait_for()


def test_without_a_server_the_page_gives_the_next_step(browser, tmp_path):
    with page_for(f"http://127.0.0.1:{free_port()}", tmp_path) as address:
        tab = browser.new_page()
        tab.goto(address)
        tab.get_by_role("alert").get_by_text("mlflow models serve").wait_for()
        tab.close()


@pytest.mark.parametrize(("server", "warnings"), [("url", []), ("synthetic", [SYNTHETIC_WARNING])])
def test_the_page_shows_the_warning_of_the_model(request, server, warnings):
    """Without a browser, by Streamlit's own simulation of a page."""
    served = request.getfixturevalue(server)
    file = io.BytesIO()
    sf.write(file, tone(5, hz=110), 22050, format="WAV")
    page = AppTest.from_function(show_page, args=(served if server == "url" else served[0],), default_timeout=60)
    page.run().file_uploader[0].upload("low.wav", file.getvalue(), "audio/wav").run()
    assert not page.exception
    assert [header.value for header in page.header] == ["low"]
    assert [warning.value for warning in page.warning] == warnings


@contextmanager
def answering(**prediction: Any) -> Iterator[str]:
    """Start a server that gives one answer to every request; its address."""
    body = json.dumps({"predictions": [ANSWER | prediction]}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def show_prediction(url: str) -> Any:
    """Upload a file to the page of a model, by Streamlit's own simulation of a page."""
    page = AppTest.from_function(show_page, args=(url,), default_timeout=60)
    page.run().file_uploader[0].upload("low.wav", b"audio", "audio/wav").run()
    assert not page.exception
    return page


def test_an_unknown_genre_is_explained_in_words():
    with answering(genre="unknown") as url:
        page = show_prediction(url)
    assert [header.value for header in page.header] == ["Not sure"]
    guesses = "drum\\_\\_bass 48%, rock 46%, pop 6%"
    assert [info.value for info in page.info] == [f"Not sure enough to name one genre. Best guesses: {guesses}."]


def test_a_model_of_older_code_is_shown_and_says_that_nothing_is_known_of_it():
    with answering() as url:
        page = show_prediction(url)
    assert "A model without a registered version. What it was trained on is not known here" in page.markdown[0].value
    assert [header.value for header in page.header] == ["drum\\_\\_bass"]


def test_the_description_of_another_store_is_not_taken_for_that_of_the_served_model(described, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", described)
    with answering(model_version="genre/1") as url:
        page = show_prediction(url)
    assert "another model of this name" in page.warning[0].value


def test_a_server_of_mlflow_is_linked_without_its_password(mlflow_server, monkeypatch):
    client = MlflowClient(mlflow_server.url)
    run = client.create_run(client.create_experiment("mine"))
    client.create_registered_model("genre")
    client.create_model_version("genre", f"{run.info.artifact_uri}/model", run.info.run_id, tags={"pretrained": "true"})
    uri = f"http://listener:kingfisher@127.0.0.1:{mlflow_server.port}"
    for name, value in {"TRACKING_URI": uri, "TRACKING_USERNAME": "", "TRACKING_PASSWORD": ""}.items():
        monkeypatch.setenv(f"MLFLOW_{name}", value)
    with answering(model_version="genre/1") as url:
        known = describe_model(url)
    assert known.page == f"{mlflow_server.url}/#/models/genre/versions/1?workflowType=machine_learning"
    assert (known.version, known.pretrained, known.genres) == ("genre/1", True, ())


def test_a_refusal_by_the_proxy_is_shown_as_its_sentence(tmp_path):
    with proxied(tmp_path) as backend:
        page = AppTest.from_function(show_page, args=(backend.url,), default_timeout=60)
        page.run().file_uploader[0].upload("large.wav", bytes(2**20), "audio/wav").run()
    assert not page.exception
    [error] = page.error
    assert "413: the request is larger than 1 MB; send fewer files per request" in error.value


def show_page(url: str) -> None:
    from serving.page import draw_page

    draw_page(url)


def test_the_figure_follows_the_timeline():
    from serving.page import plot_track

    file = io.BytesIO()
    sf.write(file, np.concatenate([tone(10, hz=900), tone(10, hz=110)]), 22050, format="WAV")
    timeline = [
        {"start_s": 0.0, "end_s": 10.0, "probabilities": {"low": 0.1, "high": 0.9}},
        {"start_s": 10.0, "end_s": 20.0, "probabilities": {"low": 0.8, "high": 0.2}},
    ]
    above, below = plot_track(file.getvalue(), timeline).axes
    assert [text.get_text() for text in above.get_legend().get_texts()] == ["high", "low"]
    (S,) = (image.get_array() for image in below.images)
    peak = [np.asarray(half).mean(axis=1).argmax() for half in np.array_split(S, 2, axis=1)]
    assert peak[0] > peak[1]  # the half with the high tone has its peak in a higher mel band
    assert below.get_xlim() == pytest.approx((0, 20), abs=0.1)
