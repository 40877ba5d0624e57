"""Files that are one form of named chunks: WAV (RIFF, RIFX, RF64, BW64), AIFF and AIFF-C (FORM), DSDIFF (FRM8)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Literal

from genre.errors import DataError
from genre.tags.splices import Splice, count_growth

#: Size that stands for "see ds64" in RF64 and BW64 (EBU Tech 3306, ITU-R BS.2088), and for "unknown" elsewhere.
_UNKNOWN = 0xFFFFFFFF

_NAME = re.compile(rb"[ -~]{4}")


@dataclass(frozen=True)
class Layout:
    """Shape of a kind of form.

    Attributes
    ----------
    order : str
        Order of the bytes of a number.
    width : int
        Bytes of a size.
    sound : tuple of bytes
        Names that the chunk with the samples may have.
    id3 : bytes
        Name of the chunk with an ID3v2 tag.
    """

    order: Literal["little", "big"]
    width: int
    sound: tuple[bytes, ...]
    id3: bytes

    @property
    def header_bytes(self) -> int:
        """Bytes of a chunk's name and size."""
        return 4 + self.width


#: Layouts by the name and the type of the form.
_LAYOUTS = {
    **dict.fromkeys(
        [(b"RIFF", b"WAVE"), (b"RF64", b"WAVE"), (b"BW64", b"WAVE")], Layout("little", 4, (b"data",), b"id3 ")
    ),
    (b"RIFX", b"WAVE"): Layout("big", 4, (b"data",), b"id3 "),
    **dict.fromkeys([(b"FORM", b"AIFF"), (b"FORM", b"AIFC")], Layout("big", 4, (b"SSND",), b"ID3 ")),
    (b"FRM8", b"DSD "): Layout("big", 8, (b"DSD ", b"DST "), b"ID3 "),
}


@dataclass(frozen=True)
class Chunk:
    """A chunk: its name, and the stretch of the file that its content fills, without the pad byte."""

    name: bytes
    start: int
    end: int


@dataclass(frozen=True)
class Form:
    """A file of chunks.

    Attributes
    ----------
    layout : Layout
        Its shape.
    chunks : tuple of Chunk
        Up to the first that is broken.
    file_bytes : int
        Bytes of the file.
    size_field : tuple of int
        Stretch of the file with the size of the form.
    defect : str
        Reason for which the file cannot be changed safely; empty if there is none.
    """

    layout: Layout
    chunks: tuple[Chunk, ...]
    file_bytes: int
    size_field: tuple[int, int]
    defect: str


def read_form(file: BinaryIO) -> Form | None:
    """Read where the chunks of a file are; None if it is no file of chunks."""
    file_bytes = file.seek(0, 2)
    file.seek(0)
    head = file.read(16)
    layout = _LAYOUTS.get((head[:4], head[8:12])) or _LAYOUTS.get((head[:4], head[12:16]))
    if layout is None:
        return None
    chunks, position = _read_chunks(file, layout, file_bytes)
    size_field = (4, layout.header_bytes)
    if head[:4] in (b"RF64", b"BW64") and chunks and chunks[0].name == b"ds64":
        size_field = (chunks[0].start, chunks[0].start + 8)
    size = _read_number(file, *size_field, layout)
    declared = layout.header_bytes + size
    is_unknown = size in (0, _UNKNOWN) or any(c.name in layout.sound and c.start == c.end for c in chunks)
    unfilled = "the sizes in its header were never filled in" if is_unknown else ""
    defect = unfilled or _find_defect(layout, chunks, position, declared, file_bytes)
    return Form(layout, tuple(chunks), file_bytes, size_field, defect)


def _read_chunks(file: BinaryIO, layout: Layout, file_bytes: int) -> tuple[list[Chunk], int]:
    """Return the chunks up to one that is broken or runs past the file, and the offset where they end."""
    chunks: list[Chunk] = []
    position = layout.header_bytes + 4
    while position + layout.header_bytes <= file_bytes:
        start = position + layout.header_bytes
        file.seek(position)
        name = file.read(4)
        size = _read_number(file, position + 4, start, layout)
        if size == _UNKNOWN and name == b"data" and chunks and chunks[0].name == b"ds64":
            size = _read_number(file, chunks[0].start + 8, chunks[0].start + 16, layout)
        if not _NAME.fullmatch(name) or start + size > file_bytes:
            break
        chunks.append(Chunk(name, start, start + size))
        position = start + size + size % 2
    return chunks, position


