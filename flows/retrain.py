"""Flow ``retrain``, the main job: acquire, build, train and promote, if enough has changed."""

from flows import checks
from flows.cli import main

if __name__ == "__main__":  # above the other imports, so that mistakes are answered before these take seconds
    main(__file__, checks.check_retrain)

from dataclasses import dataclass
from dataclasses import replace as replace_fields
from enum import StrEnum
from functools import partial

from mlflow.entities.model_registry import ModelVersion
from prefect import State, flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from flows import drift
from flows.acquire import acquire, last_arguments
from flows.build import build
from flows.decisions import PromotionDecision, PromotionOutcome, next_command
from flows.material import training_clips
from flows.parameters import (
    FAST,
    OPTIONS_EXAMPLE,
    TARGET_PRECISION,
    AnyCode,
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
    OtherData,
    RegistryName,
    Replace,
    Seed,
    Source,
    SplitMethod,
    VariantName,
    WeightsPath,
    current_settings,
)
from flows.pretrained import pretrained
from flows.promote import promote
from flows.reports import tables
from flows.reports.links import publish_links
from flows.train import train
from genre import datasets, parameters
from genre.config import AudioConfig
from genre.splits import assignment
from genre.weights import WeightsUnavailableError
from genre.workspace import Workspace
from tracking import cost, gate, registry, runs


class RetrainingOutcome(StrEnum):
    """Outcome of a retraining, and name of the final state of its flow run."""

    PROMOTED = "Promoted"
    REFUSED = "Refused"
    UNDECIDED = "Undecided"
    UNCHANGED = "Unchanged"
    SKIPPED = "Skipped"


#: Outcome of a promotion to that of the retraining.
OUTCOMES = {
    PromotionOutcome.PROMOTED: RetrainingOutcome.PROMOTED,
    PromotionOutcome.REFUSED: RetrainingOutcome.REFUSED,
    PromotionOutcome.NOT_REGISTERED: RetrainingOutcome.REFUSED,
    PromotionOutcome.UNDECIDED: RetrainingOutcome.UNDECIDED,
    PromotionOutcome.UNCHANGED: RetrainingOutcome.UNCHANGED,
}


#: Outcomes that are sent as an event: those of a version that came to the gate.
JUDGED = (RetrainingOutcome.PROMOTED, RetrainingOutcome.REFUSED, RetrainingOutcome.UNDECIDED)


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
    weights: WeightsPath = "",
    registry_name: RegistryName = "genre",
    min_gain: MinGain = 0.0,
    min_precision: MinPrecision = TARGET_PRECISION,
    replace: Replace = False,
    other_data: OtherData = False,
    any_code: AnyCode = False,
    min_change: MinChange = 0.0,
    max_drift: DriftTrigger = 0.0,
    n_jobs: NJobs = -1,
    dask: DaskAddress = "",
) -> State:
    """Build the data set, train the models, register the best ensemble, and make it champion if it is better.

    Returns
    -------
    State
        Completed, and named after the outcome: ``Promoted``, ``Refused``, ``Undecided`` (the champion cannot be scored
        or is gone), ``Unchanged`` (the ensemble is a registered version already) or ``Skipped`` (nothing was trained),
        with the decision as its message.
    """
    settings = current_settings()
    checks.check_retrain(settings)
    workspace = Workspace(datasets.dataset_id(dataset, source))
    publish = partial(publish_links, registry_name=registry_name)
    with (
        workspace.lock(),
        runs.experiment_run(workspace, f"retrain {workspace.dataset_id}", settings, publish) as run_id,
    ):
        before = registry.find_version_by_alias(registry_name, "champion")
        if datasets.get_dataset(dataset).acquired:
            acquire(**last_arguments(source, parameters.parse_json_object(options, "options", example=OPTIONS_EXAMPLE)))
            options = "{}"  # they are those of acquire
        build(dataset, source, variant, split, options, model, weights, n_jobs, dask)
        decision = reason_to_skip(workspace, AudioConfig(variant=variant), before, min_change, max_drift, run_id)
        if decision is None:
            warn_of_few_tracks(workspace)
            train(dataset, source, variant, model, params, seed, folds, weights)
            rules = (min_gain, min_precision, replace, other_data, any_code)
            promotion = promote(dataset, source, variant, registry_name, *rules)
            decision = RetrainingDecision.from_promotion(promotion)
        if datasets.get_dataset(dataset).synthetic:
            decision = replace_fields(
                decision, sentence=decision.sentence + register_pretrained(weights, registry_name)
            )
        report_outcome(registry_name, before, decision, run_id)
        print(f"\n{next_command(registry_name)}", flush=True)
    return Completed(name=decision.outcome.value, message=decision.sentence)


