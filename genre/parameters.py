"""Options that are the keyword defaults of a function, overridden by a JSON object."""

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from genre.errors import UsageError


def parse_json_object(text: str | None, what: str, *, example: str = '{"depth": 6}') -> dict[str, Any]:
    """Parse a JSON object from the command line; None or an empty string is an empty object.

    `what` names the option in error messages, and `example` shows an object that it accepts.

    Raises
    ------
    UsageError
        If `text` is not a JSON object.
    """
    if not text or not text.strip():
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{what} is not JSON: {error} in {text!r}; give an object such as '{example}'") from None
    if not isinstance(value, dict):
        raise UsageError(f"{what} must be a JSON object such as '{example}', got {text!r}")
    return value


def keyword_defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the keyword-only arguments of `function` that have a default, by name."""
    arguments = inspect.signature(function).parameters.values()
    return {a.name: a.default for a in arguments if a.kind is a.KEYWORD_ONLY and a.default is not a.empty}


def override_defaults(defaults: Mapping[str, Any], overrides: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Override defaults; `what` names the function that they belong to in error messages.

    Raises
    ------
    UsageError
        If a name in `overrides` is not in `defaults`, or its value is of another type than the default.
    """
    for name, value in overrides.items():
        if name not in defaults:
            accepted = ", ".join(sorted(defaults)) or "none"
            raise UsageError(f"unknown parameter {name!r} of {what}; accepted: {accepted}")
        if not _is_compatible(value, defaults[name]):
            type_name = type(defaults[name]).__name__
            raise UsageError(
                f"parameter {name!r} of {what} must be of type {type_name} (default {defaults[name]!r}), got {value!r}"
            )
    return {**defaults, **overrides}


def _is_compatible(value: Any, default: Any) -> bool:
    """Check that a value may replace a default: same type, an integer for a float, anything for None."""
    if default is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):  # before the others: a bool is an int too
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float)
    return isinstance(value, type(default))
