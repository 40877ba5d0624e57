"""MLflow's registry: names and versions of registered models, found by alias or digest, and registered."""

import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.entities import PagedList

from genre import models
from genre.answer_log import VERSION_FILE
from genre.errors import GenreError
from genre.files import write_atomically, write_json
from genre.safety import model_code

#: Tag of a registered model to which nothing is promoted: since when and why, for people.
HOLD = "hold"

#: Tag of a registered model with the number of test recordings of each comparison, in their order.
COMPARISONS = "comparisons"

#: Number of comparisons that are remembered: tags have at most 5,000 characters.
MAX_COMPARISONS = 500

#: Tag of a registered model with the number of its last champion, which outlives the alias and the version.
LAST_CHAMPION = "last_champion"

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


def read_model_tag(name: str, tag: str) -> str:
    """Return a tag of a registered model; empty if it, or the model, does not exist."""
    try:
        return str(MlflowClient().get_registered_model(name).tags.get(tag, ""))
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        return ""


def describe_hold(name: str) -> str | None:
    """Return the reason for which nothing is promoted to a registered model, or None if that is not on hold."""
    since = read_model_tag(name, HOLD)
    if not since:
        return None
    command = f"mlflow run . --env-manager local -e rollback -P registry_name={name} -P lift=true"
    return f'{name} is on hold, {since}; to lift it, run "{command}"'


def count_comparisons(name: str, n_recordings: int) -> float:
    """Count the earlier comparisons of a registered model on today's test music.

    Test recordings stay in test, so that an earlier comparison was on a part of today's: it counts as that part.

    Parameters
    ----------
    name : str
        Name of the registered model.
    n_recordings : int
        Number of test recordings today.
    """
    earlier = read_model_tag(name, COMPARISONS).split()
    return sum(min(1.0, int(n) / n_recordings) for n in earlier)


def record_comparison(name: str, n_recordings: int) -> None:
    """Remember that a version of a registered model was judged on that many test recordings."""
    earlier = read_model_tag(name, COMPARISONS).split()[-MAX_COMPARISONS:]
    MlflowClient().set_registered_model_tag(name, COMPARISONS, " ".join([*earlier, str(n_recordings)]))


def find_lost_champion(name: str, candidate: str) -> str | None:
    """Return the version that was the last champion of a registered model that has none now.

    Parameters
    ----------
    name : str
        Name of the registered model.
    candidate : str
        Version that is to become the champion.

    Returns
    -------
    str or None
        Number of the version, which may have been deleted. Where older code registered the versions, one that was not
        refused. None for a name that never had a champion.
    """
    client = MlflowClient()
    model = client.get_registered_model(name)
    if last := model.tags.get(LAST_CHAMPION) or model.aliases.get("previous"):
        return str(last)
    versions = client.search_model_versions(f"name = '{name}'")
    possible = [str(v.version) for v in versions if "refused" not in v.tags and str(v.version) != candidate]
    return max(possible, key=int, default=None)


def describe_lost_champion(name: str, version: str) -> str:
    """Return the reason for which nothing is promoted to a registered model that has lost its champion."""
    return (
        f"{name} has no champion, and its last one may have been version {version}; nothing is decided: point the "
        'alias "champion" at a version again'
    )


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


def download_model(uri: str, directory: Path, *, sync: bool = True, any_code: bool = False) -> Path:
    """Download a logged model into a folder that does not exist yet; the folder is complete or absent.

    Parameters
    ----------
    uri : str
        ``models:/NAME/VERSION`` or another address of a logged model, or its local folder.
    directory : Path
        Folder for the model's files.
    sync : bool
        Wait until they are on the disk; they are a hundred, and need not be where the folder is temporary.
    any_code : bool
        Whether it may carry any code; by default only what `genre.safety.model_code` accepts.

    Returns
    -------
    Path
        `directory`.

    Raises
    ------
    GenreError
        If the model cannot be downloaded or written, or carries code that is not accepted.
    """

    def write(path: Path) -> None:
        _download_into(uri, path)
        if not any_code:
            model_code.check_code(path, uri)

    try:
        return write_atomically(directory, write, sync=sync)
    except (MlflowException, OSError) as error:
        raise GenreError(f"cannot download {uri}: {error}") from error


def accept_code(version: ModelVersion) -> None:
    """Let this workspace run the code of a registered version from now on.

    Raises
    ------
    GenreError
        If the version cannot be downloaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        uri = version_uri(version.name, version.version)
        model_code.accept_code(download_model(uri, Path(folder, "model"), sync=False, any_code=True))


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


def list_old_models(workspace: str, trainings: Collection[str]) -> list[LoggedModel]:
    """List the logged models of a data set that are neither served nor of a training that is kept.

    Models of versions with an alias (champion, previous, challenger), of the newest version of each registered model
    and of `trainings` are kept.

    Parameters
    ----------
    workspace : str
        Id of the data set in its workspace, from `tracking.runs.workspace_id`: those of other machines are theirs.
    trainings : collection of str
        Names of the folders of the trainings that are kept.
    """
    client = MlflowClient()
    kept = "\n".join(
        version.source or "" for version in _kept_versions(client)
    )  # ``models:/ID``, or a path with the id
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = f"tags.workspace = '{workspace}'"
    runs = _iter_pages(lambda token: client.search_runs(experiments, query, page_token=token))
    work = {run.info.run_id: run.data.tags.get("work", "") for run in runs}
    models = _iter_pages(lambda token: client.search_logged_models(experiments, page_token=token))
    return [
        model
        for model in models
        if model.source_run_id in work and work[model.source_run_id] not in trainings and model.model_id not in kept
    ]


def model_bytes(model: LoggedModel) -> int:
    """Return the size of a logged model's files; 0 where the store does not tell."""
    repository = get_artifact_repository(model.artifact_location)
    folders = [""]
    n_bytes = 0
    while folders:
        for file in repository.list_artifacts(folders.pop() or None):
            if file.is_dir:
                folders.append(file.path)
            n_bytes += file.file_size or 0
    return n_bytes


def delete_model(model: LoggedModel) -> None:
    """Delete the registered version made of a logged model, if there is one, its files, and the model itself.

    The model is the last, so that a deletion that was killed is finished by the next.
    """
    client = MlflowClient()
    for version in client.search_model_versions(f"source_path = 'models:/{model.model_id}'"):
        client.delete_model_version(version.name, version.version)
    get_artifact_repository(model.artifact_location).delete_artifacts()
    client.delete_logged_model(model.model_id)


def _kept_versions(client: MlflowClient) -> list[ModelVersion]:
    """Return the versions with an alias, and the newest one, of every registered model."""
    kept = []
    for registered in client.search_registered_models():
        versions = client.search_model_versions(f"name = '{registered.name}'")
        newest = max((int(version.version) for version in versions), default=0)
        numbers = {str(number) for number in registered.aliases.values()} | {str(newest)}
        kept += [version for version in versions if str(version.version) in numbers]
    return kept


def _iter_pages(search: Callable[[str | None], PagedList]) -> Iterator[Any]:
    """Iterate over all results of a search that returns them in pages."""
    page = search(None)
    yield from page
    while page.token:
        page = search(page.token)
        yield from page
