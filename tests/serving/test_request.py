"""The client as a command and from Python, against a served model, other servers, and models of older versions."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from genre.datasets import SYNTHETIC_WARNING
from serving import request
from tests.support.forward_proxy import forward_proxy
from tests.support.project import ROOT
from tests.support.servers import free_port
from tests.support.sounds import tone

OLD = {"genre": "low", "confidence": 0.7, "probabilities": {"high": 0.3, "low": 0.7}, "error": None}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A high tone, a low tone of two windows, and a text file."""
    folder = tmp_path_factory.mktemp("files")
    sf.write(folder / "high.wav", tone(10, hz=900), 22050)
    sf.write(folder / "low.flac", tone(20, hz=110), 22050)
    (folder / "text.mp3").write_text("no music")
    return [str(folder / name) for name in ("high.wav", "low.flac", "text.mp3")]


def run(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "serving.request", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, input=stdin, timeout=120)
    assert b"Traceback" not in done.stderr, done.stderr
    return done


@contextmanager
def answering(*replies: tuple[int, object]) -> Iterator[tuple[str, list[dict]]]:
    """A server that gives these replies in turn, the last one repeatedly; its address and the bodies it received."""
    received: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            code, reply = replies[min(len(received), len(replies)) - 1]
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(reply).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_only_a_server_of_another_machine_is_asked_through_a_proxy(files, monkeypatch, variable):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with forward_proxy() as (proxy, asked), answering((200, {"predictions": [OLD]})) as (url, received):
        monkeypatch.setenv(variable, proxy)
        assert run("--url", url, files[0]).returncode == 0
        assert len(received) == 1 and asked == []
        assert run("--url", "http://genre.example:5001", files[0]).returncode == request.SOME_FAILED
    assert asked == ["http://genre.example:5001/invocations"]


def test_the_table_has_one_row_per_file_and_the_version(url, files):
    done = run("--url", url, *files)
    header, high, low, text, _, version = done.stdout.decode().splitlines()
    assert done.returncode == 1  # text.mp3
    column = header.index("genre")
    assert (high[column:].split()[0], low[column:].split()[0], text[column:].split()[0]) == ("high", "low", "error")
    assert "low 0." in high
    assert "undecodable: " in text
    assert version == "model: genre/1"


def test_the_exit_code_is_0_for_predictions_and_1_for_a_missing_file(url, files, tmp_path):
    assert run("--url", url, files[0]).returncode == 0
    done = run("--url", url, files[0], str(tmp_path / "absent.wav"), str(tmp_path))
    assert done.returncode == 1
    assert "No such file" in done.stdout.decode()
    assert "Is a directory" in done.stdout.decode()


@pytest.mark.parametrize("words", [(), ("-",)])
def test_standard_input_is_read(url, files, words):
    done = run("--url", url, *words, stdin=Path(files[0]).read_bytes())
    assert done.returncode == 0
    assert done.stdout.decode().splitlines()[1].split()[:2] == ["-", "high"]


def test_a_timeline_has_one_line_per_window(url, files):
    lines = run("--url", url, "--timeline", "--top-k", "1", files[1]).stdout.decode().splitlines()
    assert [line.split()[:4] for line in lines[2:4]] == [["0:00", "-", "0:10", "low"], ["0:10", "-", "0:20", "low"]]
    assert "high" not in "".join(lines[1:])


def test_predict_audio_passes_the_parameters_on(url, files):
    data = [Path(name).read_bytes() for name in files[:2]]
    high, low = request.predict_audio(data, url, {"timeline": True, "min_confidence": 1.0})
    assert high["genre"] == low["genre"] == "unknown"
    assert next(iter(high["probabilities"])) == "high"
    assert [w["start_s"] for w in low["timeline"]] == [0, 10]


def test_without_a_server_the_message_gives_the_next_step(files):
    done = run("--url", f"http://127.0.0.1:{free_port()}", files[0])
    assert done.returncode == 2
    assert b"mlflow models serve" in done.stderr
    assert run("--url", "no address", files[0]).returncode == 2
    assert run("--top-k", "0", files[0]).returncode == 2