def _read_number(file: BinaryIO, start: int, end: int, layout: Layout) -> int:
    """Read an unsigned number."""
    file.seek(start)
    return int.from_bytes(file.read(end - start), layout.order)


def _find_defect(layout: Layout, chunks: Sequence[Chunk], position: int, declared: int, file_bytes: int) -> str:
    """Return the reason for which a form cannot be changed safely.

    The pad byte behind an odd chunk at the end may be missing, and the form's size may count it or not.
    """
    ends = {position, *(chunk.end for chunk in chunks[-1:])}
    if declared > max(file_bytes, *ends):
        return f"its header counts {declared - file_bytes} bytes more than the file has"
    if declared < file_bytes and declared not in ends:
        return f"its header counts {file_bytes - declared} bytes less than the file has"
    if file_bytes not in ends and declared in ends:
        return f"{file_bytes - declared} bytes follow the end that its header names"
    if file_bytes not in ends:
        return f"no whole chunk begins at byte {position}, where one should"
    if not any(chunk.name in layout.sound for chunk in chunks):
        return "it has no sound"
    return ""


def resize_chunk(form: Form, chunk: Chunk, splices: Sequence[Splice]) -> list[Splice]:
    """Plan the size of a chunk whose content is changed, and its pad byte.

    Parameters
    ----------
    form : Form
        The file.
    chunk : Chunk
        The chunk.
    splices : sequence of Splice
        Changes of its content; returned with the others.
    """
    growth = count_growth(splices)
    if not growth:
        return list(splices)
    size = chunk.end - chunk.start + growth
    splices = [*splices, Splice(chunk.start - form.layout.width, chunk.start, _encode_size(form.layout, size))]
    has_pad = (chunk.end - chunk.start) % 2 and chunk.end < form.file_bytes
    if has_pad and size % 2 == 0:
        return [*splices, Splice(chunk.end, chunk.end + 1, b"")]
    return [*splices, Splice(chunk.end, chunk.end, b"\0")] if size % 2 and not has_pad else splices


def append_chunk(form: Form, content: bytes, splices: Sequence[Splice]) -> list[Splice]:
    """Plan a new ID3v2 chunk at the end of a file, with the pad byte that the last chunk may lack.

    Parameters
    ----------
    form : Form
        The file.
    content : bytes
        Content of the chunk.
    splices : sequence of Splice
        Changes of the other chunks; returned with the other.
    """
    last = form.chunks[-1]
    size_start = last.start - form.layout.width
    lacks_pad = (last.end - last.start) % 2 and last.end == form.file_bytes
    is_resized = any(splice.start == size_start for splice in splices)  # with its pad byte
    pad = b"\0" if lacks_pad and not is_resized else b""
    chunk = form.layout.id3 + _encode_size(form.layout, len(content)) + content + bytes(len(content) % 2)
    return [*splices, Splice(form.file_bytes, form.file_bytes, pad + chunk)]


def resize_form(form: Form, splices: Sequence[Splice]) -> list[Splice]:
    """Plan the size of a form whose chunks are changed.

    Parameters
    ----------
    form : Form
        The file.
    splices : sequence of Splice
        Changes of its chunks, in the order in which they take place; returned with the other, those that insert at the
        same place joined.

    Raises
    ------
    DataError
        If the file would be larger than its header can say.
    """
    growth = count_growth(splices)
    splices = _join_insertions(splices)
    if not growth:
        return splices
    start, end = form.size_field
    size = form.file_bytes + growth - form.layout.header_bytes
    if size >= _UNKNOWN and end - start == 4:
        raise DataError("it would be larger than 4 GB, which its header cannot say")
    return [*splices, Splice(start, end, size.to_bytes(end - start, form.layout.order))]


def _join_insertions(splices: Sequence[Splice]) -> list[Splice]:
    """Return some splices with one for all that insert at the same place."""
    inserted: dict[int, bytes] = {}
    for splice in splices:
        if splice.start == splice.end:
            inserted[splice.start] = inserted.get(splice.start, b"") + splice.content
    others = [splice for splice in splices if splice.start < splice.end]
    return others + [Splice(position, position, content) for position, content in inserted.items()]


def _encode_size(layout: Layout, size: int) -> bytes:
    """Write a size of a chunk."""
    return size.to_bytes(layout.width, layout.order)
