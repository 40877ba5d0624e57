"""Genres in MP4, M4A, M4B, 3GP and QuickTime files, whole or in fragments."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import BinaryIO

from genre.errors import DataError
from genre.tags.mp4.atoms import (
    HEADER,
    VERSION,
    Atom,
    children_start,
    find_chains,
    make_atom,
    read_children,
    read_content,
    read_file_atoms,
)
from genre.tags.mp4.genres import GenreAtom, find_genres, make_item, plan_key
from genre.tags.mp4.offsets import correct_offsets
from genre.tags.splices import Splice, count_growth

#: Atoms without content, which can make up for a change of size.
_FREE = (b"free", b"skip")

#: Handler of iTunes' list, as iTunes and FFmpeg write it: version, predefined, type, manufacturer, reserved, no name.
_HANDLER_TYPE = b"mdir"
_HANDLER = make_atom(b"hdlr", bytes(VERSION + 4) + _HANDLER_TYPE + b"appl" + bytes(9))


@dataclass(frozen=True)
class _Change:
    """A splice, and the atoms whose size it changes, the outermost first."""

    parents: tuple[Atom, ...]
    splice: Splice


def read_genres(file: BinaryIO) -> list[str]:
    """Read the genres of an MP4 file: text, number and freeform of iTunes' list, QuickTime's and 3GPP's user data.

    Raises
    ------
    DataError
        If its atoms are broken.
    """
    found = find_genres(file, read_file_atoms(file, complete=False))
    return [name for genre in found for name in genre.genres]


def plan_genres(file: BinaryIO, genres: Sequence[str]) -> list[Splice]:
    """Plan the splices that make `genres` the only genres of an MP4 file, in iTunes' list.

    Where that list has a table of keys, as FFmpeg writes it on request, an item without a key would be seen by few.

    An atom ``free`` behind the list takes up or gives the difference if it can, so that nothing moves. Otherwise every
    offset of the file that points to moved media is corrected.

    Raises
    ------
    DataError
        If its atoms are broken, or have offsets that cannot be corrected.
    """
    atoms = read_file_atoms(file, complete=True)
    old = find_genres(file, atoms)
    is_replaced = bool(old) and old[0].is_main
    changes = [_replace(old[0], make_item(genres, old[0].new_kind))] if is_replaced else _insert(file, atoms, genres)
    changes += [_replace(genre, b"") for genre in old[is_replaced:]]
    changes += _adjust_free(file, atoms, changes[0].parents, count_growth([change.splice for change in changes]))
    splices = [change.splice for change in changes] + _resize_parents(changes)
    if growth := count_growth(splices):
        splices += correct_offsets(file, atoms, max(splice.end for splice in splices), growth)
    return splices


def _replace(genre: GenreAtom, content: bytes) -> _Change:
    """Replace or remove a genre."""
    return _Change(genre.parents, Splice(genre.atom.start, genre.atom.end, content))


def _insert(file: BinaryIO, atoms: Sequence[Atom], genres: Sequence[str]) -> list[_Change]:
    """Insert an item at the end of iTunes' list, and its key in a table of keys if there is one."""
    chains = find_chains(file, atoms, b"moov", b"udta", b"meta", b"ilst")
    keys = [child for chain in chains[:1] for child in read_children(file, chain[-2]) if child.kind == b"keys"]
    if not keys:
        item = make_item(genres)
        return [_append(file, chains[0], item) if chains else _insert_list(file, atoms, make_atom(b"ilst", item))]
    splices, kind = plan_key(file, keys[0])
    parents = (*chains[0][:-1], keys[0])
    return [_append(file, chains[0], make_item(genres, kind)), *(_Change(parents, splice) for splice in splices)]


def _insert_list(file: BinaryIO, atoms: Sequence[Atom], content: bytes) -> _Change:
    """Insert iTunes' list, with whatever has to be around it and is missing."""
    for chain in find_chains(file, atoms, b"moov", b"udta", b"meta", b"hdlr"):
        if read_content(file, chain[-1])[VERSION + 4 : VERSION + 8] == _HANDLER_TYPE:
            return _append(file, chain[:-1], content)
    content = make_atom(b"meta", bytes(VERSION) + _HANDLER + content)
    if chains := find_chains(file, atoms, b"moov", b"udta"):
        return _append(file, chains[0], content)
    if chains := find_chains(file, atoms, b"moov"):
        return _append(file, chains[0], make_atom(b"udta", content))
    raise DataError("it has no atom moov")


def _append(file: BinaryIO, parents: tuple[Atom, ...], content: bytes) -> _Change:
    """Append to the last of some atoms, before zeros at its end."""
    children = read_children(file, parents[-1])
    position = children[-1].end if children else children_start(file, parents[-1])
    return _Change(parents, Splice(position, position, content))


def _adjust_free(file: BinaryIO, atoms: Sequence[Atom], parents: tuple[Atom, ...], growth: int) -> list[_Change]:
    """Plan the change of a free atom behind any of `parents` that makes up for a growth; none if no one can."""
    for depth in reversed(range(len(parents))):
        behind = [a for a in _siblings(file, atoms, parents[:depth]) if a.start >= parents[depth].end]
        # Behind the outermost atom, media could lie between.
        near = behind if depth else takewhile(lambda atom: atom.kind in _FREE, behind)
        for free in near:
            rest = free.size - growth
            if growth and free.kind in _FREE and not free.is_open and (rest == 0 or rest >= HEADER):
                return [_shrink(parents[:depth], free, growth)]
    return []


def _siblings(file: BinaryIO, atoms: Sequence[Atom], parents: tuple[Atom, ...]) -> Sequence[Atom]:
    """Return the atoms in the last of `parents`, or the outermost ones."""
    return read_children(file, parents[-1]) if parents else atoms


def _shrink(parents: tuple[Atom, ...], free: Atom, count: int) -> _Change:
    """Take bytes from the end of a free atom, or add some if `count` is negative."""
    if count == free.size:
        return _Change(parents, Splice(free.start, free.end, b""))
    return _Change((*parents, free), Splice(free.end - max(count, 0), free.end, bytes(max(-count, 0))))


def _resize_parents(changes: Sequence[_Change]) -> list[Splice]:
    """Plan the splices of the sizes of all atoms around some changes."""
    growths: Counter[Atom] = Counter()
    for change in changes:
        for parent in change.parents:
            growths[parent] += count_growth([change.splice])
    return [splice for parent, growth in growths.items() for splice in parent.resize(growth)]
