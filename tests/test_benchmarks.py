"""Each claim of speed can still be measured: its script runs, at the smallest size, and prints its ratios."""

import subprocess
import sys

import pytest
from conftest import ROOT

SCRIPTS = sorted(path for path in (ROOT / "benchmarks").glob("*.py") if path.stem not in ("measure", "server"))

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