def register_pretrained(weights: str, registry_name: str) -> str:
    """Register the pretrained network, which knows real music, so that it serves in place of the demo's models.

    Where its weights cannot be had, the demo's champion stays.

    Returns
    -------
    str
        The decision on it, to be added to another sentence.
    """
    try:
        return f"; {pretrained(weights, registry_name).sentence}"
    except WeightsUnavailableError as error:
        get_run_logger().warning("no champion that knows real music: %s", error)
        return f"; no champion that knows real music: {error}"


def warn_of_few_tracks(workspace: Workspace) -> None:
    """Log that no version will be promoted, before hours of training, where there are too few test recordings."""
    clips = training_clips(workspace)
    recordings = assignment.summarise_recordings(clips[clips["split"] == "test"])
    if few := gate.describe_few(recordings["genre"].value_counts().sort_index()):
        get_run_logger().warning(
            "no version trained on this music can be promoted, only used by its number: %s; about twenty tracks of "
            "each genre are enough",
            few,
        )


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
    """Return the decision to skip the training, or None if models must be trained."""
    if champion is None or champion.tags.get("data_set") != workspace.dataset_id:
        return None
    share = changed_share(workspace, champion)
    get_run_logger().info("%.1f %% of the clips changed since the champion was trained", 100 * share)
    shift = drift.DriftFinding(0, "")
    if max_drift:
        folder = checks.find_log_folder(max_drift)
        shift = drift.measure_drift(workspace, config, champion, folder, max_drift, run_id)
    if share >= min_change or (shift.is_shifted and share):
        return None
    reason = (
        f"{share:.1%} of the clips changed since version {champion.version} was trained, "
        f"below the required {min_change:.1%}"
    )
    if shift.is_shifted:
        reason += f"; the music being classified has drifted, but there are no new clips to train on ({shift.sentence})"
    get_run_logger().info("nothing trained: %s", reason)
    return RetrainingDecision(RetrainingOutcome.SKIPPED, f"nothing trained: {reason}")


def changed_share(workspace: Workspace, champion: ModelVersion) -> float:
    """Return the share of clips, 0..1, that were added, removed or relabelled since the champion was trained.

    A clip is counted as a pair of id and genre, among the pairs of either time, so that a relabelled one counts twice.
    """
    current_genres = training_clips(workspace).set_index("clip_id")["genre"].astype(str)
    before = set(drift.load_training_table(champion)["genre"].items())
    now = set(current_genres.items())
    return len(before ^ now) / len(before | now)


@task(cache_policy=NO_CACHE)
@cost.timed
def report_outcome(name: str, before: ModelVersion | None, decision: RetrainingDecision, run_id: str) -> None:
    """Publish the outcome of a retraining: as an artifact, as tags and, if a version came to the gate, as an event."""
    after = registry.find_version_by_alias(name, "champion")
    outcome = decision.outcome.value
    runs.set_tags(run_id, {"outcome": outcome, "decision": decision.sentence})
    tables.publish_retraining(name, before, after, outcome, decision.sentence, run_id)
    if decision.outcome in JUDGED:
        drift.emit_model_event(f"retrain.{outcome.lower()}", name, decision.sentence)
