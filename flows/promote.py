"""Flow ``promote``: registers the best ensemble of the trained models and makes it champion if it is better."""

from flows import checks
from flows.cli import main

if __name__ == "__main__":  # above the other imports, so that mistakes are answered before these take seconds
    main(__file__, checks.check_promote)

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.decisions import PromotionDecision, PromotionOutcome, print_decision
from flows.material import Material, load_material
from flows.parameters import (
    TARGET_PRECISION,
    AnyCode,
    Dataset,
    MinGain,
    MinPrecision,
    OtherData,
    RegistryName,
    Replace,
    Source,
    VariantName,
    current_settings,
)
from flows.reports.leaderboard import ModelOutcome, ModelStatus, publish_leaderboard
from flows.reports.links import publish_links
from genre import datasets, ensemble, evaluate, models
from genre.errors import DataError
from genre.files import read_json
from genre.probabilities import tables
from genre.safety.model_code import remember_installed_code
from genre.splits import sounds
from genre.store import contents, parts
from genre.training import selection
from genre.training.job import code_digest, held_out_probabilities, read_job, read_result
from genre.workspace import PROJECT_DIR, Workspace
from tracking import aliases, cost, model_card, packaging, registry, results, runs
from tracking.gate import SOUNDS, SPENT, SkipReason, Verdict, evaluate_version, log_gain


@dataclass(frozen=True)
class Candidate:
    """Best ensemble of the finished trainings.

    Attributes
    ----------
    spec : Ensemble
        Members and settings, as they are packaged.
    choice : ChosenEnsemble
        Result of the fit on held-out clips.
    trainings : mapping of str to Path
        Member to the folder of its training.
    table : pd.DataFrame
        Probability table of the ensemble.
    digest : str
        Twelve hexadecimal digits that identify the ensemble, its trainings and the code that serves it.
    """

    spec: ensemble.Ensemble
    choice: selection.ChosenEnsemble
    trainings: Mapping[str, Path]
    table: pd.DataFrame
    digest: str


@flow(name="promote", flow_run_name="promote {dataset}")
def promote(
    dataset: Dataset = "demo",
    source: Source = "",
    variant: VariantName = "corrected",
    registry_name: RegistryName = "genre",
    min_gain: MinGain = 0.0,
    min_precision: MinPrecision = TARGET_PRECISION,
    replace: Replace = False,
    other_data: OtherData = False,
    any_code: AnyCode = False,
) -> PromotionDecision:
    """Choose the best ensemble on held-out clips, register it, and make it champion if it is better on test.

    Returns
    -------
    PromotionDecision
        Decision and its reasons.

    Raises
    ------
    UsageError
        If a parameter is out of range.
    DataError
        If nothing was built, or no model is trained on the data set as it is now.
    """
    settings = current_settings()
    checks.check_promote(settings)
    workspace = Workspace(datasets.dataset_id(dataset, source))
    publish = partial(publish_links, registry_name=registry_name)
    with (
        workspace.lock(),
        runs.experiment_run(workspace, f"promote {workspace.dataset_id}", settings, publish) as run_id,
    ):
        material = load_material(dataset, source, variant)
        candidates = best_trainings(material)
        if not candidates:
            raise DataError(
                f"no model has been trained on the current state of {workspace.dataset_id}; "
                'run "mlflow run . --env-manager local -e train" with the same -P dataset= and -P source= first'
            )
        if any_code and (champion := registry.find_version_by_alias(registry_name, "champion")):
            registry.accept_code(champion)
        chosen = choose_ensemble(material, candidates, run_id, min_precision)
        decision = decide_promotion(
            material, chosen, registry_name, run_id, min_gain, replace=replace, other_data=other_data
        )
        label = chosen.spec.label
        outcomes = _model_outcomes(candidates, label, run_id)
        combined = {} if label in candidates else {label: chosen.table}  # an ensemble of one is its model
        publish_leaderboard(run_id, material, candidates, outcomes, combined)
        runs.set_tags(run_id, {"decision": decision.sentence})
        print_decision(decision, registry_name)
    return decision


