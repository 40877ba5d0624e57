"""The logged model: signature, requirements, and its own copy of the code."""

import base64
import io
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import soundfile as sf
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, DataType, Map, Object, Property

from genre import models
from genre.config import AudioConfig
from genre.core import copy_core
from genre.ensemble import Ensemble
from genre.files import read_json
from genre.inputs import get_input
from genre.workspace import PROJECT_DIR

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
            ColSpec(DataType.string, "warning", required=False),
            ColSpec(DataType.string, "note", required=False),
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


def log_model(
    run_id: str, ensemble: Ensemble, trainings: Mapping[str, Path], tags: Mapping[str, str], store: Path | None = None
) -> str:
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
    store : Path, optional
        Folder with the weights that an input of the members is computed with.

    Returns
    -------
    str
        URI, ``models:/m-...``.
    """
    # the run must be the active one, or the model ends up in the default experiment
    with tempfile.TemporaryDirectory() as temporary, mlflow.start_run(run_id=run_id):
        folder = Path(temporary) / "ensemble"
        for name in ensemble.members:
            file = models.get_model(name).file_name
            (folder / name).mkdir(parents=True)
            shutil.copy2(trainings[name] / "model" / file, folder / name / file)
        _copy_weights(ensemble.input_names, Path(store or ""), folder)
        ensemble.write_spec(folder)
        info = Model.log(
            artifact_path=None,
            flavor=sys.modules[__name__],
            name="model",
            validate_serving_input=False,
            python_model=str(PROJECT_DIR / "serving" / "model.py"),
            artifacts={"ensemble": str(folder)},
            code_paths=[str(copy_core(Path(temporary)))],
            signature=SIGNATURE,
            input_example=pd.DataFrame({"audio": [_example_audio(ensemble.config)]}),
            pip_requirements=pinned_requirements(ensemble.members),
            tags=dict(tags),
        )
    return info.model_uri


def _copy_weights(names: Iterable[str], store: Path, folder: Path) -> None:
    """Copy the weights that some inputs are computed with, and put their licence beside them."""
    for entry in (get_input(name) for name in names):
        if entry.weights_file:
            path = Path(shutil.copy2(store / entry.weights_file, folder / entry.weights_file))
            path.with_suffix(".LICENSE.md").write_text(entry.module.load_weights(path).license)


def save_model(validate_serving_input: bool, **arguments: Any) -> None:
    """MLflow's pyfunc flavour for `log_model`, which has no word for not loading the model in this process.

    Loading it would take TensorFlow and the GPU into the flow; `score_clips` tries it in a process of its own.
    """
    mlflow.pyfunc.save_model(**arguments)


def read_warning(model: Path) -> str:
    """Return the warning of a downloaded model; empty if it has none or was logged before there were warnings.

    Parameters
    ----------
    model : Path
        Folder of a model that `log_model` logged.

    Returns
    -------
    str
        A sentence, as in `genre.ensemble.Ensemble`.
    """
    return str(_read_spec(model).get("warning", ""))


def read_genres(model: Path) -> list[str]:
    """Return the genres of a downloaded model, in the order of its probabilities.

    Parameters
    ----------
    model : Path
        Folder of a model that `log_model` logged.
    """
    return [str(genre) for genre in _read_spec(model).get("genres", [])]


def _read_spec(model: Path) -> dict[str, Any]:
    """Read what `genre.ensemble.Ensemble.write_spec` wrote for a logged model."""
    specs = model.glob("artifacts/*/ensemble.json")  # a single one, whose folder had other names in older versions
    return next((read_json(spec) for spec in specs), {})


def pinned_requirements(members: Iterable[str]) -> list[str]:
    """Exact versions of what a model with these members imports."""
    names = BASE_REQUIREMENTS.union(*(models.model_requirements(m) for m in members))
    return [f"{name}=={version(name)}" for name in sorted(names)]


def _example_audio(config: AudioConfig) -> str:
    """Two seconds of a synthesised chord, as a client would send them."""
    t = np.arange(2 * config.sr) / config.sr
    y = sum(0.2 * np.sin(2 * np.pi * hz * t) for hz in (220.0, 277.2, 329.6))
    file = io.BytesIO()
    sf.write(file, y, config.sr, format="FLAC")
    return base64.b64encode(file.getvalue()).decode()
