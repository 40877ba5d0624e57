import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import psutil
import pytest
from joblib import cpu_count

from genre.inputs.musicnn import MusicnnWeights
from genre.proxies import exempt_httpx
from tests.support.champion import log_champion
from tests.support.mlflow_server import MlflowServer
from tests.support.network import random_weights
from tests.support.project import ROOT
from tests.support.servers import free_port, served, wait_until_up
from tests.support.sounds import tone, write_music

#: Weights that were given to the tests. Tests go without, and download nothing, unless they ask for some.
GIVEN_WEIGHTS = os.environ.get("GENRE_WEIGHTS", "")
os.environ["GENRE_WEIGHTS"] = "none"

# all servers of the tests are on this machine
exempt_httpx()


def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as there are cores, since tests wait for the commands they start; 5 GB of memory for each."""
    return max(1, min(cpu_count() * 3 // 2, psutil.virtual_memory().total // 5_000_000_000))


def pytest_configure(config: pytest.Config) -> None:
    """Import what librosa compiles on import before several workers do, for the reason in `compile_degradations`."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        for name in ("beat", "core.audio", "core.pitch", "util.utils"):
            import_module(f"librosa.{name}")


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


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight tracks in two genres, never written to."""
    return write_music(tmp_path_factory.mktemp("music"), genres={"high": 880.0, "low": 110.0})


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path / "server")
    yield server
    server.kill()


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """API address of a Prefect server for all tests, so that no command has to start one of its own."""
    home = tmp_path_factory.mktemp("prefect")
    port = free_port()
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


@pytest.fixture(scope="session")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two members that separates ``high`` from ``low``, logged and registered as by the flows."""
    from genre import models
    from genre.config import AudioConfig
    from genre.inputs.features import extract_features

    config = AudioConfig()
    clips = [tone(10, hz=hz * (1 + n / 40), seed=n) for hz in (880, 110) for n in range(6)]
    X = np.stack([extract_features(c, config) for c in clips])
    y = np.repeat([0, 1], 6)
    data = models.TrainingData(["high", "low"], X, y, np.arange(12).astype(str), X, y)
    return log_champion(tmp_path_factory.mktemp("model"), data, {"logistic_regression": {}, "random_forest": {}})


@pytest.fixture(scope="session")
def url(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`mlflow models serve` of the champion on a free port, in an empty folder."""
    store = f"sqlite:///{model_path.parent / 'mlflow.db'}"
    with served("models:/genre@champion", tmp_path_factory.mktemp("empty"), MLFLOW_TRACKING_URI=store) as url:
        yield url


@pytest.fixture(scope="session")
def synthetic(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The same model, served as if it were trained on the demo only; and the server's log."""
    from genre.datasets import SYNTHETIC_WARNING
    from genre.files import read_json, write_json

    folder = tmp_path_factory.mktemp("synthetic")
    model = shutil.copytree(model_path, folder / "model", ignore=shutil.ignore_patterns("__pycache__"))
    spec = model / "artifacts" / "ensemble" / "ensemble.json"
    write_json(spec, read_json(spec) | {"warning": SYNTHETIC_WARNING})
    with served(str(model), folder) as url:
        yield url, folder / "server.log"


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


@pytest.fixture(scope="session")
def musicnn_weights(tmp_path_factory: pytest.TempPathFactory) -> MusicnnWeights:
    """The published weights of the music network: those that ``GENRE_WEIGHTS`` named at the start, or downloaded."""
    from genre.inputs.musicnn import load_weights
    from genre.weights import WeightsUnavailableError, find_weights

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENRE_HOME", str(tmp_path_factory.mktemp("weights")))
        patch.setenv("GENRE_WEIGHTS", GIVEN_WEIGHTS)
        try:
            return load_weights(find_weights())
        except WeightsUnavailableError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="session")
def network_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights of the music network, random ones."""
    from genre.inputs.musicnn import save_weights

    path = tmp_path_factory.mktemp("network") / "musicnn.npz"
    save_weights(path, random_weights())
    return path
