"""Servers of MLflow and Prefect, asked once by the standard library, before either is imported, which takes seconds."""

import os
import ssl
from http.client import HTTPException, RemoteDisconnected
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, build_opener, getproxies, proxy_bypass

from genre.errors import GenreError, UsageError, first_line
from genre.proxies import is_loopback

#: Longest wait for an answer of MLflow, as in `tracking.runs.short_timeouts`, seconds.
MLFLOW_TIMEOUT_S = 10.0

#: Longest wait for an answer of Prefect, seconds: its database may be busy with other runs.
PREFECT_TIMEOUT_S = 30.0


class NoAnswerError(GenreError):
    """Failure of a server to answer in HTTP; the message is the reason."""


def check_mlflow(uri: str) -> None:
    """Check that a server answers at the address of MLflow's store; of any other store nothing is asked.

    Parameters
    ----------
    uri : str
        Address of the store, from `tracking.store.store_uri`.

    Raises
    ------
    GenreError
        If there is no answer within `MLFLOW_TIMEOUT_S`, or the certificate is not one that MLflow trusts.
    """
    scheme = urlsplit(uri).scheme
    if scheme not in ("http", "https"):
        return
    try:
        context = _mlflow_context() if scheme == "https" else None
        ask(health_address(uri), timeout_s=MLFLOW_TIMEOUT_S, context=context)
    except NoAnswerError as error:
        raise GenreError(
            f"MLflow at {uri} does not answer ({error}); start that server, correct MLFLOW_TRACKING_URI, or unset it"
        ) from None


def check_prefect(url: str) -> None:
    """Check that a server answers at the address of Prefect's API; its certificate is left to Prefect.

    Parameters
    ----------
    url : str
        Value of ``PREFECT_API_URL``.

    Raises
    ------
    UsageError
        If it is no address of a server.
    GenreError
        If there is no answer within `PREFECT_TIMEOUT_S`.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname and parts.port != 0)
    except ValueError:
        is_address = False
    if not is_address:
        shown = "something else" if "@" in url and "://" not in url else repr(url)  # it may have a password
        raise UsageError(f"PREFECT_API_URL must look like http://127.0.0.1:4200/api; got {shown}")
    try:
        ask(health_address(url), timeout_s=PREFECT_TIMEOUT_S, context=_trusting_context())
    except NoAnswerError as error:
        raise prefect_outage(url, error) from None


def prefect_outage(url: str, error: Exception) -> GenreError:
    """Return the error to show where Prefect's server does not answer."""
    return GenreError(
        f"Prefect at {url} does not answer ({first_line(error)}); "
        'start it with "prefect server start", or unset PREFECT_API_URL'
    )


def health_address(url: str) -> str:
    """Return the address of a server's health check, without user, password and query."""
    parts = urlsplit(url)
    path = quote(parts.path.rstrip("/"), safe="/%")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}/health"


def ask(url: str, *, timeout_s: float, context: ssl.SSLContext | None = None) -> int | None:
    """Ask a server once, through the proxy of the environment unless it is on this machine.

    Parameters
    ----------
    url : str
        Address, without user and password.
    timeout_s : float
        Longest wait for the connection, and again for the answer, seconds.
    context : ssl.SSLContext, optional
        Certificates that are trusted; by default those of the system.

    Returns
    -------
    int or None
        Status of the answer, whatever it is: a server behind authentication or a prefix is one, too. None where the
        environment names a proxy that only other libraries know how to use; nothing is asked then.

    Raises
    ------
    NoAnswerError
        If there is none, with the reason.
    """
    if not is_loopback(url) and _needs_other_library(url):
        return None
    proxies = ProxyHandler({} if is_loopback(url) else None)
    opener = build_opener(proxies, HTTPSHandler(context=context), _NoRedirects())
    try:
        with opener.open(url, timeout=timeout_s) as response:
            return int(response.status)
    except HTTPError as error:
        error.close()
        return error.code
    except (OSError, HTTPException, ValueError) as error:
        raise NoAnswerError(_describe(error, timeout_s)) from None


class _NoRedirects(HTTPRedirectHandler):
    """Handler that takes a redirection for the answer that it is: its target may be a login page anywhere."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def _needs_other_library(url: str) -> bool:
    """Return whether a request goes through a proxy that urllib cannot use, such as ``ALL_PROXY`` or one of SOCKS."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all", "")
    if not proxy or proxy_bypass(parts.netloc):
        return False
    return parts.scheme not in proxies or not proxy.startswith("http://")


def _mlflow_context() -> ssl.SSLContext:
    """Return the certificates that MLflow's own requests trust, by its variables and those of requests."""
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        return _trusting_context()
    import certifi  # what requests trusts by default, instead of the system's

    variables = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    path = next(filter(None, map(os.environ.get, variables)), certifi.where())
    client = os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH")
    is_folder = Path(path).is_dir()
    try:
        context = ssl.create_default_context(cafile=None if is_folder else path, capath=path if is_folder else None)
        if client:
            context.load_cert_chain(client)
    except OSError as error:
        files = " or ".join(filter(None, (path, client)))
        raise NoAnswerError(f"it is not asked, as certificates cannot be read from {files}: {error}") from None
    return context


def _trusting_context() -> ssl.SSLContext:
    """Return a context that accepts any certificate, for a request without any secret."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _describe(error: Exception, timeout_s: float) -> str:
    """Return the reason for which there is no answer, in words."""
    cause = error.reason if isinstance(error, URLError) else error
    match cause:
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate is not trusted: {cause.verify_message}; "
                "MLFLOW_TRACKING_SERVER_CERT_PATH may name the file of the authority that issued it"
            )
        case ssl.SSLError():
            return "no TLS connection can be made; the address of a server without TLS begins with http://"
        case TimeoutError():
            return f"no answer within {timeout_s:g} s"
        case RemoteDisconnected() | ConnectionResetError():
            return "it closes the connection without an answer"
        case HTTPException():
            return "what answers there does not speak HTTP"
        case OSError():
            return cause.strerror or first_line(cause)
    return str(cause)
