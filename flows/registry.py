"""All of MLflow's registry: the logged model, its versions and aliases, and scoring a version in a fresh process."""

import base64
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import soundfile as sf
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, DataType, Map, Object, Property

from genre import models, store
from genre.config import AudioConfig
from genre.ensemble import Ensemble
from genre.errors import GenreError, UsageError
from genre.workspace import PROJECT_DIR, write_json

#: What the packaged code imports whatever its members are; members add theirs.
BASE_REQUIREMENTS = {
    *("mlflow", "numpy", "pandas", "pyarrow", "scipy", "scikit-learn", "joblib", "filelock", "tqdm"),
    *("numba", "soundfile", "soxr", "av", "threadpoolctl", "pyyaml", "pybase64"),
    # nothing imports these: the server that MLflow starts takes them where it finds them
    *(("httptools",) if sys.platform == "win32" else ("httptools", "uvloop")),
}

_PROBABILITIES = Map(DataType.double)
_SPAN = [Property(name, DataType.double) for name in ("start_s", "end_s")]
_WINDOW = Object([*_SPAN, Property("probabilities", _PROBABILITIES)])

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.string, "audio")]),
    outputs=Schema(
        [
            ColSpec(DataType.string, "genre", required=False),
            ColSpec(DataType.double, "confidence", required=False),
            ColSpec(_PROBABILITIES, "probabilities", required=False),
            ColSpec(
                Object([Property("code", DataType.string), Property("message", DataType.string)]),
                "error",
                required=False,
            ),
            ColSpec(DataType.string, "model_version", required=False),
            ColSpec(Array(_WINDOW), "timeline", required=False),
        ]
    ),
    params=ParamSchema(
        [
            ParamSpec("timeline", DataType.boolean, False),
            ParamSpec("top_k", DataType.long, None),
            ParamSpec("min_confidence", DataType.double, None),
        ]
    ),
)


def log_model(run_id: str, ensemble: Ensemble, trainings: Mapping[str, Path], tags: Mapping[str, str]) -> str:
    """Log an ensemble as the pyfunc that is served, with its own copy of the code.

    Parameters
    ----------
    run_id : str
        Run that it belongs to.
    ensemble : Ensemble
        What to log; its members need not be loaded.
    trainings : mapping
        Member name to the folder of its training.
    tags : mapping
        Of the logged model.

    Returns
    -------
    str
        URI, ``models:/m-...``.
    """
    # the run must be the active one, or the model ends up in the default experiment
    with tempfile.TemporaryDirectory() as temporary, mlflow.start_run(run_id=run_id):
        folder = Path(temporary) / "ensemble"
        for name in ensemble.members:
            file = models.get(name).file
            (folder / name).mkdir(parents=True)
            shutil.copy2(trainings[name] / "model" / file, folder / name / file)
        ensemble.write_spec(folder)
        info = Model.log(
            artifact_path=None,
            flavor=sys.modules[__name__],
            name="model",
            validate_serving_input=False,
            python_model=str(PROJECT_DIR / "serving" / "model.py"),
            artifacts={"ensemble": str(folder)},
            code_paths=[str(PROJECT_DIR / "genre")],
            signature=SIGNATURE,
            input_example=pd.DataFrame({"audio": [_example(ensemble.config)]}),
            pip_requirements=requirements(ensemble.members),
            tags=dict(tags),
        )
    return info.model_uri


def save_model(validate_serving_input: bool, **arguments: Any) -> None:
    """MLflow's pyfunc flavour for `log_model`, which has no word for not loading the model in this process.

    Loading it would take TensorFlow and the GPU into the flow; `score` tries it in a process of its own.
    """
    mlflow.pyfunc.save_model(**arguments)


def check_name(name: str) -> str:
    """Name of a registered model, if it can be one.

    Raises
    ------
    UsageError
        If it has other characters than those that MLflow, a URI and a shell all take as they are.
    """
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise UsageError(f"registry_name must be letters, digits, '.', '_' and '-', such as 'genre'; got {name!r}")
    return name


