"""Files that are written completely or not at all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd

from genre.errors import GenreError


def make_directory(directory: Path) -> Path:
    """Make a folder of the workspace unless it exists.

    Raises
    ------
    GenreError
        If permission is denied, or there is a file of that name.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GenreError(
            f"cannot make the folder {directory} ({error.strerror}); set GENRE_HOME to a folder that can be written to"
        ) from None
    return directory


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file under a temporary name beside `path`, then rename it, so that `path` is complete or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A random name rather than the process id, which may be the same in every container of a cluster.
    temporary = path.with_name(f"{path.name}.{uuid4().hex[:12]}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        remove_path(temporary)
    return path


def remove_path(path: Path) -> None:
    """Remove a file, or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """Write a table with its index as Parquet, completely or not at all."""
    return write_atomically(path, table.to_parquet)


def write_json(path: Path, value: Any) -> Path:
    """Write JSON, completely or not at all."""
    return write_atomically(path, lambda p: p.write_text(json.dumps(value, indent=1, default=str)))


def read_json(path: Path) -> Any:
    """Read a JSON file; None if it does not exist."""
    return json.loads(path.read_text()) if path.exists() else None
