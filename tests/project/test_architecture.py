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
    "tracking": {"prefect", "flows", "serving"},
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


#: Variables and attributes that hold text for people.
PROSE_NAMES = {"decision", "explanation", "outcome", "reason", "remark", "sentence"}
PROSE_ATTRIBUTES = {"detail", "explanation", "message", "reason", "remark", "sentence"}

#: Methods that look for something in a text, and those that take one apart.
MATCHERS = {"startswith", "endswith", "find", "index", "count"}
DIVIDERS = {"partition", "rpartition", "split"}

#: Prefect's log is nothing but text: what repeats a line is known by that line.
READS_TEXT = {"flows/cli.py"}


def is_phrase(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(re.search(r"\w\W* \w|\w: ", node.value))
    )


def is_prose(node: ast.AST) -> bool:
    return (isinstance(node, ast.Name) and node.id in PROSE_NAMES) or (
        isinstance(node, ast.Attribute) and node.attr in PROSE_ATTRIBUTES
    )


def texts_matched(node: ast.AST) -> list[ast.AST]:
    """Texts for people, and phrases, that a node compares, searches or takes apart."""
    if isinstance(node, ast.Compare) and not isinstance(node.ops[0], ast.Is | ast.IsNot):
        sides = [side for whole in (node.left, *node.comparators) for side in getattr(whole, "elts", [whole])]
        return [side for side in sides if is_prose(side) or is_phrase(side)]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        words = [node.func.value, *node.args] if node.func.attr in MATCHERS else []
        divided = [node.func.value] if node.func.attr in DIVIDERS else []
        return [e for e in words if is_prose(e) or is_phrase(e)] + [e for e in divided if is_prose(e)]
    return []


def texts_tested(node: ast.AST) -> list[ast.AST]:
    """Texts for people whose being empty decides something."""
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        tests = [node.test]
    elif isinstance(node, ast.comprehension):
        tests = node.ifs
    elif isinstance(node, ast.BoolOp):
        tests = node.values
    else:
        tests = []
    tests = [test.operand if isinstance(test, ast.UnaryOp) else test for test in tests]
    tests = [t.args[0] if isinstance(t, ast.Call) and ast.unparse(t.func) == "bool" else t for t in tests]
    return [test for test in tests if is_prose(test)]


def reads_of_prose(tree: ast.AST) -> list[int]:
    """Lines where a text for people decides what happens next; not in ``__str__``, which makes text of text."""
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    rendering = {id(n) for function in functions if function.name == "__str__" for n in ast.walk(function)}
    nodes = [node for node in ast.walk(tree) if id(node) not in rendering]
    return [text.lineno for node in nodes for text in texts_matched(node) + texts_tested(node)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_branch_reads_a_sentence(path):
    """Decisions are values; whoever improves a sentence changes no behaviour."""
    if str(path.relative_to(ROOT)) not in READS_TEXT:
        assert reads_of_prose(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    "code",
    [
        'if decision.startswith("nothing to register"): pass',
        'x = outcome == "nothing to register"',
        'x = "is certain" in text',
        "if not verdict.remark: pass",
        "x = 1 if bool(skipped.sentence) else 2",
        "x = a or self.message",
        'x = [o for o in outcomes if o in ("trained", "left out")]',
        'x = outcome.detail.partition(":")',
        'x = name.startswith("error: ")',
    ],
)
def test_a_branch_that_reads_a_sentence_is_found(code):
    assert reads_of_prose(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "if decision is None: pass",
        "if decision.outcome is Outcome.PROMOTED: pass",
        'x = status in ("ok", "pending")',
        "def __str__(self): return f'{self.status}: {self.reason}' if self.reason else str(self.status)",
    ],
)
def test_a_branch_on_a_value_is_fine(code):
    assert not reads_of_prose(ast.parse(code))


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
