"""Signature and description of a flow, read from its source: importing a flow takes seconds, its libraries' most."""

import ast
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import parameters


@dataclass(frozen=True)
class FlowSource:
    """Flow of an entry point, not imported.

    Attributes
    ----------
    module : str
        Module to import it from, such as ``flows.build``.
    function : str
        Its name there.
    signature : inspect.Signature
        Parameters, with their annotations from `flows.parameters` and their defaults.
    docstring : str
        Docstring, without its indentation.
    """

    module: str
    function: str
    signature: inspect.Signature
    docstring: str


def read_flow(path: Path) -> FlowSource:
    """Read the flow of an entry point from its file.

    Parameters
    ----------
    path : Path
        File of `flows` with one function decorated with ``@flow(...)``. Annotations are names of `flows.parameters`;
        defaults are literals or such names.

    Returns
    -------
    FlowSource
        The flow.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    node = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and _is_flow(node))
    # all parameters have defaults, as MLproject requires
    pairs = zip(node.args.args, node.args.defaults, strict=True)
    signature = inspect.Signature([_read_parameter(argument, default) for argument, default in pairs])
    return FlowSource(f"flows.{path.stem}", node.name, signature, ast.get_docstring(node) or "")


def _is_flow(node: ast.FunctionDef) -> bool:
    """Return whether a function is decorated with ``@flow(...)``."""
    calls = [decorator.func for decorator in node.decorator_list if isinstance(decorator, ast.Call)]
    return any(isinstance(call, ast.Name) and call.id == "flow" for call in calls)


def _read_parameter(argument: ast.arg, default: ast.expr) -> inspect.Parameter:
    """Return a parameter as `inspect.signature` would."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    annotation = _evaluate(argument.annotation)
    return inspect.Parameter(argument.arg, kind, default=_evaluate(default), annotation=annotation)


def _evaluate(node: ast.expr | None) -> Any:
    """Return the value of a literal or of a name of `flows.parameters`."""
    return getattr(parameters, node.id) if isinstance(node, ast.Name) else ast.literal_eval(node or "None")
