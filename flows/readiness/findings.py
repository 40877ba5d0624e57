"""Rows of the table that ``flows.check`` prints: one thing each, its state, and what to do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module

from genre.errors import GenreError, first_line


class State(StrEnum):
    """State of one thing: usable, usable but worth knowing about, or in the way of the commands."""

    READY = "ready"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    what : str
        Name of the thing.
    state : State
        Its state.
    text : str
        What was found and, unless all is well, what to do.
    """

    what: str
    state: State
    text: str


def look(functions: Mapping[str, str]) -> Iterator[Finding]:
    """Call functions that return findings, one after the other; a failure becomes a finding and ends no other.

    Parameters
    ----------
    functions : mapping
        Name of the thing to ``module:function``. The modules are imported here: an import fails where a package is
        missing. The functions take no arguments and return a list of findings.
    """
    for what, path in functions.items():
        module, _, name = path.partition(":")
        try:
            yield from getattr(import_module(module), name)()
        except GenreError as error:
            yield Finding(what, State.PROBLEM, str(error))
        except Exception as error:  # whatever is broken is what the table is for
            yield Finding(what, State.PROBLEM, f"{type(error).__name__}: {first_line(error)}")
