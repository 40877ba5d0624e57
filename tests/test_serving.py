"""The logged model, loaded and served as MLflow does it, away from the repository."""

import base64
import io
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
import soundfile as sf
from conftest import ROOT, tone

from genre import models
from genre.config import AudioConfig
from genre.ensemble import Ensemble
from genre.features import extract

GENRES = ["high", "low"]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two members that tells high from low, saved as the flows do."""
    from flows import registry

    folder = tmp_path_factory.mktemp("model")
    config, members = AudioConfig(), ("logistic_regression", "random_forest")
    clips = [tone(10, hz=hz * (1 + n / 40), seed=n) for hz in (880, 110) for n in range(6)]
    X, y = np.stack([extract(c, config) for c in clips]), np.repeat([0, 1], 6)
    data = models.Data(GENRES, X, y, np.arange(12).astype(str), X, y)
    trainings = {}
    for name in members:
        trainings[name] = folder / name
        model = models.train(name, data, {}, 0, folder / name / "model")
        models.save(name, model, folder / name / "model")
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("serving", artifact_location=(folder / "artifacts").as_uri())
    run = client.create_run(experiment)
    uri = registry.log_model(run.info.run_id, Ensemble(GENRES, config, members, "geometric", 0.5), trainings, {})
    return Path(mlflow.artifacts.download_artifacts(uri))


@pytest.fixture(scope="module")
def url(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`mlflow models serve` on a free port, in an empty folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model_path), "-p", str(port)]
    folder = tmp_path_factory.mktemp("empty")
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    process = subprocess.Popen(
        [*command, "--env-manager", "local"],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder)},
        start_new_session=True,
    )
    for _ in range(240):
        try:
            if requests.get(f"http://127.0.0.1:{port}/ping", timeout=5).ok:
                break
        except requests.ConnectionError:
            assert process.poll() is None
            time.sleep(0.5)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(timeout=30)


def encoded(y: np.ndarray, sr: int = 22050, kind: str = "WAV") -> str:
    file = io.BytesIO()
    sf.write(file, y, sr, format=kind)
    return base64.b64encode(file.getvalue()).decode()


def ask(url: str, rows: list, form: str = "dataframe_records") -> list[dict]:
    body = {form: [{"audio": row} for row in rows]}
    response = requests.post(f"{url}/invocations", json=body, timeout=60)
    assert response.status_code == 200, response.text
    return json.loads(response.text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["predictions"]


def test_each_row_has_its_answer_or_its_reason(url):
    wrapped = base64.encodebytes(base64.b64decode(encoded(tone(10, hz=112)))).decode()
    rows = [encoded(tone(10, hz=900)), "not base64!", "n\u00e4in", encoded(np.zeros(220500)), wrapped]
    high, bad, foreign, silent, low = ask(url, rows)
    assert (high["genre"], low["genre"]) == ("high", "low")
    assert high["confidence"] == max(high["probabilities"].values()) > 0.5
    assert list(high["probabilities"]) == ["high", "low"] and list(low["probabilities"]) == ["low", "high"]
    assert high["error"] is high["model_version"] is None
    assert set(high) == {"genre", "confidence", "probabilities", "error", "model_version"} == set(bad)
    assert [row["error"]["code"] for row in (bad, foreign, silent)] == ["not_base64", "not_base64", "silent"]
    assert bad["genre"] is bad["confidence"] is bad["probabilities"] is None


def test_every_form_of_request_gives_the_same(url):
    row = encoded(tone(4, hz=300), kind="FLAC")
    [records], [instances] = ask(url, [row]), ask(url, [row], "instances")
    response = requests.post(f"{url}/invocations", json={"inputs": {"audio": [row]}}, timeout=60).json()
    assert records == instances == response["predictions"][0]


def test_a_long_track_is_the_mean_of_its_windows(url):
    parts = [tone(10, hz=900, seed=1), tone(10, hz=110, seed=2)]
    whole, *windows = [
        a["probabilities"]["high"] for a in ask(url, [encoded(np.concatenate(parts)), *map(encoded, parts)])
    ]
    assert windows[0] > 0.8 > 0.2 > windows[1]
    assert whole == pytest.approx(np.mean(windows), abs=1e-6)


def test_silence_within_a_track_is_passed_over(url):
    part = tone(10, hz=900)
    with_gap = np.concatenate([part, np.zeros_like(part)])
    alone, gap = [a["probabilities"]["high"] for a in ask(url, [encoded(part), encoded(with_gap)])]
    assert gap == pytest.approx(alone, abs=1e-6)


def test_any_rate_and_channels(url):
    stereo = np.stack([tone(10, hz=900, sr=48000)] * 2, axis=1)
    answers = ask(url, [encoded(stereo, 48000), encoded(tone(10, hz=900, sr=8000), 8000), encoded(tone(1.2, hz=900))])
    assert [a["error"] for a in answers] == [None] * 3
    assert answers[0]["genre"] == "high"


def test_a_malformed_request_gets_400_without_a_traceback(url):
    for body in ('{"dataframe_records": [{"sound": "x"}]}', "{", "[]", '{"nothing": 1}'):
        headers = {"Content-Type": "application/json"}
        response = requests.post(f"{url}/invocations", data=body, headers=headers, timeout=60)
        assert response.status_code == 400, body
        assert "Traceback" not in response.text


def test_requests_at_once_get_their_own_answers(url):
    rows = [encoded(tone(10, hz=hz, seed=n)) for n, hz in enumerate((900, 110) * 6)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda row: ask(url, [row])[0], rows))
    assert together == [ask(url, [row])[0] for row in rows]


def test_the_client_prints_an_answer_a_file_and_fails_if_one_has_none(url, tmp_path):
    sf.write(tmp_path / "high.wav", tone(10, hz=900), 22050)
    (tmp_path / "text.mp3").write_text("no music")
    command = [sys.executable, "-m", "serving.request", "--url", url]
    good = subprocess.run([*command, str(tmp_path / "high.wav")], cwd=ROOT, capture_output=True, text=True)
    assert good.returncode == 0
    assert "high.wav: high 0." in good.stdout
    assert "low 0." in good.stdout
    both = [str(tmp_path / "high.wav"), str(tmp_path / "text.mp3")]
    mixed = subprocess.run([*command, *both], cwd=ROOT, capture_output=True, text=True)
    assert mixed.returncode == 1
    assert "text.mp3: error: " in mixed.stdout


def test_the_model_stands_alone(model_path, tmp_path):
    """Its code, its configuration and its requirements come with it: neither repository nor Prefect nor yt-dlp."""
    script = (
        "import sys, mlflow.pyfunc, pandas as pd, pathlib\n"
        f"m = mlflow.pyfunc.load_model({str(model_path)!r})\n"
        f"e = pd.read_json(pathlib.Path({str(model_path)!r}) / 'input_example.json', orient='split')\n"
        "print(m.predict(e).iloc[0]['error'])\n"
        f"own = tuple({str(ROOT)!r} + folder for folder in ('/genre/', '/flows/', '/serving/'))\n"
        "print([n for n, x in sys.modules.items() if str(getattr(x, '__file__', '')).startswith(own)])\n"
        "print(sorted({'prefect', 'yt_dlp', 'tensorflow', 'keras', 'flows'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["None", "[]", "[]"], done.stderr
    pinned = {line.split("==")[0] for line in (model_path / "requirements.txt").read_text().splitlines()}
    assert {"scikit-learn", "skops", "numba", "soundfile", "soxr", "av", "mlflow"} <= pinned
    assert not {"prefect", "yt-dlp", "tensorflow", "catboost"} & pinned


def test_scoring_in_a_fresh_process_gives_what_was_measured(model_path, tmp_path):
    from flows import registry

    sf.write(tmp_path / "a.wav", tone(25, hz=900), 22050)
    clips = pd.DataFrame(
        {"clip_id": ["a", "b"], "path": str(tmp_path / "a.wav"), "start_s": [0.0, 10.0], "end_s": [10.0, 20.0]}
    )
    scored = registry.score(str(model_path), clips, AudioConfig())
    loaded = Ensemble.load(next((model_path / "artifacts").glob("*")))
    y, _ = sf.read(tmp_path / "a.wav", dtype="float32")
    expected = loaded.predict_proba([y[:220500], y[220500:441000]])
    np.testing.assert_allclose(scored.loc[["a", "b"], GENRES], expected, atol=1e-5)
