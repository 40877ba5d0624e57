"""The language of the sources, as far as a program can tell."""

import ast
import re

import pytest

from tests.support.project import ROOT

SOURCES = [p for folder in ("genre", "tracking", "flows", "serving") for p in sorted((ROOT / folder).rglob("*.py"))]

#: A summary that begins so is a clause and not a sentence: its reader has to guess the subject.
RIDDLE = re.compile(r"(What|Whether|Where|How|Which|Why)\b")

#: Most names that one assignment may bind by a tuple.
MAX_PACKED = 2


def riddles(tree: ast.AST) -> list[str]:
    """Docstrings that begin like a question."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, documented)]
    texts = [(getattr(node, "name", "module"), ast.get_docstring(node) or "") for node in nodes]
    return [f"{name}: {text.splitlines()[0]}" for name, text in texts if RIDDLE.match(text)]


def packed_assignments(tree: ast.AST) -> list[str]:
    """Assignments such as ``a, b, c = x, y, z``."""
    return [
        f"line {node.lineno}: {ast.unparse(target)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)
        for target in node.targets
        if isinstance(target, ast.Tuple) and len(target.elts) > MAX_PACKED
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_docstring_begins_like_a_question(path):
    assert riddles(ast.parse(path.read_text())) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_assignment_binds_three_names_by_a_tuple(path):
    assert packed_assignments(ast.parse(path.read_text())) == []


def test_what_is_wrong_is_found():
    assert riddles(ast.parse('"""What a module is."""\nclass A:\n    """Whatever it is."""'))
    assert not riddles(ast.parse('"""Whatever a module is."""\ndef f():\n    """Return how it is."""'))
    assert packed_assignments(ast.parse("def f():\n    a, b.c, d[0] = 1, 2, 3"))
    assert not packed_assignments(ast.parse("a, b = 1, 2\nc, d, e = f()\nx = 1, 2, 3"))
