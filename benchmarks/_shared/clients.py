"""Clients that load a served model, and the models of the benchmarks of serving."""

import http.client
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from benchmarks._shared import server
from benchmarks._shared.music import make_beating_chord

#: Ensembles that can be served, by name.
MODELS = {
    "catboost": ["catboost"],
    "ensemble": ["catboost", "mel_cnn"],
    "svm": ["svm"],
    "svm_all_inputs": ["svm_all_inputs"],
}

#: Trains and registers an ensemble, by the code of the current folder; the second import is that of 4f44e01.
_LOG_CHAMPION = """
import sys
from pathlib import Path
try:
    from benchmarks._shared import server
except ImportError:
    sys.path.insert(0, "benchmarks")
    import server
server.log_champion(sys.argv[1].split(","), Path(sys.argv[2]))
"""

#: Pause of a client before it asks a server that does not reply again.
PAUSE_S = 0.05


class Reply(NamedTuple):
    """Start and end of a request by the monotonic clock, and the row of the prediction; None if it failed."""

    start_s: float
    end_s: float
    row: dict[str, object] | None

    @property
    def ms(self) -> float:
        """Duration in milliseconds."""
        return 1000 * (self.end_s - self.start_s)


class Client:
    """A kept-alive connection, opened again when it breaks."""

    def __init__(self, url: str) -> None:
        self.connection = http.client.HTTPConnection(url, timeout=120)

    def predict(self, data: bytes) -> Reply:
        """Send a request for one file."""
        row = None
        start_s = time.monotonic()
        try:
            status, body = server.send_request("", data, connection=self.connection)
        except (OSError, http.client.HTTPException):
            self.connection.close()
            return Reply(start_s, time.monotonic(), None)
        end_s = time.monotonic()
        if status == 200:
            row = json.loads(body)["predictions"][0]
        return Reply(start_s, end_s, row if row and row["error"] is None else None)


def make_music_request(seconds: float, file_format: str) -> bytes:
    """Return the body of a request for stereo music at 44.1 kHz."""
    channels = [make_beating_chord(seconds, hz=220, seed=seed, sr=44100) for seed in (1, 2)]
    return server.make_request([server.encode_base64(np.stack(channels, axis=1), 44100, file_format)])


def send_while(is_open: Callable[[], bool], url: str, data: bytes, n_clients: int) -> list[Reply]:
    """Send a request repeatedly from several clients, each as soon as it has a reply."""

    def run_client(_: int) -> list[Reply]:
        client = Client(url)
        replies: list[Reply] = []
        while is_open():
            replies.append(client.predict(data))
            if replies[-1].row is None:
                time.sleep(PAUSE_S)
        return replies

    with ThreadPoolExecutor(n_clients) as pool:
        return [reply for replies in pool.map(run_client, range(n_clients)) for reply in replies]


def before(deadline_s: float) -> Callable[[], bool]:
    """Return a condition for `send_while` that holds until a time of the monotonic clock."""
    return lambda: time.monotonic() < deadline_s


def first(n: int) -> Callable[[], bool]:
    """Return a condition for `send_while` that holds for n requests of all clients together."""
    counter = itertools.count()
    return lambda: next(counter) < n


def count_missing(replies: list[Reply]) -> list[str]:
    """Return a fault if any request got no prediction."""
    n = sum(reply.row is None for reply in replies)
    return [f"{n} of {len(replies)} requests got no prediction"] if n else []


def format_percentiles(ms: list[float]) -> str:
    """Return the median and the 99th percentile for the terminal."""
    return f"p50 {np.percentile(ms, 50):.0f} ms, p99 {np.percentile(ms, 99):.0f} ms"


def run_parts(
    models: str,
    parts: str,
    functions: Mapping[str, Callable[[server.Server], list[str]]],
    *,
    file_format: str,
    folder: Path | None,
) -> None:
    """Serve each of some models and run parts of a benchmark on it; exit with their faults, if any.

    Parameters
    ----------
    models, parts : str
        Names of `MODELS` and of `functions`, with commas between them.
    functions : mapping of str to callable
        Parts of the benchmark, each of which prints its figures and returns its faults.
    file_format : str
        For the heading.
    folder : Path, optional
        Where the models stay, so that the next call trains none.
    """
    faults = []
    with model_folder(folder) as root:
        for name in models.split(","):
            with serve_model(name, root) as running:
                print(f"\n{name}: stereo {file_format} at 44.1 kHz")
                faults += [f"{name}: {fault}" for part in parts.split(",") for fault in functions[part](running)]
    if faults:
        sys.exit("\n".join(["", *faults]))


@contextmanager
def serve_model(name: str, root: Path, checkout: Path | None = None) -> Iterator[server.Server]:
    """Serve a model of `MODELS` from its folder in `root`, where it is trained first if there is none.

    Both are done by the code of another checkout, which has its environment in ``.venv``, if one is given.
    """
    directory = root / name
    python = str(checkout.resolve() / ".venv" / "bin" / "python") if checkout else sys.executable
    if not (directory / "mlflow.db").exists():
        directory.mkdir()
        command = [python, "-c", _LOG_CHAMPION, ",".join(MODELS[name]), str(directory)]
        subprocess.run(command, cwd=checkout, check=True)
    with server.serve_champion(f"sqlite:///{directory / 'mlflow.db'}", directory, python=python) as running:
        yield running


@contextmanager
def model_folder(folder: Path | None) -> Iterator[Path]:
    """Yield the given folder, or a temporary one."""
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    else:
        with TemporaryDirectory() as temporary:
            yield Path(temporary)
