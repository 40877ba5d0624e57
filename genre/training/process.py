"""One training of one model, in a process of its own.

The process frees the GPU when it ends, takes nothing else down when the system kills it for memory, and keeps its seed
to itself (Keras's is process-global). Its inputs and its results are in one folder::

    job.json  clips.parquet            the job
    model/                             the saved model, and checkpoints
    probabilities.parquet              probabilities of the saved model for every clip; where it was fitted on the
                                       validation clips too, theirs are of a model without them
    out_of_fold.parquet                those for the training clips by models without their fold, where there are folds
    scores.json                        its metrics per split, with intervals, and its calibration
    importances.parquet                its own and permutation importances, where its input is a vector
    history.parquet                    loss and scores per epoch, where it has epochs
    result.json                        written last: the training is finished
    training.log                       output of the libraries

``python -m genre.training.process FOLDER`` runs one by hand.
"""

import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd

from genre import evaluate, models
from genre.errors import GenreError, TrainingError
from genre.evaluate.importance import permutation_importances
from genre.files import write_json, write_table
from genre.folds import assign_folds
from genre.inputs import column_names
from genre.probabilities import tables
from genre.store import contents
from genre.training.job import TrainingJob, held_out_probabilities, read_job, read_result
from genre.workers.environment import MALLOC_ENV

OnEpoch = Callable[[int, dict[str, float]], None]

#: Folder that holds the package, from which ``python -m`` finds it.
_PROJECT_DIR = Path(__file__).resolve().parents[2]

#: Environment in which TensorFlow and JAX take a GPU's memory as they need it, not all of it at once.
GPU_MEMORY_ENV = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}

#: Environment in which mimalloc, which CatBoost 1.2.10 allocates with, lets the kernel decide when to take freed memory
#: back. By default every tree's is given back and asked for again: on 294 clips 500,000 page faults per fit instead of
#: 46,000, a quarter of the processor time.
CATBOOST_MEMORY_ENV = {"MIMALLOC_PURGE_DECOMMITS": "0"}

#: Environment in which glibc keeps freed memory, and takes it in huge pages. By default pages that are given back and
#: cleared anew take a third of the processor time of a step of VGG-16.
LARGE_ARRAYS_ENV = MALLOC_ENV | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}

#: Environment in which BLAS computes with one thread. Its products are too small here for more, which wait for each
#: other in a loop: with two, on a busy machine, the training of an SVM took 1.3 times the processor time. TensorFlow,
#: CatBoost and the forest have threads of their own.
ONE_BLAS_THREAD_ENV = {"OPENBLAS_NUM_THREADS": "1"}

#: Environment of a training, unless the user sets these variables.
LIBRARY_ENV = GPU_MEMORY_ENV | CATBOOST_MEMORY_ENV | LARGE_ARRAYS_ENV | ONE_BLAS_THREAD_ENV


class RowSubset:
    """Subset of the rows of an array-like, read on access.

    Parameters
    ----------
    X : array-like [shape=(n, ...)]
        Indexed by an array of positions.
    positions : np.ndarray [shape=(m,), dtype=int]
        Positions of the rows, in order.
    """

    def __init__(self, X: Any, positions: np.ndarray) -> None:
        self.X = X
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, at: slice | np.ndarray) -> np.ndarray:
        """Return the rows at these positions."""
        return np.asarray(self.X[self.positions[at]])


@contextmanager
def open_lifeline() -> Iterator[int]:
    """Open a pipe for `run_training`; every training that was started with it ends when the block is left.

    Yields
    ------
    int
        Descriptor of its reading end. The other end is in this process alone, whose end is therefore theirs too.
    """
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(writing)
        os.close(reading)


