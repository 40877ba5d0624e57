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

#: Tags of a refused version: the reasons, and the number of the champion that it was refused against.
REFUSAL_TAGS = ("refused", "refused_against")

#: Seconds after which the holder of a lock, which needs less than one, must have been killed.
LOCK_STALE_S = 60.0

#: Seconds that others wait for a lock.
LOCK_TIMEOUT_S = 90.0


def resolve_version(name: str, version: str, *, any_code: bool = False) -> ModelVersion:
    """Return a version of a registered model by its alias, such as ``champion``, or its number.

    With `any_code` its code is accepted, see `tracking.registry.accept_code`.

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
    if any_code:
        registry.accept_code(found)
    return found


def promote_version(name: str, new: ModelVersion, old: ModelVersion | None) -> None:
    """Point ``champion`` at `new`, and ``previous`` at `old`, the champion until now.

    Raises
    ------
    GenreError
        If ``champion`` has been moved to a version other than `old`, or stays locked, or the model is on hold.
    """
    client = MlflowClient()
    with _alias_lock(name):
        if hold := registry.describe_hold(name):
            raise GenreError(hold)
        champion = find_version_by_alias(name, "champion")
        challenger = find_version_by_alias(name, "challenger")
        if (champion and champion.version) != (old and old.version):
            raise GenreError(f"the champion of {name} changed while this version was compared with it; promote again")
        if old is not None:
            client.set_registered_model_alias(name, "previous", old.version)
        _set_champion(name, new.version)
        if challenger and challenger.version == new.version:
            client.delete_registered_model_alias(name, "challenger")
    for tag in REFUSAL_TAGS:
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


def defer_version(name: str, version: ModelVersion, reasons: list[str]) -> str:
    """Keep a version on which nothing can be decided now as the ``challenger``; return that as text.

    Without the tags of a refusal, the next promotion decides on it anew.
    """
    client = MlflowClient()
    client.set_registered_model_alias(name, "challenger", version.version)
    for tag in REFUSAL_TAGS:
        if tag in version.tags:
            client.delete_model_version_tag(name, version.version, tag)
    return f"undecided: {'; '.join(reasons)}"


def roll_back(name: str) -> str:
    """Reinstate the previous champion; a second call undoes the first.

    The version that is replaced is tagged ``rolled_back``, and retraining does not promote it again. Nothing else is
    promoted either: the registered model is on hold until `lift_hold`, or until a second call, which removes the tag.

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
        _set_champion(name, previous.version)
        is_undo = "rolled_back" in previous.tags
        if is_undo:
            _remove_hold(name)
        else:
            since = f"rolled back on {pd.Timestamp.now():%Y-%m-%d %H:%M} from version {champion.version}"
            client.set_registered_model_tag(name, registry.HOLD, since)
    if is_undo:
        client.delete_model_version_tag(name, previous.version, "rolled_back")
    else:
        when = f"{pd.Timestamp.now():%Y-%m-%d %H:%M}, to version {previous.version}"
        client.set_model_version_tag(name, champion.version, "rolled_back", when)
    held = "" if is_undo else "; nothing is promoted until the hold is lifted by -P lift=true"
    return (
        f"version {previous.version} of {name} is champion again; version {champion.version} is now the previous one"
        f"{held}"
    )


def lift_hold(name: str) -> str:
    """Lift the hold that a rollback put on a registered model; the champion stays.

    Returns
    -------
    str
        A sentence on what was done.
    """
    if registry.describe_hold(name) is None:
        return f"{name} is not on hold; nothing was changed"
    _remove_hold(name)
    return f"the hold on {name} is lifted; the next promotion compares with the champion as usual"


def _remove_hold(name: str) -> None:
    """Remove the hold on a registered model, if there is one."""
    if registry.read_model_tag(name, registry.HOLD):
        MlflowClient().delete_registered_model_tag(name, registry.HOLD)


def _set_champion(name: str, version: str) -> None:
    """Point ``champion`` at a version, and remember that the registered model had one."""
    client = MlflowClient()
    client.set_registered_model_alias(name, "champion", version)
    client.set_registered_model_tag(name, registry.LAST_CHAMPION, version)


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
