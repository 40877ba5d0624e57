"""The page in a real browser, in front of a served model."""

import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from genre.datasets import SYNTHETIC_WARNING
from tests.serving.deploy.backend import proxied
from tests.support.project import ROOT
from tests.support.servers import free_port, wait_until_up
from tests.support.sounds import tone

pytest.importorskip("streamlit", reason="the extra page is not installed")
AppTest = pytest.importorskip("streamlit.testing.v1").AppTest
playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright")

#: The test of recording needs a microphone: Chromium's own, which beeps.
OPTIONS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium of this machine."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=OPTIONS)
        yield started
        started.close()


@contextmanager
def page_for(url: str, folder: Path) -> Iterator[str]:
    """Start the page for the model at `url`, as a user does; its address."""
    port = free_port()
    command = [sys.executable, "-m", "serving.page", "--url", url, "--port", str(port)]
    with (folder / "page.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    wait_until_up(f"http://127.0.0.1:{port}/_stcore/health", process, folder / "page.log")
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="module")
def address(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with page_for(url, tmp_path_factory.mktemp("page")) as address:
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


def drop(tab: Any, path: Path) -> None:
    tab.locator("input[type=file]").set_input_files(path)


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
    tab.get_by_text("A recording").click()
    tab.get_by_role("button", name="Record", exact=True).click()
    tab.wait_for_timeout(2500)
    tab.get_by_role("button", name="Stop recording").click()
    tab.get_by_text("confident").wait_for()


def test_without_a_server_the_page_gives_the_next_step(browser, tmp_path):
    sf.write(tmp_path / "high.wav", tone(2, hz=900), 22050)
    with page_for(f"http://127.0.0.1:{free_port()}", tmp_path) as address:
        tab = browser.new_page()
        tab.goto(address)
        drop(tab, tmp_path / "high.wav")
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
