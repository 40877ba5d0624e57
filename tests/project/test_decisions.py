"""Decisions are values: no branch of the code reads a sentence that is meant for people."""

import ast
import re

import pytest

from tests.support.project import ROOT

SOURCES = [p for folder in ("genre", "tracking", "flows", "serving") for p in sorted((ROOT / folder).rglob("*.py"))]

#: Variables and attributes that hold text for people.
PROSE_NAMES = {"decision", "explanation", "outcome", "reason", "remark", "sentence"}
PROSE_ATTRIBUTES = {"detail", "explanation", "message", "reason", "remark", "sentence"}

#: Methods that look for something in a text, and those that take one apart.
MATCHERS = {"startswith", "endswith", "find", "index", "count"}
DIVIDERS = {"partition", "rpartition", "split"}

#: Prefect's log is nothing but text: what repeats a line is known by that line. So is what pip writes when it fails.
READS_TEXT = {"flows/command/running.py", "genre/weights.py"}


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
    """Decisions are values: improving a sentence changes no behaviour."""
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
