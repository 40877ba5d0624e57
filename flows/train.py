"""Flow ``train``: one experiment, which trains each model in a process and logs it in an MLflow run of its own."""

from flows import checks
from flows.cli import main

if __name__ == "__main__":  # above the other imports, so that mistakes are answered before these take seconds
    main(__file__, checks.check_train)

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from pathlib import Path
from typing import Any

from joblib import cpu_count
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from tqdm import tqdm

from flows.hyperparameters import resolve_hyperparameters, select_models
from flows.inputs import fill_inputs, find_start_weights, install_weights, required_inputs
from flows.material import Material, load_material, log_material
from flows.parameters import (
    FAST,
    N_FOLDS,
    Dataset,
    Folds,
    Hyperparameters,
    ModelNames,
    Seed,
    Source,
    VariantName,
    WeightsPath,
    current_settings,
)
from flows.reports.leaderboard import ModelOutcome, ModelStatus, publish_leaderboard
from flows.reports.links import publish_links
from genre import datasets, models
from genre.ensemble import Ensemble
from genre.errors import TrainingError
from genre.files import read_json
from genre.inputs import is_vector
from genre.splits.assignment import LARGE_CLIPS
from genre.store import parts
from genre.training import process
from genre.training.job import TrainingJob, code_digest, prepare_training, read_job, read_result
from genre.workspace import Workspace
from tracking import cost, packaging, results, runs

#: Largest number of trainings at a time.
MAX_AT_ONCE = 2

#: Held by a thread that trains a model while it works in this process: matplotlib is for one thread at a time, and two
#: that compute the same missing input would do so twice. Only the training processes themselves overlap.
_TURN = threading.Lock()

#: Threads that train, the same for all flows of this process: matplotlib keeps the fonts of every thread that has
#: drawn, with four open files.
_THREADS = ThreadPoolExecutor(MAX_AT_ONCE)


@flow(name="train", flow_run_name="train {dataset}")
def train(
    dataset: Dataset = "demo",
    source: Source = "",
    variant: VariantName = "corrected",
    model: ModelNames = FAST,
    params: Hyperparameters = "{}",
    seed: Seed = 0,
    folds: Folds = -1,
    weights: WeightsPath = "",
) -> dict[str, str]:
    """Train models on a data set that was built, log each to MLflow, and print the leaderboard.

    Returns
    -------
    dict
        Model to its outcome, as text.

    Raises
    ------
    TrainingError
        If all models failed or were left out.
    """
    settings = current_settings()
    checks.check_train(settings)
    names = select_models(model, dataset)
    overrides = resolve_hyperparameters(names, params, seed, folds, variant)
    workspace = Workspace(datasets.dataset_id(dataset, source))
    with workspace.lock(), runs.experiment_run(workspace, f"train {model}", settings, publish_links) as run_id:
        material = load_material(dataset, source, variant)
        log_material(run_id, material)
        store = material.workspace.store_dir(material.config)
        missing = install_weights(required_inputs(names, material.config, has_audio=material.has_audio), store, weights)
        missing |= find_start_weights(overrides, weights)
        jobs = {
            name: _make_job(material, name, overrides[name], seed, n_folds(material, name, folds)) for name in names
        }
        outcomes = _train_models(material, jobs, run_id, missing)
        trained = {name: _training_folder(material, jobs[name]) for name in names if outcomes[name].is_trained}
        publish_leaderboard(run_id, material, trained, outcomes)
        if not trained:
            reasons = "; ".join(f"{name}: {outcome}" for name, outcome in outcomes.items())
            raise TrainingError(f"no model could be trained: {reasons}")
    return {name: str(outcome) for name, outcome in outcomes.items()}


