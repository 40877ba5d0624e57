"""Servers of MLflow and Prefect that are there, away, or something else: real ones."""

import ssl
import subprocess
import time
from pathlib import Path

import pytest

from flows.readiness import servers
from genre.errors import GenreError, UsageError
from tests.support.forward_proxy import PROXY_VARIABLES, forward_proxy
from tests.support.odd_servers import answering, replying
from tests.support.servers import free_port


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without proxies, to which it is restored at the end."""
    for name in PROXY_VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize("status", [200, 302, 401, 403, 404, 500])
def test_any_answer_in_http_counts(status: int):
    with answering(status, {"Location": "http://127.0.0.1:9/login"}) as (url, asked):
        servers.check_mlflow(f"{url}/prefix/")
        servers.check_prefect(f"{url}/api/")
        assert servers.ask(url, timeout_s=5) == status
    assert asked == ["/prefix/health", "/api/health", "/"]


def test_user_password_and_query_are_neither_sent_nor_shown():
    with answering(401) as (url, asked):
        servers.check_mlflow(url.replace("://", "://user:s3cret@") + "/a b?token=s3cret")
    assert asked == ["/a%20b/health"]
    with pytest.raises(GenreError) as caught:
        servers.check_mlflow(f"http://user:s3cret@127.0.0.1:{free_port()}?token=s3cret")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("check", [servers.check_mlflow, servers.check_prefect])
def test_a_port_that_nobody_listens_on_is_an_error_in_words(check):
    url = f"http://127.0.0.1:{free_port()}"
    started = time.monotonic()
    with pytest.raises(GenreError, match=rf"{url} does not answer \(Connection refused\); .*(_URI|_URL)"):
        check(url)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"", "closes the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
        (None, "no answer within 0.2 s"),
    ],
)
def test_a_server_that_closes_hangs_or_is_of_another_kind(reply: bytes | None, words: str):
    with replying(reply) as url, pytest.raises(servers.NoAnswerError, match=words):
        servers.ask(url, timeout_s=0.2)


def test_https_at_a_server_without_tls():
    with replying(b"HTTP/1.0 400 Bad Request\r\n\r\n") as url, pytest.raises(GenreError, match="begins with http://"):
        servers.check_mlflow(url.replace("http:", "https:"))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that no authority has signed, with its key."""
    path = tmp_path / "certificate.pem"
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *name, "-keyout", str(path)]
    try:
        subprocess.run([*command, "-out", f"{path}.crt"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no certificate can be made here: {error}")
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def test_a_certificate_is_judged_as_mlflow_does(certificate: Path, monkeypatch: pytest.MonkeyPatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with answering(200, tls=context) as (url, asked):
        with pytest.raises(GenreError, match=r"not trusted: self.signed certificate.*MLFLOW_TRACKING_SERVER_CERT_PATH"):
            servers.check_mlflow(url)
        servers.check_prefect(f"{url}/api")  # Prefect's own settings decide
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
        servers.check_mlflow(url)
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate.with_name("none.pem")))
        with pytest.raises(GenreError, match=r"none\.pem: .*No such file"):
            servers.check_mlflow(url)
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
        servers.check_mlflow(url)
    assert len(asked) == 3


def test_a_server_of_another_machine_is_asked_through_the_proxy(monkeypatch: pytest.MonkeyPatch):
    with forward_proxy() as (proxy, asked):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        servers.check_mlflow("http://mlflow.example:5000")
        with answering(200) as (url, direct):
            servers.check_mlflow(url)
        monkeypatch.setenv("NO_PROXY", "mlflow.example")
        with pytest.raises(GenreError, match="does not answer"):
            servers.check_mlflow("http://mlflow.example:5000")
    assert asked == ["http://mlflow.example:5000/health"] and direct == ["/health"]


@pytest.mark.parametrize(("variable", "proxy"), [("ALL_PROXY", "http"), ("HTTP_PROXY", "socks5")])
def test_a_proxy_that_only_other_libraries_can_use_is_left_to_them(variable, proxy, monkeypatch):
    monkeypatch.setenv(variable, f"{proxy}://127.0.0.1:9")
    assert servers.ask("http://mlflow.example:5000/health", timeout_s=5) is None


def test_other_stores_are_not_asked():
    for uri in ("sqlite:///mlflow.db", "postgresql://127.0.0.1:9/mlflow", "databricks", "folder"):
        servers.check_mlflow(uri)


@pytest.mark.parametrize(
    "url", ["nonsense", "127.0.0.1:4200", "http://", "http://[", "ftp://host/api", "u:s3cret@host"]
)
def test_what_is_no_address_of_prefects_api(url: str):
    with pytest.raises(UsageError, match=r"PREFECT_API_URL must look like http://127\.0\.0\.1:4200/api") as caught:
        servers.check_prefect(url)
    assert "s3cret" not in str(caught.value)