def by_alias(name: str, alias: str) -> ModelVersion | None:
    """The version that an alias of a registered model points to; None where there is none."""
    try:
        aliases = MlflowClient().get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        return None
    return MlflowClient().get_model_version(name, str(aliases[alias])) if alias in aliases else None


def with_digest(name: str, digest: str) -> ModelVersion | None:
    """The version registered for the very same ensemble, if there is one."""
    found = MlflowClient().search_model_versions(f"name = '{name}' and tags.ensemble_digest = '{digest}'")
    return found[0] if found else None


def register(name: str, model_uri: str, tags: Mapping[str, str], description: str) -> ModelVersion:
    """Make a logged model a new version of a registered one, which is made where it is missing."""
    client = MlflowClient()
    with suppress(MlflowException):  # it may be there
        client.create_registered_model(name)
    return client.create_model_version(
        name, model_uri, tags=dict(tags), description=description, model_id=model_uri.removeprefix("models:/")
    )


def megabytes(trainings: Mapping[str, Path]) -> float:
    """Size of the files of an ensemble's members, in millions of bytes."""
    return sum((path / "model" / models.get(name).file).stat().st_size for name, path in trainings.items()) / 1e6


def score(model_uri: str, clips: pd.DataFrame, config: AudioConfig) -> pd.DataFrame:
    """Probabilities that a logged model gives to clips, in a fresh process with the code it was logged with.

    Parameters
    ----------
    model_uri : str
        ``models:/...``.
    clips : pd.DataFrame
        Columns ``clip_id``, ``path``, ``start_s``, ``end_s``.
    config : AudioConfig
        Rate at which the clips are handed over.

    Returns
    -------
    pd.DataFrame
        Indexed by ``clip_id``; one column per genre. Its ``attrs`` hold ``ms_per_clip``, what answering took with the
        model loaded and warm.

    Raises
    ------
    GenreError
        If the model cannot be had or loaded, or refuses a clip.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            local = mlflow.artifacts.download_artifacts(model_uri, dst_path=str(Path(folder) / "model"))
        except (MlflowException, OSError) as error:
            raise GenreError(f"{model_uri} cannot be had: {error}") from error
        listed, out = Path(folder) / "files.json", Path(folder) / "out.parquet"
        write_json(listed, _cut(clips, config, Path(folder)))
        script = str(PROJECT_DIR / "serving" / "score.py")
        environment = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_RUN_ID", "PYTHONPATH", "GENRE_LOG")}
        done = subprocess.run(
            [sys.executable, "-I", script, local, str(listed), str(out)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"its process ended with code {done.returncode}"])[-1]
            raise GenreError(f"{model_uri} cannot be scored: {said}")
        scored = pd.read_parquet(out)
    refused = scored[scored["error"].notna()]
    if len(refused):
        raise GenreError(f"{model_uri} refuses {len(refused)} clips; {refused.index[0]}: {refused['error'].iloc[0]}")
    return scored.drop(columns="error")


def _cut(clips: pd.DataFrame, config: AudioConfig, folder: Path) -> dict[str, str]:
    """Write each clip as a file of its own, float samples at the models' rate; clip id to path."""
    files = {}
    for n, clip in enumerate(clips.itertuples()):
        path = folder / f"{n}.wav"
        sf.write(path, store.read_clip(clip, config), config.sr, subtype="FLOAT")
        files[str(clip.clip_id)] = str(path)
    return files


def requirements(members: Iterable[str]) -> list[str]:
    """Exact versions of what a model with these members imports."""
    names = BASE_REQUIREMENTS.union(*(models.requirements(m) for m in members))
    return [f"{name}=={version(name)}" for name in sorted(names)]


def _example(config: AudioConfig) -> str:
    """Two seconds of a synthesised chord, as a client would send them."""
    t = np.arange(2 * config.sr) / config.sr
    y = sum(0.2 * np.sin(2 * np.pi * hz * t) for hz in (220.0, 277.2, 329.6))
    file = io.BytesIO()
    sf.write(file, y, config.sr, format="FLAC")
    return base64.b64encode(file.getvalue()).decode()
