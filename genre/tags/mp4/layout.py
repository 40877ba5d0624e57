"""Places of the media in an MP4 file, to find out whether a change has moved any of it."""

from dataclasses import dataclass
from typing import BinaryIO

from genre.tags.mp4.atoms import read_children, read_content, read_file_atoms


@dataclass(frozen=True)
class Layout:
    """Places of all samples of a file that is not in fragments. If two files have equal layouts, nothing has moved.

    Attributes
    ----------
    tracks : tuple of bytes
        Content of each track, which says at which bytes of the file its samples lie.
    media : tuple of (int, int)
        Stretches of the file that hold them.
    """

    tracks: tuple[bytes, ...]
    media: tuple[tuple[int, int], ...]


def read_layout(file: BinaryIO) -> Layout | None:
    """Read where the samples of an MP4 file lie; None for one in fragments, or one that its tracks do not describe.

    Raises
    ------
    DataError
        If its atoms are broken.
    """
    atoms = read_file_atoms(file, complete=True)
    headers = [child for atom in atoms if atom.kind == b"moov" for child in read_children(file, atom)]
    tracks = tuple(read_content(file, child) for child in headers if child.kind == b"trak")
    media = tuple((atom.content_start, atom.end) for atom in atoms if atom.kind == b"mdat")
    is_plain = not {b"moof", b"mvex", b"cmov"} & {atom.kind for atom in [*atoms, *headers]}
    return Layout(tracks, media) if is_plain and tracks and media else None
