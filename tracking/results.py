"""Results logged to runs: metrics, figures and tables of trainings and evaluations, data sets."""

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, InputTag
from mlflow.exceptions import MlflowException

from genre import evaluate
from genre.core import source_digest
from genre.errors import GenreError
from genre.files import read_json, write_atomically
from genre.plots import evaluation, training
from genre.probabilities.tables import decision_level, per_track
from genre.training.job import read_job, read_result
from genre.workspace import Workspace
from tracking.runs import log_metrics, set_tags, workspace_id

if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: Options of the figures' PNG files.
SAVE_OPTIONS: dict[str, Any] = {"dpi": 110, "bbox_inches": "tight"}


def log_epoch(run_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
    """Log one epoch's metrics in one call, so that the curves grow during training."""
    log_metrics(run_id, {f"epoch_{k}": v for k, v in metrics.items()}, step=epoch)


def log_training(run_id: str, directory: Path) -> None:
    """Log a finished training: its parameters, duration and cost, scores, figures and tables."""
    job = read_job(directory)
    result = read_result(directory) or {}
    client = MlflowClient()
    client.log_param(run_id, "model", job.model)
    client.log_param(run_id, "seed", job.seed)
    for prefix, values in (("hp", job.params), ("audio", job.config)):
        for key, value in values.items():
            client.log_param(run_id, f"{prefix}.{key}", value)
    digests = {k: v for k, v in asdict(job).items() if k.endswith("_digest")}
    set_tags(run_id, digests | {k: v for k, v in result.items() if isinstance(v, str)})
    log_metrics(run_id, {k: v for k, v in result.items() if not isinstance(v, str)})
    table = pd.read_parquet(directory / "probabilities.parquet")
    scores = read_json(directory / "scores.json")
    log_evaluation(run_id, table, scores, {"calibrated": evaluate.apply_temperature(table, scores["temperature"])})
    _log_importances(run_id, directory, job.model)
    history = directory / "history.parquet"
    if history.exists():
        log_figure(run_id, training.learning_curve(pd.read_parquet(history)), "learning_curve")


def log_evaluation(
    run_id: str, table: pd.DataFrame, scores: Mapping[str, float], recalibrated: Mapping[str, pd.DataFrame]
) -> None:
    """Log the scores of a probability table, its figures on the test split, and the table.

    The figures are of clips, but for the reliability diagram, of tracks: confidences are served for tracks.
    `recalibrated` holds the same table at other temperatures, each under its label in the reliability diagram.
    """
    log_metrics(run_id, scores)
    test = table[table["split"] == "test"]
    level = decision_level(test)
    others = {label: per_track(other.loc[test.index]) for label, other in recalibrated.items()}
    for figure, name in (
        (evaluation.roc_curves(test), "roc"),
        (evaluation.precision_recall_curves(test), "precision_recall"),
        (evaluation.confusion_matrix(test), "confusion_matrix"),
        (evaluation.reliability_diagram(per_track(test), others=others, level=level), "reliability"),
    ):
        log_figure(run_id, figure, f"{name}_test")
    log_table(run_id, table.reset_index(), "probabilities")


def log_lead(workspace: Workspace, key: str, first: str, row: pd.Series) -> None:
    """Log to a model's run the lead of the best model of its experiment on test, and the name of that model."""
    client = MlflowClient()
    query = f"tags.work = '{key}' and tags.workspace = '{workspace_id(workspace)}'"
    for run in client.search_runs([e.experiment_id for e in client.search_experiments()], query, max_results=1):
        set_tags(run.info.run_id, {"compared_with": first})
        log_metrics(run.info.run_id, {f"first_{k}": row[k] for k in row.index if k.startswith("lead")})


def log_dataset(run_id: str, clips: pd.DataFrame, name: str, digest: str) -> None:
    """Log the clips of an experiment as an MLflow data set with their digest, without audio or paths."""
    table = clips[["clip_id", "genre", "recording", "split"]].astype(str)
    dataset = mlflow.data.pandas_dataset.from_pandas(table, targets="genre", name=name, digest=digest)
    context = InputTag("mlflow.data.context", "training")
    MlflowClient().log_inputs(run_id, [DatasetInput(dataset._to_mlflow_entity(), [context])])
    log_table(run_id, table, "clips")


def log_assignments(run_id: str, assignments: pd.DataFrame) -> None:
    """Log which split each recording was ever assigned to, so that a workspace that is lost or damaged has it again."""
    log_table(run_id, assignments[["recording", "split"]], "splits")


def restore_assignments(workspace: Workspace) -> pd.DataFrame:
    """Read the newest split assignments of a data set that MLflow holds, of whichever workspace.

    Returns
    -------
    pd.DataFrame
        Columns ``recording`` and ``split``: of the newest run with a table of them or, from before there was one, with
        the clips of a training.

    Raises
    ------
    GenreError
        If MLflow holds none.
    """
    client = MlflowClient()
    experiments = [e.experiment_id for e in client.search_experiments()]
    query = f"tags.data_set = '{workspace.dataset_id}'"
    for run in client.search_runs(experiments, query, max_results=1000, order_by=["attributes.start_time DESC"]):
        names = {Path(file.path).stem for file in client.list_artifacts(run.info.run_id, "tables")}
        if name := next((name for name in ("splits", "clips") if name in names), None):
            table = read_table(run.info.run_id, name)[["recording", "split"]]
            return table.drop_duplicates("recording").reset_index(drop=True)
    raise GenreError(
        f"MLflow holds no splits of {workspace.dataset_id}; if its table is damaged, remove dealt.parquet in "
        f"{workspace.directory}, and a build assigns all recordings anew"
    )


def log_figure(run_id: str, figure: "Figure", name: str) -> None:
    """Log a figure as ``figures/NAME.png``."""
    MlflowClient().log_figure(run_id, figure, f"figures/{name}.png", save_kwargs=SAVE_OPTIONS)


def log_derived_figure(run_id: str, path: Path, draw: Callable[[], "Figure"]) -> None:
    """Log a figure under the name of a file, which is drawn first if there is no such file.

    Parameters
    ----------
    run_id : str
        Run to log it to.
    path : Path
        PNG file, in a folder that stands for all that the figure shows, see `derived_key`.
    draw : callable
        Draws the figure.
    """
    if not path.exists():
        figure = draw()
        write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", **SAVE_OPTIONS))
    MlflowClient().log_artifact(run_id, str(path), "figures")


def derived_key(code: Iterable[str], *inputs: bytes) -> str:
    """Return twelve hexadecimal digits that identify what is made of some inputs by some code.

    Parameters
    ----------
    code : iterable of str
        Files and folders of the package, as for `genre.core.source_digest`.
    *inputs : bytes
        All that goes into it.
    """
    digest = hashlib.sha256(source_digest(code).encode())
    for data in inputs:
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()[:12]


def log_table(run_id: str, table: pd.DataFrame, name: str) -> None:
    """Log a table as ``tables/NAME.csv``, to read and to download."""
    MlflowClient().log_text(run_id, table.to_csv(index=False), f"tables/{name}.csv")


def read_table(run_id: str, name: str) -> pd.DataFrame:
    """Read a table that `log_table` logged, every column as text.

    Raises
    ------
    GenreError
        If it cannot be downloaded.
    """
    try:
        text = mlflow.artifacts.load_text(f"runs:/{run_id}/tables/{name}.csv")
    except (MlflowException, OSError) as error:
        raise GenreError(f"cannot download the table {name} of run {run_id}: {error}") from error
    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)


