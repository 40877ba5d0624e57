"""The aliases of a registered model: which version serves, which served before, which was refused last."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode

from genre.errors import DataError, GenreError
from tracking import registry
from tracking.registry import find_version_by_alias

#: A registered model of this name exists while aliases move.
LOCK_SUFFIX = ".promotion"

#: After so many seconds its holder, who needs less than one, must have been killed; so long others wait for it.
LOCK_STALE_S, LOCK_TIMEOUT_S = 60.0, 90.0


def resolve_version(name: str, version: str) -> ModelVersion:
    """Version of a registered model by its alias, such as ``champion``, or its number.

    Raises
    ------
    UsageError
        If the name can be none.
    DataError
        If there is none.
    """
    registry.check_name(name)
    if version.isdigit():
        query = f"name = '{name}' and version_number = {version}"
        found = next(iter(MlflowClient().search_model_versions(query)), None)
    else:
        found = registry.find_version_by_alias(name, version)
    if found is None:
        raise DataError(f'{name} has no version {version!r}; run "mlflow run . --env-manager local" first')
    return found


def promote_version(name: str, new: ModelVersion, old: ModelVersion | None) -> None:
    """Point ``champion`` at `new`, and ``previous`` at `old`, the version it had.

    Raises
    ------
    GenreError
        If ``champion`` has meanwhile gone to another version than `old`, or stays locked.
    """
    client = MlflowClient()
    with _alias_lock(name):
        now, challenger = find_version_by_alias(name, "champion"), find_version_by_alias(name, "challenger")
        if (now and now.version) != (old and old.version):
            raise GenreError(f"the champion of {name} changed while this version was compared with it; promote again")
        if old is not None:
            client.set_registered_model_alias(name, "previous", old.version)
        client.set_registered_model_alias(name, "champion", new.version)
        if challenger and challenger.version == new.version:
            client.delete_registered_model_alias(name, "challenger")
    for tag in ("refused", "refused_against"):
        if tag in new.tags:
            client.delete_model_version_tag(name, new.version, tag)


def refuse_version(name: str, version: ModelVersion, champion: ModelVersion | None, reasons: list[str]) -> str:
    """Keep a version beside the champion: alias ``challenger``, tag ``refused`` with the reasons; returns the words."""
    client, words = MlflowClient(), "; ".join(reasons)
    client.set_registered_model_alias(name, "challenger", version.version)
    client.set_model_version_tag(name, version.version, "refused", words)
    client.set_model_version_tag(name, version.version, "refused_against", str(champion.version) if champion else "")
    return f"refused: {words}"


def roll_back(name: str) -> str:
    """Make the previous champion champion again; doing it twice leaves all as it was.

    The version that goes is tagged ``rolled_back``, and retraining does not promote it again.

    Returns
    -------
    str
        What was done, in words.

    Raises
    ------
    GenreError
        If there is no champion or none before it, or the aliases stay locked.
    """
    client = MlflowClient()
    with _alias_lock(name):
        champion, previous = find_version_by_alias(name, "champion"), find_version_by_alias(name, "previous")
        if champion is None:
            raise GenreError(f"there is no champion of {name} to roll back; check -P registry_name=")
        if previous is None or previous.version == champion.version:
            raise GenreError(f"version {champion.version} of {name} had no champion before it; nothing was changed")
        client.set_registered_model_alias(name, "previous", champion.version)
        client.set_registered_model_alias(name, "champion", previous.version)
    when = f"{pd.Timestamp.now():%Y-%m-%d %H:%M}, to version {previous.version}"
    client.set_model_version_tag(name, champion.version, "rolled_back", when)
    if "rolled_back" in previous.tags:
        client.delete_model_version_tag(name, previous.version, "rolled_back")
    return f"version {previous.version} of {name} is champion again, version {champion.version} is kept as previous"


@contextmanager
def _alias_lock(name: str) -> Iterator[None]:
    """Hold the aliases of a registered model for a moment, on every machine that uses this registry.

    MLflow has no lock, but no two registered models can have one name: making one of an agreed name is a lock.
    """
    client, lock, deadline = MlflowClient(), f"{name}{LOCK_SUFFIX}", time.monotonic() + LOCK_TIMEOUT_S
    while not _take_lock(lock):
        if time.monotonic() > deadline:
            raise GenreError(f"another promotion of {name} is under way and does not end; try again")
        _remove_stale_lock(lock)
        time.sleep(0.1)
    try:
        yield
    finally:
        client.delete_registered_model(lock)


def _take_lock(lock: str) -> bool:
    """Whether the lock could be taken."""
    try:
        MlflowClient().create_registered_model(lock, description="A promotion is under way; this goes by itself.")
    except MlflowException as error:
        # The second: it existed when MLflow tried, and was gone when it looked why that failed.
        if error.error_code not in map(ErrorCode.Name, (RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST)):
            raise
        return False
    return True


def _remove_stale_lock(lock: str) -> None:
    """Remove a lock whose holder was killed."""
    client = MlflowClient()
    with suppress(MlflowException):  # it is gone: somebody else's turn is over
        made_ms = client.get_registered_model(lock).creation_timestamp
        if time.time() - made_ms / 1000 > LOCK_STALE_S:
            client.delete_registered_model(lock)
