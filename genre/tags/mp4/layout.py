"""Places of the media in an MP4 file, to find out whether a change has left each sample where its track finds it."""

from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from genre.tags.mp4.atoms import VERSION, Atom, find_chains, read_children, read_content, read_file_atoms

#: Tables of the offsets of samples, ISO/IEC 14496-12, section 8.7.5, and the type of an offset.
_TABLES = ((b"stco", ">u4"), (b"co64", ">u8"))


@dataclass(frozen=True)
class Layout:
    """Places of all samples of a file that is not in fragments. Equal ones differ at most by moving everything at once.

    Attributes
    ----------
    origin : int
        Where the media begin, bytes of the file; not compared.
    media : tuple of (int, int)
        Stretches that hold the samples: start, relative to the origin, and length.
    tracks : tuple of bytes
        Content of each track, with its offsets relative to the origin.
    """

    origin: int = field(compare=False)
    media: tuple[tuple[int, int], ...]
    tracks: tuple[bytes, ...]


def read_layout(file: BinaryIO) -> Layout | None:
    """Read where the samples of an MP4 file lie; None for one in fragments, or one that its tracks do not describe.

    Raises
    ------
    DataError
        If its atoms are broken.
    """
    atoms = read_file_atoms(file, complete=True)
    headers = [child for atom in atoms if atom.kind == b"moov" for child in read_children(file, atom)]
    media = [atom for atom in atoms if atom.kind == b"mdat"]
    tracks = [child for child in headers if child.kind == b"trak"]
    if {b"moof", b"mvex", b"cmov"} & {atom.kind for atom in [*atoms, *headers]} or not media or not tracks:
        return None
    origin = media[0].content_start
    return Layout(
        origin,
        tuple((atom.content_start - origin, atom.end - atom.content_start) for atom in media),
        tuple(_read_track(file, track, origin) for track in tracks),
    )


def _read_track(file: BinaryIO, track: Atom, origin: int) -> bytes:
    """Read the content of a track, with its offsets relative to the origin."""
    content = bytearray(read_content(file, track))
    for kind, dtype in _TABLES:
        for *_, table in find_chains(file, [track], b"trak", b"mdia", b"minf", b"stbl", kind):
            start = table.content_start + VERSION - track.content_start
            count = int.from_bytes(content[start : start + 4], "big")
            offsets = np.frombuffer(content, dtype, count, start + 4).astype("i8") - origin
            content += offsets.tobytes()
            content[start + 4 : table.end - track.content_start] = bytes(table.end - track.content_start - start - 4)
    return bytes(content)
