"""Commands that keep a model up to date, their servers, and the faults that befall them."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import httpx
import psutil

from genre.workspace import PROJECT_DIR
from serving.deploy.proxy import free_port

#: Variables that would move a command's workspace or its servers.
OTHERS = ("GENRE_", "MLFLOW_", "PREFECT_")

#: Further attempts of MLflow's client at a request that failed, half a minute in all. By default it tries for minutes.
MLFLOW_RETRIES = 4

#: Beginning of the sentence by which a command explains a foreseen error.
ERROR = "error: "

#: Seconds that an outage lasts if it does not outlast the command.
OUTAGE_S = 3.0

#: Seconds after which a command is taken for one that does not end.
COMMAND_TIMEOUT_S = 900.0

#: Seconds in which all processes of a command must have ended after it: a worker looks for its parent now and then.
END_TIMEOUT_S = 30.0

#: Size of the workspace's disk, where one can be mounted, MB.
DISK_MB = 512

#: Largest file that may be written where no disk can be mounted, bytes: less than a model.
MAX_FILE_BYTES = 100_000


class TrackingServer:
    """An MLflow server with a database and artifacts of its own, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.database = folder / "mlflow.db"
        self.artifacts = folder / "artifacts"
        self._log = folder / "log"
        self.url = f"http://127.0.0.1:{free_port()}"
        self.start()

    def start(self) -> None:
        """Start the server and wait until it replies.

        Raises
        ------
        SystemExit
            If it does not, with the end of its log.
        """
        store = [
            "--backend-store-uri",
            f"sqlite:///{self.database}",
            "--artifacts-destination",
            self.artifacts.as_uri(),
        ]
        command = [sys.executable, "-m", "mlflow", "server", *store, "--port", self.url.rpartition(":")[2]]
        environment = own_environment() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [*command, "--workers", "1"], env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 180
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                httpx.get(f"{self.url}/health", trust_env=False).raise_for_status()
                return
            time.sleep(0.2)
        raise SystemExit(f"MLflow's server does not reply:\n{self._log.read_text()[-3000:]}")

    def kill(self) -> None:
        """End the server and its workers with SIGKILL."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def own_environment() -> dict[str, str]:
    """Return this process's environment without variables that would move a command's workspace or its servers."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}


@dataclass(frozen=True)
class CommandEnd:
    """End of a command.

    Attributes
    ----------
    code : int
        Exit code; negative for a signal.
    text : str
        What it and its processes printed.
    seconds : float
        Duration by the clock.
    was_struck : bool
        Whether the fault struck before the command ended.
    survivors : list of str
        Command lines of processes that were left.
    """

    code: int
    text: str
    seconds: float
    was_struck: bool
    survivors: list[str]

    @property
    def sentence(self) -> str:
        """Sentence of the error, or the last line that is not empty: Prefect's server may write further ones."""
        lines = [line for line in self.text.splitlines() if line.strip()] or [""]
        return next((line for line in reversed(lines) if line.startswith(ERROR)), lines[-1])


@dataclass(frozen=True)
class RunningProcess:
    """Process of a command: itself or one that it started, with its command line and the time of its start."""

    process: psutil.Process
    words: list[str]
    created_s: float
    is_command: bool

    @property
    def is_prefect(self) -> bool:
        """True for Prefect's temporary server."""
        return any(word.endswith("server_process.py") for word in self.words)

    def kill(self) -> None:
        """End it with SIGKILL, unless it has ended."""
        with suppress(psutil.Error):
            self.process.kill()


