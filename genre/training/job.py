"""Specification of one training, and the files that it leaves."""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from genre import models
from genre.core import CORE, TRAINING, source_digest
from genre.errors import DataError
from genre.files import read_json, write_json, write_table
from genre.probabilities import tables

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingJob:
    """Specification of a training; equal jobs on equal code give the same model.

    Attributes
    ----------
    model : str
        Name in `genre.models.MODELS`.
    params : dict
        All of its hyper-parameters.
    seed : int
        Of everything drawn at random.
    genres : list of str
        Classes, in order.
    config : dict
        Of the `AudioConfig` whose store is read.
    store : str
        Folder of that store.
    data_digest, splits_digest, code_digest : str
        Digests of the clips with their features, of the splits, and of the code with its libraries.
    inputs : list of str
        Names of the inputs that the model takes, in `genre.inputs.INPUTS`.
    weights : dict
        Input that is computed with weights to the digest of these. Default empty.
    folds : int
        Folds of the cross-validation: the model is trained once more per fold, without a part of the training
        recordings, whose probabilities are kept; 0 for none. Default 0.
    """

    model: str
    params: dict[str, Any]
    seed: int
    genres: list[str]
    config: dict[str, Any]
    store: str
    data_digest: str
    splits_digest: str
    code_digest: str
    inputs: list[str]
    weights: dict[str, str] = field(default_factory=dict)
    folds: int = 0

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that name the training; the places of store and weights file do not count."""
        identity = {k: v for k, v in asdict(self).items() if k != "store"} | {"params": _hash_weights_file(self.params)}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


@cache
def code_digest(model: str) -> str:
    """Return a hash of the sources that a training runs, and of the libraries that the model stands on.

    See `genre.core`: a change of the rest of the package leaves it as it is.
    """
    libraries = ["numpy", "scipy", "numba", "soxr", *models.model_requirements(model)]
    text = "".join(f"{name}=={version(name)}\n" for name in libraries) + source_digest((*CORE, *TRAINING))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def table_digest(table: pd.DataFrame) -> str:
    """Return twelve hexadecimal digits of a table's index and values."""
    return hashlib.sha256(pd.util.hash_pandas_object(table).to_numpy().tobytes()).hexdigest()[:12]


def prepare_training(directory: Path, job: TrainingJob, clips: pd.DataFrame) -> None:
    """Write the files that a training reads.

    Parameters
    ----------
    directory : Path
        Its folder.
    job : Job
        What to train.
    clips : pd.DataFrame
        Columns ``clip_id``, ``stamp``, ``genre`` (categorical), ``recording``, ``split``, and ``path`` if there is
        audio.
    """
    columns = ["clip_id", "stamp", "genre", "recording", "split"]
    listed = clips[columns].assign(track=tables.name_tracks(clips))
    write_table(directory / "clips.parquet", listed.reset_index(drop=True))
    write_json(directory / "job.json", asdict(job))


def read_result(directory: Path) -> dict[str, Any] | None:
    """Return the result of a finished training; None if it is not finished, or one of its files is damaged.

    Of damage there is a warning too: the training is left out, and made again by the next one of the same job.
    """
    try:
        result: dict[str, Any] | None = read_json(directory / "result.json")
        if result is not None:
            _read_specification(directory)
            for path in directory.glob("*.json"):
                read_json(path)
            for path in directory.glob("*.parquet"):
                pq.read_metadata(path)
            _refuse_empty_files(directory / "model")
    except (DataError, OSError, ValueError) as error:
        _log.warning("training %s is left out: %s", directory.name, error)
        return None
    return result


def _refuse_empty_files(directory: Path) -> None:
    """Refuse a model with an empty file, as a power failure leaves one that was renamed before it was written."""
    for path in directory.glob("*"):
        if path.is_file() and not path.stat().st_size:
            raise DataError(f"{path.name} is empty")


def read_job(directory: Path) -> TrainingJob:
    """Read the job that `prepare_training` wrote.

    Raises
    ------
    DataError
        If there is none, or it is damaged.
    """
    return TrainingJob(**_read_specification(directory))


def _read_specification(directory: Path) -> dict[str, Any]:
    """Read the fields of a job, which may be those of an older version of this package."""
    path = directory / "job.json"
    job: dict[str, Any] | None = read_json(path)
    if job is None:
        raise DataError(f"{path} is missing; remove the folder, and the model is trained again")
    return job


def held_out_probabilities(directory: Path) -> pd.DataFrame:
    """Return the probability table of a finished training for the clips that each model had not seen.

    These are the validation clips, predicted by a model that was fitted without them, and, with cross-validation, the
    training clips, each predicted by a model trained without its recording. Below some thousand clips validation alone
    is too small to choose, weight and calibrate by.
    """
    table = pd.read_parquet(directory / "probabilities.parquet")
    parts = [table[table["split"] == "validation"]]
    path = directory / "out_of_fold.parquet"
    return pd.concat([pd.read_parquet(path), *parts]) if path.exists() else parts[0]


def _hash_weights_file(params: dict[str, Any]) -> dict[str, Any]:
    """Return the hyper-parameters with a file of weights replaced by a hash of its contents."""
    path = Path(params.get("weights", "")).expanduser()
    if not path.is_file():
        return params
    with path.open("rb") as file:
        return params | {"weights": hashlib.file_digest(file, "sha256").hexdigest()}
