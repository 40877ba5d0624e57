"""Guards over the whole project: who may import whom, what is documented, what pins hold together."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from genre.core import source_files
from tests.support.project import ROOT, read_pins

PACKAGES = ("genre", "tracking", "flows", "serving")
SOURCES = [p for folder in PACKAGES for p in sorted((ROOT / folder).rglob("*.py"))]
FOLDERS = sorted({path.parent for path in SOURCES})

#: Most Python files in a folder; in `flows/` the entry points are not counted.
MAX_FILES = 12


def is_within(module: str, names: Iterable[str]) -> bool:
    """Return whether a module is one of `names`, or below one of them."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


#: What a served model needs of the package, and what is packaged with it.
CORE = tuple(
    f"genre.{name}"
    for name in (
        *("config", "errors", "parameters", "files", "folds", "answer_log", "ensemble"),
        *("audio", "inputs", "probabilities", "models"),
    )
)


def module_name(path: Path) -> str:
    """Dotted name of a source file; a package for its ``__init__.py``."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in SOURCES}
FLOWS = tuple(name for name in MODULES if name.startswith("flows.") and "\n@flow(" in MODULES[name].read_text())
AROUND = tuple(name for name in MODULES if name.startswith("genre.") and not is_within(name, CORE))


def imported_modules(tree: ast.AST) -> set[str]:
    """Every module that a source names in an import, at its top or inside a function."""
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in (n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)):
        assert node.module and not node.level, f"line {node.lineno}: a relative import"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {name if name in MODULES else node.module for name in names}
    return found


IMPORTS = {name: imported_modules(ast.parse(path.read_text())) for name, path in MODULES.items()}


@dataclass(frozen=True)
class Rule:
    """Modules that must not import others; a name stands for everything below it too."""

    importers: tuple[str, ...]
    imported: tuple[str, ...]
    exempt: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.importers[0]} imports {self.imported[0]}"

    def violations(self, imports: Mapping[str, set[str]]) -> list[str]:
        return [
            f"{name} imports {other}"
            for name, others in imports.items()
            if is_within(name, self.importers) and not is_within(name, self.exempt)
            for other in sorted(others)
            if is_within(other, self.imported) and other != name
        ]


#: What each line of "Imports that must never be" in docs/architecture.md forbids.
RULES = {
    "`genre` → mlflow, prefect, `flows`, `serving`, `tracking`": (
        Rule(("genre",), ("mlflow", "prefect", "flows", "serving", "tracking")),
    ),
    "core → any other folder of `genre`": (Rule(CORE, AROUND),),
    "`tracking` → prefect, `flows`, `serving` (it names `serving/model.py` by path only)": (
        Rule(("tracking",), ("flows", "serving")),
        Rule(("tracking",), ("prefect",)),
    ),
    "`serving` → prefect, `flows`; `serving/model.py` and `serving/isolated/` → `tracking`": (
        Rule(("serving",), ("prefect", "flows")),
        Rule(("serving.model", "serving.isolated"), ("tracking",)),
    ),
    "a flow → another flow, except `flows/retrain.py`": (Rule(("flows",), FLOWS, exempt=("flows.retrain",)),),
    "`evaluate` → `models`, `store`, `plots`, `datasets`": (
        Rule(("genre.evaluate",), ("genre.models", "genre.store", "genre.plots", "genre.datasets")),
    ),
    "`workers` → `store`, `library`": (Rule(("genre.workers",), ("genre.store", "genre.library")),),
    "`acquisition` → `datasets`": (Rule(("genre.acquisition",), ("genre.datasets",)),),
    "`library` → `datasets`, `store`, `training`": (
        Rule(("genre.library",), ("genre.datasets", "genre.store", "genre.training")),
    ),
    "`tags` → any other folder of `genre` outside the core": (
        Rule(
            ("genre.tags",),
            tuple(sorted({".".join(n.split(".")[:2]) for n in AROUND if n.count(".") > 1} - {"genre.tags"})),
        ),
    ),
    # and what the picture of the layers adds
    "flows and serving: neither imports the other; only serving/deploy and serving/description use tracking": (
        Rule(("flows",), ("serving",)),
        Rule(("serving",), ("tracking",), exempt=("serving.deploy", "serving.description")),
        Rule(("serving",), ("yt_dlp",)),
    ),
}
ALL_RULES = [rule for rules in RULES.values() for rule in rules]


def public_functions(tree: ast.Module) -> list[ast.FunctionDef]:
    bodies = [tree.body, *(n.body for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_"))]
    return [n for body in bodies for n in body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]


@pytest.mark.parametrize("rule", ALL_RULES, ids=str)
def test_no_import_goes_against_the_layers(rule):
    assert rule.violations(IMPORTS) == []


@pytest.mark.parametrize("rule", ALL_RULES, ids=str)
def test_a_rule_finds_an_import_against_it(rule):
    for importer in rule.importers:
        for imported in rule.imported:
            assert rule.violations({f"{importer}.x": {imported}})


def test_the_documentation_lists_these_rules():
    text = (ROOT / "docs" / "architecture.md").read_text()
    listed = text.partition("## Imports that must never be")[2].partition("\n## ")[0]
    lines = [line.removeprefix("- ") for line in listed.splitlines() if line.startswith("- ")]
    assert lines == list(RULES)[: len(lines)]
    assert len(lines) == len(RULES) - 1


def test_an_import_is_found_wherever_it_stands():
    tree = ast.parse(
        "from genre import models\ndef f():\n    import mlflow.pyfunc\n    from genre.errors import DataError"
    )
    assert imported_modules(tree) == {"genre.models", "mlflow.pyfunc", "genre.errors"}


def test_what_a_served_model_is_given_lies_in_the_core():
    assert all(is_within(name, CORE) for name in map(module_name, source_files()) if name != "genre")


def test_modules_import_each_other_in_no_circle():
    graph = {name: {other for other in others if other in MODULES} for name, others in IMPORTS.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)  # raises CycleError with the circle


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_imports_a_private_name(path):
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    names = [alias.name for node in nodes if node.module.split(".")[0] in PACKAGES for alias in node.names]
    assert not [name for name in names if name.startswith("_")]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_folder_is_small_enough_to_look_through(folder):
    names = {path.name for path in folder.glob("*.py") if module_name(path) not in FLOWS}
    assert len(names) <= MAX_FILES, sorted(names)


@pytest.mark.parametrize(
    "module", ["genre.training.process", "genre.models", "genre.datasets", "genre.ensemble", "genre.store.contents"]
)
def test_no_deep_learning_library_is_loaded_by_an_import(module):
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert not {"tensorflow", "keras", "catboost", "torch", "jax", "prefect", "mlflow", "yt_dlp"} & set(loaded)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_public_function_is_documented_typed_and_short(path):
    for function in public_functions(ast.parse(path.read_text())):
        where = f"{path.name}:{function.lineno} {function.name}"
        assert ast.get_docstring(function), where
        assert function.returns is not None, where
        arguments = [a for a in (*function.args.args, *function.args.kwonlyargs) if a.arg not in ("self", "cls")]
        assert all(a.annotation for a in arguments), where
        body = function.body[1:]
        assert not body or body[-1].end_lineno - body[0].lineno < 60, where


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_public_functions_of_the_library_name_what_they_raise(path):
    if path.relative_to(ROOT).parts[0] != "genre":
        return
    for function in public_functions(ast.parse(path.read_text())):
        raises = {
            n.exc.func.id
            for n in ast.walk(function)
            if isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call) and isinstance(n.exc.func, ast.Name)
        }
        text = ast.get_docstring(function) or ""
        assert all(name in text for name in raises), f"{path.name}:{function.lineno} {function.name} {raises}"


def pins(name: str) -> dict[str, set[str]]:
    """Distribution to the versions a requirements file pins."""
    out: dict[str, set[str]] = {}
    for line in read_pins(name):
        requirement = Requirement(line)
        version = re.fullmatch(r"==([^*]+)", str(requirement.specifier))
        assert version, f"{name}: {line} is no exact pin"
        out.setdefault(requirement.name.lower().replace("_", "-"), set()).add(version[1])
    return out


def test_the_pins_are_within_the_ranges_and_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = pins("requirements.txt")
    dev = pins("requirements-dev.txt")
    others = base | pins("requirements-serve.txt")
    assert all(dev[name] == versions for name, versions in others.items())
    ranges = [(r, base) for r in project["dependencies"]] + [(r, dev) for r in project["optional-dependencies"]["dev"]]
    for text, pinned in ranges:
        requirement = Requirement(text)
        versions = pinned[requirement.name.lower()]
        assert any(requirement.specifier.contains(v) for v in versions), f"{text}: pinned {versions}"


def test_conda_installs_the_pins():
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    assert environment["dependencies"][-1] == {"pip": ["-r requirements.txt"]}
    assert not (ROOT / "uv.lock").exists() or "uv.lock" in (ROOT / ".gitignore").read_text()


def test_no_file_names_a_package_index_or_a_machine_path():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    words = re.compile(
        "|".join(["pypi" + r"\.org", "pythonhosted" + r"\.org", "--index" + "-url", "/ro" + "ot/", "/wo" + "rk/"])
    )
    for name in tracked.stdout.split("\n"):
        path = ROOT / name
        if name and path.is_file() and path.suffix in {".py", ".md", ".txt", ".toml", ".yaml", ".yml", ""}:
            assert not words.search(path.read_text(errors="ignore")), name
