"""The limits and the repairs of the proxy: a real Caddy in front of a server that counts what reaches it."""

import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from genre.errors import GenreError
from serving import request
from serving.deploy import proxy as proxy_module
from serving.deploy.limits import Limits
from serving.deploy.proxy import Proxy, ProxyLostError, find_caddy
from tests.serving.deploy.backend import RESPONSE, SMALL, Backend, proxied
from tests.support.project import ROOT
from tests.support.servers import free_port


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """Its folder is deep: the path of a socket in it is longer than any system accepts."""
    folder = tmp_path_factory.mktemp("proxy") / ("d" * 120) / ("e" * 120)
    folder.mkdir(parents=True)
    with proxied(folder) as backend:
        yield backend


@pytest.fixture
def backend(shared: Backend) -> Backend:
    shared.reset()
    return shared


def post(backend: Backend, n_bytes: int) -> requests.Response:
    return requests.post(f"{backend.url}/invocations", data=bytes(n_bytes), timeout=30)


def post_all(backend: Backend, sizes: Sequence[int]) -> list[int]:
    """Send bodies at once; the statuses, in their order."""
    with ThreadPoolExecutor(len(sizes)) as pool:
        return [response.status_code for response in pool.map(lambda size: post(backend, size), sizes)]


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=0.1)


def send_slowly(url: str, sent: bytes, drip: bytes, timeout_s: float = 4) -> tuple[float, bytes]:
    """Send bytes, then a drip every tenth of a second; seconds until the server closes, and what it sends."""
    received = b""
    started = time.monotonic()
    with connect(url) as connection:
        connection.sendall(sent)
        while time.monotonic() - started < timeout_s:
            try:
                data = connection.recv(4096)
                if not data:
                    break
                received += data
            except TimeoutError:
                connection.sendall(drip)
            except ConnectionError:
                break
    return time.monotonic() - started, received


def announce(n_bytes: int) -> bytes:
    return f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {n_bytes}\r\n\r\n".encode()


