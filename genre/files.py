"""Files that are written completely or not at all, also where the power fails, and damage that is reported in words."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd

from genre.errors import DataError, GenreError, first_line

_log = logging.getLogger(__name__)

#: Advice on a file that is made anew where it is missing.
_REMOVE = "remove it and run the same command again"


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


def write_atomically(path: Path, write: Callable[[Path], object], *, sync: bool = True) -> Path:
    """Write a file or a folder under a temporary name, then rename it, so that `path` is complete or absent.

    Parameters
    ----------
    path : Path
        The file or folder.
    write : callable
        Writes it under the path that it receives, beside `path`.
    sync : bool
        Wait until it is on the disk, 9 ms a file on the disk of a virtual machine, and only then rename it. Without,
        a power failure may leave an empty file of that name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A random name rather than the process id, which may be the same in every container of a cluster.
    temporary = path.with_name(f"{path.name}.{uuid4().hex[:12]}.tmp")
    try:
        write(temporary)
        if sync:
            for file in [temporary, *temporary.rglob("*")] if temporary.is_dir() else [temporary]:
                sync_to_disk(file)
        temporary.replace(path)
        if sync:
            sync_to_disk(path.parent)
    finally:
        remove_path(temporary)
    return path


def sync_to_disk(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    """Read a JSON file; None if it does not exist.

    Raises
    ------
    DataError
        If it is damaged.
    """
    try:
        return json.loads(path.read_text()) if path.exists() else None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); {_REMOVE}") from None


def read_table(path: Path, columns: list[str] | None = None, *, advice: str = _REMOVE) -> pd.DataFrame:
    """Read columns of a table that `write_table` wrote, by default all.

    Parameters
    ----------
    path : Path
        The file.
    columns : list of str, optional
        Columns to read.
    advice : str
        What to do if it is damaged.

    Raises
    ------
    DataError
        If it is damaged or lacks a column.
    FileNotFoundError
        If it is not there.
    """
    try:
        return pd.read_parquet(path, columns=columns)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({first_line(error)}); {advice}") from None


def read_or_make_table(path: Path, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Read a table, which is made and written first if it is missing or damaged."""
    try:
        return read_table(path)
    except FileNotFoundError:
        pass
    except DataError as error:
        _log.warning("%s; it is made anew", error)
    write_table(path, make())
    return read_table(path)
