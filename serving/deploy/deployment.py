"""A deployment: the version being served, its successor, and the switch from one to the other."""

import shutil
import time

from genre.errors import GenreError
from serving.deploy.events import Backoff, ProblemLog, log_event
from serving.deploy.proxy import Proxy, ProxyLostError
from serving.deploy.release import (
    PortTakenError,
    Release,
    Server,
    check_example,
    is_up,
    start_server,
    stop_server,
)
from serving.deploy.run_folder import RunFolder

#: Seconds after a switch before the proxy's count of open requests is trusted: a request sent before the switch may
#: not be counted yet.
SETTLE_S = 1.0

#: Seconds that open requests of a replaced server have to finish.
DRAIN_S = 600.0

#: Seconds between checks of the processes.
TICK_S = 0.25


class Deployment:
    """Servers of the current, the next and the replaced versions, all looked after by `step`.

    A step blocks at most for a server's first prediction, or until it has stopped.

    Parameters
    ----------
    name : str
        Name of the registered model.
    proxy : Proxy
        Proxy that clients connect to.
    folder : RunFolder
        Folder of downloaded versions and temporary files.
    workers : int
        Processes per server, from 1; each has the model in memory.
    """

    def __init__(self, name: str, proxy: Proxy, folder: RunFolder, workers: int) -> None:
        self.name = name
        self.proxy = proxy
        self.folder = folder
        self.workers = workers
        self.serving: Server | None = None
        self.starting: Server | None = None
        self.retiring: list[Server] = []
        self._releases: list[Release] = []
        self._target: Release | None = None
        self._last_good: Release | None = None
        self._failed: Release | None = None
        self._retries = Backoff()
        self._problems = ProblemLog()

    def step(self) -> None:
        """Restart what died, check what is starting, start the next version, stop replaced servers that are idle.

        Raises
        ------
        ProxyLostError
            If the proxy could not be restarted for long. Everything else is logged and tried again.
        """
        with self._problems.attempt("make the deployment's folder again"):
            self.folder.restore()
        with self._problems.attempt("look after the servers"):
            self._look_after_servers()
        with self._problems.attempt("write the proxy's files", but=ProxyLostError):
            self.proxy.look_after()

    def _look_after_servers(self) -> None:
        if self.serving and (code := self.serving.process.poll()) is not None:
            log_event(f"version {self.serving.release.version} died (code {code}); requests wait while it restarts")
            self._end_server(self.serving)
            self._end_server(self.starting)  # the version known to work is restarted first
        self._stop_idle_servers()
        if self.starting:
            self._check_starting(self.starting)
        elif (release := self._next_release()) and self._retries.is_due():
            self._start(release)

    def _start(self, release: Release) -> None:
        if not release.is_complete():
            raise GenreError(f"files of version {release.version} are missing; they are downloaded again")
        self.starting = start_server(release, self.folder.path, self.workers)
        log_event(f"starting version {release.version} of {self.name} on port {self.starting.port}")

    def _stop_idle_servers(self) -> None:
        """Stop the replaced servers whose requests are finished, or have had their time."""
        for server in list(self.retiring):
            age_s = time.monotonic() - server.since
            if age_s > SETTLE_S and (self.proxy.n_open(server.port) == 0 or age_s > DRAIN_S):
                self._end_server(server)
                log_event(f"version {server.release.version} has been stopped")

    def stop(self) -> None:
        """Stop every server."""
        for server in [self.serving, self.starting, *self.retiring]:
            self._end_server(server)

    def set_target(self, release: Release) -> None:
        """Set the release to serve as soon as it is ready, be it one that failed before."""
        self._target = release
        self._failed = None
        self._retries.reset()
        self._releases.append(release)
        if self.starting and self.starting.release is not self._last_good:
            self._end_server(self.starting)
        self._remove_unused_releases()

    def releases(self) -> tuple[Release, ...]:
        """Return the releases that are or may be served; may be called in another thread."""
        return tuple(self._releases)

    def _next_release(self) -> Release | None:
        """Return the release to start now, or None."""
        if self.serving is None:
            candidates = [release for release in (self._last_good, self._target) if release]
            fallback = candidates[0] if candidates else None
            return next((release for release in candidates if release is not self._failed), fallback)
        is_new = self._target and self._target.version != self.serving.release.version
        return self._target if is_new and self._target is not self._failed else None

    def _check_starting(self, server: Server) -> None:
        """Switch to a server that passes its check, stop one that fails it; do nothing while it is loading."""
        try:
            if not is_up(server):
                return
            check_example(server)
        except PortTakenError as error:  # the version is started again, on another port
            self._end_server(server)
            log_event(f"version {server.release.version} of {self.name} was started in vain: {error}")
        except Exception as error:  # whatever it answers, it must not end the deployment
            self._give_up(server, error)
        else:
            self._switch_to(server)

    def _give_up(self, server: Server, error: Exception) -> None:
        """Stop a server that failed its check; its version is tried again if nothing else can be served."""
        self._end_server(server)
        consequence = f"; still serving version {self.serving.release.version}" if self.serving else ""
        reason = error if isinstance(error, GenreError) else repr(error)
        log_event(f"version {server.release.version} of {self.name} cannot be served: {reason}{consequence}")
        self._failed = server.release
        self._retries.count_failure()

    def _switch_to(self, server: Server) -> None:
        """Send every request to a server from now on."""
        self.proxy.send_to(server.port)
        replaced = self.serving
        self.serving = server
        self.starting = None
        self._last_good = server.release
        self._retries.reset()
        if replaced:
            replaced.since = time.monotonic()
            self.retiring.append(replaced)
        log_event(f"version {server.release.version} of {self.name} is now being served")

    def _end_server(self, server: Server | None) -> None:
        """Stop a server, and remove the files that are no longer needed."""
        if server is None:
            return
        stop_server(server)
        self.serving = None if server is self.serving else self.serving
        self.starting = None if server is self.starting else self.starting
        self.retiring = [other for other in self.retiring if other is not server]
        self._remove_unused_releases()

    def _remove_unused_releases(self) -> None:
        servers = [server for server in (self.serving, self.starting, *self.retiring) if server]
        needed = (self._target, self._last_good, *(server.release for server in servers))
        for release in [release for release in self._releases if release not in needed]:
            self._releases.remove(release)
            shutil.rmtree(release.folder, ignore_errors=True)
