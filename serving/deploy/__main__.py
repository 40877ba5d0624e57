"""Serve the version that an alias points to, without losing a request when it moves: ``python -m serving.deploy``.

The new version is started beside the old one and must classify an example clip; then the proxy sends it every request,
and the old version is stopped when its open requests are finished. A version that fails to start, or to classify the
example, changes nothing.
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
from genre.proxies import exempt_loopback
from serving.deploy.deployment import TICK_S, Deployment, log_event
from serving.deploy.proxy import Proxy, format_address
from serving.deploy.release import Release, download_release, first_line
from tracking import registry, runs, store


def watch_alias(
    name: str, alias: str, folder: Path, every_s: float, releases: SimpleQueue[Release], any_code: bool
) -> None:
    """Download every version that an alias comes to point to, and put it into `releases`.

    One with code that is not accepted is left out unless `any_code` is set, see `genre.safety.model_code`. Never
    returns: it is run in a thread. While MLflow does not answer, nothing happens but one line in the log.
    """
    last_version = ""
    last_problem = ""
    while True:
        problem = ""
        try:
            with runs.short_timeouts():
                version = registry.find_version_by_alias(name, alias)
                if version is None:
                    problem = f"no version has the alias {name}@{alias}; waiting for one"
                elif version.version != last_version:
                    releases.put(download_release(name, version.version, folder, any_code=any_code))
                    last_version = version.version
        except Exception as error:  # every store raises exceptions of its own
            problem = f"cannot get {name}@{alias} from MLflow, trying again: {first_line(error)}"
        if problem and problem != last_problem:
            log_event(problem)
        last_problem = problem
        time.sleep(every_s)


def deploy(
    name: Annotated[str, typer.Option(help="Name of the registered model.")] = "genre",
    port: Annotated[int, typer.Option(help="Port that clients use.")] = 5001,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 accepts connections from other machines.")
    ] = "127.0.0.1",
    alias: Annotated[str, typer.Option(help="Alias whose version is served.")] = "champion",
    every_s: Annotated[float, typer.Option(help="Seconds between checks of the alias.")] = 5.0,
    workers: Annotated[int, typer.Option(min=1, help="Server processes, each with the model in memory.")] = 1,
    any_code: Annotated[
        bool, typer.Option("--any-code", help="Serve versions with any code, not this installation's alone.")
    ] = False,
) -> None:
    """Serve the version that an alias points to, and follow the alias without losing a request, until Ctrl-C."""
    store.check_model_name(name)
    runs.connect()
    for number in (signal.SIGINT, signal.SIGTERM):  # set here, as a parent process may have had them ignored
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="genre-deploy-", ignore_cleanup_errors=True) as folder:
        proxy = Proxy(host, port, Path(folder))
        releases = SimpleQueue[Release]()
        deployment = Deployment(name, proxy, Path(folder), workers)
        # in a thread of its own: MLflow may be slow or away, and the servers must be looked after all the same
        watcher = threading.Thread(
            target=watch_alias, args=(name, alias, Path(folder), every_s, releases, any_code), daemon=True
        )
        watcher.start()
        log_event(f"serving {name}@{alias} at http://{format_address(host, port)}")
        try:
            while True:
                if not releases.empty():
                    deployment.set_target(releases.get())
                deployment.step()
                time.sleep(TICK_S)
        except KeyboardInterrupt:
            log_event("stopping; open requests are finished first")
        finally:
            proxy.stop()
            deployment.stop()


def main() -> None:
    """Run `deploy` as a program; an expected error is printed as one sentence and ends it with status 1."""
    exempt_loopback()
    program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    program.command()(deploy)
    with exit_on_error():
        program()


if __name__ == "__main__":
    main()
