"""A server of MLflow that can be killed and started again."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.support.servers import free_port, wait_until_up


class MlflowServer:
    """An MLflow server that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        folder.mkdir()
        self.start()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        store = ["--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        store += ["--artifacts-destination", (self.folder / "artifacts").as_uri()]
        command = [sys.executable, "-m", "mlflow", "server", *store, "--port", str(self.port), "--workers", "1"]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        wait_until_up(f"{self.url}/health", self.process, self.folder / "log")

    def kill(self) -> None:
        """Kill the server, unless it was."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
