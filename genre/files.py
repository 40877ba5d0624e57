"""Files written whole or not at all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd

from genre.errors import GenreError


def make_directory(directory: Path) -> Path:
    """Make a folder of the workspace where it is missing.

    Raises
    ------
    GenreError
        If that is not allowed, or a file stands in the way.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GenreError(
            f"cannot make the folder {directory} ({error.strerror}); set GENRE_HOME to a folder that can be written to"
        ) from None
    return directory


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Have `write` fill a temporary file beside `path`, then rename it, so that `path` is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the process's number: on a cluster every container may have the same one.
    temporary = path.with_name(f"{path.name}.{uuid4().hex[:12]}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        _remove(temporary)
    return path


def _remove(path: Path) -> None:
    """Remove a file, or a folder with all in it, that may not be there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """Write a Parquet table, whole or not at all; the index is kept."""
    return write_atomically(path, table.to_parquet)


def write_json(path: Path, value: Any) -> Path:
    """Write JSON, whole or not at all."""
    return write_atomically(path, lambda p: p.write_text(json.dumps(value, indent=1, default=str)))


def read_json(path: Path) -> Any:
    """What `write_json` wrote, or None where there is no such file."""
    return json.loads(path.read_text()) if path.exists() else None
