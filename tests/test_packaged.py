"""The logged model elsewhere: in an environment of its own, in a container, on the other engine, in every format."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import ROOT, tone

SCORE = str(ROOT / "serving" / "score.py")


def scored(model: Path, files: dict[str, Path], folder: Path, python: str = sys.executable) -> pd.DataFrame:
    """Probabilities from a fresh process that finds nothing of this project but what was logged."""
    listed, out = folder / "files.json", folder / "out.parquet"
    listed.write_text(json.dumps({name: str(path) for name, path in files.items()}))
    command = [python, "-I", SCORE, str(model), str(listed), str(out)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    table = pd.read_parquet(out)
    assert table.pop("error").isna().all()
    return table


@pytest.mark.slow
@pytest.mark.network
def test_its_requirements_are_all_that_it_needs(model_path, tmp_path):
    files = {str(hz): tmp_path / f"{hz}.wav" for hz in (110, 300, 500, 900)}
    for hz, path in files.items():
        sf.write(path, tone(15, hz=int(hz), sr=44100), 44100)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "-q", "-r", str(model_path / "requirements.txt")]
    done = subprocess.run(install, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    alone = scored(model_path, files, tmp_path, python)
    here = scored(model_path, files, tmp_path)
    print(f"largest difference {(alone - here).abs().to_numpy().max():.1e}")
    pd.testing.assert_frame_equal(alone, here, rtol=0, atol=1e-5)
    assert np.ptp(here["high"]) > 0.5
