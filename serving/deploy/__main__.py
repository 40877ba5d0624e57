"""Serve the version that an alias points to, without losing a request when it moves: ``python -m serving.deploy``.

The new version is started beside the old one and must classify an example clip; then the proxy sends it every request,
and the old version is stopped when its open requests are finished. A version that fails to start, or to classify the
example, changes nothing.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated

import typer

from genre.errors import GenreError, exit_on_error
from genre.proxies import exempt_loopback
from genre.safety.model_code import ForeignCodeError
from serving.deploy.deployment import TICK_S, Deployment
from serving.deploy.events import ProblemLog, log_event
from serving.deploy.limits import Limits
from serving.deploy.proxy import Proxy, format_address
from serving.deploy.release import Release, download_release
from serving.deploy.run_folder import RunFolder
from tracking import registry, runs, store

#: Seconds that an end waits for a version that is being downloaded. What is left then, the next start removes.
LONGEST_DOWNLOAD_S = 20.0


def watch_alias(
    name: str,
    alias: str,
    folder: Path,
    every_s: float,
    releases: SimpleQueue[Release],
    any_code: bool,
    in_use: Callable[[], Iterable[Release]],
    ending: threading.Event,
) -> None:
    """Download every version that an alias comes to point to, and put it into `releases`.

    One with code that is not accepted is left out unless `any_code` is set, see `genre.safety.model_code`. Files of
    versions `in_use` that have been removed are downloaded again. Run in a thread, it returns once `ending` is set and
    what is being downloaded is there. While MLflow does not answer, nothing happens but one line in the log.
    """
    problems = ProblemLog()
    uri = last_version = ""
    while not ending.is_set():
        with problems.attempt(f"get {name}@{alias} from MLflow"), runs.short_timeouts():
            uri = uri or runs.connect()
            version = registry.find_version_by_alias(name, alias)
            if version is None:
                raise GenreError(f"no version in {uri} has this alias yet")
            if version.version != last_version:
                release = _download(name, version.version, folder, any_code)
                last_version = version.version
                if release:
                    releases.put(release)
        for used in in_use():
            with problems.attempt(f"download version {used.version} again"), runs.short_timeouts():
                _restore(used)
        ending.wait(every_s)


def _download(name: str, version: str, folder: Path, any_code: bool) -> Release | None:
    """Download a version; None if its code is not accepted, which another attempt would not change."""
    try:
        return download_release(name, version, folder, any_code=any_code)
    except ForeignCodeError as error:
        log_event(str(error))
        return None


def _restore(release: Release) -> None:
    if not release.is_complete():
        release.restore()
        log_event(f"files of version {release.version} were missing and have been downloaded again")


def deploy(
    name: Annotated[str, typer.Option(help="Name of the registered model.")] = "genre",
    port: Annotated[int, typer.Option(help="Port that clients use.")] = 5001,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 accepts connections from other machines.")
    ] = "127.0.0.1",
    alias: Annotated[str, typer.Option(help="Alias whose version is served.")] = "champion",
    every_s: Annotated[float, typer.Option(help="Seconds between checks of the alias.")] = 5.0,
    workers: Annotated[int, typer.Option(min=1, help="Server processes, each with the model in memory.")] = 1,
    max_requests: Annotated[
        int, typer.Option(min=1, help="Requests of up to 64 MB that are answered at once; others wait for their turn.")
    ] = Limits.max_requests,
    any_code: Annotated[
        bool, typer.Option("--any-code", help="Serve versions with any code, not this installation's alone.")
    ] = False,
) -> None:
    """Serve the version that an alias points to, and follow the alias without losing a request, until Ctrl-C."""
    store.check_model_name(name)
    store.store_uri()  # an address that cannot be right is refused; one that does not answer is tried again
    for number in (signal.SIGINT, signal.SIGTERM):  # set here, as a parent process may have had them ignored
        signal.signal(number, signal.default_int_handler)
    with RunFolder() as folder:
        proxy = Proxy(host, port, folder.path, Limits(max_requests=max_requests))
        releases = SimpleQueue[Release]()
        deployment = Deployment(name, proxy, folder, workers)
        # in a thread of its own: MLflow may be slow or away, and the servers must be looked after all the same
        ending = threading.Event()
        arguments = (name, alias, folder.path, every_s, releases, any_code, deployment.releases, ending)
        watcher = threading.Thread(target=watch_alias, args=arguments, daemon=True)
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
            ending.set()
            proxy.stop()
            deployment.stop()
            watcher.join(LONGEST_DOWNLOAD_S)  # or it would write into the folder while that is removed


def main() -> None:
    """Run `deploy` as a program; an expected error is printed as one sentence and ends it with status 1."""
    exempt_loopback()
    program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    program.command()(deploy)
    with exit_on_error():
        program()


if __name__ == "__main__":
    main()
