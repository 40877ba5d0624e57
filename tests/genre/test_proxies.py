"""Servers of this machine are asked directly, whatever proxies the environment names; all others through them."""

import http.server
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator

import httpx
import pytest
import requests

from genre.proxies import exempt_httpx, exempt_loopback, is_loopback
from tests.support.forward_proxy import PROXY_VARIABLES, forward_proxy

#: Nothing listens on the port of the discard service.
DEAD_PROXIES = ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "127.0.0.1:9"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no exemption in the environment, which is as before at the end."""
    for name in PROXY_VARIABLES:
        monkeypatch.setenv(name, "")  # so that what a test sets is taken back
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Port of a server of this machine that answers everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def ask_by_urllib(url: str) -> int:
    with urllib.request.build_opener().open(url, timeout=10) as answer:  # urlopen keeps the proxies of its first call
        return answer.status


@pytest.mark.parametrize("proxy", DEAD_PROXIES)
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_is_asked_for_a_server_of_this_machine(port, monkeypatch, variable, proxy, host):
    monkeypatch.setenv(variable, proxy)
    exempt_loopback()
    assert requests.get(f"http://{host}:{port}/", timeout=10).ok
    assert ask_by_urllib(f"http://{host}:{port}/") == 200
    exempt_httpx()
    assert httpx.get(f"http://{host}:{port}/").is_success


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
def test_any_other_server_is_asked_through_the_proxy(monkeypatch, variable):
    with forward_proxy() as (proxy, asked):
        monkeypatch.setenv(variable, proxy)
        exempt_httpx()
        assert requests.get("http://one.example/", timeout=10).status_code == 502
        with pytest.raises(OSError, match="502"):
            ask_by_urllib("http://two.example/")
        fetch = "import requests; requests.get('http://three.example/', timeout=10)"
        subprocess.run([sys.executable, "-c", fetch], check=True)
    assert asked == ["http://one.example/", "http://two.example/", "http://three.example/"]


def test_httpx_goes_through_the_proxy_to_other_machines_unless_it_is_exempted(monkeypatch):
    with forward_proxy() as (proxy, asked):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        exempt_loopback()
        assert httpx.get("http://prefect.example/").status_code == 502
    assert asked == ["http://prefect.example/"]


@pytest.mark.parametrize(
    "listed", ["::1/128", "[::1]", "10.0.0.0/8,.corp.example", "*.local, 192.168.0.0/16", "localhost"]
)
def test_what_no_proxy_lists_is_kept(port, monkeypatch, listed):
    monkeypatch.setenv("NO_PROXY", listed)
    monkeypatch.setenv("HTTP_PROXY", DEAD_PROXIES[0])
    exempt_httpx()
    hosts = [host.strip() for host in listed.split(",")]
    for name in ("NO_PROXY", "no_proxy"):
        assert os.environ[name].split(",")[: len(hosts)] == hosts
    assert httpx.get(f"http://127.0.0.1:{port}/").is_success


def test_each_spelling_of_no_proxy_keeps_its_own_hosts(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", DEAD_PROXIES[0])
    monkeypatch.setenv("NO_PROXY", "upper.example")
    monkeypatch.setenv("no_proxy", "lower.example")
    exempt_loopback()
    exempt_loopback()  # a flow inside a flow
    assert os.environ["NO_PROXY"] == "upper.example,localhost,127.0.0.1,::1"
    assert os.environ["no_proxy"] == "lower.example,localhost,127.0.0.1,::1"


def test_all_hosts_exempted_by_the_user_stay_exempted(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", DEAD_PROXIES[0])
    monkeypatch.setenv("NO_PROXY", "*")
    exempt_loopback()
    exempt_httpx()
    assert os.environ["NO_PROXY"] == os.environ.get("no_proxy", "*") == "*"


def test_an_environment_without_proxies_is_left_alone():
    exempt_loopback()
    exempt_httpx()
    assert not {"NO_PROXY", "no_proxy"} & set(os.environ)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:4200/api", True),
        ("http://LocalHost:4200/api", True),
        ("http://[::1]:4200/api", True),
        ("https://api.prefect.cloud/api", False),
        ("http://localhost.example/api", False),
        ("http://[", False),
    ],
)
def test_addresses_of_this_machine(url, expected):
    assert is_loopback(url) is expected