class Household:
    """A workspace, an MLflow server and a folder of music, with the commands that are run on them.

    Parameters
    ----------
    folder : Path
        Folder of everything.
    music : Path
        Folder of the music.
    mount : bool
        Whether the workspace is on a small disk of its own, where the user may mount one.
    """

    def __init__(self, folder: Path, music: Path, *, mount: bool) -> None:
        self.home = folder / "home"
        self.music = music
        self.temporary = folder / "tmp"
        self._logs = folder / "logs"
        for path in (self.home, self.temporary, self._logs):
            path.mkdir()
        self.is_mounted = mount and _mount(self.home)
        self.server = TrackingServer(folder / "mlflow")
        self._n_commands = 0
        self._command_pid = 0

    def close(self) -> None:
        """End the server, and whatever runs after an interruption, and give the disk back."""
        for process in self.processes():
            process.kill()
        self.server.kill()
        if self.is_mounted:
            subprocess.run(["umount", "-l", str(self.home)], check=True)

    def environment(self) -> dict[str, str]:
        """Return the environment of a command."""
        return own_environment() | {
            "GENRE_HOME": str(self.home),
            "GENRE_WEIGHTS": "none",
            "MLFLOW_TRACKING_URI": self.server.url,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(MLFLOW_RETRIES),
            "PREFECT_PROFILES_PATH": str(self.home / "profiles.toml"),
            "TMPDIR": str(self.temporary),
        }

    def run(self, flow: str, *arguments: str, fault: "Fault | None" = None, after_s: float = 0) -> CommandEnd:
        """Run a command to its end, with a fault that strikes after some seconds."""
        self._n_commands += 1
        log = self._logs / f"{self._n_commands:03d}-{flow}.log"
        fault = fault or NO_FAULT
        if fault.is_before:
            fault.strike(self)
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", f"flows.{flow}", *arguments],
            cwd=PROJECT_DIR,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._command_pid = process.pid
        writer = Thread(target=_write_output, args=(process, log), daemon=True)
        writer.start()
        was_struck = fault.is_before or self._strike_amid(process, fault, after_s)
        code = _wait(process)
        seconds = time.monotonic() - start
        survivors = self._end_survivors()
        writer.join()
        if was_struck and fault.outlasts:
            fault.mend(self)
        return CommandEnd(code, log.read_text(errors="replace"), seconds, was_struck, survivors)

    def processes(self) -> list[RunningProcess]:
        """Return the processes of commands: all those that have this workspace in their environment."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                is_alive = process.status() != psutil.STATUS_ZOMBIE
                if is_alive and process.environ().get("GENRE_HOME") == str(self.home):
                    is_command = process.pid == self._command_pid
                    found.append(RunningProcess(process, process.cmdline(), process.create_time(), is_command))
        return found

    def _strike_amid(self, process: subprocess.Popen[bytes], fault: "Fault", after_s: float) -> bool:
        """Have a fault strike while a command runs; return whether it still ran then."""
        if fault is NO_FAULT:
            return False
        with suppress(subprocess.TimeoutExpired):
            process.wait(after_s)
            return False
        fault.strike(self)
        if not fault.outlasts:
            time.sleep(OUTAGE_S)
            fault.mend(self)
        return True

    def _end_survivors(self) -> list[str]:
        """Wait for the processes of a command that has ended; end those that stay, and return their command lines."""
        deadline = time.monotonic() + END_TIMEOUT_S
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        for process in left:
            process.kill()
        return [" ".join(process.words) for process in left]


def _write_output(process: subprocess.Popen[bytes], log: Path) -> None:
    """Write what a command and its processes print to a file, which a limit on their files does not cut."""
    assert process.stdout
    with log.open("wb") as file, process.stdout as output:
        shutil.copyfileobj(output, file)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code of a process, which is killed if it does not end."""
    try:
        return process.wait(COMMAND_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return 128  # no code of the commands


def _mount(folder: Path) -> bool:
    """Mount a small disk in memory, if the user may; return whether that succeeded."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def keep_house(folder: Path, music: Path, *, mount: bool) -> Iterator[Household]:
    """Yield a household, whose server and disk last for the block."""
    household = Household(folder, music, mount=mount)
    try:
        yield household
    finally:
        household.close()


@dataclass(frozen=True)
class Fault:
    """Fault that befalls a command.

    Attributes
    ----------
    strike, mend : callable
        Brings the fault about, and ends it.
    is_before : bool
        Whether it strikes before the command is started, and otherwise at a random moment of it.
    outlasts : bool
        Whether it lasts until the command has ended, and otherwise for `OUTAGE_S` seconds.
    """

    strike: Callable[[Household], object]
    mend: Callable[[Household], object] = lambda household: None
    is_before: bool = False
    outlasts: bool = True


def _kill_command(household: Household) -> None:
    """Kill the command, and none of the processes that it started."""
    for process in household.processes():
        if process.is_command:
            process.kill()


def _kill_prefect(household: Household) -> None:
    """Kill Prefect's temporary server."""
    for process in household.processes():
        if process.is_prefect:
            process.kill()


def _kill_child(household: Household) -> None:
    """Kill the youngest of the processes that the command started, other than Prefect's server."""
    children = [p for p in household.processes() if not (p.is_command or p.is_prefect)]
    if children:
        max(children, key=lambda process: process.created_s).kill()


def _fill_disk(household: Household) -> None:
    """Write a file that fills the workspace's disk, or limit the size of files where it has none of its own."""
    if not household.is_mounted:
        for process in household.processes():
            with suppress(OSError):
                resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
        return
    with (household.home / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(2**16))


def _empty_disk(household: Household) -> None:
    (household.home / "filler").unlink(missing_ok=True)


def _away(folder: Path) -> Path:
    return folder.with_name(f"{folder.name} is away")


#: The fault that never strikes.
NO_FAULT = Fault(lambda household: None)

_STOP_MLFLOW = (lambda household: household.server.kill(), lambda household: household.server.start())
_TAKE_MUSIC = (
    lambda household: household.music.rename(_away(household.music)),
    lambda household: _away(household.music).rename(household.music),
)

#: Faults by name.
FAULTS: Mapping[str, Fault] = {
    "killed": Fault(_kill_command),
    "a child killed": Fault(_kill_child),
    "Prefect's server killed": Fault(_kill_prefect),
    "MLflow away from the start": Fault(*_STOP_MLFLOW, is_before=True),
    "MLflow away for seconds": Fault(*_STOP_MLFLOW, outlasts=False),
    "MLflow away to the end": Fault(*_STOP_MLFLOW),
    "disk full": Fault(_fill_disk, _empty_disk),
    "music away from the start": Fault(*_TAKE_MUSIC, is_before=True),
    "music away for seconds": Fault(*_TAKE_MUSIC, outlasts=False),
}
