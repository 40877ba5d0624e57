"""Each claim of speed can still be measured: its script runs, at the smallest size, and prints its ratios."""

import importlib
import json
import subprocess
import sys

import pytest

from tests.support.project import ROOT

sys.path.append(str(ROOT / "benchmarks"))
fuzz = importlib.import_module("fuzz")

#: What benchmarks share, and what they are compared with.
SHARED = ("measure", "published", "server")

SCRIPTS = sorted(path for path in (ROOT / "benchmarks").glob("*.py") if path.stem not in SHARED)

#: The smallest size of each, and what its report must hold; of a script that is not here, only that it can be asked.
SMALLEST = {
    "cached_base": (["--clips", "4", "--many", "40"], "further head experiment"),
    "input_pipeline": (["--clips", "64", "--repeats", "1"], "store, network's layers"),
    "precision": (["--repeats", "1"], "bfloat16"),
    "serve": (
        ["--models", "catboost", "--seconds", "2", "--n", "60", "--repeats", "5"],
        "answers before and after: equal",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_claim_can_be_measured(script):
    arguments, said = SMALLEST.get(script.stem, (["--help"], "Usage"))
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert "nan" not in done.stdout


def test_every_smallest_size_is_of_a_script():
    assert set(SMALLEST) <= {path.stem for path in SCRIPTS}


@pytest.mark.parametrize("escape", [str, json.dumps])
@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("/tmp/x/artifacts/model.py", True),
        ("/tmp/x/artifacts/code/genre/audio/decoding.py", True),
        ("/venv/lib/python3.11/site-packages/mlflow/models/model.py", False),
        ("/usr/lib/python3.11/json/decoder.py", False),
    ],
)
def test_a_stack_trace_through_our_code_is_a_fault_in_whatever_answer(escape, path, ours):
    trace = f'Traceback (most recent call last):\n  File "{path}", line 5, in _hear\nValueError: "x"'
    said = escape(trace).encode()
    assert fuzz.is_fault("deep JSON", 400, said) is ours
    assert fuzz.is_fault("wrong types", 400, said)


def test_what_counts_as_a_fault_of_an_answer():
    assert "wrong types" not in fuzz.MLFLOWS_OWN
    assert fuzz.is_fault("wrong types", 500, b"Internal Server Error")
    assert not fuzz.is_fault("deep JSON", 500, b"Internal Server Error")
    assert fuzz.is_fault("cut short", 200, json.dumps({"error": {"code": "failed"}}).encode())
    assert not fuzz.is_fault("cut short", 200, json.dumps({"error": {"code": "undecodable"}}).encode())
