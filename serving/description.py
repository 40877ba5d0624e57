"""Description of a served model: its version, and what MLflow's registry has on data set, genres and model card."""

import json
from dataclasses import dataclass, replace

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from genre.errors import GenreError
from serving.request import predict_audio
from tracking import experiment_page, runs, store


@dataclass(frozen=True)
class ModelDescription:
    """Description of a served model; each text is empty where it is not known.

    Attributes
    ----------
    version : str
        Registered name and version, such as ``genre/3``.
    warning : str
        Sentence that goes with every prediction, such as that the model was trained on synthetic music only.
    data_set : str
        Name of the data set that it was trained on.
    n_tracks : int
        Number of tracks of the data set, those of validation and test included; 0 if it is not known.
    pretrained : bool
        Whether it was trained elsewhere.
    genres : tuple of str
        Genres that it distinguishes.
    card : str
        Model card, in Markdown.
    page : str
        Address of the version's page, if MLflow is a server.
    """

    version: str = ""
    warning: str = ""
    data_set: str = ""
    n_tracks: int = 0
    pretrained: bool = False
    genres: tuple[str, ...] = ()
    card: str = ""
    page: str = ""


def describe_model(url: str) -> ModelDescription:
    """Ask a served model for its version, and MLflow for what it is.

    Parameters
    ----------
    url : str
        Address of the served model.

    Returns
    -------
    ModelDescription
        Only version and warning if MLflow does not respond or does not know the version; of a version that older code
        registered, what was stored then.

    Raises
    ------
    NoServerError, RefusedError
        As from `serving.request.predict_audio`.
    """
    [answer] = predict_audio([b""], url)  # no audio: an error, with version and warning as in every answer
    served = answer["model_version"] or ""
    description = ModelDescription(served, answer["warning"] or "")
    version = _find_version(served) if served else None
    return _add_registered(description, version) if version else description


def _find_version(served: str) -> ModelVersion | None:
    """Return a registered version by name and number, such as ``genre/3``; None if MLflow does not know it."""
    name, _, number = served.rpartition("/")
    try:
        uri = store.store_uri()
        database = store.database_path(uri)
        if database and not database.exists():  # MLflow would create it
            return None
        with runs.short_timeouts():
            runs.connect()
            return MlflowClient().get_model_version(name, number)
    except (GenreError, MlflowException):
        return None


def _add_registered(description: ModelDescription, version: ModelVersion) -> ModelDescription:
    """Add what the registry has on a version."""
    base = runs.pages_url()
    return replace(
        description,
        data_set=version.tags.get("data_set", ""),
        n_tracks=int(version.tags.get("n_tracks", 0)),
        pretrained=version.tags.get("pretrained") == "true",
        genres=tuple(json.loads(version.tags.get("genres", "[]"))),
        card=version.description or "",
        page=f"{base}/{experiment_page.version_path(version.name, version.version)}" if base else "",
    )
