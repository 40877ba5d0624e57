"""A deployment: the version that serves, the one that is to follow, and the change from one to the other."""

import shutil
import time
from pathlib import Path

import pandas as pd

from genre.errors import GenreError
from serving.deploy.proxy import Proxy
from serving.deploy.release import (
    Release,
    Server,
    check_example,
    is_up,
    start_server,
    stop_server,
)

#: Seconds after a switch in which a request that was sent before it becomes one that the proxy counts; and in which
#: those that are open may end.
SETTLE_S, DRAIN_S = 1.0, 600.0

#: Seconds between looks at what runs; the first and the longest pause before what failed is tried again.
TICK_S, RETRY_DELAY_S, MAX_RETRY_DELAY_S = 0.25, 1.0, 60.0


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
        self._release_folders: set[Path] = set()
        self._target: Release | None = None
        self._last_good: Release | None = None
        self._failed: Release | None = None
        self._retry_delay_s, self._retry_at = RETRY_DELAY_S, 0.0

    def step(self) -> None:
        """Restart what died, judge what is starting, start what is wanted, end what has no requests any more."""
        if self.proxy.process.poll() is not None:
            log_event("the proxy died; starting it again")
            self.proxy.start()
        if self.serving and (code := self.serving.process.poll()) is not None:
            log_event(f"version {self.serving.release.version} died (code {code}); requests wait while it starts again")
            self._end_server(self.serving)
            self._end_server(self.starting)  # what is known to be good comes first
        if self.starting:
            self._check_starting(self.starting)
        elif (release := self._next_release()) and time.monotonic() >= self._retry_at:
            self.starting = start_server(release, self.folder, self.workers)
            log_event(f"starting version {release.version} of {self.name} on port {self.starting.port}")
        for server in list(self.retiring):
            age_s = time.monotonic() - server.since
            if age_s > SETTLE_S and (self.proxy.n_open(server.port) == 0 or age_s > DRAIN_S):
                self._end_server(server)
                log_event(f"version {server.release.version} has ended")

    def stop(self) -> None:
        """End every server."""
        for server in [self.serving, self.starting, *self.retiring]:
            self._end_server(server)

    def set_target(self, release: Release) -> None:
        """Serve another release from now on, as soon as it can; also one that failed before."""
        self._target, self._failed, self._retry_at, self._retry_delay_s = release, None, 0.0, RETRY_DELAY_S
        self._release_folders.add(release.folder)
        if self.starting and self.starting.release is not self._last_good:
            self._end_server(self.starting)
        self._remove_unused_folders()

    def _next_release(self) -> Release | None:
        """What is to be started now, if anything."""
        if self.serving is None:
            choice = [release for release in (self._last_good, self._target) if release]
            return next((release for release in choice if release is not self._failed), choice[0] if choice else None)
        is_new = self._target and self._target.version != self.serving.release.version
        return self._target if is_new and self._target is not self._failed else None

    def _check_starting(self, server: Server) -> None:
        """Switch to a server that answers, drop one that does not; neither while it still loads."""
        try:
            if is_up(server):
                check_example(server)
                self._switch_to(server)
        except GenreError as error:
            self._end_server(server)
            stays = f"; version {self.serving.release.version} stays" if self.serving else ""
            log_event(f"version {server.release.version} of {self.name} cannot serve: {error}{stays}")
            self._failed = server.release
            self._retry_at = time.monotonic() + self._retry_delay_s
            self._retry_delay_s = min(2 * self._retry_delay_s, MAX_RETRY_DELAY_S)

    def _switch_to(self, server: Server) -> None:
        """Send every request to a server from now on."""
        self.proxy.send_to(server.port)
        before, self.serving, self.starting = self.serving, server, None
        self._last_good, self._retry_delay_s = server.release, RETRY_DELAY_S
        if before:
            before.since = time.monotonic()
            self.retiring.append(before)
        log_event(f"version {server.release.version} of {self.name} serves")

    def _end_server(self, server: Server | None) -> None:
        """End a server, and remove the files that nothing needs any more."""
        if server is None:
            return
        stop_server(server)
        self.serving = None if server is self.serving else self.serving
        self.starting = None if server is self.starting else self.starting
        self.retiring = [other for other in self.retiring if other is not server]
        self._remove_unused_folders()

    def _remove_unused_folders(self) -> None:
        servers = [server for server in (self.serving, self.starting, *self.retiring) if server]
        needed = {r.folder for r in (self._target, self._last_good, *(server.release for server in servers)) if r}
        for folder in self._release_folders - needed:  # not what is downloaded and not yet wanted
            shutil.rmtree(folder, ignore_errors=True)
        self._release_folders &= needed


def log_event(text: str) -> None:
    """Print what happened, with the time."""
    print(f"{pd.Timestamp.now():%Y-%m-%d %H:%M:%S} {text}", flush=True)