def n_folds(material: Material, name: str, folds: int) -> int:
    """Return the number of folds for a model: `folds`, or for -1 as many as are worth their time.

    From 5,000 clips on, validation is large enough and no folds are needed. With fewer, models on features are also
    trained on three folds, which triples the time. The same goes for the fast networks, except on the demo, whose
    scores mean nothing and which has to be quick. The other networks would take hours; they are chosen on validation.
    """
    if folds >= 0:
        return folds
    model = models.get_model(name)
    is_large = len(material.clips) >= LARGE_CLIPS
    is_worth_it = is_vector(model.input_names[0]) or (model.fast and not material.synthetic)
    return N_FOLDS if is_worth_it and not is_large else 0


def _train_models(
    material: Material, jobs: dict[str, TrainingJob], parent: str, missing: dict[str, str]
) -> dict[str, ModelOutcome]:
    """Train the networks one after another and, beside them, the models on vectors; return the outcome of each.

    Never two networks at a time: one uses the GPU, or most of the cores, and the memory of several others.
    """
    is_cancelled = threading.Event()
    futures: list[Future[dict[str, ModelOutcome]]] = []
    try:
        with process.open_lifeline() as lifeline:

            def train_in_turn(names: list[str]) -> dict[str, ModelOutcome]:
                left = (name for name in names if not is_cancelled.is_set())
                return {name: _train_or_skip(material, jobs[name], parent, missing, lifeline) for name in left}

            for names in _split_into_parts(material, list(jobs)):
                futures.append(_THREADS.submit(copy_context().run, train_in_turn, names))
            try:
                outcomes = {name: outcome for future in futures for name, outcome in future.result().items()}
            except BaseException:  # the flow is being cancelled: what runs ends with the lifeline
                is_cancelled.set()
                raise
    finally:
        wait(futures)
    return {name: outcomes[name] for name in jobs}


def _split_into_parts(material: Material, names: list[str]) -> list[list[str]]:
    """Return the models that are trained one after another, as one or more parts, in the order in which these begin.

    The longest begin first, so that no core waits for them at the end: the networks, then CatBoost, which is the last
    of the registry. Where all are one part the networks are its last, since they may take hours.
    """
    networks = [name for name in names if not is_vector(models.get_model(name).input_names[0])]
    others = [name for name in reversed(names) if name not in networks]
    return [networks, *([name] for name in others)] if _n_at_once(material) > 1 else [others + networks]


def _n_at_once(material: Material) -> int:
    """Return the number of trainings at a time.

    The fit is the smaller part of a training on a small data set, and most of the rest runs on one core. On a large
    data set every fit uses all cores, and takes gigabytes.
    """
    return 1 if len(material.clips) >= LARGE_CLIPS else min(MAX_AT_ONCE, cpu_count())


@task(cache_policy=NO_CACHE, task_run_name="train {job.model}")
@cost.timed
def train_model(material: Material, job: TrainingJob, parent: str, lifeline: int) -> ModelStatus:
    """Train a model in its own process, or reuse its finished training, and log it.

    Returns
    -------
    ModelStatus
        Trained or reused.
    """
    folder = _training_folder(material, job)
    result = read_result(folder)
    with _TURN:
        run_id, is_logged = runs.open_run(parent, material.workspace, job.model, folder.name, is_done=bool(result))
        if is_logged:
            return ModelStatus.REUSED
        runs.set_tags(run_id, material.tags)
    try:
        if not result:
            with _TURN:
                cost.count_clips(len(material.clips))
                fill_inputs(material, job.inputs)
                prepare_training(folder, job, material.clips)
            _run_training(folder, job, run_id, lifeline)
        with _TURN:
            _log_training(material, job, folder, run_id)
    except Exception as error:
        runs.fail_run(run_id, str(error))
        raise
    return ModelStatus.REUSED if result else ModelStatus.TRAINED


def _log_training(material: Material, job: TrainingJob, folder: Path, run_id: str) -> None:
    """Log a finished training and its model, and finish the run."""
    results.log_training(run_id, folder)
    if material.has_audio:
        spec = single_model_ensemble(material, job.model, folder)
        packaging.log_model(run_id, spec, {job.model: folder}, material.tags, Path(job.store))
    runs.finish_run(run_id)