def best_trainings(material: Material) -> dict[str, Path]:
    """Return the best finished training of each model on the current data, split, configuration and code.

    A line in the log names the models that were trained on this configuration, but not since the rest has changed.
    """
    best: dict[str, tuple[tuple[float, bool], Path]] = {}
    outdated = set[str]()
    for folder in material.workspace.training_dirs():
        if not read_result(folder):
            continue
        job = read_json(folder / "job.json")
        name = job["model"]
        if not _is_current(material, job):
            if job.get("config") == material.config.to_dict():
                outdated.add(name)
            continue
        auc = read_json(folder / "scores.json")["validation_track_macro_auc"]
        rank = (auc, (folder / "out_of_fold.parquet").exists())  # of two equals, the one that was cross-validated
        if name not in best or rank > best[name][0]:
            best[name] = (rank, folder)
    if never_since := sorted(outdated - set(best)):
        get_run_logger().warning(
            "not compared, since the music, its splits or the code have changed after they were trained: %s; train "
            "them again to compare them",
            ", ".join(never_since),
        )
    return {name: folder for name, (_, folder) in sorted(best.items())}


@task(cache_policy=NO_CACHE)
@cost.timed
def choose_ensemble(material: Material, candidates: Mapping[str, Path], run_id: str, min_precision: float) -> Candidate:
    """Compare all subsets of models on held-out clips, log their scores, and calibrate the best."""
    held_out = {name: held_out_probabilities(folder) for name, folder in candidates.items()}
    search = selection.search_ensembles(held_out)
    results.log_table(run_id, search.to_table(), "ensembles")
    best = search.best
    choice = selection.fit_ensemble(held_out, best["members"], best["mean"], precision=min_precision)
    trainings = {name: candidates[name] for name in choice.members}
    probabilities = {name: pd.read_parquet(folder / "probabilities.parquet") for name, folder in trainings.items()}
    table = choice.ensemble_table(probabilities)
    spec = ensemble.Ensemble(
        genres=material.genres,
        config=material.config,
        members=choice.members,
        mean=choice.mean,
        min_confidence=choice.threshold["confidence"],
        weights=choice.weights,
        temperature=choice.temperature,
        inputs={name: read_job(folder).inputs for name, folder in trainings.items()},
        warning=material.warning,
    )
    code = (PROJECT_DIR / "serving" / "model.py").read_text()
    folders = [trainings[member].name for member in spec.members]
    identity = [spec.mean, folders, min_precision, packaging.pinned_requirements(spec.members), code]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    return Candidate(spec, choice, trainings, table, digest)


@task(cache_policy=NO_CACHE)
@cost.timed
def decide_promotion(
    material: Material,
    candidate: Candidate,
    name: str,
    run_id: str,
    min_gain: float,
    *,
    replace: bool = False,
    other_data: bool = False,
) -> PromotionDecision:
    """Register the candidate unless it is a version already, and compare it with the champion."""
    if hold := registry.describe_hold(name):
        return PromotionDecision(PromotionOutcome.UNDECIDED, f"not registered: {hold}")
    champion = registry.find_version_by_alias(name, "champion")
    version = registry.find_version_by_digest(name, candidate.digest)
    if refusal := _registration_refusal(material, champion, name, other_data=other_data):
        if version and "decision" in version.tags:
            return _already_registered(version, version.tags["decision"])
        return refusal
    if version and (standing := _standing_decision(version, champion, replace=replace)):
        return standing
    version = version or _log_and_register(material, candidate, name, run_id)
    verdict = _judge_version(material, candidate, version, champion, min_gain, replace=replace)
    return _apply_verdict(name, version, champion, verdict)


def _judge_version(
    material: Material,
    candidate: Candidate,
    version: ModelVersion,
    champion: ModelVersion | None,
    min_gain: float,
    *,
    replace: bool,
) -> Verdict:
    """Compare a version with the champion, and log the comparison and its model card."""
    test = candidate.table[candidate.table["split"] == "test"]
    store = material.workspace.store_dir(material.config)
    test_clips = material.clips[material.clips["clip_id"].isin(test.index)]
    n_recordings = test["recording"].nunique()
    n_earlier = registry.count_comparisons(version.name, n_recordings)
    verdict = evaluate_version(
        version,
        champion,
        test,
        material.clips,
        material.config,
        min_gain=min_gain,
        error=evaluate.spend_error(n_earlier),
        skip_reason=_reason_to_skip(material, champion, replace=replace),
        lost_champion=None if champion else registry.find_lost_champion(version.name, str(version.version)),
        sounds=sounds.fingerprint_clips(test_clips, store, material.config) if champion else None,
        computed_here=contents.is_made_here(store),
    )
    for note in verdict.notes:
        get_run_logger().log(note.level, "%s", note.text)
    if verdict.finding in SPENT:
        registry.record_comparison(version.name, n_recordings)
    _write_model_card(material, candidate, version, verdict, n_earlier)
    log_gain(version, champion, verdict)
    return verdict


