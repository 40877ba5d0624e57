"""Guards over the whole project: who may import whom, what is documented, what pins hold together."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

from tests.support.project import ROOT

SOURCES = [p for folder in ("genre", "tracking", "flows", "serving") for p in sorted((ROOT / folder).rglob("*.py"))]
FORBIDDEN = {
    "genre": {"prefect", "mlflow", "flows", "serving", "tracking"},
    "tracking": {"flows", "serving"},
    "serving": {"prefect", "flows", "yt_dlp"},
    "flows": set(),
}
HEAVY = {"tensorflow", "keras", "catboost", "torch", "jax", "librosa", "sklearn", "prefect", "mlflow", "yt_dlp"}


def imports(tree: ast.AST) -> set[str]:
    names = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    names += [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
    return {name.split(".")[0] for name in names}


def public_functions(tree: ast.Module) -> list[ast.FunctionDef]:
    bodies = [tree.body, *(n.body for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_"))]
    return [n for body in bodies for n in body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_point_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    assert not imports(ast.parse(path.read_text())) & FORBIDDEN[package]


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
    for line in (ROOT / name).read_text().splitlines():
        requirement = Requirement(line)
        version = re.fullmatch(r"==([^*]+)", str(requirement.specifier))
        assert version, f"{name}: {line} is no exact pin"
        out.setdefault(requirement.name.lower().replace("_", "-"), set()).add(version[1])
    return out


def test_the_pins_are_within_the_ranges_and_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base, dev = pins("requirements.txt"), pins("requirements-dev.txt")
    assert all(dev[name] == versions for name, versions in base.items())
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
