"""Serve whatever version an alias points to, without losing a request when it moves: ``python -m serving.deploy``.

The new version is started beside the old one, must answer a clip, and then gets every request from the proxy; the old
one ends when its open requests have. A version that does not start or answers wrong changes nothing.
"""

import signal
import tempfile
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated

import typer

from genre.errors import exit_on_error
from serving.deploy.deployment import TICK_S, Deployment, log_event
from serving.deploy.proxy import Proxy, format_address
from serving.deploy.release import Release, download_release, first_line
from tracking import registry, runs


def watch_alias(name: str, alias: str, folder: Path, every_s: float, releases: SimpleQueue[Release]) -> None:
    """Put every version that an alias comes to point to into `releases`, downloaded; for a thread, and for ever.

    While MLflow does not answer, nothing changes but one line in the log.
    """
    last, said = "", ""
    while True:
        trouble = ""
        try:
            with runs.short_timeouts():
                version = registry.find_version_by_alias(name, alias)
                if version is None:
                    trouble = f"no version is {name}@{alias}; waiting for one"
                elif version.version != last:
                    releases.put(download_release(name, version.version, folder))
                    last = version.version
        except Exception as error:  # every store raises exceptions of its own
            trouble = f"{name}@{alias} cannot be had from MLflow, trying again: {first_line(error)}"
        if trouble and trouble != said:
            log_event(trouble)
        said = trouble
        time.sleep(every_s)


def deploy(
    name: Annotated[str, typer.Option(help="Name of the registered model.")] = "genre",
    port: Annotated[int, typer.Option(help="Port that clients use.")] = 5001,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for other machines too.")] = "127.0.0.1",
    alias: Annotated[str, typer.Option(help="Which version to serve: the one that this alias points to.")] = "champion",
    every_s: Annotated[float, typer.Option(help="Seconds between looks at the alias.")] = 5.0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer, each with the model in memory.")] = 1,
) -> None:
    """Serve whatever version an alias points to, and follow it without losing a request, until Ctrl-C."""
    registry.check_name(name)
    runs.connect()
    for number in (signal.SIGINT, signal.SIGTERM):  # also where whoever started this ignores them
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="genre-deploy-", ignore_cleanup_errors=True) as folder:
        proxy, found = Proxy(host, port, Path(folder)), SimpleQueue[Release]()
        deployment = Deployment(name, proxy, Path(folder), workers)
        watching = threading.Thread(target=watch_alias, args=(name, alias, Path(folder), every_s, found), daemon=True)
        watching.start()  # MLflow may be slow or away; what serves is looked after meanwhile
        log_event(f"{name}@{alias} is served at http://{format_address(host, port)}")
        try:
            while True:
                if not found.empty():
                    deployment.set_target(found.get())
                deployment.step()
                time.sleep(TICK_S)
        except KeyboardInterrupt:
            log_event("ending; open requests are answered first")
        finally:
            proxy.stop()
            deployment.stop()


def main() -> None:
    """Run `deploy` as a program; an error that was foreseen is a sentence and the exit status 1."""
    program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    program.command()(deploy)
    with exit_on_error():
        program()


if __name__ == "__main__":
    main()