def test_a_server_that_closes_the_connection_is_not_called_absent(files):
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        with pytest.raises(request.RefusedError, match="closed the connection before it responded"):
            request.predict_audio([b"x"], f"http://127.0.0.1:{server.getsockname()[1]}")


def test_a_busy_server_is_not_sent_the_files_one_by_one(files):
    with answering((503, {"message": "the server is busy"})) as (url, received):
        [predictions] = request.predict_files(files[:2], url)
    assert len(received) == 1
    assert all(p["error"]["message"].endswith("503: the server is busy") for p in predictions.values())


@pytest.mark.parametrize("reply", [(404, {}), (200, {"predictions": [3]}), (200, "hello"), (200, {"predictions": []})])
def test_a_server_of_something_else_is_recognised(files, reply):
    with answering(reply) as (url, _), pytest.raises(request.NoServerError):
        request.predict_audio([b"x"], url)


def test_predictions_of_an_older_model_are_understood(files):
    refused = dict.fromkeys(OLD) | {"error": "neither soundfile nor PyAV can read it"}
    with answering((200, {"predictions": [OLD, refused]})) as (url, _):
        done = run("--url", url, *files[:2])
    first, second = done.stdout.decode().splitlines()[1:]
    assert done.returncode == 1 and done.stderr == b""
    assert first.split()[1:] == ["low", "0.70", "high", "0.30"]
    assert "neither soundfile" in second


def test_the_warning_of_a_model_is_one_line_above_the_table(synthetic, files):
    done = run("--url", synthetic[0], *files)
    assert done.stderr.decode().splitlines() == [f"warning: {SYNTHETIC_WARNING}"]
    assert "warning" not in done.stdout.decode()
    [prediction] = request.predict_audio([Path(files[0]).read_bytes()], synthetic[0])
    assert prediction["warning"] == SYNTHETIC_WARNING


def test_small_files_share_requests_and_large_ones_are_sent_alone(tmp_path):
    small = [tmp_path / f"{n}" for n in range(20)]
    for path in small:
        path.write_bytes(b"x")
    large = [tmp_path / "a", tmp_path / "b"]
    for path in large:
        path.write_bytes(bytes(request.BATCH_BYTES))
    sizes = [len(b) for b in batches([*small, *large])]
    assert sizes == [16, 5, 1]


def batches(paths: list[Path]) -> list[list]:
    """Classify these files; returns the rows of each request."""
    replies = [(200, {"predictions": [OLD] * n}) for n in (16, 5, 1)]
    with answering(*replies) as (url, received):
        names = [name for batch in request.predict_files(list(map(str, paths)), url) for name in batch]
    assert names == list(map(str, paths))
    return [body["dataframe_records"] for body in received]


def test_the_files_of_a_refused_request_are_sent_one_by_one(files):
    refusal = (400, {"message": "Failed to predict data 'AAAA'. \nError: too much at once"})
    with answering(refusal, (200, {"predictions": [OLD]}), refusal) as (url, received):
        [predictions] = request.predict_files(files[:2], url)
    assert len(received) == 3
    assert predictions[files[0]]["genre"] == "low"
    assert predictions[files[1]]["error"]["message"].endswith("400: too much at once")


def test_names_of_any_bytes_and_genres_of_any_script_are_printed(tmp_path):
    name = str(tmp_path) + "/caf\udce9.wav"  # latin-1, as in old collections
    Path(name).write_bytes(np.zeros(4).tobytes())
    with answering((200, {"predictions": [OLD | {"probabilities": {"演歌": 1.0}, "genre": "演歌"}]})) as (url, _):
        done = run("--url", url, name)
    assert done.returncode == 0
    assert "演歌" in done.stdout.decode()


def test_the_note_on_a_file_is_a_line_below_it():
    with answering((200, {"predictions": [OLD | {"note": "the channels cancel out"}]})) as (url, _):
        [prediction] = request.predict_audio([b"audio"], url)
    first, second = request.format_prediction("a.wav", prediction, width=8)
    assert first.startswith("a.wav") and second.split() == ["note", "the", "channels", "cancel", "out"]
    with answering((200, {"predictions": [OLD]})) as (url, _):
        assert request.predict_audio([b"audio"], url)[0]["note"] is None
