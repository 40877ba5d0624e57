"""ID3v2 tags as they lie in a file: header, frames, padding, and the genres in them.

Sections are those of ID3v2.3.0 and ID3v2.4.0-structure, https://id3.org.
"""

import re
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from genre.errors import DataError
from genre.tags.id3.text import decode_genres
from genre.tags.id3.unsynchronisation import Body, is_unsynchronised, synchronise

#: Bytes of the header, and of the footer (3.1, 3.4).
HEADER_BYTES = 10

#: Flags of the header. The extended header of 2.3 and 2.4 has the place of the compression of 2.2.
_UNSYNCHRONISED = 0x80
_EXTENDED = 0x40
_FOOTER = 0x10

_HEADER = re.compile(rb"ID3[^\xff][^\xff].[\x00-\x7f]{4}", re.DOTALL)

#: Names of frames; iTunes wrote those of 2.2 into tags of 2.3, filled up by a null character or a space.
_SHORT_NAME = re.compile(rb"[A-Z0-9]{3}")
_NAME = re.compile(rb"[A-Z0-9]{3}[A-Z0-9 \0]")
_GENRE_NAMES = {b"TCO", b"TCON", b"TCO\0", b"TCO "}

#: Names of frames that begin with a name of their own. Players that use FFmpeg show "genre" in place of the others.
_NAMED_TEXTS = {b"TXX", b"TXXX"}

#: Most bytes of a genre that is stored compressed.
_MAX_INFLATED = 1 << 16


@dataclass(frozen=True)
class FrameFlags:
    """Bits of the flags of a frame (2.3: 3.3.1; 2.4: 4.1)."""

    read_only: int
    compressed: int
    encrypted: int
    grouped: int
    unsynchronised: int
    with_length: int


#: Flags of frames by version.
FRAME_FLAGS = {
    2: FrameFlags(0, 0, 0, 0, 0, 0),
    3: FrameFlags(0x2000, 0x80, 0x40, 0x20, 0, 0x80),
    4: FrameFlags(0x1000, 0x08, 0x04, 0x40, 0x02, 0x01),
}


@dataclass(frozen=True)
class Frame:
    """A frame of a tag.

    Attributes
    ----------
    name, content : bytes
        Both as they are stored.
    start, end : int
        Stretch of the file, header included.
    flags : int
        Sixteen bits; 0 in version 2.2.
    """

    name: bytes
    start: int
    end: int
    flags: int
    content: bytes


@dataclass(frozen=True)
class Tag:
    """An ID3v2 tag in a file.

    Attributes
    ----------
    start, end : int
        Stretch of the file.
    version : int
        2, 3 or 4.
    flags : int
        Eight bits.
    frames : tuple of Frame
        Up to the first that is broken.
    frames_start, frames_end, body_end : int
        Where in the file the frames begin and end, and where the padding ends.
    defect : str
        Reason for which the tag cannot be changed safely; empty if there is none.
    plain_sizes : bool
        True if frames of 2.4 have sizes of eight bits a byte instead of seven, as iTunes wrote them.
    """

    start: int
    end: int
    version: int
    flags: int
    frames: tuple[Frame, ...]
    frames_start: int
    frames_end: int
    body_end: int
    defect: str
    plain_sizes: bool

    @property
    def has_footer(self) -> bool:
        """True if the tag ends with a copy of its header."""
        return self.body_end < self.end

    @property
    def can_be_padded(self) -> bool:
        """True if padding may take up a difference: a footer forbids it (2.4: 3.3), the extended header counts it."""
        return not (self.has_footer or self.is_unsynchronised or self.flags & _EXTENDED)

    @property
    def is_unsynchronised(self) -> bool:
        """True if the tag as a whole is (in 2.4, each frame is by itself)."""
        return self.version < 4 and bool(self.flags & _UNSYNCHRONISED)

    @property
    def has_genre(self) -> bool:
        """True if there is a place for genres, even one that holds none."""
        return bool(self.genre_frames)

    @property
    def genre_frames(self) -> list[Frame]:
        """Frames that hold genres; texts that are named so last."""
        texts = (frame for frame in self.frames if frame.name in _NAMED_TEXTS)
        named = [frame for frame in texts if "".join(_read_values(self, frame)[:1]).lower() == "genre"]
        return [frame for frame in self.frames if frame.name in _GENRE_NAMES] + named


def decode_size(data: bytes) -> int:
    """Return a number of which each byte holds seven bits; -1 if one holds eight."""
    return -1 if any(byte > 127 for byte in data) else sum(byte << 7 * n for n, byte in enumerate(reversed(data)))