def _apply_verdict(
    name: str, version: ModelVersion, champion: ModelVersion | None, verdict: Verdict
) -> PromotionDecision:
    """Promote or refuse a version, and keep the decision with it."""
    if verdict.may_serve:
        aliases.promote_version(name, version, champion)
        outcome = PromotionOutcome.PROMOTED
        text = f"promoted {verdict.remark}".strip()
    elif verdict.is_undecided:
        outcome = PromotionOutcome.UNDECIDED
        text = aliases.defer_version(name, version, verdict.reasons)
    else:
        outcome = PromotionOutcome.REFUSED
        text = aliases.refuse_version(name, version, champion, verdict.reasons)
    MlflowClient().set_model_version_tag(name, version.version, "decision", text)
    return PromotionDecision(outcome, f"version {version.version} of {name}: {text}")


def _reason_to_skip(material: Material, champion: ModelVersion | None, *, replace: bool) -> SkipReason | None:
    """Return the reason for not comparing with the champion, or None if it must be compared with."""
    if champion and _gives_way(material, champion):
        return SkipReason.OTHER_MUSIC
    return SkipReason.REPLACED if replace else None


def _standing_decision(
    version: ModelVersion, champion: ModelVersion | None, *, replace: bool = False
) -> PromotionDecision | None:
    """Return the decision on a version that was registered before, or None if it must be made (again)."""
    against = str(champion.version) if champion else ""
    if champion and champion.version == version.version:
        earlier = "the champion"
    elif "rolled_back" in version.tags:
        earlier = f"rolled back on {version.tags['rolled_back']}"
    elif "decision" in version.tags and version.tags.get("refused_against") == against and not replace:
        earlier = version.tags["decision"]
    else:  # also if the promotion was killed between the two tags
        return None
    return _already_registered(version, earlier)


def _already_registered(version: ModelVersion, earlier: str) -> PromotionDecision:
    """Return the decision to leave a version as it is, with the earlier decision on it."""
    sentence = f"nothing to register: this ensemble is already version {version.version} of {version.name} ({earlier})"
    return PromotionDecision(PromotionOutcome.UNCHANGED, sentence)


def _model_outcomes(candidates: Mapping[str, Path], chosen: str, run_id: str) -> dict[str, ModelOutcome]:
    """Return the outcomes for the leaderboard of all models trained on a data set."""
    outcomes = dict.fromkeys(candidates, ModelOutcome(ModelStatus.TRAINED))
    failed = {name: ModelOutcome(ModelStatus.FAILED, reason) for name, reason in runs.failed_models(run_id).items()}
    return outcomes | {chosen: ModelOutcome(ModelStatus.CHOSEN)} | failed


def _is_current(material: Material, job: Mapping[str, Any]) -> bool:
    """Check that a training is of the current data, split, configuration and code.

    `job` may have been written by an older version of this package.
    """
    current = {
        "data_digest": material.data_digest,
        "splits_digest": material.splits_digest,
        "config": material.config.to_dict(),
        "code_digest": code_digest(job["model"]) if job["model"] in models.MODELS else None,
        "weights": parts.weights_digests(job.get("inputs", []), material.workspace.store_dir(material.config)),
    }
    return all(job.get(key) == value for key, value in current.items())


def _gives_way(material: Material, champion: ModelVersion) -> bool:
    """Check whether the champion learnt from no music of the owner's, being of the demo or pretrained, unlike this."""
    return registry.gives_way(champion) and not material.synthetic


