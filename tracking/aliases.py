"""Aliases of a registered model: ``champion`` is served, ``previous`` was served before, ``challenger`` was refused."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode

from genre.errors import DataError, GenreError
from tracking import registry, store
from tracking.registry import find_version_by_alias

#: Suffix of the registered model that exists while aliases are moved: the lock.
LOCK_SUFFIX = ".promotion"

#: Seconds after which the holder of a lock, which needs less than one, must have been killed.
LOCK_STALE_S = 60.0

#: Seconds that others wait for a lock.
LOCK_TIMEOUT_S = 90.0


def resolve_version(name: str, version: str) -> ModelVersion:
    """Return a version of a registered model by its alias, such as ``champion``, or its number.

    Raises
    ------
    UsageError
        If the name is not a valid name of a registered model.
    DataError
        If there is no such version.
    """
    store.check_model_name(name)
    if version.isdigit():
        query = f"name = '{name}' and version_number = {version}"
        found = next(iter(MlflowClient().search_model_versions(query)), None)
    else:
        found = registry.find_version_by_alias(name, version)
    if found is None:
        raise DataError(f'{name} has no version {version!r}; run "mlflow run . --env-manager local" first')
    return found


def promote_version(name: str, new: ModelVersion, old: ModelVersion | None) -> None:
    """Point ``champion`` at `new`, and ``previous`` at `old`, the champion until now.

    Raises
    ------
    GenreError
        If ``champion`` has been moved to a version other than `old`, or stays locked.
    """
    client = MlflowClient()
    with _alias_lock(name):
        champion = find_version_by_alias(name, "champion")
        challenger = find_version_by_alias(name, "challenger")
        if (champion and champion.version) != (old and old.version):
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
    """Give a version the alias ``challenger`` and the tag ``refused`` with the reasons; return the decision as text."""
    client = MlflowClient()
    words = "; ".join(reasons)
    client.set_registered_model_alias(name, "challenger", version.version)
    client.set_model_version_tag(name, version.version, "refused", words)
    client.set_model_version_tag(name, version.version, "refused_against", str(champion.version) if champion else "")
    return f"refused: {words}"


def roll_back(name: str) -> str:
    """Reinstate the previous champion; a second call undoes the first.

    The version that is replaced is tagged ``rolled_back``, and retraining does not promote it again.

    Returns
    -------
    str
        A sentence on the versions before and after.

    Raises
    ------
    GenreError
        If there is no champion or no earlier one, or the aliases stay locked.
    """
    client = MlflowClient()
    with _alias_lock(name):
        champion = find_version_by_alias(name, "champion")
        previous = find_version_by_alias(name, "previous")
        if champion is None:
            raise GenreError(f"there is no champion of {name} to roll back; check -P registry_name=")
        if previous is None or previous.version == champion.version:
            raise GenreError(
                f"there is no champion of {name} before version {champion.version} to roll back to; nothing was changed"
            )
        client.set_registered_model_alias(name, "previous", champion.version)
        client.set_registered_model_alias(name, "champion", previous.version)
    when = f"{pd.Timestamp.now():%Y-%m-%d %H:%M}, to version {previous.version}"
    client.set_model_version_tag(name, champion.version, "rolled_back", when)
    if "rolled_back" in previous.tags:
        client.delete_model_version_tag(name, previous.version, "rolled_back")
    return f"version {previous.version} of {name} is champion again; version {champion.version} is now the previous one"


@contextmanager
def _alias_lock(name: str) -> Iterator[None]:
    """Lock the aliases of a registered model, on every machine that uses this registry.

    MLflow has no locks, but two registered models cannot have the same name: the lock is a registered model of an
    agreed name.
    """
    client = MlflowClient()
    lock = f"{name}{LOCK_SUFFIX}"
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while not _take_lock(lock):
        if time.monotonic() > deadline:
            raise GenreError(f"another promotion of {name} is under way and does not end; try again later")
        _remove_stale_lock(lock)
        time.sleep(0.1)
    try:
        yield
    finally:
        client.delete_registered_model(lock)


def _take_lock(lock: str) -> bool:
    """Try to take the lock, and return whether that succeeded."""
    try:
        MlflowClient().create_registered_model(
            lock, description="A promotion is under way; this is removed at its end."
        )
    except MlflowException as error:
        # the second code: the lock existed when MLflow tried to create it, and was gone when it looked for the reason
        if error.error_code not in map(ErrorCode.Name, (RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST)):
            raise
        return False
    return True


def _remove_stale_lock(lock: str) -> None:
    """Remove a lock whose holder was killed."""
    client = MlflowClient()
    with suppress(MlflowException):  # the lock has been released
        made_ms = client.get_registered_model(lock).creation_timestamp
        if time.time() - made_ms / 1000 > LOCK_STALE_S:
            client.delete_registered_model(lock)