def log_sounds(run_id: str, sounds: pd.DataFrame, name: str) -> None:
    """Log fingerprints of clips, as `genre.splits.sounds` computes them, as ``sounds/NAME.parquet``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.parquet")
        sounds.to_parquet(path)
        MlflowClient().log_artifact(run_id, str(path), "sounds")


def read_sounds(run_id: str, name: str) -> pd.DataFrame:
    """Read fingerprints that `log_sounds` logged.

    Raises
    ------
    GenreError
        If they cannot be downloaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            uri = f"runs:/{run_id}/sounds/{name}.parquet"
            return pd.read_parquet(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
        except (MlflowException, OSError) as error:
            raise GenreError(f"cannot download the fingerprints of run {run_id}: {error}") from error


def _log_importances(run_id: str, directory: Path, model: str) -> None:
    """Log the feature importances of a training, if it has any."""
    path = directory / "importances.parquet"
    if not path.exists():
        return
    table = pd.read_parquet(path)
    log_table(run_id, table.rename_axis("feature").reset_index(), "importances")
    if "own" in table:
        log_figure(run_id, training.feature_importances(table["own"], f"{model}: its own importances"), "importances")
    title = f"{model}: loss of macro AUC on validation when a feature is shuffled"
    figure = training.feature_importances(table["mean"], title, spread=table["std"], unit="Drop of macro AUC")
    log_figure(run_id, figure, "permutation_importances")
