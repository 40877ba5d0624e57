"""Changes of a file packed so that the old bytes can be computed from the new ones.

Per change: the unchanged bytes since the last one, the lengths of new and old content, and the old content as a delta
to the new one. A delta has, for each block of the old content, a byte of flags (1: compared at the same distance from
the end of the new content instead of its start; 2: some bytes differ) and then, if any differ, the differences. So the
size of what is kept is that of the change, also where bytes only moved or where a table of offsets was shifted.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import BinaryIO

import numpy as np

from genre.tags.splices import Splice

#: Bytes compared at once. Where something is inserted, up to a block of the bytes around it is kept as it was.
_BLOCK = 1 << 10

#: Bytes compared at once by versions of this project that kept a single delta of the whole file, with XOR.
_WHOLE_FILE_BLOCK = 1 << 16

#: Start of a change: unchanged bytes before it, bytes of its new and of its old content.
_HEADER = struct.Struct("<QQQ")


class Changes:
    """Changes of a file, packed as they are made, in order."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj()
        self._parts: list[bytes] = []
        self._n_unchanged = 0

    def add(self, old: bytes, new: bytes) -> None:
        """Add the next piece of the file, as from `genre.tags.splices.iter_spliced`."""
        if old is new:
            self._n_unchanged += len(new)
            return
        header = _HEADER.pack(self._n_unchanged, len(new), len(old))
        self._n_unchanged = 0
        self._parts.append(self._compressor.compress(header + b"".join(_delta_blocks(old, new))))

    def pack(self) -> bytes:
        """Return the changes packed, for `unpack_changes`; nothing can be added afterwards."""
        return b"".join([*self._parts, self._compressor.flush()])


def unpack_changes(packed: bytes, file: BinaryIO) -> Iterator[Splice]:
    """Compute the splices that undo changes, in order, from `Changes.pack` and the changed file."""
    stream = BytesIO(zlib.decompress(packed))
    end = 0
    while header := stream.read(_HEADER.size):
        n_unchanged, n_new, n_old = _HEADER.unpack(header)
        start = end + n_unchanged
        end = start + n_new
        file.seek(start)
        yield Splice(start, end, b"".join(_old_blocks(stream, BytesIO(file.read(n_new)), n_old, _BLOCK, np.add)))


def unpack_whole_file(delta: bytes, file: BinaryIO, size: int) -> Iterator[Splice]:
    """Compute the splices that undo a change from the delta of a whole file, as earlier versions kept it.

    Parameters
    ----------
    delta : bytes
        The delta, compressed.
    file : file
        The changed file, open, binary.
    size : int
        Length of the old file, bytes.
    """
    n_new = file.seek(0, 2)
    position = 0
    stream = BytesIO(zlib.decompress(delta))
    for block in _old_blocks(stream, file, size, _WHOLE_FILE_BLOCK, np.bitwise_xor):
        end = min(position + len(block), n_new)
        yield Splice(position, end, block)
        position = end
    yield Splice(position, n_new, b"")


def _delta_blocks(old: bytes, new: bytes) -> Iterator[bytes]:
    """Compute the delta from which `_old_blocks` gets the old bytes out of the new ones."""
    target = BytesIO(new)
    shift = len(new) - len(old)
    for start in range(0, len(old), _BLOCK):
        block = np.frombuffer(old[start : start + _BLOCK], np.uint8)
        differences = [block - _read_window(target, start + moved, block.size) for moved in (0, shift)]
        from_end = int(np.count_nonzero(differences[1]) < np.count_nonzero(differences[0]))
        is_different = bool(differences[from_end].any())
        yield bytes([from_end + 2 * is_different]) + (differences[from_end].tobytes() if is_different else b"")


def _old_blocks(
    stream: BinaryIO, new: BinaryIO, size: int, n_block: int, combine: Callable[..., np.ndarray]
) -> Iterator[bytes]:
    """Compute old content, `size` bytes, from a delta and the new content, block by block."""
    shift = new.seek(0, 2) - size
    for start in range(0, size, n_block):
        n = min(n_block, size - start)
        flags = stream.read(1)[0]
        block = _read_window(new, start + shift * (flags & 1), n)
        yield (combine(block, np.frombuffer(stream.read(n), np.uint8)) if flags & 2 else block).tobytes()


def _read_window(file: BinaryIO, start: int, n: int) -> np.ndarray:
    """Read n bytes from a position on, zero outside the file, as uint8."""
    file.seek(max(start, 0))
    content = file.read(max(0, n + min(start, 0)))
    return np.frombuffer((bytes(min(n, max(-start, 0))) + content).ljust(n, b"\0"), np.uint8)