def _registration_refusal(
    material: Material, champion: ModelVersion | None, name: str, *, other_data: bool = False
) -> PromotionDecision | None:
    """Return the decision not to register a version of this data set beside the champion, or None if one may be."""
    genres = json.loads(champion.tags.get("genres", "[]")) if champion else []
    advice = "use -P registry_name= for another name"
    if not material.has_audio:
        objection = f"{material.workspace.dataset_id} has features but no audio, so its models cannot classify audio"
    elif champion is None or _gives_way(material, champion):
        return None
    elif champion.tags.get("synthetic") != "true" and material.synthetic:
        objection = f"the champion of {name} knows real music, and this data set is the demo; {advice}"
    elif genres != material.genres:
        objection = (
            f"the genres of the champion of {name} are {', '.join(genres)}, "
            f"those of this data set {', '.join(material.genres)}; {advice}"
        )
    elif not other_data and (trained_on := champion.tags.get("data_set", "")) not in (
        "",
        material.workspace.dataset_id,
    ):
        objection = (
            f"the champion of {name} was trained on {trained_on}, and this is {material.workspace.dataset_id}; "
            f"{advice}, or -P other_data=true to let this data set compete for the name"
        )
    else:
        return None
    return PromotionDecision(PromotionOutcome.NOT_REGISTERED, f"not registered: {objection}")


def _log_and_register(material: Material, candidate: Candidate, name: str, parent: str) -> ModelVersion:
    """Log the ensemble in a run of its own, with fingerprints of the clips that it learnt, and register it."""
    store = material.workspace.store_dir(material.config)
    run_id, _ = runs.open_run(parent, material.workspace, "ensemble", candidate.digest, is_done=False)
    client = MlflowClient()
    choice = candidate.choice
    table = candidate.table
    client.log_param(run_id, "members", ", ".join(choice.members))
    client.log_param(run_id, "mean", choice.mean)
    if choice.mean == "weighted":
        client.log_param(run_id, "weights", ", ".join(f"{weight:.3f}" for weight in choice.weights or []))
    uncalibrated = evaluate.apply_temperature(table, 1 / choice.temperature)
    scores = evaluate.summarise_scores(table) | _threshold_metrics(candidate)
    results.log_evaluation(run_id, table, scores, {"before calibration": uncalibrated})
    runs.set_tags(run_id, material.tags)
    learnt_clips = material.clips[material.clips["split"] != "test"]
    learnt = sounds.fingerprint_clips(learnt_clips, store, material.config)
    tags = material.tags | {
        "genres": json.dumps(material.genres),
        "ensemble_digest": candidate.digest,
        "data_digest": material.data_digest,
        "n_tracks": str(tables.name_tracks(material.clips).nunique()),
        SOUNDS: learnt.attrs["name"],
    }
    results.log_sounds(run_id, learnt, learnt.attrs["name"])
    model_uri = packaging.log_model(run_id, candidate.spec, candidate.trainings, tags, store)
    remember_installed_code()
    runs.finish_run(run_id)
    return registry.register_version(name, model_uri, tags, candidate.spec.label)


def _threshold_metrics(candidate: Candidate) -> dict[str, float]:
    """Return temperature and threshold, with the threshold's precision and coverage on held-out and on test tracks."""
    threshold = candidate.choice.threshold
    test = tables.per_track(candidate.table[candidate.table["split"] == "test"])
    precision, coverage = evaluate.selective_precision(test, threshold["confidence"])
    return {
        "temperature": candidate.choice.temperature,
        "unknown_below": threshold["confidence"],
        "answered_precision": threshold["precision"],
        "answered_coverage": threshold["coverage"],
        "test_answered_precision": precision,
        "test_answered_coverage": coverage,
    }


def _write_model_card(
    material: Material, candidate: Candidate, version: ModelVersion, verdict: Verdict, n_earlier: float
) -> None:
    """Write the model card to the version's page in MLflow."""
    client = MlflowClient()
    run_id = str(version.run_id)
    experiment = client.get_run(run_id).info.experiment_id
    text = model_card.render_model_card(
        candidate.table,
        material.clips,
        candidate.choice,
        label=candidate.spec.label,
        data_set=material.workspace.dataset_id,
        synthetic=material.synthetic,
        uri=registry.version_uri(version.name, version.version),
        run_url=f"#/experiments/{experiment}/runs/{run_id}/artifacts/figures/confusion_matrix_test.png",
        ms_per_clip=verdict.ms_per_clip,
        megabytes=registry.size_mb(candidate.trainings),
        n_earlier=n_earlier,
    )
    client.update_model_version(version.name, version.version, text)
