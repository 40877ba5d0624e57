"""MLflow's store, without MLflow: its address, the folder of its artifacts, and the names of registered models."""

import os
import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import unquote, urlsplit

from genre.errors import UsageError
from genre.workspace import PROJECT_DIR

#: MLflow's store unless MLFLOW_TRACKING_URI names another: in the project folder, not in the current one.
DEFAULT_URI = f"sqlite:///{PROJECT_DIR / 'mlflow.db'}"

#: Schemes of MLflow's own stores. The address of a database may also name a driver, as in ``postgresql+psycopg2``.
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "file", "databricks", "databricks-uc", "uc")

#: Entry points by which other packages add stores to MLflow; the name of each is its scheme.
PLUGIN_GROUP = "mlflow.tracking_store"


def store_uri() -> str:
    """Return the address of MLflow's store: ``MLFLOW_TRACKING_URI``, or a database in the project folder.

    MLflow's own default is the path of ``mlflow.db`` quoted as in a URL, which SQLite takes as it is: where the path
    has a blank, the database is in another folder, with ``%20`` in its name. MLflow quotes nothing of an address that
    it is given.

    Raises
    ------
    UsageError
        If MLflow has no store for such an address, the database is in such a folder, or in one whose models MLflow
        could not load, because it unquotes their paths.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    _check_form(uri)
    if uri == DEFAULT_URI and "?" in uri:  # the query of an address, of which SQLAlchemy knows no quoted form
        raise UsageError(
            f"MLflow's database cannot be named by its path, {PROJECT_DIR / 'mlflow.db'}; {_advice(PROJECT_DIR)}"
        )
    folder = database_folder(uri)
    if folder is None or unquote(str(folder)) == str(folder):
        return uri
    meant = Path(unquote(str(folder)))
    if not meant.is_dir():
        raise UsageError(
            f"MLflow cannot load models from {folder}, as it reads a % before two hexadecimal digits as another "
            "character; rename the folder, or set MLFLOW_TRACKING_URI to a database in another"
        )
    raise UsageError(f"MLflow's own default puts its database for {meant} into {folder}; {_advice(meant)}")


def separate_credentials(uri: str) -> str:
    """Return the address of MLflow's store without user and password, of which MLflow learns by variables of its own.

    MLflow repeats the address of a server as it is, in what it prints and in its errors. Of the variables
    ``MLFLOW_TRACKING_USERNAME`` and ``MLFLOW_TRACKING_PASSWORD``, which are set here for this process and those that it
    starts, it shows the first as the user of a run. The address of a database stays as it is.
    """
    try:
        parts = urlsplit(uri)
    except ValueError:  # no address at all, such as http://[
        return uri
    if parts.scheme not in ("http", "https") or not (parts.username and parts.password):
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def database_folder(uri: str) -> Path | None:
    """Return the folder of an SQLite database from its address; None for any other store."""
    database = database_path(uri)
    return database.parent if database else None


def database_path(uri: str) -> Path | None:
    """Return the file of an SQLite database from its address; None for any other store."""
    database = re.fullmatch(r"sqlite:///(.+)", uri)
    return Path(database[1]).resolve() if database else None


def artifact_location(uri: str, experiment: str) -> str | None:
    """Return the address of a new experiment's artifacts: beside an SQLite database; None leaves it to the store.

    MLflow would put them below the folder in which the command was started.
    """
    folder = database_folder(uri)
    return (folder / "mlruns" / experiment).as_uri() if folder else None


def check_model_name(name: str) -> str:
    """Return the name of a registered model after checking it.

    Raises
    ------
    UsageError
        If it has characters other than those that MLflow, a URI and a shell all accept unquoted.
    """
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise UsageError(f"registry_name must be letters, digits, '.', '_' and '-', such as 'genre'; got {name!r}")
    return name


def _check_form(uri: str) -> None:
    """Refuse an address of a form for which MLflow has no store, and ``host:port``, which it takes for a folder."""
    if re.fullmatch(r"[\w.-]{2,}:\d+(/[\w./-]*)?", uri):
        raise UsageError(f"MLFLOW_TRACKING_URI lacks http:// or https://; set it to http://{uri}")
    try:
        parts = urlsplit(uri)
        is_web = parts.scheme in ("http", "https") or re.match(r"https?[/;]", uri, re.IGNORECASE)
        is_complete = not is_web or bool(parts.hostname and parts.port != 0)
    except ValueError:  # brackets without an end, or a port that is no number
        is_complete = False
    if not is_complete:
        raise UsageError(f"MLFLOW_TRACKING_URI must look like http://127.0.0.1:5000; got {uri!r}")
    kind = parts.scheme.partition("+")[0]
    if len(kind) > 1 and kind not in SCHEMES and kind not in _plugin_schemes():  # a single letter is a drive of Windows
        shown = uri if "://" in uri else f"{kind}:..."  # else it may have a password that nothing tells apart
        raise UsageError(
            "MLFLOW_TRACKING_URI names a store of a kind that MLflow does not know; accepted are the address of a "
            f"server (http://, https://) or a database ({', '.join(f'{name}://' for name in SCHEMES[2:6])}), "
            f"databricks; got {shown!r}"
        )
    is_folder = len(kind) == 1 or kind == "file" or (not kind and uri not in SCHEMES)
    if is_folder and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1"):
        raise UsageError(
            f"MLFLOW_TRACKING_URI is a folder, {uri!r}, and MLflow keeps experiments in none any more unless "
            "MLFLOW_ALLOW_FILE_STORE=true; set it to a database, such as sqlite:///mlflow.db, or to a server's address"
        )


def _plugin_schemes() -> set[str]:
    """Return the schemes of stores that other packages add to MLflow; it takes 0.1 s."""
    return {plugin.name.partition("+")[0] for plugin in entry_points(group=PLUGIN_GROUP)}


def _advice(folder: Path) -> str:
    """Return the command that has MLflow keep its database in a folder, for which the command has to be repeated."""
    # commands are run in the project folder, and a relative address cannot be misread
    database = "mlflow.db" if folder == PROJECT_DIR else str(folder / "mlflow.db")
    export = f"export MLFLOW_TRACKING_URI={shlex.quote(f'sqlite:///{database}')}"
    return f"to keep it there, run this in every terminal, and then the same command again: {export}"
