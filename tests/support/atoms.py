"""MP4 files as atoms, taken apart and put together without the project's code."""

from collections.abc import Callable, Sequence

#: Atoms that hold atoms, and the bytes before the first of them.
PARENTS = {
    **dict.fromkeys((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"udta", b"ilst", b"moof", b"traf", b"mfra"), 0),
    b"meta": 4,
}


def atom(kind: bytes, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def wide_atom(kind: bytes, content: bytes) -> bytes:
    """An atom whose size has 64 bits."""
    return (1).to_bytes(4, "big") + kind + (16 + len(content)).to_bytes(8, "big") + content


def split_atoms(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of the atoms; what is no atom at the end has no kind."""
    atoms, position = [], 0
    while len(data) - position >= 8 and any(data[position : position + 4]):
        size, begin = int.from_bytes(data[position : position + 4], "big"), position + 8
        if size == 1:
            size, begin = int.from_bytes(data[begin : begin + 8], "big"), begin + 8
        atoms.append((data[position + 4 : position + 8], data[begin : position + size]))
        position += size
    return [*atoms, (b"", data[position:])] if position < len(data) else atoms


def leaves(data: bytes, path: tuple[bytes, ...] = ()) -> list[tuple[tuple[bytes, ...], bytes]]:
    """Path and content of all atoms that hold no others."""
    found = []
    for kind, content in split_atoms(data):
        before = 0 if kind == b"meta" and content[4:8] == b"hdlr" else PARENTS.get(kind)
        if before is None:
            found.append(((*path, kind), content))
        else:
            found += leaves(content[before:], (*path, kind))
    return found


def edit_atom(data: bytes, path: Sequence[bytes], change: Callable[[bytes], bytes]) -> bytes:
    """Change the content of the first atom on a path; offsets stay as they are."""
    if not path:
        return change(data)
    parts, is_done = [], False
    for kind, content in split_atoms(data):
        if kind == path[0] and not is_done:
            before = PARENTS.get(kind, 0) if len(path) > 1 else 0
            content = content[:before] + edit_atom(content[before:], path[1:], change)
            is_done = True
        parts.append(atom(kind, content) if kind else content)
    return b"".join(parts)
