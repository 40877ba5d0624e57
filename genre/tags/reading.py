"""Bytes of a file that have to be there."""

from typing import BinaryIO

from genre.errors import DataError


def read_exactly(file: BinaryIO, start: int, count: int) -> bytes:
    """Read a stretch of a file.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.
    start, count : int
        First byte and number of bytes.

    Raises
    ------
    DataError
        If the file ends before the stretch does.
    """
    file.seek(start)
    content = file.read(count)
    if len(content) < count:
        raise DataError(f"the file ends at byte {start + len(content)}, before its structure at byte {start} does")
    return content


def file_size(file: BinaryIO) -> int:
    """Return the size of an open file, bytes."""
    return file.seek(0, 2)
