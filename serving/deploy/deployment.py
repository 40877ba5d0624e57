"""A deployment: the version that serves, the one that is to follow, and the change from one to the other."""

import shutil
import time
from pathlib import Path

import pandas as pd

from genre.errors import GenreError
from serving.deploy.proxy import Proxy
from serving.deploy.release import Release, Server, check, is_up, serve
from serving.deploy.release import stop as stop_release

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
        stop_release(server)
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


def say(text: str) -> None:
    """Print what happened, with the time."""
    print(f"{pd.Timestamp.now():%Y-%m-%d %H:%M:%S} {text}", flush=True)
