"""The choice between soundfile and PyAV for one source, and the words of both where neither reads it."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

from genre.audio.readers.by_pyav import is_interrupted
from genre.audio.readers.by_soundfile import MisleadingHeader
from genre.audio.scans import scan_content
from genre.audio.scans.content import Content
from genre.errors import AudioError, GenreError, is_system_error

AudioSource = str | Path | bytes | BinaryIO
T = TypeVar("T")


def read_with_fallback(
    source: AudioSource,
    by_soundfile: Callable[[BinaryIO, Content], T],
    by_pyav: Callable[[BinaryIO, Content, bool], T],
) -> T:
    """Read with soundfile, or where that fails with PyAV.

    Parameters
    ----------
    source, by_soundfile, by_pyav
        As for `iterate_with_fallback`, but each returns one result.

    Raises
    ------
    AudioError, OSError, MemoryError
        As from `iterate_with_fallback`.
    """
    return next(
        iterate_with_fallback(
            source,
            lambda file, content: iter([by_soundfile(file, content)]),
            lambda file, content, is_ordered: iter([by_pyav(file, content, is_ordered)]),
        )
    )


def iterate_with_fallback(
    source: AudioSource,
    by_soundfile: Callable[[BinaryIO, Content], Iterator[T]],
    by_pyav: Callable[[BinaryIO, Content, bool], Iterator[T]],
) -> Iterator[T]:
    """Yield the items that soundfile reads, and PyAV's from where it fails or would not read all of the sound.

    Parameters
    ----------
    source : str, Path, bytes or file
        What is read.
    by_soundfile : callable
        Takes the open file and what its packets say.
    by_pyav : callable
        Takes besides whether all packets are to be decoded in order.

    Raises
    ------
    AudioError
        ``undecodable`` with the reasons of both.
    OSError, MemoryError
        What the system reports of its own state: see `genre.errors.is_system_error`.
    """
    n_read = 0
    failures = {}
    with _open_source(source) as file:
        content = scan_content(file)
        is_ordered = content.is_irregular
        if not is_ordered:
            try:
                for item in by_soundfile(file, content):
                    n_read += 1
                    yield item
                return
            except Exception as error:  # decoders raise anything on damaged files
                failures["soundfile"] = _describe_failure(error)
                is_ordered = isinstance(error, MisleadingHeader)
        try:
            is_ordered = is_ordered or is_interrupted(file, content)
            yield from islice(by_pyav(file, content, is_ordered), n_read, None)
        except Exception as error:  # as above
            failures["PyAV"] = _describe_failure(error)
            reasons = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
            raise AudioError(
                "undecodable",
                f"{name_source(source)}: not a readable audio file ({reasons}); "
                "if it is audio, convert it to wav or flac",
            ) from error


def _describe_failure(error: Exception) -> str:
    """Return a decoder's own words; an error of this project's or of the system is raised as it is."""
    if isinstance(error, GenreError) or is_system_error(error):
        raise error
    return _error_text(error)


def _open_source(source: AudioSource) -> AbstractContextManager[BinaryIO]:
    """Open the source as a file object; PyAV given a name would take it for a URL where it looks like one."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not isinstance(source, str | Path):
        source.seek(0)
        return nullcontext(source)
    try:
        # Opening a pipe would wait for a writer, and a device has no end.
        if not stat.S_ISREG(Path(source).stat().st_mode):
            raise AudioError(
                "undecodable", f"{source}: cannot be opened: it is a folder, a pipe or a device; give a file"
            )
        return Path(source).open("rb", buffering=0)
    except ValueError as error:  # a name with a zero byte
        raise AudioError("undecodable", f"{source}: cannot be opened: {_error_text(error)}") from error


def name_source(source: AudioSource) -> str:
    """Return the name of a source, for error messages."""
    if isinstance(source, str | Path):
        return Path(source).name
    return f"audio of {len(source)} bytes" if isinstance(source, bytes) else "audio"


def _error_text(error: BaseException) -> str:
    """Return a library's own message, without the reprs and numbers around it."""
    for attribute in ("error_string", "strerror"):
        if text := getattr(error, attribute, None):
            return str(text).rstrip(".")
    return str(error) or type(error).__name__