def run_training(directory: Path, on_epoch: OnEpoch | None = None, lifeline: int | None = None) -> dict[str, Any]:
    """Train in a new process, or resume a killed training, and wait for it.

    Parameters
    ----------
    directory : Path
        Folder that `prepare_training` filled.
    on_epoch : callable, optional
        Called with the epoch (from 1) and its metrics as each ends.
    lifeline : int, optional
        From `open_lifeline`, for trainings in threads; by default the training ends with this process, or if waiting
        for it is interrupted.

    Returns
    -------
    dict
        Result, as from `read_result`.

    Raises
    ------
    TrainingError
        If the process ended without a result, with its reason.
    """
    error = ""
    with (directory / "training.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "genre.training.process", str(directory), "--end-with-parent"],
            cwd=_PROJECT_DIR,
            env=LIBRARY_ENV | {k: v for k, v in os.environ.items() if k != "MLFLOW_RUN_ID"},
            stdin=subprocess.PIPE if lifeline is None else lifeline,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        with process:
            for message in map(json.loads, process.stdout or ()):
                if "error" in message:
                    error = message["error"]
                elif on_epoch:
                    on_epoch(message["epoch"], message["metrics"])
    result = read_result(directory)
    if process.returncode or result is None:
        raise TrainingError(error or _explain_exit(process.returncode, directory))
    return result


def train_and_save(directory: Path, on_epoch: OnEpoch) -> None:
    """Train in this process; every result is written before ``result.json``."""
    started = time.perf_counter()
    job = read_job(directory)
    clips = pd.read_parquet(directory / "clips.parquet")
    X = contents.load_input(clips, Path(job.store), *job.inputs)
    data = _training_data(job, clips, X, ["train"])
    model = models.train_model(job.model, data, job.params, job.seed, directory / "model", on_epoch)
    fitted = time.perf_counter()
    notes = _cross_validate(job, data, clips[clips["split"] == "train"], directory) if job.folds else {}
    is_refitted = isinstance(X, np.ndarray) and "folds_seconds" in notes
    if not is_refitted:
        model = _save_and_load(job, model, directory)
    table = _predict_clips(job, model, clips, X)
    if isinstance(X, np.ndarray):  # each of its columns has a name
        write_table(directory / "importances.parquet", _compute_importances(job, model, data))
        table = _refit(job, clips, X, table, directory) if is_refitted else table
    write_table(directory / "probabilities.parquet", table)
    calibration = evaluate.calibration_scores(held_out_probabilities(directory), table[table["split"] == "test"])
    write_json(directory / "scores.json", evaluate.summarise_scores(table) | calibration)
    history = models.training_history(job.model, directory / "model")
    if history is not None:
        write_table(directory / "history.parquet", history)
    facts = models.training_facts(job.model, directory / "model")
    write_json(directory / "result.json", _resource_usage(started, fitted) | facts | notes)


def _training_data(job: TrainingJob, clips: pd.DataFrame, X: Any, fitted_on: list[str]) -> models.TrainingData:
    """Return the clips of some splits to fit on, and those of validation."""
    part = X.__getitem__ if isinstance(X, np.ndarray) else partial(RowSubset, X)
    train = np.flatnonzero(clips["split"].isin(fitted_on))
    validation = np.flatnonzero(clips["split"] == "validation")
    y = clips["genre"].cat.codes.to_numpy()
    return models.TrainingData(
        genres=job.genres,
        X_train=part(train),
        y_train=y[train],
        recordings_train=clips["recording"].to_numpy(str)[train],
        X_validation=part(validation),
        y_validation=y[validation],
        cache_dir=Path(job.store) / "outputs",
    )


def _refit(job: TrainingJob, clips: pd.DataFrame, X: np.ndarray, table: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Fit once more, on training and validation clips, and return the probability table of that model.

    A model on vectors does not need the validation clips to know when to stop, and where there are folds it is chosen
    and calibrated by them: of 15 tracks per genre it learns from 13 instead of 10. The probabilities of the validation
    clips stay those of the model that had not seen them.
    """
    data = _training_data(job, clips, X, ["train", "validation"])
    model = models.train_model(job.model, data, job.params, job.seed, directory / "model")
    refitted = _predict_clips(job, _save_and_load(job, model, directory), clips, X)
    return refitted.where(refitted["split"] != "validation", table)


def _save_and_load(job: TrainingJob, model: Any, directory: Path) -> Any:
    """Save a model, and load what was saved, which is what will be served."""
    models.save_model(job.model, model, directory / "model")
    return models.load_model(job.model, directory / "model")


def _predict_clips(job: TrainingJob, model: Any, clips: pd.DataFrame, X: Any) -> pd.DataFrame:
    """Return the probability table of all clips."""
    return tables.probability_table(
        pd.Index(clips["clip_id"]),
        clips["split"],
        clips["genre"],
        clips["recording"],
        models.predict_proba(job.model, model, X),
        job.genres,
        track=clips["track"],
    )


def _cross_validate(
    job: TrainingJob, data: models.TrainingData, clips: pd.DataFrame, directory: Path
) -> dict[str, Any]:
    """Train on all folds but one, in turn, save the out-of-fold probabilities, and return facts for the result."""
    started = time.perf_counter()
    fold = assign_folds(data.y_train, data.recordings_train, job.folds)
    if fold is None:
        return {"out_of_fold": "none: a genre has a single training recording"}
    proba = np.empty((len(clips), len(job.genres)))
    try:
        for number in range(fold.max() + 1):
            kept = np.flatnonzero(fold != number)
            left = np.flatnonzero(fold == number)
            part = replace(
                data,
                X_train=data.X_train[kept],
                y_train=data.y_train[kept],
                recordings_train=data.recordings_train[kept],
            )
            model = models.train_model(job.model, part, job.params, job.seed, directory / "folds" / str(number))
            proba[left] = models.predict_proba(job.model, model, data.X_train[left])
    except TrainingError as error:
        return {"out_of_fold": f"none: {error}"}
    table = tables.probability_table(
        pd.Index(clips["clip_id"]),
        "train",
        clips["genre"],
        clips["recording"],
        proba,
        job.genres,
        track=clips["track"],
    )
    write_table(directory / "out_of_fold.parquet", table)
    shutil.rmtree(directory / "folds", ignore_errors=True)
    return {"out_of_fold": f"{fold.max() + 1} folds by recording", "folds_seconds": time.perf_counter() - started}


def _compute_importances(job: TrainingJob, model: Any, data: models.TrainingData) -> pd.DataFrame:
    """Compute permutation importances on validation, with the model's own as column ``own`` where it has any.

    Each feature counts by itself, and the hundreds of columns of any other input together: one by one they would take
    minutes, and hide each other.
    """
    names = contents.column_names(Path(job.store))
    groups = {column: column for column in names}
    for name in job.inputs:
        if name != "features":
            groups |= dict.fromkeys(column_names([name]), name)
    columns = [column for name in job.inputs for column in (names if name == "features" else column_names([name]))]
    table = permutation_importances(
        lambda X: models.predict_proba(job.model, model, X),
        data.X_validation,
        data.y_validation,
        columns=columns,
        groups=groups,
        seed=job.seed,
    )
    own = models.feature_importances(job.model, model, columns)
    return table if own is None else table.assign(own=own.groupby(own.index.map(groups)).sum())


def _resource_usage(started: float, fitted: float) -> dict[str, Any]:
    return {
        "fit_seconds": fitted - started,
        "seconds": time.perf_counter() - started,
        "peak_memory_mb": _peak_memory_mb(),
        "python": platform.python_version(),
    }


def _peak_memory_mb() -> float:
    """Return the largest resident memory of this process, MB of 1,024 kB.

    On Linux, `resource` reports at least that of the parent when it started this process: the kernel keeps it across
    the exec.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    own = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]  # some sandboxes leave it out
    return (own or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])[0] / 1024


