"""The folder of one running deployment in the workspace; what killed deployments left there is removed."""

import shutil
import tempfile
from pathlib import Path
from types import TracebackType

import filelock

from genre.errors import GenreError
from genre.files import make_directory
from genre.workspace import deployments_dir

#: Prefix of the folders' names.
_PREFIX = "run-"

#: Seconds that a start waits for another one, which may be removing gigabytes.
_START_LOCK_S = 60.0


class RunFolder:
    """A folder that only this user can read, locked as long as its process lives.

    A start removes all folders that no process has locked. The system releases the lock of a process that is killed.

    Parameters
    ----------
    parent : Path, optional
        Folder of all deployments; by default that of the workspace.

    Attributes
    ----------
    path : Path
        The folder.

    Raises
    ------
    GenreError
        If the folder cannot be made.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = make_directory(parent or deployments_dir())
        try:
            with filelock.FileLock(parent / ".lock", timeout=_START_LOCK_S):
                _remove_abandoned(parent)
                self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
                self._lock_file = self.path / ".lock"
                self._lock = self._acquire()
        except OSError as error:
            raise GenreError(
                f"cannot use the folder {parent} ({error}); set GENRE_HOME to a folder that can be written to"
            ) from None

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)

    def restore(self) -> None:
        """Make the folder and its lock again if another program has removed them.

        Raises
        ------
        OSError
            If that is not possible now.
        """
        if self._lock_file.exists():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o700)
        self._lock.release()
        self._lock = self._acquire()

    def _acquire(self) -> filelock.BaseFileLock:
        lock = filelock.FileLock(self._lock_file)
        lock.acquire(timeout=0)
        return lock


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders that no living process has locked."""
    for folder in parent.glob(f"{_PREFIX}*/"):
        lock = filelock.FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except OSError:  # filelock's Timeout is one too: its process lives
            continue
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
