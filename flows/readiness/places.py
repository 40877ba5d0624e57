"""Free space and write access of the folders that commands use."""

import shutil
from pathlib import Path

from flows.readiness.findings import Finding, State
from flows.readiness.folders import check_database, check_workspace, nearest_folder, try_writing
from genre.errors import GenreError
from genre.workspace import PROJECT_DIR, data_home
from tracking import store

#: Disk that the first command takes, GB: README's figure without that of the packages.
FIRST_RUN_GB = 0.2


def look_at_disk() -> list[Finding]:
    """Compare the free space of the workspace and of MLflow's database with what a first run takes."""
    folders = {"GENRE_HOME": data_home()}
    if database := store.database_folder(store.store_uri()):
        folders["MLflow's database"] = database
    free = {name: shutil.disk_usage(nearest_folder(folder)).free / 1e9 for name, folder in folders.items()}
    shown = ", ".join(f"{gigabytes:.1f} GB free for {name}" for name, gigabytes in free.items())
    if min(free.values()) < FIRST_RUN_GB:
        return [Finding("disk", State.PROBLEM, f"{shown}; a first run takes {FIRST_RUN_GB} GB: free some space")]
    return [Finding("disk", State.READY, f"{shown}; a first run takes {FIRST_RUN_GB} GB")]


def look_at_write_access(project: Path = PROJECT_DIR) -> list[Finding]:
    """Write a temporary file to the workspace, beside MLflow's database, and to the project folder.

    Parameters
    ----------
    project : Path
        The project folder. Commands need not write to it if workspace and database are elsewhere.
    """
    problems = []
    for check in (check_workspace, lambda: check_database(store.store_uri())):
        try:
            check()
        except GenreError as error:
            problems.append(Finding("write access", State.PROBLEM, str(error)))
    if problems:
        return problems
    try:
        try_writing(project)
    except OSError as error:
        text = f"not to the project folder ({error.strerror}), but to {data_home()} and MLflow's store; that is enough"
        return [Finding("write access", State.NOTE, text)]
    return [Finding("write access", State.READY, f"to {data_home()}, MLflow's store and the project folder")]
