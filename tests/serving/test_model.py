"""The logged model, loaded and served as MLflow does it, away from the repository."""

import base64
import io
import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
import soundfile as sf

from benchmarks.endurance import fuzz
from genre.answer_log import VERSION_FILE
from genre.config import AudioConfig
from genre.datasets import SYNTHETIC_WARNING
from genre.ensemble import Ensemble
from tests.support.project import ROOT
from tests.support.servers import served
from tests.support.sounds import tone

GENRES = ["high", "low"]


def encoded(y: np.ndarray, sr: int = 22050, kind: str = "WAV", subtype: str | None = None) -> str:
    file = io.BytesIO()
    sf.write(file, y, sr, format=kind, subtype=subtype)
    return base64.b64encode(file.getvalue()).decode()


def ask(url: str, rows: list, form: str = "dataframe_records", **params: Any) -> list[dict]:
    body = {form: [{"audio": row} for row in rows], "params": params}
    response = requests.post(f"{url}/invocations", json=body, timeout=60)
    assert response.status_code == 200, response.text
    return json.loads(response.text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["predictions"]


def test_each_row_has_a_prediction_or_an_error(url):
    wrapped = base64.encodebytes(base64.b64decode(encoded(tone(10, hz=112)))).decode()
    rows = [encoded(tone(10, hz=900)), "not base64!", "n\u00e4in", encoded(np.zeros(220500)), wrapped]
    high, bad, foreign, silent, low = ask(url, rows)
    assert (high["genre"], low["genre"]) == ("high", "low")
    assert high["confidence"] == max(high["probabilities"].values()) > 0.5
    assert list(high["probabilities"]) == ["high", "low"] and list(low["probabilities"]) == ["low", "high"]
    assert high["error"] is None and high["model_version"] == bad["model_version"] == "genre/1"
    assert (
        set(high) == {"genre", "confidence", "probabilities", "error", "model_version", "warning", "note"} == set(bad)
    )
    assert high["warning"] is bad["warning"] is high["note"] is bad["note"] is None
    assert [row["error"]["code"] for row in (bad, foreign, silent)] == ["not_base64", "not_base64", "silent"]
    assert bad["genre"] is bad["confidence"] is bad["probabilities"] is None


def test_a_recording_with_one_channel_inverted_is_heard_and_noted(url):
    y = tone(20, hz=900)
    rows = [encoded(np.stack([y, sign * y], axis=1), kind="FLAC") for sign in (1, -1)]
    plain, inverted = ask(url, rows)
    assert plain["note"] is None
    assert inverted["note"] == "the channels cancel each other out; the loudest one was analysed"
    assert inverted["genre"] == plain["genre"] == "high"
    assert inverted["probabilities"] == pytest.approx(plain["probabilities"], abs=0.01)


def test_every_form_of_request_gives_the_same_prediction(url):
    row = encoded(tone(4, hz=300), kind="FLAC")
    [records] = ask(url, [row])
    [instances] = ask(url, [row], "instances")
    response = requests.post(f"{url}/invocations", json={"inputs": {"audio": [row]}}, timeout=60).json()
    assert records == instances == response["predictions"][0]


def test_a_long_track_has_the_mean_probabilities_of_its_windows(url):
    parts = [tone(10, hz=900, seed=1), tone(10, hz=110, seed=2)]
    whole, *windows = [
        a["probabilities"]["high"] for a in ask(url, [encoded(np.concatenate(parts)), *map(encoded, parts)])
    ]
    assert windows[0] > 0.8 > 0.2 > windows[1]
    assert whole == pytest.approx(np.mean(windows), abs=1e-6)


def test_silent_windows_of_a_track_are_skipped(url):
    part = tone(10, hz=900)
    with_gap = np.concatenate([part, np.zeros_like(part)])
    alone, gap = [a["probabilities"]["high"] for a in ask(url, [encoded(part), encoded(with_gap)])]
    assert gap == pytest.approx(alone, abs=1e-6)


def test_any_sampling_rate_and_number_of_channels_is_accepted(url):
    stereo = np.stack([tone(10, hz=900, sr=48000)] * 2, axis=1)
    answers = ask(url, [encoded(stereo, 48000), encoded(tone(10, hz=900, sr=8000), 8000), encoded(tone(1.2, hz=900))])
    assert [a["error"] for a in answers] == [None] * 3
    assert answers[0]["genre"] == "high"


def test_the_timeline_has_the_windows_that_could_be_classified(url):
    parts = [tone(10, hz=900), np.zeros(220500, np.float32), tone(10, hz=110), tone(7, hz=900)]
    (answer,) = ask(url, [encoded(np.concatenate(parts))], timeline=True)
    assert [(w["start_s"], w["end_s"]) for w in answer["timeline"]] == [(0, 10), (20, 30), (30, 37)]
    assert [next(iter(w["probabilities"])) for w in answer["timeline"]] == ["high", "low", "high"]
    high = [w["probabilities"]["high"] for w in answer["timeline"]]
    assert answer["probabilities"]["high"] == pytest.approx(np.mean(high), abs=1e-12)
    refused, _ = ask(url, ["", encoded(tone(1, hz=900))], timeline=True)
    assert refused["timeline"] is None


def test_parameters_change_the_listed_genres_and_the_threshold(url):
    row = encoded(tone(10, hz=900))
    (plain,) = ask(url, [row])
    (short,) = ask(url, [row], top_k=1, timeline=True)
    assert short["probabilities"] == short["timeline"][0]["probabilities"] == {"high": plain["confidence"]}
    (many,) = ask(url, [row], top_k=99, min_confidence=plain["confidence"])
    assert many == plain
    (unsure,) = ask(url, [row], min_confidence=1)
    assert unsure == plain | {"genre": "unknown"}
    (any_at_all,) = ask(url, [row], min_confidence=0, top_k=None)
    assert any_at_all == plain


def by_code() -> dict[str, str]:
    """One row for each error code except ``too_large`` and ``failed``."""
    return {
        "undecodable": base64.b64encode(b"no music").decode(),
        "too_long": encoded(np.full(2 * 3600 * 1000, 0.5), sr=1000, kind="FLAC"),
        "empty": "",
        "not_base64": "AAA",
        "silent": encoded(np.zeros(22050)),
        "too_short": encoded(tone(0.5, hz=300)),
    }


def test_every_error_has_a_code_and_a_sentence(url):
    rows = by_code()
    infinite = encoded(np.array([np.inf] * 44100), kind="WAV", subtype="FLOAT")
    assert len(rows["too_long"]) < 50_000
    started = time.monotonic()
    errors = [answer["error"] for answer in ask(url, [*rows.values(), " \n", encoded(np.zeros(0)), infinite])]
    assert time.monotonic() - started < 10
    assert [error["code"] for error in errors] == [*rows, "empty", "empty", "undecodable"]
    assert all(len(error["message"].split()) > 4 and error["message"][-1] != "." for error in errors)


def test_a_malformed_request_gets_400_with_a_sentence(url):
    row = encoded(tone(2, hz=300))
    rows = [{"audio": row}]
    params = ({"top_k": 0}, {"top_k": 1.5}, {"top_k": "3"}, {"min_confidence": 2}, {"min_confidence": float("nan")})
    params += ({"min_confidence": "high"}, {"timeline": "yes"}, {"timeline": 1}, [1], "x", {"top_k": [1]})
    bodies = [{"dataframe_records": rows, "params": wrong} for wrong in params]
    bodies += [{"dataframe_records": [{"sound": row}]}, [], {"nothing": 1}, {"inputs": [1, [2]]}]
    bodies += [{"dataframe_split": {"columns": ["audio", "audio"], "data": [[row, row]]}}]
    bodies += [{"dataframe_records": rows * 257}]
    for body in [*map(json.dumps, bodies), "{", "", b"\xff\xfe"]:
        headers = {"Content-Type": "application/json"}
        response = requests.post(f"{url}/invocations", data=body, headers=headers, timeout=60)
        assert response.status_code == 400, body[-80:]
        assert "Traceback" not in response.text and "stack_trace" not in response.text, body[-80:]
        assert len(response.json()["message"].split()) > 4


#: Code that gives the features of a model a bug.
BUG = """

_compute = compute


def compute(a, rows):
    if a.y.size < 2 * a.config.sr:
        raise ZeroDivisionError("a bug in the features")
    return _compute(a, rows)
"""


@pytest.fixture(scope="module")
def poor(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The same model, unregistered, with limits that a test can reach and a bug in its own code; and its log."""
    folder = tmp_path_factory.mktemp("poor")
    model = shutil.copytree(model_path, folder / "model", ignore=shutil.ignore_patterns("__pycache__"))
    code = (model / "model.py").read_text()
    for limit, less in (("MAX_BYTES = 128", "MAX_BYTES = 1"), ("MAX_CHARACTERS = 512", "MAX_CHARACTERS = 4")):
        assert code.count(f"{limit} * 2**20") == 1
        code = code.replace(limit, less)
    (model / VERSION_FILE).unlink()
    (model / "model.py").write_text(code)
    with (model / "code" / "genre" / "inputs" / "features.py").open("a") as file:
        file.write(BUG)
    with served(str(model), folder) as url:
        yield url, folder / "server.log"


def test_a_bug_costs_one_row_and_only_the_log_names_it(poor):
    url, log = poor
    good, bad, last = ask(url, [encoded(tone(seconds, hz=900)) for seconds in (10, 1.5, 10)])
    assert bad["error"] == {
        "code": "failed",
        "message": "this file could not be analysed; the reason is in the server's log",
    }
    assert bad["genre"] is bad["confidence"] is bad["probabilities"] is None
    assert good == last and good["genre"] == "high" and good["error"] is None
    assert "ZeroDivisionError: a bug in the features" in log.read_text()


def test_a_file_that_is_too_large_is_refused_and_the_others_are_classified(poor):
    url, _ = poor
    fits, beyond, within = (base64.b64encode(bytes(2**20 + more)).decode() for more in (0, 4, -(2**19)))
    *errors, answer = ask(url, [fits, beyond, within, encoded(tone(3, hz=110))])
    assert [row["error"]["code"] for row in errors] == ["undecodable", "too_large", "undecodable"]
    assert errors[1]["error"]["message"].startswith("the file is larger than the limit of 1 MB; send it")
    assert answer["genre"] == "low"


def test_a_request_that_is_too_large_gets_400_with_a_sentence(poor, url):
    too_many_bytes = [{"audio": "A" * 2**20}] * 4 + [{"audio": "A"}]
    too_many_rows = [{"audio": "A"}] * 257
    messages = []
    for address, rows in ((poor[0], too_many_bytes), (url, too_many_rows)):
        response = requests.post(f"{address}/invocations", json={"dataframe_records": rows}, timeout=60)
        assert response.status_code == 400 and "stack_trace" not in response.text
        # MLflow puts its own words before the message
        messages.append(response.json()["message"].splitlines()[-1].removeprefix("Error: "))
    assert messages == [
        "the request is larger than the limit of 4 MB; send fewer files per request",
        "the request has 257 rows; at most 256 are accepted; send the others in another request",
    ]
    assert len(ask(poor[0], ["A" * 2**20] * 4)) == 4
    assert len(ask(url, ["A"] * 256)) == 256


def test_hostile_requests_get_neither_a_500_nor_a_traceback(url):
    counts, faults = fuzz.send_hostile_requests(url.removeprefix("http://"), 200)
    assert faults == []
    assert {status for kind, status in counts if kind in ("bits flipped", "hostile header", "whole file")} == {200}
    assert requests.get(f"{url}/ping", timeout=10).ok


def test_every_format_gets_the_prediction_of_the_wav(url):
    files = fuzz.encode_formats(seconds=10)
    answers = ask(url, [base64.b64encode(data).decode() for data in files.values()])
    high = dict(zip(files, (answer["probabilities"]["high"] for answer in answers), strict=True))
    assert high["flac"] == pytest.approx(high["wav"], abs=1e-6)
    assert all(p == pytest.approx(high["wav"], abs=0.3) for p in high.values()), high


def test_a_model_that_warns_does_so_once_in_its_log_and_in_every_row(synthetic):
    url, log = synthetic
    rows = ask(url, [encoded(tone(3, hz=110)), "not base64!"]) + ask(url, [encoded(tone(3, hz=900))])
    assert [row["warning"] for row in rows] == [SYNTHETIC_WARNING] * 3
    assert [row["genre"] for row in rows] == ["low", None, "high"]
    assert log.read_text().count(SYNTHETIC_WARNING) == 1


def test_a_model_knows_its_version_from_its_registration_or_says_that_it_does_not(synthetic, poor):
    """Also where MLflow does not add the version to the files that it downloads, as from 3.18 on."""
    audio = [encoded(tone(3, hz=110)), "not base64!"]
    for (url, log), version in ((synthetic, "genre/1"), (poor, None)):
        assert [row["model_version"] for row in ask(url, audio)] == [version] * 2
        assert log.read_text().count("does not know its registered name and version") == (version is None)


def count_page_faults(model_path: Path, folder: Path, seconds: int, predictions: str) -> int:
    """Page faults of the last predictions of a FLAC track of this length, made by these lines in a new process."""
    sf.write(folder / "track.flac", np.stack([tone(seconds, hz=440, sr=44100)] * 2, axis=1), 44100)
    code = f"""
import base64, concurrent.futures, pathlib, resource, sys
import mlflow, pandas as pd
count = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
model = mlflow.pyfunc.load_model(sys.argv[1])
table = pd.DataFrame({{"audio": [base64.b64encode(pathlib.Path("track.flac").read_bytes()).decode()]}})
{predictions}
print(count() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(model_path)], cwd=folder, capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc can be set so")
def test_the_memory_of_a_long_track_is_kept_for_the_next_one(model_path, tmp_path):
    predictions = """
for _ in range(4):
    before = count()
    model.predict(table)
"""
    assert count_page_faults(model_path, tmp_path, 180, predictions) < 1000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc can be set so")
def test_the_first_request_in_a_new_thread_finds_memory_ready(model_path, tmp_path):
    """Each new page costs the time of the system that clears it: 2800 of them a quarter of a first request."""
    predictions = """
before = count()
with concurrent.futures.ThreadPoolExecutor(1) as pool:
    pool.submit(model.predict, table).result()
"""
    assert count_page_faults(model_path, tmp_path, 10, predictions) < 1000


def test_concurrent_requests_get_their_own_predictions(url):
    rows = [encoded(tone(10, hz=hz, seed=n)) for n, hz in enumerate((900, 110) * 6)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda row: ask(url, [row])[0], rows))
    assert together == [ask(url, [row])[0] for row in rows]


def test_the_model_needs_neither_repository_nor_prefect_nor_yt_dlp(model_path, tmp_path):
    """Its code, its configuration and its requirements are logged with it."""
    script = (
        "import sys, mlflow.pyfunc, pandas as pd, pathlib\n"
        f"m = mlflow.pyfunc.load_model({str(model_path)!r})\n"
        f"e = pd.read_json(pathlib.Path({str(model_path)!r}) / 'input_example.json', orient='split')\n"
        "print(m.predict(e)[['error', 'model_version']].values.tolist())\n"
        f"own = tuple({str(ROOT)!r} + folder for folder in ('/genre/', '/flows/', '/serving/'))\n"
        "print([n for n, x in sys.modules.items() if str(getattr(x, '__file__', '')).startswith(own)])\n"
        "print(sorted({'prefect', 'yt_dlp', 'tensorflow', 'keras', 'flows'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[[None, 'genre/1']]", "[]", "[]"], done.stderr
    pinned = {line.split("==")[0] for line in (model_path / "requirements.txt").read_text().splitlines()}
    assert {"scikit-learn", "skops", "numba", "soundfile", "soxr", "av", "mlflow"} <= pinned
    assert not {"prefect", "yt-dlp", "tensorflow", "catboost"} & pinned


@pytest.mark.parametrize("kernels", ["compiled", "plain"])
def test_scoring_in_a_fresh_process_gives_the_measured_probabilities(model_path, tmp_path, monkeypatch, kernels):
    from tracking import scoring

    monkeypatch.setenv("GENRE_KERNELS", kernels)

    sf.write(tmp_path / "a.wav", tone(25, hz=900), 22050)
    clips = pd.DataFrame(
        {"clip_id": ["a", "b"], "path": str(tmp_path / "a.wav"), "start_s": [0.0, 10.0], "end_s": [10.0, 20.0]}
    )
    scored = scoring.score_clips(str(model_path), clips, AudioConfig())
    loaded = Ensemble.load(next((model_path / "artifacts").glob("*")))
    y, _ = sf.read(tmp_path / "a.wav", dtype="float32")
    monkeypatch.setenv("GENRE_KERNELS", "compiled")
    expected = loaded.predict_proba([y[:220500], y[220500:441000]])
    np.testing.assert_allclose(scored.loc[["a", "b"], GENRES], expected, atol=1e-5)