def read_tag(file: BinaryIO, start: int) -> Tag | None:
    """Read the ID3v2 tag that begins at an offset of a file; None if there is none.

    Raises
    ------
    DataError
        If its version is unknown, or it runs past the end of the file.
    """
    file.seek(start)
    header = file.read(HEADER_BYTES)
    if not _HEADER.fullmatch(header):
        return None
    version, flags = header[3], header[5]
    if version not in FRAME_FLAGS:
        raise DataError(f"its ID3v2 tag has the unknown version 2.{version}")
    footer_bytes = HEADER_BYTES if version == 4 and flags & _FOOTER else 0
    stored = file.read(size := decode_size(header[6:]))
    if len(stored) < size or len(file.read(footer_bytes)) < footer_bytes:
        raise DataError("its ID3v2 tag runs past the end of the file")
    is_marked = version < 4 and bool(flags & _UNSYNCHRONISED)
    is_wrong = is_marked and not is_unsynchronised(stored)
    body = Body(stored, start + HEADER_BYTES, unsynchronised=is_marked and not is_wrong)
    first, defect = _skip_extended_header(body.bytes, version, flags)
    defect = "its ID3v2 tag is marked as unsynchronised and is not" if is_wrong else defect
    frames, position, plain = _read_frames(body, first, version)
    defect = defect or _find_defect(body.bytes, position, version)
    body_end = start + HEADER_BYTES + size
    bounds = (body.locate(first), body.locate(position), body_end)
    return Tag(start, body_end + footer_bytes, version, flags, tuple(frames), *bounds, defect, plain)


def _skip_extended_header(data: bytes, version: int, flags: int) -> tuple[int, str]:
    """Return the index of the first frame, and the reason for which the extended header forbids a change."""
    if not flags & _EXTENDED or _NAME.match(data):  # some programs set the flag and write no such header
        return 0, ""
    if version == 2:
        return len(data), "its ID3v2.2 tag is compressed"
    size = 4 + int.from_bytes(data[:4], "big") if version == 3 else decode_size(data[:4])
    if not 6 <= size <= len(data):
        return len(data), "the extended header of its ID3v2 tag is broken"
    has_checksum = data[4] & 0x80 if version == 3 else data[5] & 0x20  # 2.3: 3.2; 2.4: 3.2
    return size, "its ID3v2 tag has a checksum" if has_checksum else ""


def _read_frames(body: Body, first: int, version: int) -> tuple[list[Frame], int, bool]:
    """Return the frames, the index where they end, and whether sizes of 2.4 have eight bits a byte."""
    frames, end = _walk_frames(body, first, version, plain=False)
    if version == 4 and _find_defect(body.bytes, end, version):
        others, other_end = _walk_frames(body, first, version, plain=True)
        if not _find_defect(body.bytes, other_end, version):
            return others, other_end, True
    return frames, end, False


def _walk_frames(body: Body, first: int, version: int, *, plain: bool) -> tuple[list[Frame], int]:
    """Return the frames up to padding or to one that is broken, and the index where they end."""
    data = body.bytes
    name, sizes, header = (_SHORT_NAME, 3, 6) if version == 2 else (_NAME, 4, 10)
    frames = []
    while match := name.match(data, first):
        start = first + header
        field = data[match.end() : match.end() + sizes]
        size = decode_size(field) if version == 4 and not plain else int.from_bytes(field, "big")
        if size < 0 or start + size > len(data):
            break
        flags = int.from_bytes(data[match.end() + sizes : start], "big")
        content = data[start : start + size]
        frames.append(Frame(match[0], body.locate(first), body.locate(start + size), flags, content))
        first = start + size
    return frames, first


def _find_defect(data: bytes, end: int, version: int) -> str:
    """Return the reason for which what follows the frames forbids a change; empty if it is padding."""
    if not data[end:].strip(b"\0"):
        return ""
    if (_SHORT_NAME if version == 2 else _NAME).match(data, end):
        return "a frame runs past the end of its ID3v2 tag"
    return "its ID3v2 tag holds bytes that are no frames"


def read_genres(tag: Tag) -> list[str]:
    """Return the genres in a tag, as names; those that are encrypted or broken are left out."""
    return [genre for frame in tag.genre_frames for genre in _read_values(tag, frame)[frame.name in _NAMED_TEXTS :]]


def _read_values(tag: Tag, frame: Frame) -> list[str]:
    """Return the texts of a frame, numbers of genres as names."""
    return decode_genres(_read_content(tag, frame), tag.version)


def _read_content(tag: Tag, frame: Frame) -> bytes:
    """Return the content of a frame as it was before it was stored; empty if it is encrypted or broken."""
    is_set = FRAME_FLAGS[tag.version]
    if frame.flags & is_set.encrypted:
        return b""
    n_length = 4 if frame.flags & is_set.with_length else 0
    content = frame.content[n_length + bool(frame.flags & is_set.grouped) :]
    if tag.version == 4 and (frame.flags & is_set.unsynchronised or tag.flags & _UNSYNCHRONISED):
        content = synchronise(content)
    if not frame.flags & is_set.compressed:
        return content
    try:
        return zlib.decompressobj().decompress(content, _MAX_INFLATED)
    except zlib.error:
        return b""
