"""MLflow's database and artifacts lie in the project folder, whatever characters its path has."""

import shlex
import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.utils.file_utils import path_to_local_sqlite_uri

from genre.errors import UsageError
from tracking import store

ODD_NAMES = ["my music", "müsic", "#1", "50%", "100%+", "a+b", "(a)", "it's", "a&b=c;d", "音楽", 'say "hi"', "$HOME"]


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new MLflow database, copied for each test: MLflow takes seconds to make one."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(params=ODD_NAMES)
def project(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with an odd name, which is the current folder, and no address in the environment."""
    folder = tmp_path / request.param
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(store, "PROJECT_DIR", folder)
    monkeypatch.setattr(store, "DEFAULT_URI", f"sqlite:///{folder / 'mlflow.db'}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


def exported(error: UsageError) -> str:
    """Return the address that a shell gets from the command in a message."""
    (word,) = shlex.split(str(error).rpartition("export ")[2])
    return word.removeprefix("MLFLOW_TRACKING_URI=")


def test_mlflows_own_default_is_refused_with_the_command_that_helps(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", path_to_local_sqlite_uri(str(project / "mlflow.db")))
    with pytest.raises(UsageError, match="export MLFLOW_TRACKING_URI=") as caught:
        store.store_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", exported(caught.value))
    assert store.database_folder(store.store_uri()) == project


def test_a_default_in_another_folder_than_the_projects_is_named_by_its_path(tmp_path, monkeypatch):
    folder = tmp_path / "it's mine"
    folder.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", path_to_local_sqlite_uri(str(folder / "mlflow.db")))
    with pytest.raises(UsageError) as caught:
        store.store_uri()
    assert exported(caught.value) == f"sqlite:///{folder}/mlflow.db"


def test_database_and_artifacts_are_in_the_folder_and_are_found_again(project, empty_store):
    shutil.copy(empty_store, project / "mlflow.db")
    uri = store.store_uri()
    client = MlflowClient(uri)
    experiment = client.create_experiment("demo", artifact_location=store.artifact_location(uri, "demo"))
    run = client.create_run(experiment).info
    client.log_text(run.run_id, "heard", "note.txt")
    (file,) = (project / "mlruns" / "demo").rglob("note.txt")
    assert file.read_text() == "heard"
    local = mlflow.artifacts.download_artifacts(artifact_uri=f"{run.artifact_uri}/note.txt", tracking_uri=uri)
    assert Path(local) == file
    # `mlflow models serve` hands the path of a local model on as if it were an address
    assert Path(mlflow.artifacts.download_artifacts(local)) == file
    assert [path.name for path in project.parent.iterdir()] == [project.name]


@pytest.mark.parametrize("name", ["a%41b", "a%20b"])
def test_a_folder_whose_models_mlflow_would_not_find_is_refused(name, tmp_path, monkeypatch):
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    for uri in ("sqlite:///mlflow.db", path_to_local_sqlite_uri(str(folder / "mlflow.db"))):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(UsageError, match=r"rename the folder|export"):
            store.store_uri()


def test_a_question_mark_needs_an_address_without_the_path(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "PROJECT_DIR", tmp_path / "what?")
    monkeypatch.setattr(store, "DEFAULT_URI", f"sqlite:///{tmp_path}/what?/mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UsageError) as caught:
        store.store_uri()
    assert exported(caught.value) == "sqlite:///mlflow.db"


@pytest.mark.parametrize("uri", ["http://mlflow.example:5000/a%20b", "postgresql://u:p%40w@host/mlflow"])
def test_other_stores_are_taken_as_they_are(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert store.store_uri() == uri and store.artifact_location(uri, "demo") is None


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite+pysqlite:///mlflow.db",
        "postgresql+psycopg2://u:p@host/mlflow",
        "mysql+pymysql://host/mlflow",
        "mssql+pyodbc://host/mlflow",
        "databricks",
        "databricks://profile",
        "HTTPS://mlflow.example",
        "http://[::1]:5000",
    ],
)
def test_every_kind_of_store_that_mlflow_knows_is_taken(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert store.store_uri() == uri


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "mlruns", "../mlruns", "C:\\mlruns"])
def test_a_folder_is_refused_as_by_mlflow_unless_it_is_told_to_take_one(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UsageError, match=r"is a folder, .*; set it to a database, such as sqlite:///mlflow.db"):
        store.store_uri()
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert store.store_uri() == uri


@pytest.mark.parametrize("uri", ["http//mlflow:5000", "https;//mlflow", "http:/mlflow:5000", "http:mlflow"])
def test_a_misspelt_address_of_a_server_is_taken_for_no_folder(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UsageError, match=r"must look like http://127\.0\.0\.1:5000; got"):
        store.store_uri()


@pytest.mark.parametrize("scheme", ["warehouse", "postgres", "htp", "redis+tls"])
def test_an_unknown_kind_of_store_is_refused_with_the_known_ones(scheme, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://user:s3cret@host/db?token=s3cret")
    with pytest.raises(UsageError, match=r"http://, https://.*sqlite://, postgresql://.*databricks") as caught:
        store.store_uri()
    assert f"{scheme}://host/db" in str(caught.value) and "s3cret" not in str(caught.value)


def test_schemes_are_those_of_mlflow():
    from mlflow.tracking._tracking_service import utils

    assert set(utils._tracking_store_registry._registry) - {""} <= set(store.SCHEMES)


def test_the_store_of_a_plugin_is_taken(tmp_path, monkeypatch):
    metadata = tmp_path / "mlflow_warehouse-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mlflow-warehouse\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[mlflow.tracking_store]\nwarehouse = warehouse:Store\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "warehouse://somewhere/db")
    assert store.store_uri() == "warehouse://somewhere/db"


@pytest.mark.parametrize("uri", ["localhost:5000", "127.0.0.1:5000/mlflow", "mlflow.example:80"])
def test_an_address_without_http_is_refused_with_the_right_one(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UsageError, match=f"set it to http://{uri}"):
        store.store_uri()


@pytest.mark.parametrize("uri", ["http://", "http://[", "http://host:port", "https:///path", "user:s3cret@host:5000"])
def test_what_is_no_address_is_refused(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(UsageError, match="MLFLOW_TRACKING_URI") as caught:
        store.store_uri()
    assert "s3cret" not in str(caught.value)
