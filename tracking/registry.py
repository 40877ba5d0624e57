"""MLflow's registry: names and versions of registered models, found by alias or digest, and registered."""

import re
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from genre import models
from genre.answer_log import VERSION_FILE
from genre.errors import GenreError
from genre.files import write_atomically, write_json

#: File with name and version that MLflow added to a registered model at each download, until 3.17. Models that older
#: versions of this project logged know no other one.
MLFLOW_VERSION_FILE = "registered_model_meta"


def find_version_by_alias(name: str, alias: str) -> ModelVersion | None:
    """Return the version that an alias of a registered model points to, or None."""
    try:
        aliases = MlflowClient().get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        return None
    return MlflowClient().get_model_version(name, str(aliases[alias])) if alias in aliases else None


def find_version_by_digest(name: str, digest: str) -> ModelVersion | None:
    """Return the version registered for exactly the same ensemble, or None."""
    versions = MlflowClient().search_model_versions(f"name = '{name}' and tags.ensemble_digest = '{digest}'")
    return versions[0] if versions else None


def gives_way(version: ModelVersion) -> bool:
    """Return whether a version was trained on no music of the owner's: on the demo, or elsewhere, as a pretrained one.

    As the champion it is replaced, uncompared and whatever its genres, by the first version that was.
    """
    return "true" in (version.tags.get("synthetic"), version.tags.get("pretrained"))


def register_version(name: str, model_uri: str, tags: Mapping[str, str], description: str) -> ModelVersion:
    """Register a logged model as a new version of a registered model, which is created if it is missing.

    Name and version are added to the logged model's files, so that the model knows them wherever it is loaded.
    """
    client = MlflowClient()
    with suppress(MlflowException):  # it exists already
        client.create_registered_model(name)
    model_id = model_uri.removeprefix("models:/")
    version = client.create_model_version(name, model_uri, tags=dict(tags), description=description, model_id=model_id)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, VERSION_FILE)
        write_json(path, {"name": name, "version": str(version.version)})
        client.log_model_artifact(model_id, str(path))
    return version


def version_uri(name: str, version: str) -> str:
    """Return the address of a registered version, as MLflow writes it."""
    return f"models:/{name}/{version}"


def download_model(uri: str, directory: Path) -> Path:
    """Download a logged model into a folder that does not exist yet; the folder is complete or absent.

    Parameters
    ----------
    uri : str
        ``models:/NAME/VERSION`` or another address of a logged model, or its local folder.
    directory : Path
        Folder for the model's files.

    Returns
    -------
    Path
        `directory`.

    Raises
    ------
    GenreError
        If the model cannot be downloaded or written.
    """
    try:
        return write_atomically(directory, lambda path: _download_into(uri, path))
    except (MlflowException, OSError) as error:
        raise GenreError(f"cannot download {uri}: {error}") from error


def _download_into(uri: str, folder: Path) -> None:
    """Download a logged model as `folder`; a local model is copied, which MLflow would do into a folder below it.

    A registered version gets the file with its name and version that MLflow adds until 3.17, with any MLflow.
    """
    if Path(uri).is_dir():
        shutil.copytree(uri, folder)
        return
    mlflow.artifacts.download_artifacts(uri, dst_path=str(folder))
    if registered := re.fullmatch(r"models:/(.+)/(\d+)", uri):
        name, version = registered.groups()
        (folder / MLFLOW_VERSION_FILE).write_text(yaml.safe_dump({"model_name": name, "model_version": version}))


def size_mb(trainings: Mapping[str, Path]) -> float:
    """Return the size of the files of an ensemble's members, in millions of bytes."""
    files = [path / "model" / models.get_model(name).file_name for name, path in trainings.items()]
    return sum(file.stat().st_size for file in files) / 1e6
