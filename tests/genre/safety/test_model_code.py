"""Models whose code is accepted, and models with other code, which is never run."""

import py_compile
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import soundfile as sf
import yaml

from flows.tag import cached_model
from genre.config import AudioConfig
from genre.safety.model_code import ForeignCodeError, accept_code, check_code, remember_installed_code
from genre.workspace import known_code_dir
from serving.deploy.release import download_release
from tests.support.project import ROOT
from tests.support.sounds import tone
from tracking import aliases, scoring


@pytest.fixture
def model(model_path: Path, home: Path, tmp_path: Path) -> Path:
    """A copy of a model that this installation logged, in an empty workspace."""
    return shutil.copytree(model_path, tmp_path / "model", ignore=shutil.ignore_patterns("__pycache__"))


def change_source(model: Path) -> None:
    with (model / "code" / "genre" / "ensemble.py").open("a") as file:
        file.write("\n")


def change_script(model: Path) -> None:
    (model / "model.py").write_text("")


def add_module(model: Path) -> None:
    (model / "code" / "numpy.py").write_text("")


def remove_module(model: Path) -> None:
    (model / "code" / "genre" / "errors.py").unlink()


def add_bytecode(model: Path) -> None:
    """Add a compiled module beside its source, where Python takes it for a module of its own."""
    source = model / "code" / "genre" / "files.py"
    py_compile.compile(str(source), str(source.with_name("further.pyc")))


def change_entry(model: Path, **values: object) -> None:
    """Change what MLmodel names as the code to load."""
    content = yaml.safe_load((model / "MLmodel").read_text())
    content["flavors"]["python_function"] |= values
    (model / "MLmodel").write_text(yaml.safe_dump(content))


def add_flavour(model: Path) -> None:
    content = yaml.safe_load((model / "MLmodel").read_text())
    content["flavors"]["crate"] = {}
    (model / "MLmodel").write_text(yaml.safe_dump(content))


CHANGES = {
    "code/genre/ensemble.py": change_source,
    "model.py": change_script,
    "code/numpy.py": add_module,
    "code/genre/errors.py": remove_module,
    "code/genre/further.pyc": add_bytecode,
    "MLmodel loader": lambda model: change_entry(model, loader_module="another.module"),
    "MLmodel pickle": lambda model: change_entry(model, python_model="python_model.pkl"),
    "MLmodel folder": lambda model: change_entry(model, code="artifacts"),
    "MLmodel flavour": add_flavour,
    "MLmodel lost": lambda model: (model / "MLmodel").unlink(),
}


def test_what_this_installation_logged_is_accepted(model):
    check_code(model, "models:/genre/1")
    assert not known_code_dir().exists()


@pytest.mark.parametrize("change", CHANGES)
def test_other_code_is_refused_until_it_is_accepted(model, change):
    CHANGES[change](model)
    with pytest.raises(ForeignCodeError, match=r"^models:/genre/1 is not run: .*-P any_code=true") as caught:
        check_code(model, "models:/genre/1")
    assert change.split()[0] in str(caught.value)
    accept_code(model)
    check_code(model, "models:/genre/1")
    add_module(model)
    (model / "code" / "numpy.py").write_text("# and not what is changed again")
    with pytest.raises(ForeignCodeError):
        check_code(model, "models:/genre/1")


def test_weights_and_description_are_no_code(model):
    next(model.rglob("model.skops")).write_bytes(b"")
    (model / "registered_model_meta").write_text("")
    check_code(model, "models:/genre/1")


def test_compiled_copies_are_removed_rather_than_run(model):
    source = model / "code" / "genre" / "files.py"
    compiled = py_compile.compile(str(source))
    check_code(model, "models:/genre/1")
    assert not Path(compiled).exists()


#: Check of a model by another installation.
CHECK = """
import sys
from pathlib import Path
from genre.safety.model_code import check_code
check_code(Path(sys.argv[1]), "it")
"""


def is_accepted_by(project: Path, model: Path) -> bool:
    done = subprocess.run([sys.executable, "-c", CHECK, str(model)], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0 or "ForeignCodeError" in done.stderr, done.stderr
    return done.returncode == 0


def test_code_that_was_logged_here_is_known_when_the_installation_has_changed(model, tmp_path):
    later = tmp_path / "later"
    for part in ("genre", "serving"):
        shutil.copytree(ROOT / part, later / part, ignore=shutil.ignore_patterns("__pycache__"))
    assert is_accepted_by(later, model)
    with (later / "genre" / "errors.py").open("a") as file:
        file.write("\n")
    assert not is_accepted_by(later, model)
    remember_installed_code()
    assert is_accepted_by(later, model)


#: Code that leaves a trace where it is run.
TRACE = "from pathlib import Path; Path({path!r}).touch()\n"


@pytest.fixture
def registered(model: Path, tmp_path: Path) -> Iterator[Path]:
    """The model, with a line of code that leaves a trace, as version 1 of ``genre``; yield the trace's path."""
    (model / "model.py").write_text(TRACE.format(path=str(tmp_path / "trace")) + (model / "model.py").read_text())
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    mlflow.MlflowClient().create_registered_model("genre")
    mlflow.MlflowClient().create_model_version("genre", str(model))
    yield tmp_path / "trace"
    mlflow.set_tracking_uri(before)


def test_a_version_with_other_code_is_neither_scored_nor_downloaded_to_be_served(registered, tmp_path):
    sf.write(tmp_path / "high.wav", tone(10, hz=880), 22050)
    clips = pd.DataFrame([{"clip_id": "high", "path": str(tmp_path / "high.wav"), "start_s": 0.0, "end_s": 10.0}])
    with pytest.raises(ForeignCodeError, match=r"models:/genre/1 .* differs from this installation's in model\.py"):
        scoring.score_clips("models:/genre/1", clips, AudioConfig())
    with pytest.raises(ForeignCodeError):
        download_release("genre", "1", tmp_path)
    with pytest.raises(ForeignCodeError):
        cached_model(aliases.resolve_version("genre", "1"))
    assert not registered.exists() and not list(tmp_path.glob("version-*"))
    assert download_release("genre", "1", tmp_path, any_code=True).version == "1"
    version = aliases.resolve_version("genre", "1", any_code=True)
    assert cached_model(version).is_dir() and not registered.exists()
    assert scoring.score_clips("models:/genre/1", clips, AudioConfig()).loc["high", "high"] > 0.5
    assert registered.exists()
