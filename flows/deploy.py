"""Serve whatever version an alias points to, without losing a request when it moves: ``python -m flows.deploy``.

The new version is started beside the old one, must answer a clip, and then gets every request from the proxy; the old
one ends when its open requests have. A version that does not start or answers wrong changes nothing.
"""

import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated

import pandas as pd
import typer

from flows import registry, tracking
from flows.proxy import Proxy, address
from flows.release import Release, Server, check, fetch, first_line, is_up, serve, stop
from genre.errors import GenreError, failing_in_words

#: Seconds after a switch in which a request that was sent before it becomes one that the proxy counts; and in which
#: those that are open may end.
SETTLE_S, DRAIN_S = 1.0, 600.0

#: Seconds between looks at what runs; the first and the longest pause before what failed is tried again.
TICK_S, PAUSE_S, MAX_PAUSE_S = 0.25, 1.0, 60.0


class Deployment:
    """What serves, what is about to, and what is on its way out; `step` sees to all of it.

    A step waits at most for a server's first answer, or for its end.

    Parameters
    ----------
    name : str
        The registered model.
    proxy : Proxy
        What clients talk to.
    folder : Path
        For downloaded versions and temporary files.
    workers : int
        Processes of each server, from 1; each has the model in memory.
    """

    def __init__(self, name: str, proxy: Proxy, folder: Path, workers: int) -> None:
        self.name, self.proxy, self.folder, self.workers = name, proxy, folder, workers
        self.serving: Server | None = None
        self.starting: Server | None = None
        self.retiring: list[Server] = []
        self._known: set[Path] = set()
        self._wanted: Release | None = None
        self._good: Release | None = None
        self._failed: Release | None = None
        self._pause_s, self._resume_at = PAUSE_S, 0.0

    def step(self) -> None:
        """Restart what died, judge what is starting, start what is wanted, end what has no requests any more."""
        if self.proxy.process.poll() is not None:
            say("the proxy died; starting it again")
            self.proxy.start()
        if self.serving and (code := self.serving.process.poll()) is not None:
            say(f"version {self.serving.release.version} died (code {code}); requests wait while it starts again")
            self._drop(self.serving)
            self._drop(self.starting)  # what is known to be good comes first
        if self.starting:
            self._judge(self.starting)
        elif (release := self._next()) and time.monotonic() >= self._resume_at:
            self.starting = serve(release, self.folder, self.workers)
            say(f"starting version {release.version} of {self.name} on port {self.starting.port}")
        for server in list(self.retiring):
            age_s = time.monotonic() - server.since
            if age_s > SETTLE_S and (self.proxy.n_open(server.port) == 0 or age_s > DRAIN_S):
                self._drop(server)
                say(f"version {server.release.version} has ended")

    def stop(self) -> None:
        """End every server."""
        for server in [self.serving, self.starting, *self.retiring]:
            self._drop(server)

    def want(self, release: Release) -> None:
        """Serve another release from now on, as soon as it can; also one that failed before."""
        self._wanted, self._failed, self._resume_at, self._pause_s = release, None, 0.0, PAUSE_S
        self._known.add(release.folder)
        if self.starting and self.starting.release is not self._good:
            self._drop(self.starting)
        self._tidy()

    def _next(self) -> Release | None:
        """What is to be started now, if anything."""
        if self.serving is None:
            choice = [release for release in (self._good, self._wanted) if release]
            return next((release for release in choice if release is not self._failed), choice[0] if choice else None)
        is_new = self._wanted and self._wanted.version != self.serving.release.version
        return self._wanted if is_new and self._wanted is not self._failed else None

    def _judge(self, server: Server) -> None:
        """Switch to a server that answers, drop one that does not; neither while it still loads."""
        try:
            if is_up(server):
                check(server)
                self._switch(server)
        except GenreError as error:
            self._drop(server)
            stays = f"; version {self.serving.release.version} stays" if self.serving else ""
            say(f"version {server.release.version} of {self.name} cannot serve: {error}{stays}")
            self._failed = server.release
            self._resume_at = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)

    def _switch(self, server: Server) -> None:
        """Send every request to a server from now on."""
        self.proxy.send_to(server.port)
        before, self.serving, self.starting = self.serving, server, None
        self._good, self._pause_s = server.release, PAUSE_S
        if before:
            before.since = time.monotonic()
            self.retiring.append(before)
        say(f"version {server.release.version} of {self.name} serves")

    def _drop(self, server: Server | None) -> None:
        """End a server, and remove the files that nothing needs any more."""
        if server is None:
            return
        stop(server)
        self.serving = None if server is self.serving else self.serving
        self.starting = None if server is self.starting else self.starting
        self.retiring = [other for other in self.retiring if other is not server]
        self._tidy()

    def _tidy(self) -> None:
        servers = [server for server in (self.serving, self.starting, *self.retiring) if server]
        needed = {r.folder for r in (self._wanted, self._good, *(server.release for server in servers)) if r}
        for folder in self._known - needed:  # not what is downloaded and not yet wanted
            shutil.rmtree(folder, ignore_errors=True)
        self._known &= needed


def watch(name: str, alias: str, folder: Path, every_s: float, found: SimpleQueue[Release]) -> None:
    """Put every version that an alias comes to point to into `found`, downloaded; for a thread, and for ever.

    While MLflow does not answer, nothing changes but one line in the log.
    """
    last, said = "", ""
    while True:
        trouble = ""
        try:
            with tracking.impatient():
                version = registry.by_alias(name, alias)
                if version is None:
                    trouble = f"no version is {name}@{alias}; waiting for one"
                elif version.version != last:
                    found.put(fetch(name, version.version, folder))
                    last = version.version
        except Exception as error:  # every store raises exceptions of its own
            trouble = f"{name}@{alias} cannot be had from MLflow, trying again: {first_line(error)}"
        if trouble and trouble != said:
            say(trouble)
        said = trouble
        time.sleep(every_s)


def say(text: str) -> None:
    """Print what happened, with the time."""
    print(f"{pd.Timestamp.now():%Y-%m-%d %H:%M:%S} {text}", flush=True)


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
    tracking.connect()
    for number in (signal.SIGINT, signal.SIGTERM):  # also where whoever started this ignores them
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="genre-deploy-", ignore_cleanup_errors=True) as folder:
        proxy, found = Proxy(host, port, Path(folder)), SimpleQueue[Release]()
        deployment = Deployment(name, proxy, Path(folder), workers)
        watching = threading.Thread(target=watch, args=(name, alias, Path(folder), every_s, found), daemon=True)
        watching.start()  # MLflow may be slow or away; what serves is looked after meanwhile
        say(f"{name}@{alias} is served at http://{address(host, port)}")
        try:
            while True:
                if not found.empty():
                    deployment.want(found.get())
                deployment.step()
                time.sleep(TICK_S)
        except KeyboardInterrupt:
            say("ending; open requests are answered first")
        finally:
            proxy.stop()
            deployment.stop()


def main() -> None:
    """Run `deploy` as a program; an error that was foreseen is a sentence and the exit status 1."""
    program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    program.command()(deploy)
    with failing_in_words():
        program()


if __name__ == "__main__":
    main()
