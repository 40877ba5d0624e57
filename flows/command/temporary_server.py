"""Prefect's server for one command, where the user has named none: a process that ends with this one.

Prefect would start the same server itself, but only when the flow begins, and would import all of the server into this
process to do so: three seconds more, one after the other. This one is started before Prefect is imported here.
"""

import atexit
import os
import subprocess
import sys
from pathlib import Path

from genre.errors import GenreError
from genre.files import make_directory
from genre.workspace import data_home

#: Seconds in which the server must answer: a busy machine may need minutes.
STARTUP_TIMEOUT_S = 180

#: What Prefect sets for its own temporary server: no pages, and only the services that a single run needs.
_EPHEMERAL_ENV = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}

#: Program of the server.
_PROCESS = Path(__file__).with_name("server_process.py")


class TemporaryServer:
    """Prefect's server in a process of its own, which ends with this one, however that ends.

    Its files are in the workspace, unless ``PREFECT_HOME`` names another folder.
    """

    def __init__(self) -> None:
        self.home = Path(os.environ.get("PREFECT_HOME") or make_directory(data_home() / "prefect"))
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_PROCESS)],  # -P: this folder's modules must not hide others
            env=os.environ | _EPHEMERAL_ENV | self._settings(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C must not end it before the flow has ended its runs
        )
        atexit.register(self.stop)  # registered before Prefect is imported, and so called after it has sent its last

    def _settings(self) -> dict[str, str]:
        """Return Prefect's settings for the server; its profiles stay those of the user."""
        users_home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
        profiles = os.environ.get("PREFECT_PROFILES_PATH") or str(users_home / "profiles.toml")
        return {"PREFECT_HOME": str(self.home), "PREFECT_PROFILES_PATH": profiles}

    def wait(self) -> str:
        """Wait until the server answers, and return the address of its API.

        Raises
        ------
        GenreError
            If it ends, or does not answer within `STARTUP_TIMEOUT_S`.
        """
        import httpx  # takes 0.2 s, and the server starts meanwhile

        port = self._process.stdout.readline().strip() if self._process.stdout else ""
        url = f"http://127.0.0.1:{port}/api"
        try:
            httpx.get(f"{url}/health", timeout=STARTUP_TIMEOUT_S, trust_env=False).raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise GenreError(
                f"Prefect's temporary server did not start ({error}); see its messages above, check that "
                f"{self.home} can be written to, or set PREFECT_API_URL to a server of your own"
            ) from None
        return url

    def stop(self) -> None:
        """End the server; what it has answered is in its database by then."""
        self._process.kill()
        self._process.communicate()


def start_unless_named() -> TemporaryServer | None:
    """Start a temporary server, unless ``PREFECT_API_URL`` names one.

    Returns
    -------
    TemporaryServer or None
        The server, which may not answer yet. A profile of Prefect may name another, and then this one is of no use.
    """
    return None if os.environ.get("PREFECT_API_URL") else TemporaryServer()
