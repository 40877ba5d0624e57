"""The configuration of Caddy, the proxy of a deployment, in its native JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.deploy.limits import Limits

#: The address of the model's server as the proxy writes it, for small and for large requests: the same address in two
#: forms, since Caddy counts the open requests of each address by its form.
SMALL_HOST = "127.0.0.1"
LARGE_HOST = "[::ffff:127.0.0.1]"

#: Seconds that open requests have to finish when Caddy is stopped.
GRACE_S = 10

#: Caddy's names of the length and the method of a request; the length is empty where it is not announced.
_LENGTH = "{http.request.header.Content-Length}"
_METHOD = "{http.request.method}"
_STATUS = "{http.error.status_code}"


def proxy_config(address: str, port_file: Path, socket: str, limits: Limits) -> dict[str, Any]:
    """Return a configuration that sends every request to the port that a file names.

    Parameters
    ----------
    address : str
        Host and port to listen on.
    port_file : Path
        File with the port of the model's server, which is read for every request.
    socket : str
        Unix socket of the admin interface, relative to Caddy's current folder.
    limits : Limits
        Limits of the requests.
    """
    return {
        "admin": {"listen": f"unix/{socket}", "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "ERROR", "encoder": {"format": "console"}}}},
        "apps": {
            "http": {"grace_period": f"{GRACE_S}s", "servers": {"genre": _server(address, port_file, limits)}},
        },
    }


def _server(address: str, port_file: Path, limits: Limits) -> dict[str, Any]:
    large = _reverse_proxy(LARGE_HOST, port_file, limits.max_large, limits)
    small = _reverse_proxy(SMALL_HOST, port_file, limits.max_requests, limits)
    return {
        "listen": [address],
        "protocols": ["h1"],
        "read_header_timeout": f"{limits.header_s}s",
        "read_idle_timeout": f"{limits.wait_s + limits.late_s}s",  # Caddy counts from the start of the wait
        "read_min_rate": limits.min_bytes_per_s,
        "read_timeout": f"{limits.receive_s}s",
        "idle_timeout": f"{limits.idle_s}s",
        "routes": [
            _when(_is_longer(limits.max_body_bytes), {"handler": "error", "status_code": 413}),
            # for a body without a length, which is counted while it arrives
            {"handle": [{"handler": "request_body", "max_size": limits.max_body_bytes}, _name_slow_senders(limits)]},
            _when(f"{_is_longer(limits.large_bytes)} || {_METHOD} == 'POST' && {_LENGTH} == ''", large),
            {"handle": [small]},
        ],
        "errors": {"routes": _error_routes(limits)},
    }


def _reverse_proxy(host: str, port_file: Path, max_requests: int, limits: Limits) -> dict[str, Any]:
    """Return a handler that passes requests on, up to a number at once; the others wait, then get status 503."""
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"{host}:{{file.{port_file}}}", "max_requests": max_requests}],
        "load_balancing": {"try_duration": f"{limits.wait_s}s"},
        # MLflow's server closes idle connections; a request sent at that moment would be lost
        "transport": {"protocol": "http", "keep_alive": {"enabled": False}},
    }


def _error_routes(limits: Limits) -> list[dict[str, Any]]:
    """Return what clients get for requests that are not passed on, or whose server is lost: a sentence each."""
    sentences = {
        413: f"the request is larger than {limits.max_body_bytes / 2**20:g} MB; send fewer files per request",
        502: "the version being served is restarting, or ended while it answered; send the request again",
        503: f"the server is busy: the request waited {limits.wait_s:g} s for its turn; send fewer requests at once",
    }
    routes = [_when(f"{_STATUS} == {code}", _message(code, sentence)) for code, sentence in sentences.items()]
    return [*routes, _when(f"{_STATUS} == 504", _too_slow(limits))]


def _name_slow_senders(limits: Limits) -> dict[str, Any]:
    """Return a handler for status 499, which Caddy gives where a body was late and its server noticed it first."""
    return {
        "handler": "intercept",
        "handle_response": [{"match": {"status_code": [499]}, "routes": [{"handle": [_too_slow(limits)]}]}],
    }


def _too_slow(limits: Limits) -> dict[str, Any]:
    rate = f"{limits.min_bytes_per_s / 1000:g} kB per second"
    return _message(
        408,
        f"the request arrived too slowly; at least {rate} are expected, and all of it within {limits.receive_s:g} s",
    )


def _message(code: int, sentence: str) -> dict[str, Any]:
    """Return a handler that answers with a sentence, in the form of the errors of MLflow's server."""
    return {
        "handler": "static_response",
        "status_code": code,
        "headers": {"Content-Type": ["application/json"], "Connection": ["close"]},
        "body": json.dumps({"error_code": str(code), "message": sentence}),
    }


def _when(expression: str, handler: Mapping[str, Any]) -> dict[str, Any]:
    """Return a route for requests that an expression of the Common Expression Language is true of."""
    return {"match": [{"expression": expression}], "handle": [handler], "terminal": True}


def _is_longer(n_bytes: int) -> str:
    """Return an expression for an announced length of more than `n_bytes`."""
    return f"{_LENGTH} != '' && int({_LENGTH}) > {n_bytes}"
