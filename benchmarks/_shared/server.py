"""A real ``mlflow models serve`` of a small model, and requests to it."""

import base64
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import psutil

from benchmarks._shared.music import encode_audio, make_beating_chord
from genre import models
from genre.config import AudioConfig
from genre.ensemble import Ensemble
from genre.inputs import combine_vectors, compute_inputs, get_input, load_weights
from genre.store import contents
from genre.weights import find_weights
from serving.deploy.proxy import free_port
from tracking import packaging, registry

#: Seven genres, as many as the paper's, each with its own pitch in Hz.
GENRES = {f"genre {n}": 110 * 2 ** (n / 2) for n in range(7)}

#: Training clips per genre.
CLIPS_PER_GENRE = 6


def encode_base64(y: np.ndarray, sr: int = 22050, file_format: str = "FLAC") -> str:
    """Return samples as an audio file in base64."""
    return base64.b64encode(encode_audio(y, sr, file_format)).decode()


def make_request(rows: Sequence[str], **params: object) -> bytes:
    """Return the body of a request for some files in base64."""
    return json.dumps({"dataframe_records": [{"audio": row} for row in rows], "params": params}).encode()


def log_champion(members: Sequence[str], folder: Path) -> str:
    """Train models on synthetic music, log and register their ensemble; return the URI of the registry."""
    trainings = _train_members(members, folder)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    run = client.create_run(client.create_experiment("serving", artifact_location=(folder / "artifacts").as_uri()))
    inputs = {name: list(models.get_model(name).input_names) for name in members}
    spec = Ensemble(list(GENRES), AudioConfig(), tuple(members), "geometric", 0.3, inputs=inputs)
    logged = packaging.log_model(run.info.run_id, spec, trainings, {}, folder)
    client.set_registered_model_alias("genre", "champion", registry.register_version("genre", logged, {}, "").version)
    return uri


def _train_members(members: Sequence[str], folder: Path) -> dict[str, Path]:
    config = AudioConfig()
    clips = [(hz * (1 + n / 40), n) for hz in GENRES.values() for n in range(CLIPS_PER_GENRE)]
    names = dict.fromkeys(name for member in members for name in models.get_model(member).input_names)
    for name in (name for name in names if get_input(name).weights_file):
        contents.install_weights(find_weights(), folder, name)
    weights = load_weights(folder, names)
    computed = [compute_inputs(make_beating_chord(10, hz=hz, seed=n), config, names, weights) for hz, n in clips]
    inputs = {name: np.stack([values[name] for values in computed]) for name in names}
    y = np.repeat(np.arange(len(GENRES)), CLIPS_PER_GENRE)
    for name in members:
        params = {"epochs": 2} if models.get_model(name).family.endswith("cnn") else {}
        X = combine_vectors(inputs, models.get_model(name).input_names)
        data = models.TrainingData(list(GENRES), X, y, np.arange(len(y)).astype(str), X, y)
        directory = folder / name / "model"
        models.save_model(name, models.train_model(name, data, params, 0, directory), directory)
    return {name: folder / name for name in members}


class Server:
    """A running server; `url` is ``127.0.0.1:port``, `uri` that of the registry, `python` that of its environment."""

    def __init__(self, tracking_uri: str, folder: Path, workers: int = 1, python: str = sys.executable) -> None:
        self.uri = tracking_uri
        self.port = free_port()
        self.command = [python, "-m", "mlflow", "models", "serve", "-m", "models:/genre@champion"]
        self.command += ["-p", str(self.port), "-w", str(workers), "--env-manager", "local"]
        self.environment = os.environ | {"MLFLOW_TRACKING_URI": tracking_uri}
        self.environment["PATH"] = f"{Path(python).parent}:{os.environ['PATH']}"
        self.log = folder / f"server-{self.port}.log"
        self.start()

    def start(self) -> None:
        """Start the server, again if it has ended."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.log.parent, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def url(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def wait(self, timeout_s: float = 180) -> None:
        """Wait until the server replies to a ping.

        Raises
        ------
        SystemExit
            If it does not, with the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                if send_request(self.url, path="/ping")[0] == 200:
                    return
            except OSError:
                time.sleep(0.2)
        raise SystemExit(f"the server does not reply:\n{self.log.read_text()[-3000:]}")

    def worker(self) -> psutil.Process:
        """Return the process that holds the model.

        Raises
        ------
        psutil.NoSuchProcess
            Once it is dead.
        """
        parent = psutil.Process(self.process.pid)
        if not (children := parent.children(recursive=True)):
            raise psutil.NoSuchProcess(parent.pid, msg="no process holds the model")
        return max(children, key=lambda p: p.memory_info().rss)

    def cpu_seconds(self) -> float:
        """Return the processor time, user and system, of the process that holds the model."""
        times = self.worker().cpu_times()
        return times.user + times.system

    def megabytes(self) -> float:
        """Return the memory of the process that holds the model."""
        return self.worker().memory_info().rss / 2**20

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the server and the processes it started, with SIGKILL unless another signal is given."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        self.process.wait(60)


@contextmanager
def serve_champion(tracking_uri: str, folder: Path, workers: int = 1, python: str = sys.executable) -> Iterator[Server]:
    """Serve the champion for the duration of a block."""
    server = Server(tracking_uri, folder, workers, python)
    try:
        server.wait()
        yield server
    finally:
        server.kill()


def send_request(
    url: str,
    data: bytes | None = None,
    path: str = "/invocations",
    connection: http.client.HTTPConnection | None = None,
    content_type: str | None = "application/json",
) -> tuple[int, bytes]:
    """Send a request, on a connection of its own unless one is given; return the status and the body of the reply."""
    used = connection or http.client.HTTPConnection(url, timeout=120)
    try:
        headers = {"Content-Type": content_type} if content_type else {}
        used.request("GET" if data is None else "POST", path, data, headers)
        response = used.getresponse()
        return response.status, response.read()
    finally:
        if connection is None:
            used.close()
