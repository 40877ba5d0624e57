"""A real `mlflow models serve` of a small model, for the benchmarks that ask one; not a benchmark itself."""

import base64
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import measure  # noqa: F401  puts the project on the path
import mlflow
import numpy as np
import psutil
import soundfile as sf

from genre import models
from genre.config import AudioConfig
from genre.ensemble import Ensemble
from genre.inputs import features
from serving.deploy.proxy import free_port

#: As many as the paper's, each with its own pitch.
GENRES = {f"genre {n}": 110 * 2 ** (n / 2) for n in range(7)}


def music(seconds: float, *, hz: float, seed: int = 0, sr: int = 22050) -> np.ndarray:
    """A chord over noise that beats twice a second."""
    rng, t = np.random.default_rng(seed), np.arange(round(seconds * sr)) / sr
    y = sum(np.sin(2 * np.pi * hz * k * t) / k for k in (1, 1.25, 1.5)) + rng.normal(0, 0.2, len(t))
    return (0.2 * y * (1 + 0.5 * np.sign(np.sin(4 * np.pi * t)))).astype(np.float32)


def encoded(y: np.ndarray, sr: int = 22050, kind: str = "FLAC") -> str:
    """A file of some samples, in base64."""
    file = io.BytesIO()
    sf.write(file, y, sr, format=kind)
    return base64.b64encode(file.getvalue()).decode()


def body(rows: Sequence[str], **params: object) -> bytes:
    """A request for some files."""
    return json.dumps({"dataframe_records": [{"audio": row} for row in rows], "params": params}).encode()


def log_champion(members: Sequence[str], folder: Path) -> str:
    """Train members on synthesised music, log their ensemble and register it; returns the URI of the registry."""
    from tracking import packaging, registry

    config, clips = AudioConfig(), [(hz * (1 + n / 40), n) for hz in GENRES.values() for n in range(6)]
    X, images = zip(*(features.extract_with_log_mel(music(10, hz=hz, seed=n), config) for hz, n in clips), strict=True)
    inputs, y = {"features": np.stack(X), "spectrograms": np.stack(images)}, np.repeat(np.arange(len(GENRES)), 6)
    trainings = {}
    for name in members:
        trainings[name], params = folder / name, {"epochs": 2} if models.get_model(name).family.endswith("cnn") else {}
        X = inputs[models.get_model(name).input_kind]
        data = models.TrainingData(list(GENRES), X, y, np.arange(len(y)).astype(str), X, y)
        models.save_model(
            name, models.train_model(name, data, params, 0, folder / name / "model"), folder / name / "model"
        )
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient()
    run = client.create_run(client.create_experiment("serving", artifact_location=(folder / "artifacts").as_uri()))
    spec = Ensemble(list(GENRES), config, tuple(members), "geometric", 0.3)
    logged = packaging.log_model(run.info.run_id, spec, trainings, {})
    client.set_registered_model_alias("genre", "champion", registry.register_version("genre", logged, {}, "").version)
    return uri


class Server:
    """A running server; `url` is ``127.0.0.1:port``, `uri` the registry's."""

    def __init__(self, tracking_uri: str, folder: Path, workers: int = 1) -> None:
        self.uri, self.port = tracking_uri, free_port()
        self.command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/genre@champion"]
        self.command += ["-p", str(self.port), "-w", str(workers), "--env-manager", "local"]
        self.environment = os.environ | {"MLFLOW_TRACKING_URI": tracking_uri}
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.log = folder / f"server-{self.port}.log"
        self.start()

    def start(self) -> None:
        """Start it, once more if it has ended."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.log.parent, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def wait(self, timeout_s: float = 180) -> None:
        """Wait until it answers a ping."""
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                if ask(self.url, path="/ping")[0] == 200:
                    return
            except OSError:
                time.sleep(0.2)
        raise SystemExit(f"the server does not answer:\n{self.log.read_text()[-3000:]}")

    def worker(self) -> psutil.Process:
        """The process that holds the model; `psutil.NoSuchProcess` once it is dead."""
        parent = psutil.Process(self.process.pid)
        if not (children := parent.children(recursive=True)):
            raise psutil.NoSuchProcess(parent.pid, msg="no process holds the model")
        return max(children, key=lambda p: p.memory_info().rss)

    def megabytes(self) -> float:
        """What the model's process holds in memory."""
        return self.worker().memory_info().rss / 2**20

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the server and what it started, at once unless another signal is named."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        self.process.wait(60)


@contextmanager
def served(tracking_uri: str, folder: Path, workers: int = 1) -> Iterator[Server]:
    """A server that answers; it ends with the block."""
    server = Server(tracking_uri, folder, workers)
    try:
        server.wait()
        yield server
    finally:
        server.kill()


def ask(
    url: str,
    data: bytes | None = None,
    path: str = "/invocations",
    connection: http.client.HTTPConnection | None = None,
    content_type: str | None = "application/json",
) -> tuple[int, bytes]:
    """Status and body of an answer; one request on a connection of its own unless one is given."""
    own = connection or http.client.HTTPConnection(url, timeout=120)
    try:
        headers = {"Content-Type": content_type} if content_type else {}
        own.request("GET" if data is None else "POST", path, data, headers)
        response = own.getresponse()
        return response.status, response.read()
    finally:
        if connection is None:
            own.close()