def _run_training(folder: Path, job: TrainingJob, run_id: str, lifeline: int) -> None:
    """Run a training; show its epochs in a progress bar and log them to MLflow as they end."""
    n_epochs = job.params.get("epochs")
    with tqdm(total=n_epochs, desc=job.model, unit="epoch", disable=True if n_epochs is None else None) as bar:

        def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
            bar.update(epoch - bar.n)
            shown = {name: value for name, value in metrics.items() if "loss" in name or "accuracy" in name}
            bar.set_postfix({name: f"{value:.3f}" for name, value in shown.items()})
            results.log_epoch(run_id, epoch, metrics)
            if epoch == min(2, n_epochs or 0):  # the first one also compiles the network
                log_duration(job, metrics["seconds"])

        process.run_training(folder, on_epoch, lifeline)


def log_duration(job: TrainingJob, epoch_s: float) -> None:
    """Log how long a network's training will take, if that is more than a minute.

    Parameters
    ----------
    job : TrainingJob
        The training. Each of its folds is a training on all clips but those of the fold.
    epoch_s : float
        Seconds of an epoch.
    """
    minutes = epoch_s * job.params["epochs"] * max(job.folds, 1) / 60
    if minutes >= 1:
        folds = f", and {job.folds} trainings for the folds" if job.folds else ""
        get_run_logger().info(
            "%s: about %.0f %s in all (%d epochs of %.0f s%s)",
            *(job.model, minutes, "minutes" if minutes >= 1.5 else "minute", job.params["epochs"], epoch_s, folds),
        )


def single_model_ensemble(material: Material, name: str, folder: Path) -> Ensemble:
    """Return a trained model as an ensemble of one, with the threshold and temperature of its training."""
    scores = read_json(folder / "scores.json")
    return Ensemble(
        genres=material.genres,
        config=material.config,
        members=(name,),
        mean="arithmetic",
        min_confidence=scores["unknown_below"],
        temperature=scores["temperature"],
        inputs={name: read_job(folder).inputs},
        warning=material.warning,
    )


def _make_job(material: Material, name: str, params: dict[str, Any], seed: int, folds: int) -> TrainingJob:
    """Return the job of training a model on a data set."""
    store = material.workspace.store_dir(material.config)
    inputs = models.select_inputs(name, material.config.variant, has_audio=material.has_audio)
    return TrainingJob(
        model=name,
        params=params,
        seed=seed,
        genres=material.genres,
        config=material.config.to_dict(),
        store=str(store),
        data_digest=material.data_digest,
        splits_digest=material.splits_digest,
        code_digest=code_digest(name),
        inputs=list(inputs),
        weights=parts.weights_digests(inputs, store),
        folds=folds,
    )


def _training_folder(material: Material, job: TrainingJob) -> Path:
    """Return the folder of a training in the workspace."""
    return material.workspace.training_dir(job.model, job.key)


def _train_or_skip(
    material: Material, job: TrainingJob, parent: str, missing: dict[str, str], lifeline: int
) -> ModelOutcome:
    """Train a model if the data set has its inputs; a failure is logged and does not end the experiment."""
    if not material.has_audio and job.inputs != ["features"]:
        reason = f"needs {' and '.join(job.inputs)}, and {material.workspace.dataset_id} has no audio"
        return ModelOutcome(ModelStatus.LEFT_OUT, reason)
    if lacking := next((name for name in (job.model, *job.inputs) if name in missing), None):
        return ModelOutcome(ModelStatus.LEFT_OUT, missing[lacking])
    log = get_run_logger()
    log.info("%s ...", job.model)
    state = train_model(material, job, parent, lifeline, return_state=True)
    if state.is_completed():
        return ModelOutcome(state.result())
    error = state.result(raise_on_failure=False)
    log.error("%s failed: %s", job.model, error)
    return ModelOutcome(ModelStatus.FAILED, str(error))
