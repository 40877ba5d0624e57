"""Wrong parameters are answered before Prefect and MLflow are imported."""

import inspect
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from flows.command.signatures import read_flow
from tests.support.project import ROOT

#: Runs a module as ``python -m`` does, and prints which of the libraries that take seconds were imported.
RUN = """
import atexit, runpy, sys
atexit.register(lambda: print("imported:", *sorted({"prefect", "mlflow"} & set(sys.modules))))
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""

ENTRY_POINTS = sorted(path.stem for path in (ROOT / "flows").glob("*.py") if "\n@flow(" in path.read_text())

#: Command lines, each with one wrong value, and a part of the answer.
REFUSED = {
    "retrain --dataset nope": "unknown data set 'nope'",
    "retrain --dataset folder": "needs -P source=PATH",
    "retrain --dataset folder --source /nowhere": "there is no /nowhere; -P source= takes a folder",
    "retrain --dataset folder --source loose": "none in a sub-folder; put them into one sub-folder per genre",
    "retrain --dataset folder --source labels.csv": "lacks the column genre and path",
    "retrain --source /nowhere": "there is no /nowhere; give a folder of music",
    "retrain --source labels.csv": "labels.csv is no table that can be trained on",
    "retrain --model nope": "unknown model 'nope'",
    "retrain --model musicnn_tags": "musicnn_tags is not trained",
    "retrain --params {": "params is not JSON",
    "retrain --model svm --params '{\"depth\": 1}'": "unknown parameter 'depth' of svm",
    "retrain --seed -1": "seed must be a whole number",
    "retrain --folds 1": "folds must be -1, 0, or from 2 to 20, got 1",
    "retrain --min-gain 1": "min_gain must be",
    "retrain --min-precision 0": "min_precision must be",
    "retrain --min-change 2": "min_change must be",
    "retrain --max-drift -1": "max_drift must be",
    "retrain --max-drift 0.2": "set GENRE_LOG to its folder",
    "retrain --options []": "options must be a JSON object",
    "retrain --options '{\"x\": 1}'": "unknown parameter 'x' of data set 'demo'",
    "retrain --n-jobs 0": "n_jobs must be",
    "retrain --registry-name 'a b'": "registry_name must be",
    "retrain --weights /nowhere": "cannot read the weights /nowhere",
    "build --dataset nope": "unknown data set 'nope'",
    "build --dataset tagged --source /nowhere": "there is no /nowhere",
    "build --model svm,nope": "unknown model 'nope'",
    "build --options {": "options is not JSON",
    "build --n-jobs 0": "n_jobs must be",
    "build --model svm_embeddings --weights /nowhere": "cannot read the weights /nowhere",
    "train": "no clips in workspace",
    "train --model nope": "unknown model 'nope'",
    "train --params {": "params is not JSON",
    "train --folds 21": "folds must be",
    "promote": "no clips in workspace",
    "promote --min-gain -1": "min_gain must be",
    "promote --registry-name a/b": "registry_name must be",
    "pretrained --weights /nowhere": "cannot read the weights /nowhere",
    "pretrained --registry-name a/b": "registry_name must be",
    "rollback --registry-name a/b": "registry_name must be",
    "drift": "set GENRE_LOG to its folder",
    "drift --log x --max-drift 0": "max_drift must be",
    "drift --log x --registry-name a/b": "registry_name must be",
    "archive --action import": "needs a Parquet file",
    "archive --action export --file x.parquet": "no clips in workspace",
    "archive --dataset nope": "unknown data set 'nope'",
    "acquire --source /nowhere": "there is no /nowhere; give a folder with AudioSet's lists",
    "acquire --genres Nope --labels labels.csv": "unknown genre 'Nope'",
    "acquire --files /nowhere": "there is no /nowhere; -P files= takes",
    "acquire --per-genre -1": "per_genre and seed must not be negative",
    "acquire --workers 3": "workers must be 1 or 2",
    "acquire --sr 1": "sr from 8000 to 192000",
    "acquire --url x": "url must hold {ytid}",
    "acquire --max-hours 0": "max_hours",
    "study --model mel_cnn": "mel_cnn takes no features alone",
    "study --seed -1": "seed must be",
    "study --params {": "params is not JSON",
    "study": "no clips in workspace",
    "audit --model nope": "unknown model 'nope'",
    "audit --n-shown -1": "n_shown must be",
    "audit": "no clips in workspace",
    "paper": "nothing to do",
    "paper --source /nowhere": "there is no /nowhere; give a path or a URL",
    "paper --probabilities /nowhere": "there is no /nowhere; give a path or a URL",
    "paper --source . --model nope": "the paper trains no 'nope'",
    "robustness --dataset vggish --source x": "has features but no audio",
    "robustness --n-clips 0": "n_clips must be at least 1",
    "robustness --registry-name a/b": "registry_name must be",
    "tag": "tag needs the folder of your music",
    "tag --source /nowhere": "/nowhere does not exist",
    "tag --undo /nowhere": "cannot read the undo file /nowhere",
    "tag --undo labels.csv": "is not an undo file",
    "tag --undo x --source y": "undo cannot be combined",
    "tag --source . --out tags.xls": "out must end in .csv or .parquet",
    "tag --source . --min-confidence 2": "min_confidence must be",
    "tag --source . --max-genres 0": "max_genres must be",
    "tag --source . --write-tags true --genre-names {": "genre_names is not JSON",
    "tag --source . --n-jobs 0": "n_jobs must be",
    "tag --source . --registry-name a/b": "registry_name must be",
}


def run(folder: Path, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in a folder that holds the workspace."""
    name, *arguments = shlex.split(line)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "GENRE_LOG"))}
    own = {"GENRE_HOME": str(folder / "workspace"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RUN, f"flows.{name}", *arguments]
    return subprocess.run(command, env=kept | own | environment, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("line", REFUSED)
def test_a_wrong_value_is_answered_in_one_sentence_before_anything_is_started(line: str, tmp_path: Path):
    (tmp_path / "labels.csv").write_text("index,mid,display_name\n0,/m/05rwpb,Independent music\n")
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "song.mp3").touch()
    done = run(tmp_path, line)
    [sentence] = done.stderr.splitlines()
    assert sentence.startswith("error: ") and REFUSED[line] in sentence
    assert (done.returncode, done.stdout) == (1, "imported:\n")
    assert not (tmp_path / "workspace" / "prefect").exists()


def test_a_store_that_cannot_be_used_is_refused_as_early(tmp_path: Path):
    (tmp_path / "a%20b").mkdir()
    done = run(tmp_path, "rollback", MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/a%20b/mlflow.db")
    assert (done.returncode, done.stdout) == (1, "imported:\n")
    assert "MLflow cannot load models from" in done.stderr


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_help_imports_neither_prefect_nor_mlflow(name: str, tmp_path: Path):
    done = run(tmp_path, f"{name} --help")
    assert done.returncode == 0 and done.stdout.endswith("\nimported:\n") and "--" in done.stdout


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_the_signature_that_is_read_is_the_one_of_the_flow(name: str):
    source = read_flow(ROOT / "flows" / f"{name}.py")
    flow = getattr(import_module(source.module), source.function)
    assert source.signature.parameters == inspect.signature(flow.fn).parameters
    assert source.docstring == inspect.getdoc(flow.fn)


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_every_flow_runs_the_checks_of_its_command_line(name: str):
    text = (ROOT / "flows" / f"{name}.py").read_text()
    assert len(re.findall(rf"main\(__file__, checks\.check_{name}\b", text)) == 1
    assert text.count(f"    checks.check_{name}(") == 1
