"""Folders that a command writes to."""

import tempfile
from pathlib import Path

from genre.errors import GenreError
from genre.workspace import data_home
from tracking import store


def nearest_folder(folder: Path) -> Path:
    """Return a folder or, if there is none, the one that it would be made in."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def try_writing(folder: Path) -> None:
    """Write a temporary file to a folder or, if there is none, to the one that it would be made in.

    Raises
    ------
    OSError
        If that fails.
    """
    with tempfile.TemporaryFile(dir=nearest_folder(folder), buffering=0) as file:
        file.write(b"0")


def check_workspace() -> None:
    """Check that the workspace can be written to.

    Raises
    ------
    GenreError
        If it cannot.
    """
    try:
        try_writing(data_home())
    except OSError as error:
        raise GenreError(
            f"cannot write to the folder {data_home()} ({error.strerror}); "
            "set GENRE_HOME to a folder that can be written to"
        ) from None


def check_database(uri: str) -> None:
    """Check that MLflow's database, if its store is an SQLite file, can be written to.

    Parameters
    ----------
    uri : str
        Address of the store, from `tracking.store.store_uri`.

    Raises
    ------
    GenreError
        If the database or its folder cannot be written to.
    """
    database = store.database_path(uri)
    if database is None:
        return
    try:
        try_writing(database.parent)  # SQLite keeps a journal beside the database
        if database.exists():
            database.open("ab").close()
    except OSError as error:
        raise GenreError(
            f"MLflow's database {uri} cannot be written to ({error.strerror}); "
            "set MLFLOW_TRACKING_URI to one in a folder that can be written to"
        ) from None
