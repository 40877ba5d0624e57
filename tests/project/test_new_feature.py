"""A further feature is one line in the registry; what has the published features alone stays as it is.

It exists only in a copy of the package that the test makes.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genre.inputs.features import FEATURE_NAMES, PUBLISHED_FEATURE_NAMES
from tests.support.project import ROOT

#: The function, which needs a series that no other feature takes, and the line of the registry.
FUNCTION = '''
def _flatness(a: Analysis, mel: np.ndarray) -> np.ndarray:
    """Compute the flatness of the spectrum of the emphasised signal."""
    mel = np.maximum(mel.astype(np.float64), 1e-10)
    return a.mean_and_std(np.exp(np.log(mel).mean(axis=1)) / mel.mean(axis=1))


'''
LINE = '    Feature("flatness", _mean_std_columns("flatness"), _flatness, "emphasised_mel"),\n'

#: Prints the number of features, the new one of noise and of a tone, and the ablations of a published table.
SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from genre.config import AudioConfig
from genre.datasets import published
from genre.evaluate.importance import ablation_subsets
from genre.inputs.features import FEATURE_NAMES, extract_features
noise = np.random.default_rng(0).normal(0, 0.1, 44100).astype("f4")
tone = np.sin(0.1 * np.arange(44100, dtype="f4"))
at = FEATURE_NAMES.index("flatness_mean")
print(len(FEATURE_NAMES), *(extract_features(y, AudioConfig())[at] for y in (noise, tone)))
columns = list(published.load_features(Path(sys.argv[1])))
print(len(columns), {name: len(names) for name, names in ablation_subsets(columns).items()})
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the package with one feature more."""
    shutil.copytree(ROOT / "genre", tmp_path / "genre", ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "genre" / "inputs" / "features.py"
    text = path.read_text()
    for before, added in (("def _mean_std_columns(", FUNCTION), (")\n\n#: Series that the features need", LINE)):
        assert text.count(before) == 1
        text = text.replace(before, added + before)
    path.write_text(text)
    return tmp_path


def test_a_further_feature_is_computed_and_published_tables_are_read_as_before(project):
    names = [f"{n}_Vocal.wav" for n in range(4)]
    table = pd.DataFrame(np.eye(4, 97), index=names, columns=list(PUBLISHED_FEATURE_NAMES))
    table.rename_axis("file_name").to_csv(project / "published.csv")
    command = [sys.executable, "-c", SCRIPT, str(project / "published.csv")]
    environment = os.environ | {"GENRE_KERNELS": "plain", "PYTHONPATH": str(project)}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    features, published = done.stdout.splitlines()
    n, flatness_of_noise, flatness_of_tone = map(float, features.split())
    assert n == len(FEATURE_NAMES) + 2 and flatness_of_tone < 0.01 < 0.1 < flatness_of_noise
    assert published.startswith("97 {'all features': 97, 'time domain': 9, 'frequency domain': 88, 'top 10': 10")
