"""Tally of what a listing of files leaves out, by reason and type."""

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd

#: Most types that a sentence names.
_N_NAMED = 10


class Cause(NamedTuple):
    """Reason and type of what is left out.

    Attributes
    ----------
    reason : str
        What is left out and why; begins with a plural, such as "folders without permission".
    type : str
        What tells those with the same reason apart, such as a suffix or a folder's name; may be empty.
    """

    reason: str
    type: str


@dataclass
class LeftOut:
    """Tally of what is left out.

    Attributes
    ----------
    numbers : Counter
        Number of files, folders or links by cause.
    examples : dict
        The first path of each reason.
    """

    numbers: Counter[Cause] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, example: str | os.PathLike[str], type: str = "") -> None:
        """Count one more.

        Parameters
        ----------
        reason, type : str
            The cause.
        example : str or path
            Its path; the first of each reason is kept.
        """
        self.numbers[Cause(reason, type)] += 1
        self.examples.setdefault(reason, os.fspath(example))

    def to_table(self) -> pd.DataFrame:
        """Return the numbers as a table, without any path: columns ``reason``, ``type`` and ``number``."""
        rows = sorted((cause.reason, -number, _printable(cause.type)) for cause, number in self.numbers.items())
        return pd.DataFrame([(r, t, -n) for r, n, t in rows], columns=["reason", "type", "number"])

    def to_lines(self) -> list[str]:
        """Return a line per reason, with the numbers by type and an example, for a log."""
        return [f"left out: {self._phrase(r)}, such as {_printable(self.examples[r])}" for r in sorted(self.examples)]

    def to_clause(self) -> str:
        """Return one clause, without any path, to end a message with; empty if nothing is left out."""
        return f"; left out: {', '.join(map(self._phrase, sorted(self.examples)))}" if self.examples else ""

    def _phrase(self, reason: str) -> str:
        """Return a reason with its number and types, such as "1 folder without permission"."""
        by_type = Counter({cause.type: n for cause, n in self.numbers.items() if cause.reason == reason})
        number = by_type.total()
        plural, _, rest = reason.partition(" ")
        noun = plural.removesuffix("s") if number == 1 else plural
        ordered = sorted(by_type.items(), key=lambda item: (-item[1], item[0]))
        has_ones_only = number == len(by_type)
        named = [_printable(type_) + ("" if has_ones_only else f" {n}") for type_, n in ordered if type_]
        more = [f"{len(named) - _N_NAMED} more"] if len(named) > _N_NAMED else []
        return f"{number} {noun} {rest}" + (f" ({', '.join(named[:_N_NAMED] + more)})" if named else "")


def _printable(name: str) -> str:
    """Return a name on one line, with escapes in place of bytes that are not UTF-8 and of control characters."""
    text = os.fsencode(name).decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
