"""Tags as bytes, written field by field without the code under test."""

from collections.abc import Iterable
from itertools import pairwise

#: Name of the genre frame and of the title frame of each version of ID3v2.
GENRE = {2: b"TCO", 3: b"TCON", 4: b"TCON"}
TITLE = {2: b"TT2", 3: b"TIT2", 4: b"TIT2"}


def synchsafe(number: int) -> bytes:
    return bytes([number >> 21 & 127, number >> 14 & 127, number >> 7 & 127, number & 127])


def unsynchronise(data: bytes) -> bytes:
    """Put a null character behind each 0xFF that another byte could make a false synchronisation."""
    out = bytearray()
    for byte, following in pairwise([*data, 0]):
        out.append(byte)
        if byte == 0xFF and (following == 0 or following >= 0xE0):
            out.append(0)
    return bytes(out)


def frame(version: int, name: bytes, content: bytes, *, flags: int = 0, plain: bool = False) -> bytes:
    """Return a frame; `plain` writes the size of 2.4 as iTunes did."""
    if version == 2:
        return name + len(content).to_bytes(3, "big") + content
    size = synchsafe(len(content)) if version == 4 and not plain else len(content).to_bytes(4, "big")
    return name + size + flags.to_bytes(2, "big") + content


def genre_frame(version: int, *genres: str, **options: int) -> bytes:
    """Return a genre frame as the project writes it."""
    text = ("\0" if version == 4 else "; ").join(genres)
    if text.isascii():
        content = b"\0" + text.encode()
    else:
        content = b"\3" + text.encode() if version == 4 else b"\1\xff\xfe" + text.encode("utf-16-le")
    return frame(version, GENRE[version], content, **options)


def id3(version: int, frames: bytes, *, flags: int = 0, padding: int = 0) -> bytes:
    """Return an ID3v2 tag; `flags` with 0x10 add a footer, with 0x80 before 2.4 unsynchronise it all."""
    body = unsynchronise(frames) if flags & 0x80 and version < 4 else frames
    header = bytes([version, 0, flags]) + synchsafe(len(body) + padding)
    footer = b"3DI" + header if flags & 0x10 else b""
    return b"ID3" + header + body + bytes(padding) + footer


def id3v1(*, genre: int, title: bytes = b"", artist: bytes = b"", comment: bytes = b"") -> bytes:
    texts = [title.ljust(30, b"\0"), artist.ljust(30, b"\0"), bytes(30), bytes(4), comment.ljust(28, b"\0")]
    return b"TAG" + b"".join(texts) + b"\0\0" + bytes([genre])


def ape_tag(items: Iterable[tuple[str, bytes]], *, version: int = 2000, flags: int = 0, item_flags: int = 0) -> bytes:
    """Return an APE tag; of version 1 without a header."""
    parts = [
        len(value).to_bytes(4, "little")
        + (item_flags | (2 if key.startswith("Cover") else 0)).to_bytes(4, "little")
        + key.encode()
        + b"\0"
        + value
        for key, value in items
    ]
    body = b"".join(parts)

    def sums(flag: int) -> bytes:
        numbers = (version, len(body) + 32, len(parts), flag)
        return b"APETAGEX" + b"".join(number.to_bytes(4, "little") for number in numbers) + bytes(8)

    if version == 1000:
        return body + sums(0)
    return sums(flags | 0xA0000000) + body + sums(flags | 0x80000000)