def wait_until(condition, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_body_that_is_announced_as_too_large_is_refused_before_it_is_sent(backend: Backend):
    _, received = send_slowly(backend.url, announce(2**20 + 1), b"", timeout_s=1)
    assert received.startswith(b"HTTP/1.1 413")
    assert b"the request is larger than 1 MB; send fewer files per request" in received
    assert backend.bodies == []
    assert post(backend, 2**20).status_code == 200
    assert backend.bodies == [2**20]


def test_a_body_without_a_length_is_counted_while_it_arrives(backend: Backend):
    url = f"{backend.url}/invocations"
    refused = requests.post(url, data=iter([bytes(2**16)] * 40), timeout=30)
    assert refused.status_code == 413
    assert "larger than 1 MB" in refused.json()["message"]
    assert requests.post(url, data=iter([bytes(2**16)] * 10), timeout=30).status_code == 200
    assert backend.bodies == [10 * 2**16]


def test_the_largest_request_that_the_model_accepts_is_not_too_large():
    model = (ROOT / "serving" / "model.py").read_text()
    megabytes, kilo = re.search(r"MAX_CHARACTERS = (\d+) \* (2\*\*20)", model).groups()
    assert kilo == "2**20"
    escaped = 1 / 64 + 2 / 78  # "\/" for one of 64 characters, "\r\n" after each line of 76
    assert int(megabytes) * 2**20 * (1 + escaped) + 10_000 < Limits().max_body_bytes


@pytest.mark.parametrize("drip", [b"", b"x"])
def test_a_body_that_arrives_too_slowly_frees_its_place(backend: Backend, drip: bytes):
    # of so small a body Caddy itself waits for the rest, so the connection stays open
    with connect(backend.url) as connection:
        connection.sendall(announce(1000))
        wait_until(lambda: backend.n_open == 1)
        deadline = time.monotonic() + 4
        while backend.n_cut == 0:
            assert time.monotonic() < deadline
            connection.sendall(drip)
            time.sleep(0.1)
    assert backend.bodies == []


def test_the_connection_of_a_slow_sender_is_closed_with_a_sentence(backend: Backend):
    seconds, received = send_slowly(backend.url, announce(2**19), b"x")
    assert seconds < 3
    assert received.startswith(b"HTTP/1.1 408")
    assert b"the request arrived too slowly" in received


def test_a_slow_sender_that_keeps_the_rate_is_answered(backend: Backend):
    seconds, received = send_slowly(backend.url, announce(9000), bytes(500))  # 5000 per second
    assert seconds > SMALL.wait_s + SMALL.late_s
    assert received.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("sent", [b"POST / HTTP/1.1\r\nX-", b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_slow_headers_and_idle_connections_are_closed(backend: Backend, sent: bytes):
    seconds, _ = send_slowly(backend.url, sent, b"" if sent.endswith(b"\r\n\r\n") else b"x")
    assert seconds < 2


def test_requests_beyond_the_limit_wait_for_their_turn(backend: Backend):
    backend.delay_s = 0.3
    assert post_all(backend, [10] * 6) == [200] * 6
    assert backend.most_open == SMALL.max_requests


def test_a_request_that_waits_in_vain_gets_503_and_a_sentence(backend: Backend):
    backend.delay_s = SMALL.wait_s + 1
    statuses = post_all(backend, [10] * 3)
    assert sorted(statuses) == [200, 200, 503]


def test_large_bodies_have_a_limit_of_their_own(backend: Backend):
    backend.delay_s = 0.4
    with ThreadPoolExecutor(2) as pool:
        large = pool.map(lambda size: post(backend, size), [60_000] * 2)
        wait_until(lambda: backend.n_open == 1)
        assert post(backend, 10).status_code == 200
        assert backend.bodies.count(60_000) <= 1
        assert [response.status_code for response in large] == [200, 200]
    assert backend.most_open == 2


def test_a_request_waits_while_nothing_listens(backend: Backend):
    backend.proxy.send_to(0)
    threading.Timer(0.4, backend.proxy.send_to, [backend.port]).start()
    assert post(backend, 60_000).status_code == 200
    assert post(backend, 10).status_code == 200


def test_a_request_that_finds_nobody_gets_502_and_a_sentence(backend: Backend):
    backend.proxy.send_to(0)
    response = post(backend, 10)
    assert response.status_code == 502
    assert "; send the request again" in response.json()["message"]


def test_open_requests_are_counted_from_a_deep_folder(backend: Backend):
    backend.delay_s = 0.7
    with ThreadPoolExecutor(2) as pool:
        sent = [pool.submit(post, backend, size) for size in (10, 60_000)]
        wait_until(lambda: backend.n_open == 2)
        assert backend.proxy.n_open(backend.port) == 2
        assert all(response.result().ok for response in sent)
    assert backend.proxy.n_open(backend.port) == 0


def test_the_client_gets_the_sentences(backend: Backend, tmp_path: Path):
    with pytest.raises(request.RefusedError, match="413: the request is larger than 1 MB; send fewer files"):
        request.predict_audio([bytes(2**20)], backend.url)
    backend.delay_s = 2 * SMALL.wait_s
    files = [str(tmp_path / name) for name in ("a.wav", "b.wav")]
    for file in files:
        Path(file).write_bytes(b"x")
    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(post, backend, 10) for _ in range(2)]
        wait_until(lambda: backend.n_open == 2)
        [predictions] = request.predict_files(files, backend.url)
    assert all(response.result().ok for response in others)
    assert len(backend.bodies) == 2  # the two files were not sent again one by one
    for prediction in predictions.values():
        assert "503: the server is busy: the request waited 1 s for its turn" in prediction["error"]["message"]


def test_files_that_are_removed_are_written_again(backend: Backend):
    shutil.rmtree(backend.folder)
    backend.folder.mkdir()
    backend.proxy.look_after()
    assert post(backend, 10).status_code == 200
    backend.proxy.process.kill()
    backend.proxy.process.wait()
    backend.proxy.look_after()
    assert post(backend, 10).status_code == 200
    assert backend.proxy.n_open(backend.port) == 0


def test_a_proxy_that_cannot_be_restarted_for_long_is_an_error(tmp_path: Path, monkeypatch, capfd):
    monkeypatch.setattr(proxy_module, "MAX_DOWN_S", 1.0)
    port = free_port()
    proxy = Proxy("127.0.0.1", port, tmp_path, SMALL)
    try:
        proxy.process.kill()
        proxy.process.wait()
        with socket.socket() as other, pytest.raises(ProxyLostError, match="could not be restarted for 1 s"):
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", port))
            other.listen()
            while True:
                proxy.look_after()
                time.sleep(0.05)
    finally:
        proxy.stop()
    assert capfd.readouterr().out.count("the proxy cannot be restarted, trying again") >= 1


@pytest.mark.parametrize(
    ("version", "accepted"), [("v2.11.7 h1:x", True), ("v2.12.0-beta.1", True), ("v2.11.4", False)]
)
def test_a_proxy_without_the_limits_is_refused(tmp_path: Path, monkeypatch, version: str, accepted: bool):
    program = tmp_path / "caddy"
    program.write_text(f"#!/bin/sh\necho '{version}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    if accepted:
        assert find_caddy() == str(program)
    else:
        with pytest.raises(GenreError, match=r"version 2\.11\.7 or later is needed"):
            find_caddy()


def test_the_limits_in_front_of_mlflow_that_the_documentation_shows(backend: Backend, tmp_path: Path):
    text = (ROOT / "docs" / "serving.md").read_text()
    [config] = re.findall(r"```caddyfile\n(.*?)```", text, re.DOTALL)
    port = free_port()
    assert f"max_size {Limits().max_body_bytes >> 20}MiB" in config
    for shown, here in {":5000 ": f":{port} ", "127.0.0.1:5001": f"127.0.0.1:{backend.port}", "544MiB": "1MiB"}.items():
        assert shown in config
        config = config.replace(shown, here)
    (tmp_path / "Caddyfile").write_text(config)
    command = [find_caddy(), "run", "--config", str(tmp_path / "Caddyfile"), "--adapter", "caddyfile"]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, cwd=tmp_path, env={"HOME": str(tmp_path)}) as process:
        try:
            wait_until(lambda: process.poll() is None and socket.socket().connect_ex(("127.0.0.1", port)) == 0)
            assert requests.post(f"{url}/invocations", data=bytes(10), timeout=30).content == RESPONSE
            assert requests.post(f"{url}/invocations", data=bytes(2**20 + 1), timeout=30).status_code == 413
        finally:
            process.terminate()
