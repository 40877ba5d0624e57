"""Servers started by tests."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from serving.deploy.proxy import free_port


def wait_until_up(url: str, process: subprocess.Popen, log: Path, timeout_s: float = 180) -> None:
    """Wait for a server to answer; fail with the end of its log if it dies or stays silent."""
    deadline = time.monotonic() + timeout_s
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.3)
    process.kill()
    pytest.fail(f"{url} did not answer in {timeout_s:.0f} s: {log.read_text()[-2000:]}")


@contextmanager
def served(model: str, folder: Path, **environment: str) -> Iterator[str]:
    """Run `mlflow models serve` on a free port, in a folder, with its log in ``server.log``; yield its URL."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "-p", str(port)]
    environment |= {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder)}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--env-manager", "local"], cwd=folder, env=environment, start_new_session=True, stderr=log
        )
    try:
        wait_until_up(f"http://127.0.0.1:{port}/ping", process, folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)
