"""Tally of what a listing of files leaves out, by reason and type."""

import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pandas as pd

#: Most types that a sentence names.
_N_NAMED = 10


@dataclass
class LeftOut:
    """Tally of what is left out.

    Attributes
    ----------
    numbers : dict of str to Counter
        Reason to the number of files, folders or links of each type. Type is what tells those with the same reason
        apart, such as a suffix or a folder's name.
    examples : dict
        The first path of each reason.
    """

    numbers: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, example: str | os.PathLike[str], type: str = "") -> None:
        """Count one more.

        Parameters
        ----------
        reason : str
            What is left out and why; begins with a plural, such as "folders without permission".
        example : str or path
            Its path; the first of each reason is kept.
        type : str
            Its type, by default none.
        """
        self.numbers[reason][type] += 1
        self.examples.setdefault(reason, os.fspath(example))

    def to_table(self) -> pd.DataFrame:
        """Return the numbers as a table, without any path: columns ``reason``, ``type`` and ``number``."""
        rows = sorted(
            (reason, -number, escape_name(type_))
            for reason, by_type in self.numbers.items()
            for type_, number in by_type.items()
        )
        return pd.DataFrame([(r, t, -n) for r, n, t in rows], columns=["reason", "type", "number"])

    def to_lines(self) -> list[str]:
        """Return a line per reason, with the numbers by type and an example, for a log."""
        return [f"left out: {self._phrase(r)}, such as {escape_name(self.examples[r])}" for r in sorted(self.examples)]

    def to_clause(self) -> str:
        """Return one clause, without any path, to end a message with; empty if nothing is left out."""
        return f"; left out: {', '.join(map(self._phrase, sorted(self.examples)))}" if self.examples else ""

    def _phrase(self, reason: str) -> str:
        """Return a reason with its number and types, such as "1 folder without permission"."""
        by_type = self.numbers[reason]
        number = by_type.total()
        noun_and_reason = re.sub(r"^(\w+)s\b", r"\1", reason) if number == 1 else reason
        ordered = sorted(by_type.items(), key=lambda item: (-item[1], item[0]))
        has_ones_only = number == len(by_type)
        named = [escape_name(type_) + ("" if has_ones_only else f" {n}") for type_, n in ordered if type_]
        more = [f"{len(named) - _N_NAMED} more"] if len(named) > _N_NAMED else []
        return f"{number} {noun_and_reason}" + (f" ({', '.join(named[:_N_NAMED] + more)})" if named else "")


def escape_name(name: str) -> str:
    """Escape what one line cannot show of a name: bytes of a path that are not UTF-8, and control characters."""
    return "".join(map(_escape_character, name))


def _escape_character(character: str) -> str:
    """Return a character, or its escape; Python decodes a byte that is not UTF-8 as U+DC00 plus the byte (PEP 383)."""
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character if character.isprintable() else character.encode("unicode_escape").decode()