def _explain_exit(returncode: int, directory: Path) -> str:
    log = directory / "training.log"
    if returncode == -9:
        batch_size = read_job(directory).params.get("batch_size", 1)
        advice = f"try batch_size={batch_size // 2}" if batch_size > 1 else "free some, or leave the model out"
        return f"the training process was killed (signal 9), most likely for memory; {advice}; log: {log}"
    return f"the training process ended with code {returncode}; log: {log}"


def _main(directory: Path, messages: TextIO) -> int:
    def send(**message: Any) -> None:
        print(json.dumps(message), file=messages, flush=True)

    try:
        train_and_save(directory, lambda epoch, metrics: send(epoch=epoch, metrics=metrics))
    except GenreError as error:
        send(error=str(error))
    except Exception as error:  # the parent gets the reason, the log the traceback
        traceback.print_exc()
        send(error=f"{type(error).__name__}: {error} (log: {directory / 'training.log'})")
    else:
        return 0
    return 1


def _end_with_parent() -> None:
    """End this process when its parent has ended, in whatever way, or closes the pipe between them."""
    os.read(0, 1)  # not sys.stdin, whose lock would abort the interpreter's own end
    os._exit(1)


if __name__ == "__main__":
    if "--end-with-parent" in sys.argv:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print goes to the log
    sys.exit(_main(Path(sys.argv[1]), channel))
