"""The boundary of the served core: what is packaged with a version, and what a training depends on."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from genre.core import CORE, TRAINING, copy_core, source_digest, source_files
from genre.inputs import INPUTS
from genre.models import MODELS, PRETRAINED
from tests.support.project import ROOT

PACKAGE = ROOT / "genre"

#: Modules that are imported by name while a program runs.
BY_NAME = {model.family for model in (MODELS | PRETRAINED).values()} | {entry.module_name for entry in INPUTS.values()}


def module_path(name: str) -> Path | None:
    """File of one of our modules or packages; None for anything else."""
    path = ROOT.joinpath(*name.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def imported_modules(path: Path) -> set[str]:
    """Names of all modules that a file imports, within functions too, and that may be modules."""
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def import_closure(start: Path) -> set[str]:
    """Files of the package, relative to it, that are imported from `start` on, directly or not."""
    waiting = imported_modules(start) | BY_NAME
    seen = set[str]()
    files = set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        path = module_path(name)
        if path is None or not path.is_relative_to(PACKAGE):
            continue
        files.add(path.relative_to(PACKAGE).as_posix())
        parents = {name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)}
        waiting |= imported_modules(path) | parents
    return files


def names_of(*groups: tuple[str, ...]) -> set[str]:
    return {path.relative_to(PACKAGE).as_posix() for group in groups for path in source_files(group)}


def test_a_served_model_imports_nothing_outside_the_core():
    assert import_closure(ROOT / "serving" / "model.py") <= names_of(CORE)


def test_a_training_imports_nothing_outside_what_its_digest_covers():
    closure = import_closure(PACKAGE / "training" / "process.py") | {"training/process.py"}
    assert closure <= names_of(CORE, TRAINING)


def test_nothing_is_listed_that_neither_needs():
    """But for modules that are run and not imported, and the folds that families share."""
    used = import_closure(ROOT / "serving" / "model.py") | import_closure(PACKAGE / "training" / "process.py")
    assert names_of(CORE, TRAINING) - used <= {"training/process.py", "training/__init__.py"}


def test_the_core_is_a_smaller_part_of_the_package():
    n_lines = {
        group: sum(len(path.read_text().splitlines()) for path in files)
        for group, files in {"core": source_files(), "package": source_files(["."])}.items()
    }
    assert n_lines["core"] < 0.5 * n_lines["package"]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package to be edited."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "genre", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.mark.parametrize(
    "name",
    ["tags/__init__.py", "library/undo.py", "datasets/demo.py", "plots/evaluation.py", "acquisition/download.py"],
)
def test_a_comment_outside_changes_no_digest(name, package):
    before = source_digest((*CORE, *TRAINING), package)
    (package / name).write_text((package / name).read_text() + "\n# A comment.\n")
    assert source_digest((*CORE, *TRAINING), package) == before


@pytest.mark.parametrize("name", ["inputs/features.py", "models/classical.py", "training/process.py", "audio/clips.py"])
def test_a_comment_inside_changes_the_digest(name, package):
    before = source_digest((*CORE, *TRAINING), package)
    (package / name).write_text((package / name).read_text() + "\n# A comment.\n")
    assert source_digest((*CORE, *TRAINING), package) != before


def test_what_is_no_module_is_neither_packaged_nor_part_of_a_digest(package):
    before = source_digest(CORE, package)
    for name in ("models/.ipynb_checkpoints/svm-checkpoint.py", "inputs/__pycache__/left.py", "models/#vgg#.py"):
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text("SECRET = 1\n")
    (package / "models" / "notes.txt").write_text("not code")
    (package / "inputs" / ".#features.py").symlink_to("user@host.1234")  # of Emacs, while a file is being edited
    assert source_digest(CORE, package) == before
    (package / "models" / "svm.py").write_text("C = 1\n")
    assert source_digest(CORE, package) != before


def test_a_copy_of_the_core_is_enough_to_predict(tmp_path):
    copied = copy_core(tmp_path)
    assert {p.relative_to(copied).as_posix() for p in copied.rglob("*.py")} == names_of(CORE)
    code = (
        "import numpy as np, genre.ensemble, genre.models.classical, genre.models.mel_cnn, genre.answer_log\n"
        "from genre.config import AudioConfig; from genre.inputs import compute_inputs\n"
        "y = np.random.default_rng(0).normal(0, 0.1, 44100).astype(np.float32)\n"
        "print(genre.__file__, *compute_inputs(y, AudioConfig()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(copied / "__init__.py"), "features", "spectrograms"]
