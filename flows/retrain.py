"""Flow ``retrain``, the main job: acquire, build, train and promote, where that is worth it."""

from dataclasses import dataclass
from enum import StrEnum

from mlflow.entities.model_registry import ModelVersion
from prefect import State, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from flows import drift
from flows.acquire import acquire, last_arguments
from flows.build import build
from flows.cli import main
from flows.hyperparameters import resolve_hyperparameters, select_models
from flows.material import training_clips
from flows.parameters import (
    FAST,
    DaskAddress,
    Dataset,
    DatasetOptions,
    DriftTrigger,
    Folds,
    Hyperparameters,
    MinChange,
    MinGain,
    MinPrecision,
    ModelNames,
    NJobs,
    RegistryName,
    Seed,
    Source,
    SplitMethod,
    VariantName,
    current_settings,
)
from flows.promote import PromotionDecision, PromotionOutcome, check_promotion, promote
from flows.reports import tables
from flows.train import train
from genre import datasets, evaluate, parameters
from genre.config import AudioConfig
from genre.errors import UsageError
from genre.workspace import Workspace
from tracking import cost, registry, runs


class RetrainingOutcome(StrEnum):
    """Outcome of a retraining, which names the state of its flow run."""

    PROMOTED = "Promoted"
    REFUSED = "Refused"
    UNCHANGED = "Unchanged"
    SKIPPED = "Skipped"


#: Outcome of a retraining by that of its promotion.
OUTCOMES = {
    PromotionOutcome.PROMOTED: RetrainingOutcome.PROMOTED,
    PromotionOutcome.REFUSED: RetrainingOutcome.REFUSED,
    PromotionOutcome.NOT_REGISTERED: RetrainingOutcome.REFUSED,
    PromotionOutcome.UNCHANGED: RetrainingOutcome.UNCHANGED,
}


@dataclass(frozen=True)
class RetrainingDecision:
    """Decision at the end of a retraining.

    Attributes
    ----------
    outcome : RetrainingOutcome
        The decision.
    sentence : str
        The decision and its reasons, for people.
    """

    outcome: RetrainingOutcome
    sentence: str

    @classmethod
    def from_promotion(cls, decision: PromotionDecision) -> "RetrainingDecision":
        """Return the decision of a retraining that ended in a promotion."""
        return cls(OUTCOMES[decision.outcome], decision.sentence)


@flow(name="retrain", flow_run_name="retrain {dataset}")
def retrain(
    dataset: Dataset = "demo",
    source: Source = "",
    variant: VariantName = "corrected",
    split: SplitMethod = "dealt",
    options: DatasetOptions = "{}",
    model: ModelNames = FAST,
    params: Hyperparameters = "{}",
    seed: Seed = 0,
    folds: Folds = -1,
    registry_name: RegistryName = "genre",
    min_gain: MinGain = 0.0,
    min_precision: MinPrecision = evaluate.TARGET_PRECISION,
    min_change: MinChange = 0.0,
    max_drift: DriftTrigger = 0.0,
    n_jobs: NJobs = -1,
    dask: DaskAddress = "",
) -> State:
    """Build the data set, train the models, register the best ensemble, and make it champion if it is better.

    Returns
    -------
    State
        Completed, and named after how it ended: ``Promoted``, ``Refused``, ``Unchanged`` (the ensemble is known) or
        ``Skipped`` (nothing was trained), with the decision as its message.
    """
    settings = current_settings()
    resolve_hyperparameters(select_models(model), params, seed, folds)
    check_promotion(registry_name, min_gain, min_precision)
    check_thresholds(min_change, max_drift)
    workspace = Workspace(datasets.dataset_id(dataset, source))
    with workspace.lock(), runs.experiment_run(workspace, f"retrain {workspace.dataset_id}", settings) as run_id:
        before = registry.find_version_by_alias(registry_name, "champion")
        if datasets.get_dataset(dataset).acquired:
            acquire(**last_arguments(source, parameters.parse_json_object(options, "options")))
            options = "{}"
        build(dataset, source, variant, split, options, n_jobs, dask)
        decision = reason_to_skip(workspace, AudioConfig(variant=variant), before, min_change, max_drift, run_id)
        if decision is None:
            train(dataset, source, variant, model, params, seed, folds)
            promotion = promote(dataset, source, variant, registry_name, min_gain, min_precision)
            decision = RetrainingDecision.from_promotion(promotion)
        report_outcome(registry_name, before, decision, run_id)
    return Completed(name=decision.outcome.value, message=decision.sentence)


def check_thresholds(min_change: float, max_drift: float) -> None:
    """Refuse what no change of a data set, and no drift, can be held against.

    Raises
    ------
    UsageError
        If a figure is out of range, or drift cannot be looked for.
    """
    if not 0 <= min_change <= 1:
        raise UsageError(f"min_change must be a share of the clips, from 0 to 1; got {min_change}")
    if max_drift:
        drift.check_log_folder(max_drift)


@task(cache_policy=NO_CACHE)
@cost.timed
def reason_to_skip(
    workspace: Workspace,
    config: AudioConfig,
    champion: ModelVersion | None,
    min_change: float,
    max_drift: float,
    run_id: str,
) -> RetrainingDecision | None:
    """Decide whether nothing need be trained; None where something must."""
    if champion is None or champion.tags.get("data_set") != workspace.dataset_id:
        return None
    share = changed_share(workspace, champion)
    get_run_logger().info("%.1f %% of the clips changed since the champion was trained", 100 * share)
    shift = drift.DriftFinding(0, "")
    if max_drift:
        folder = drift.check_log_folder(max_drift)
        shift = drift.measure_drift(workspace, config, champion, folder, max_drift, run_id)
    if share >= min_change or (shift.is_shifted and share):
        return None
    told = (
        f"{share:.1%} of the clips changed since version {champion.version} was trained, {min_change:.1%} are asked for"
    )
    if shift.is_shifted:
        told += f"; what it was asked has drifted, and music like that must come first ({shift.sentence})"
    return RetrainingDecision(RetrainingOutcome.SKIPPED, f"nothing trained: {told}")


def changed_share(workspace: Workspace, champion: ModelVersion) -> float:
    """Share of the clips, of then and now together, that are new, gone or under another genre; 0..1."""
    then, now = (
        drift.load_training_table(champion)["genre"],
        training_clips(workspace).set_index("clip_id")["genre"].astype(str),
    )
    pairs = [set(genres.items()) for genres in (then, now)]
    return len(pairs[0] ^ pairs[1]) / len(pairs[0] | pairs[1])


@task(cache_policy=NO_CACHE)
@cost.timed
def report_outcome(name: str, before: ModelVersion | None, decision: RetrainingDecision, run_id: str) -> None:
    """Publish how a retraining ended: as an artifact, as tags and, where a version was judged, as an event."""
    after = registry.find_version_by_alias(name, "champion")
    outcome = decision.outcome.value
    runs.set_tags(run_id, {"outcome": outcome, "decision": decision.sentence})
    tables.publish_retraining(name, before, after, outcome, decision.sentence, run_id)
    if decision.outcome in (RetrainingOutcome.PROMOTED, RetrainingOutcome.REFUSED):
        drift.emit_model_event(f"retrain.{outcome.lower()}", name, decision.sentence)
    get_run_logger().info("%s", decision.sentence)


if __name__ == "__main__":
    main(retrain)
