"""Each benchmark still runs at its smallest size, prints its figures, and is listed in benchmarks/README.md."""

import json
import re
import subprocess
import sys

import pytest

from benchmarks.endurance import fuzz
from tests.support.project import ROOT

FOLDER = ROOT / "benchmarks"

#: Folders of benchmarks, without helpers, whose names start with an underscore.
FOLDERS = sorted(path for path in FOLDER.iterdir() if path.is_dir() and not path.name.startswith("_"))

#: Names of the benchmarks for ``python -m``.
SCRIPTS = sorted(
    f"benchmarks.{path.parent.name}.{path.stem}"
    for folder in FOLDERS
    for path in folder.glob("*.py")
    if path.stem != "__init__"
)

#: Options of the smallest size, and a phrase of the report; of the others only ``--help`` is run.
SMALLEST = {
    "benchmarks.speed.cached_base": (["--clips", "4", "--many", "40"], "further head experiment"),
    "benchmarks.speed.input_pipeline": (["--clips", "64", "--repeats", "1"], "store, network's layers"),
    "benchmarks.speed.precision": (["--repeats", "1"], "bfloat16"),
    "benchmarks.speed.serve": (["--models", "catboost", "--seconds", "2", "--repeats", "5"], "two workers, 4 clients"),
    "benchmarks.endurance.serve": (
        ["--models", "catboost", "--seconds", "2", "--n", "60"],
        "answers before and after: equal",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_claim_can_be_measured(script):
    options, phrase = SMALLEST.get(script, (["--help"], "Usage"))
    command = [sys.executable, "-m", script, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert phrase in done.stdout
    assert "nan" not in done.stdout


def test_every_smallest_size_is_of_a_script():
    assert set(SMALLEST) <= set(SCRIPTS)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_the_readme_lists_every_benchmark_of_a_folder_and_no_other(folder):
    sections = re.split(r"^## ", (FOLDER / "README.md").read_text(), flags=re.M)
    (section,) = [text for text in sections if text.startswith(f"{folder.name.capitalize()}\n")]
    listed = re.findall(r"^\| [^|]+ \| `python -m ([\w.]+)[^|`]*` \| [^|]+ \|$", section, re.M)
    assert sorted(listed) == [script for script in SCRIPTS if script.startswith(f"benchmarks.{folder.name}.")]


def test_only_the_readme_and_helpers_lie_outside_the_folders_of_benchmarks():
    others = {path.name for path in FOLDER.iterdir()} - {path.name for path in FOLDERS} - {"__pycache__"}
    assert others == {"README.md", "__init__.py", "_shared"}


@pytest.mark.parametrize("package", ["benchmarks", "flows", "genre", "serving", "tracking"])
def test_every_benchmark_that_the_source_names_exists(package):
    for path in (ROOT / package).rglob("*.py"):
        text = path.read_text()
        names = {*re.findall(r"\bbenchmarks/[\w/]+\.py", text)}
        names |= {f"{name.replace('.', '/')}.py" for name in re.findall(r"python -m (benchmarks\.[\w.]+\w)", text)}
        assert all((ROOT / name).exists() for name in names), f"{path}: {names}"


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
def test_a_stack_trace_through_our_code_is_a_fault_in_every_reply(escape, path, ours):
    trace = f'Traceback (most recent call last):\n  File "{path}", line 5, in _hear\nValueError: "x"'
    body = escape(trace).encode()
    assert fuzz.is_fault("deep JSON", 400, body) is ours
    assert fuzz.is_fault("wrong types", 400, body)


def test_a_status_500_is_a_fault_unless_it_is_mlflows_own():
    assert "wrong types" not in fuzz.MLFLOWS_OWN
    assert fuzz.is_fault("wrong types", 500, b"Internal Server Error")
    assert not fuzz.is_fault("deep JSON", 500, b"Internal Server Error")
    assert fuzz.is_fault("cut short", 200, json.dumps({"error": {"code": "failed"}}).encode())
    assert not fuzz.is_fault("cut short", 200, json.dumps({"error": {"code": "undecodable"}}).encode())
