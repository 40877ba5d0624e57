"""Where everything lies: the only module that knows a path of the workspace.

One folder a data set, below ``GENRE_HOME``::

    <data set>/clips.parquet                    every clip known, with its status
               splits.parquet                   each recording's side, as training uses it
               dealt.parquet                    every recording ever dealt, append-only
               audio/                           what the project synthesised or downloaded
               ledger.sqlite                    each segment to be downloaded, and what became of it
               chosen.json                      of which lists, and how, its segments were chosen
               acquisition.json                 what `acquire` was last asked for
               store/<configuration>/           features and spectrograms, in parts
               trainings/<model>-<key>/         a model, its probability table, how it went
               copies.parquet  copies/          clips that are the same music, across recordings and all
               trials/<key>.parquet             probability table of a model made for comparison only
    library/                                    what the champion was asked about files that are no data set:
               answers.sqlite                   what each version said of each file
               tags.csv                         the same as a table, of the files asked about last
               models/<key>/                    the version asked last
               undo/<time>-<run>.jsonl          what undoes the tags of one run
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock
import pandas as pd

from genre.config import AudioConfig
from genre.errors import BUILD_FIRST, DataError, GenreError
from genre.files import _remove, make_directory, write_table

PROJECT_DIR = Path(__file__).resolve().parent.parent


def data_home() -> Path:
    """Folder of all data sets: ``GENRE_HOME``, by default ``workspace`` beside the package."""
    return Path(os.environ.get("GENRE_HOME") or PROJECT_DIR / "workspace").expanduser().resolve()


@dataclass(frozen=True)
class Workspace:
    """The paths and tables of one data set.

    Attributes
    ----------
    dataset_id : str
        Name of its folder, of its MLflow experiment, and in messages.
    """

    dataset_id: str

    @property
    def directory(self) -> Path:
        """Folder of the data set."""
        return data_home() / self.dataset_id

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
        """Of which lists, and how, the ledger's segments were chosen."""
        return self.directory / "chosen.json"

    @property
    def acquisition_path(self) -> Path:
        """What `acquire` was last asked for."""
        return self.directory / "acquisition.json"

    def scratch_dir(self, worker: int) -> Path:
        """Folder of what one downloading worker has not finished."""
        return self.directory / "unfinished" / str(worker)

    def store_dir(self, config: AudioConfig) -> Path:
        """Folder of the features and spectrograms that `config` makes."""
        return self.directory / "store" / f"{config.variant}-{config.fingerprint}"

    def training_dir(self, model: str, key: str) -> Path:
        """Folder of one training of one model."""
        return self.directory / "trainings" / f"{model}-{key}"

    def trial_path(self, key: str) -> Path:
        """File of the probability table of one trial."""
        return self.directory / "trials" / f"{key}.parquet"

    def duplicates_path(self, key: str) -> Path:
        """File of the copies found among the clips that `key` stands for."""
        return self.directory / "copies" / f"{key}.parquet"

    def read_duplicates(self) -> pd.DataFrame:
        """Read the pairs of clips of two recordings that the last build found to be the same music.

        Raises
        ------
        DataError
            If nothing was built yet.
        """
        return self._read_built("copies", "no copies were looked for")

    def write_duplicates(self, duplicates: pd.DataFrame) -> None:
        """Replace the table of those pairs."""
        write_table(self.directory / "copies.parquet", duplicates)

    @property
    def predictions_path(self) -> Path:
        """Database of what models said of the files of libraries."""
        return self.directory / "answers.sqlite"

    def model_dir(self, key: str) -> Path:
        """Folder of a registered model's version, which `key` stands for."""
        return self.directory / "models" / hashlib.sha256(key.encode()).hexdigest()[:12]

    def undo_path(self, key: str) -> Path:
        """File that undoes the tags of one run."""
        return self.directory / "undo" / f"{key}.jsonl"

    def training_dirs(self) -> list[Path]:
        """Folders of every training begun."""
        return sorted((self.directory / "trainings").glob("*/"))

    def read_clips(self) -> pd.DataFrame:
        """Read the clips table.

        Raises
        ------
        DataError
            If nothing was built yet.
        """
        return self._read_built("clips", "no clips")

    def write_clips(self, clips: pd.DataFrame) -> None:
        """Replace the clips table."""
        write_table(self.directory / "clips.parquet", clips)

    def read_splits(self) -> pd.DataFrame:
        """Read the table of recordings and the sides that training takes them on.

        Raises
        ------
        DataError
            If nothing was built yet.
        """
        return self._read_built("splits", "no splits")

    def write_splits(self, splits: pd.DataFrame) -> None:
        """Replace the table of recordings and the sides that training takes them on."""
        write_table(self.directory / "splits.parquet", splits)

    def read_assignments(self) -> pd.DataFrame | None:
        """Read the table of recordings dealt so far; None before the first deal."""
        path = self.directory / "dealt.parquet"
        return pd.read_parquet(path) if path.exists() else None

    def write_assignments(self, assignments: pd.DataFrame) -> None:
        """Replace the table of recordings dealt so far."""
        write_table(self.directory / "dealt.parquet", assignments)

    def _read_built(self, name: str, absence: str) -> pd.DataFrame:
        """Read a table that a build leaves, or say what is missing and what to do."""
        path = self.directory / f"{name}.parquet"
        if not path.exists():
            raise DataError(f"{absence} in workspace {self.directory}; {BUILD_FIRST}")
        return pd.read_parquet(path)

    @contextmanager
    def lock(self, timeout_s: float = 10) -> Iterator[None]:
        """Hold the data set, so that two runs never write it at once; left free by the system if the holder dies.

        Raises
        ------
        GenreError
            If another process holds it for longer than `timeout_s`, or the folder cannot be made.
        """
        lock = filelock.FileLock(make_directory(self.directory) / ".lock", is_singleton=True, thread_local=False)
        try:
            lock.acquire(timeout=timeout_s)
        except filelock.Timeout:
            raise GenreError(
                f"another run is working in {self.directory}; wait for it, or set GENRE_HOME to another folder"
            ) from None
        try:
            for leftover in list(self.directory.rglob("*.tmp")):
                _remove(leftover)
            yield
        finally:
            lock.release()


#: What was asked about music that is no data set.
LIBRARY = Workspace("library")
