"""Paths and tables of the workspace.

The workspace is the folder ``GENRE_HOME``. It has a folder for each data set, one for the music library that is
tagged, one for weights, and one for servers::

    <data set>/clips.parquet                    all clips, with their status
               splits.parquet                   the split of each recording, as used in training
               dealt.parquet                    all recordings ever assigned to a split; rows are only added
               sounds/<name>.parquet            fingerprint of the first clip of each of their tracks
               audio/                           audio that was synthesised or downloaded
               ledger.sqlite                    AudioSet segments, and the state of each download
               chosen.json                      the lists the segments come from, and how they were chosen
               acquisition.json                 settings of the last run of `acquire`
               unfinished/<worker>/             downloads under way
               store/<configuration>/           features and spectrograms, in parts
               trainings/<model>-<key>/         a trained model, its probability table and its scores
               copies.parquet                   duplicates between recordings
               copies/<key>.parquet             all duplicates found among one set of clips
               trials/<key>.parquet             probability table of a model that was trained for comparison only
               derived/<key>/                   figures and comparisons that follow from other tables
               downloads/                       published files that the flow `paper` downloaded
               audit/                           list of doubtful labels, made by the flow `audit`
    library/answers.sqlite                      predictions of each version for each file
            tags.csv                            predictions of the last run, as a table
            tags-sure-<digest>.csv              genres that the model was sure of, for correction
            models/<key>/                       the version used last
            undo/<time>-<run>.jsonl             what restores the files that one run tagged
    weights/                                    weights of the music network, converted once, and their licence
    deployments/run-<random>/                   versions and settings of one running ``serving.deploy``
    logs/<time>-<flow>.log                      logs of the last hundred commands
    known-code/<digest>                         code of models that were logged here, or accepted
    .id                                         the workspace's name in MLflow; a copy of a workspace needs its own
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import filelock
import pandas as pd

from genre.config import AudioConfig
from genre.errors import BUILD_FIRST, REBUILD, RESTORE_SPLITS, DataError, GenreError
from genre.files import make_directory, read_table, remove_path, write_atomically, write_table

PROJECT_DIR = Path(__file__).resolve().parent.parent


def data_home() -> Path:
    """Folder of all data sets: ``GENRE_HOME``, by default ``workspace`` beside the package."""
    return Path(os.environ.get("GENRE_HOME") or PROJECT_DIR / "workspace").expanduser().resolve()


def weights_dir() -> Path:
    """Folder of the weights of the music network, which all data sets share."""
    return data_home() / "weights"


def deployments_dir() -> Path:
    """Folder of the files of running ``serving.deploy`` commands."""
    return data_home() / "deployments"


def logs_dir() -> Path:
    """Folder of the logs of commands."""
    return data_home() / "logs"


def known_code_dir() -> Path:
    """Folder of the digests of model code that this workspace logged or accepted."""
    return data_home() / "known-code"


def workspace_key() -> str:
    """Return 32 hexadecimal digits that name this workspace, drawn when they are first needed.

    Its path would not do: two machines that use one MLflow server may have their workspaces under the same path.
    """
    home = make_directory(data_home())
    path = home / ".id"
    with filelock.FileLock(home / ".id.lock"):
        if not path.exists() or not path.read_text().strip():
            write_atomically(path, lambda temporary: temporary.write_text(uuid4().hex))
        return path.read_text().strip()


@dataclass(frozen=True)
class WorkspaceFolder:
    """One folder of the workspace, which one run at a time may write to.

    Attributes
    ----------
    name : str
        Name of the folder, and of its MLflow experiment.
    """

    name: str

    @property
    def directory(self) -> Path:
        """Path of the folder."""
        return data_home() / self.name

    @contextmanager
    def lock(self, timeout_s: float = 10) -> Iterator[None]:
        """Lock the folder, so that no two runs write to it at once; the system releases the lock if its holder dies.

        Raises
        ------
        GenreError
            If another process holds it for longer than `timeout_s`, or the folder cannot be made or written to.
        """
        with self._hold_lock(timeout_s):
            for leftover in list(self.directory.rglob("*.tmp")):
                remove_path(leftover)
            yield

    def check_unlocked(self, timeout_s: float = 10) -> None:
        """Check that the folder could be locked now; raises as `lock`, and changes nothing in it."""
        with self._hold_lock(timeout_s):
            pass

    @contextmanager
    def _hold_lock(self, timeout_s: float) -> Iterator[None]:
        """Hold the lock of the folder."""
        lock = filelock.FileLock(make_directory(self.directory) / ".lock", is_singleton=True, thread_local=False)
        try:
            lock.acquire(timeout=timeout_s)
        except filelock.Timeout:
            raise GenreError(
                f"another run is working in {self.directory}; wait for it, or set GENRE_HOME to another folder"
            ) from None
        except OSError as error:
            raise GenreError(
                f"cannot write to the folder {self.directory} ({error.strerror}); "
                "set GENRE_HOME to a folder that can be written to"
            ) from None
        try:
            yield
        finally:
            lock.release()


class Workspace(WorkspaceFolder):
    """Paths and tables of one data set."""

    @property
    def dataset_id(self) -> str:
        """Name of the data set, and of its folder."""
        return self.name

    @property
    def audio_dir(self) -> Path:
        """Folder of the audio that the project downloaded."""
        return self.directory / "audio"

    @property
    def ledger_path(self) -> Path:
        """Database of the segments to be downloaded."""
        return self.directory / "ledger.sqlite"

    @property
    def selection_path(self) -> Path:
        """File of the lists that the ledger's segments come from, and of how they were chosen."""
        return self.directory / "chosen.json"

    @property
    def acquisition_path(self) -> Path:
        """File of the settings of the last run of `acquire`."""
        return self.directory / "acquisition.json"

    def scratch_dir(self, worker: int) -> Path:
        """Folder of the downloads that one worker has under way."""
        return self.directory / "unfinished" / str(worker)

    @property
    def downloads_dir(self) -> Path:
        """Folder of published files that were downloaded."""
        return self.directory / "downloads"

    @property
    def audit_dir(self) -> Path:
        """Folder of the last page of doubtful labels."""
        return self.directory / "audit"

    def store_dir(self, config: AudioConfig) -> Path:
        """Folder of the features and spectrograms that `config` makes."""
        return self.directory / "store" / f"{config.variant}-{config.fingerprint}"

    def training_dir(self, model: str, key: str) -> Path:
        """Folder of one training of one model."""
        return self.directory / "trainings" / f"{model}-{key}"

    def derived_path(self, key: str, name: str) -> Path:
        """File of a table or a figure that follows from others, which `key` stands for."""
        return self.directory / "derived" / key / name

    def trial_path(self, key: str) -> Path:
        """File of the probability table of one trial."""
        return self.directory / "trials" / f"{key}.parquet"

    def duplicates_path(self, key: str) -> Path:
        """File of all duplicates found among the clips that `key` stands for."""
        return self.directory / "copies" / f"{key}.parquet"

    def read_duplicates(self) -> pd.DataFrame:
        """Read the duplicates between recordings that the last build found, as pairs of clips.

        Raises
        ------
        DataError
            If there is none, or it is damaged; a build writes it.
        """
        return self._read_built("copies", "duplicates were not searched for")

    def write_duplicates(self, duplicates: pd.DataFrame) -> None:
        """Replace the table of duplicates between recordings."""
        write_table(self.directory / "copies.parquet", duplicates)

    def training_dirs(self) -> list[Path]:
        """Folders of all trainings, finished or not."""
        return sorted((self.directory / "trainings").glob("*/"))

    def read_clips(self, columns: list[str] | None = None) -> pd.DataFrame:
        """Read columns of the clips table, by default all.

        Raises
        ------
        DataError
            If there is none, or it is damaged; a build writes it.
        """
        return self._read_built("clips", "no clips", columns)

    def check_built(self) -> None:
        """Check that a build has written the clips table, without reading it.

        Raises
        ------
        DataError
            If it has not.
        """
        self._built_path("clips", "no clips")

    def is_built(self) -> bool:
        """Return whether a build has written the clips table."""
        return (self.directory / "clips.parquet").exists()

    def write_clips(self, clips: pd.DataFrame) -> None:
        """Replace the clips table."""
        write_table(self.directory / "clips.parquet", clips)

    def read_splits(self) -> pd.DataFrame:
        """Read the split of each recording, as used in training.

        Raises
        ------
        DataError
            If there is none, or it is damaged; a build writes it.
        """
        return self._read_built("splits", "no splits")

    def write_splits(self, splits: pd.DataFrame) -> None:
        """Replace the table of splits that training uses."""
        write_table(self.directory / "splits.parquet", splits)

    def read_assignments(self) -> pd.DataFrame | None:
        """Read the table of all recordings ever assigned to a split; None before the first assignment.

        Raises
        ------
        DataError
            If it is damaged.
        """
        path = self.directory / "dealt.parquet"
        return read_table(path, ["recording", "split"], advice=RESTORE_SPLITS) if path.exists() else None

    def write_assignments(self, assignments: pd.DataFrame) -> None:
        """Replace the table of all recordings ever assigned to a split."""
        write_table(self.directory / "dealt.parquet", assignments)

    def sounds_path(self, name: str) -> Path:
        """File of the fingerprints of one name by which recordings that were assigned are known again."""
        return self.directory / "sounds" / f"{name}.parquet"

    def _read_built(self, name: str, absence: str, columns: list[str] | None = None) -> pd.DataFrame:
        """Read columns of a table that a build writes."""
        return read_table(self._built_path(name, absence), columns, advice=REBUILD)

    def _built_path(self, name: str, absence: str) -> Path:
        """Return the path of a table that a build writes, after checking that it exists."""
        path = self.directory / f"{name}.parquet"
        if not path.exists():
            raise DataError(f"{absence} in workspace {self.directory}; {BUILD_FIRST}")
        return path


class LibraryWorkspace(WorkspaceFolder):
    """Paths of the predictions for a music library, which is no data set."""

    @property
    def predictions_path(self) -> Path:
        """Database of the predictions."""
        return self.directory / "answers.sqlite"

    @property
    def table_path(self) -> Path:
        """Table of the predictions of the last run."""
        return self.directory / "tags.csv"

    def model_dir(self, key: str) -> Path:
        """Folder of a registered model's version, which `key` stands for."""
        return self.directory / "models" / hashlib.sha256(key.encode()).hexdigest()[:12]

    def undo_path(self, key: str) -> Path:
        """File that restores the files that one run tagged."""
        return self.directory / "undo" / f"{key}.jsonl"


#: The predictions for all music libraries; every other folder but `weights` and `deployments` is a data set.
LIBRARY = LibraryWorkspace("library")
