import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import requests
import soundfile as sf

from flows.proxy import free_port

if TYPE_CHECKING:
    from genre.models import Data

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real material that is not part of the project."""
    path = Path(os.environ.get("GENRE_SHARED", ROOT.parent / "shared"))
    if not (path / "data").is_dir():
        pytest.skip(f"no shared data in {path}; set GENRE_SHARED")
    return path / "data"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace of this test."""
    monkeypatch.setenv("GENRE_HOME", str(tmp_path / "workspace"))
    return tmp_path / "workspace"


def tone(seconds: float, *, hz: float, seed: int = 0, sr: int = 22050) -> np.ndarray:
    """A chord over noise that beats twice a second: enough music for every feature to be defined."""
    rng, t = np.random.default_rng(seed), np.arange(round(seconds * sr)) / sr
    y = sum(np.sin(2 * np.pi * hz * k * t) / k for k in (1, 1.25, 1.5)) + rng.normal(0, 0.2, len(t))
    return (0.2 * y * (1 + 0.5 * np.sign(np.sin(4 * np.pi * t)))).astype(np.float32)


def write_music(folder: Path, *, genres: dict[str, float], tracks: int = 4, seconds: float = 12.0) -> Path:
    """A folder of music: one sub-folder per genre, each with its own pitch."""
    for genre, hz in genres.items():
        (folder / genre).mkdir(parents=True)
        for n in range(tracks):
            y = tone(seconds, hz=hz * (1 + 0.02 * n), seed=n)
            sf.write(folder / genre / f"{n}.wav", y, 22050)
    return folder


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight tracks in two genres, never written to."""
    return write_music(tmp_path_factory.mktemp("music"), genres={"high": 880.0, "low": 110.0})


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """API address of a Prefect server for all tests, so that no command has to start one of its own."""
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    server = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    own = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}/api"
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=own | server, stdout=log, stderr=log)
    try:
        wait_until_up(f"{url}/health", process, home / "server.log")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_up(url: str, process: subprocess.Popen, log: Path, timeout_s: float = 180) -> None:
    """Wait for a server to answer; fail with the end of its log if it dies or stays silent."""
    deadline = time.monotonic() + timeout_s
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.3)
    process.kill()
    pytest.fail(f"{url} did not answer in {timeout_s:.0f} s: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two members that tells ``high`` from ``low``, logged and registered as the flows do."""
    from genre import models
    from genre.config import AudioConfig
    from genre.features import extract

    config = AudioConfig()
    clips = [tone(10, hz=hz * (1 + n / 40), seed=n) for hz in (880, 110) for n in range(6)]
    X, y = np.stack([extract(c, config) for c in clips]), np.repeat([0, 1], 6)
    data = models.Data(["high", "low"], X, y, np.arange(12).astype(str), X, y)
    return log_champion(tmp_path_factory.mktemp("model"), data, {"logistic_regression": {}, "random_forest": {}})


def log_champion(folder: Path, data: "Data", members: dict[str, dict]) -> Path:
    """Train models, log them as one as the flows do, make it the champion of a store in `folder`, and fetch it."""
    import mlflow

    from flows import registry
    from genre import models
    from genre.config import AudioConfig
    from genre.ensemble import Ensemble

    trainings = {}
    for name, params in members.items():
        trainings[name] = folder / name
        model = models.train(name, data, params, 0, folder / name / "model")
        models.save(name, model, folder / name / "model")
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("serving", artifact_location=(folder / "artifacts").as_uri())
    run = client.create_run(experiment)
    ensemble = Ensemble(data.genres, AudioConfig(), tuple(members), "geometric", 0.5)
    uri = registry.log_model(run.info.run_id, ensemble, trainings, {})
    client.set_registered_model_alias("genre", "champion", registry.register("genre", uri, {}, "").version)
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder / "model")))


@pytest.fixture(scope="session")
def url(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`mlflow models serve` of the champion on a free port, in an empty folder."""
    store = f"sqlite:///{model_path.parent / 'mlflow.db'}"
    with served("models:/genre@champion", tmp_path_factory.mktemp("empty"), MLFLOW_TRACKING_URI=store) as url:
        yield url


@contextmanager
def served(model: str, folder: Path, **environment: str) -> Iterator[str]:
    """`mlflow models serve` of a model on a free port, in a folder, where it keeps ``server.log``."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "-p", str(port)]
    environment |= {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder)}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--env-manager", "local"], cwd=folder, env=environment, start_new_session=True, stderr=log
        )
    try:
        wait_until_up(f"http://127.0.0.1:{port}/ping", process, folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="session")
def vgg_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of VGG-16's weights that lets signals through: random ones, scaled as He et al. (2015) say."""
    import keras

    base = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    for n, layer in enumerate(layer for layer in base.layers if layer.weights):
        layer.kernel.assign(keras.initializers.HeNormal(seed=n)(layer.kernel.shape))
    path = tmp_path_factory.mktemp("vgg") / "vgg16.weights.h5"
    base.save_weights(path)
    return path
