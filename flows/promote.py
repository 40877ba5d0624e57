"""Flow ``promote``: the best ensemble of what was trained, registered, and champion if it is better."""

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows import registry, tracking
from flows.cli import main
from flows.train import Material, gather, publish, scores
from genre import datasets, ensemble, evaluate, models, training
from genre.config import Variant
from genre.errors import DataError, GenreError
from genre.workspace import PROJECT_DIR, Workspace, read_json

#: A genre may lose so much AUC, with confidence, before a gain elsewhere no longer counts.
MAX_GENRE_LOSS = 0.02

#: Largest difference between the logged probabilities and those of the packaged model in a fresh process.
MAX_DISAGREEMENT = 1e-4


@dataclass(frozen=True)
class Candidate:
    """The best ensemble of the trainings at hand."""

    spec: ensemble.Ensemble
    trainings: Mapping[str, Path]
    table: pd.DataFrame
    digest: str


@flow(name="promote", flow_run_name="promote {dataset}")
def promote(
    dataset: str = "demo", source: str = "", variant: Variant = "corrected", registry_name: str = "genre"
) -> str:
    """Choose the best ensemble on validation, register it, and make it champion if it is better.

    Parameters
    ----------
    dataset, source, variant
        As for the flow ``build``.
    registry_name : str
        Name of the registered model.

    Returns
    -------
    str
        What was decided, in words.
    """
    settings = dict(locals())
    registry.check_name(registry_name)
    workspace = Workspace(datasets.dataset_id(dataset, source))
    with workspace.lock(), tracking.experiment(workspace, f"promote {workspace.dataset_id}", settings) as run_id:
        material = gather(dataset, source, variant)
        candidates = finished(material)
        if not candidates:
            raise DataError(
                f"no model is trained on {workspace.dataset_id} as it is now; "
                'run "mlflow run . --env-manager local -e train" with the same -P dataset= and -P source= first'
            )
        chosen = choose(material, candidates, run_id)
        decision = decide(material, chosen, registry_name, run_id)
        scored = {name: scores(folder) for name, folder in candidates.items()}
        outcomes = dict.fromkeys(candidates, "trained")
        scored[chosen.spec.label] = scored.get(chosen.spec.label) or evaluate.summary(chosen.table)
        outcomes[chosen.spec.label] = "best on validation"
        publish(run_id, material, scored, outcomes | tracking.failures(run_id))
        tracking.tag(run_id, {"decision": decision})
        print(f"{decision}\n\n{next_command(registry_name)}", flush=True)
    return decision


def finished(material: Material) -> dict[str, Path]:
    """The best finished training of each model on this very data, split, configuration and code."""
    best: dict[str, tuple[float, Path]] = {}
    for folder in material.workspace.training_dirs():
        job = read_json(folder / "job.json")
        if not training.finished(folder) or not _is_current(material, job):
            continue
        name, auc = job["model"], read_json(folder / "scores.json")["validation_macro_auc"]
        if name not in best or auc > best[name][0]:
            best[name] = (auc, folder)
    return {name: folder for name, (_, folder) in sorted(best.items())}


@task(cache_policy=NO_CACHE)
def choose(material: Material, candidates: Mapping[str, Path], run_id: str) -> Candidate:
    """Search the subsets on validation and log how each did."""
    tables = {name: pd.read_parquet(folder / "probabilities.parquet") for name, folder in candidates.items()}
    ranked = ensemble.search(tables)
    tracking.log_table(run_id, ranked.assign(members=ranked["members"].map(", ".join)), "ensembles")
    best = ranked.iloc[0]
    table = ensemble.combine_tables([tables[m] for m in best["members"]], best["mean"])
    threshold = evaluate.min_confidence(table[table["split"] == "validation"])
    spec = ensemble.Ensemble(material.genres, material.config, tuple(best["members"]), best["mean"], threshold)
    trainings = {name: candidates[name] for name in spec.members}
    code = (PROJECT_DIR / "serving" / "model.py").read_text()
    identity = [spec.mean, [trainings[m].name for m in spec.members], registry.requirements(spec.members), code]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    return Candidate(spec, trainings, table, digest)


@task(cache_policy=NO_CACHE)
def decide(material: Material, candidate: Candidate, name: str, run_id: str) -> str:
    """Register the candidate unless it is known, and compare it with the champion; returns the decision in words."""
    champion = registry.by_alias(name, "champion")
    if objection := _objection(material, champion, name):
        return f"not registered: {objection}"
    version = registry.with_digest(name, candidate.digest)
    if version and (known := _known(version, champion)):
        return f"nothing to register: version {version.version} of {name} is this very ensemble ({known})"
    version = version or _register(material, candidate, name, run_id)
    reasons = _reasons_against(material, candidate, version, champion)
    client = MlflowClient()
    if reasons:
        client.set_registered_model_alias(name, "challenger", version.version)
        decision = "refused: " + "; ".join(reasons)
        against = str(champion.version) if champion else ""
        client.set_model_version_tag(name, version.version, "refused_against", against)
    else:
        registry.promote(name, version, champion)
        decision = "promoted" + (" over a demo, uncompared" if champion and _gives_way(material, champion) else "")
    client.set_model_version_tag(name, version.version, "decision", decision)
    get_run_logger().info("version %s of %s: %s", version.version, name, decision)
    return f"version {version.version} of {name}: {decision}"


def _known(version: ModelVersion, champion: ModelVersion | None) -> str:
    """What was decided about a version, if that still holds; empty where it must be decided (again)."""
    if champion and champion.version == version.version:
        return "the champion"
    against = str(champion.version) if champion else ""
    return version.tags["decision"] if version.tags.get("refused_against") == against else ""


def next_command(name: str) -> str:
    """What to type to serve the champion; where there is none, what to do about it."""
    if registry.by_alias(name, "champion") is None:
        more = "mlflow run . --env-manager local -P dataset=folder -P source=PATH"
        return f'there is no champion yet; more music helps: "{more}"'
    uri = shlex.quote(mlflow.get_tracking_uri())
    serve = f"mlflow models serve -m models:/{name}@champion -p 5001 --env-manager local"
    return f"next, serve it:\n  MLFLOW_TRACKING_URI={uri} {serve}\nand ask it:\n  python -m serving.request FILE..."


def _is_current(material: Material, job: Mapping[str, Any]) -> bool:
    """Whether a training is of this data, split, configuration and code; `job` may be of an older version."""
    wanted = {
        "data_digest": material.data_digest,
        "splits_digest": material.splits_digest,
        "config": material.config.to_dict(),
        "code_digest": training.code_digest(job["model"]) if job["model"] in models.MODELS else None,
    }
    return all(job.get(key) == value for key, value in wanted.items())


def _gives_way(material: Material, champion: ModelVersion) -> bool:
    """Whether the champion only knows the demo and the candidate is real."""
    return champion.tags.get("synthetic") == "true" and not material.synthetic


def _objection(material: Material, champion: ModelVersion | None, name: str) -> str:
    """Why no version of this data set may stand beside the champion; empty where one may."""
    if not material.has_audio:
        return f"{material.workspace.dataset_id} brings features and no audio, so its models cannot hear"
    if champion is None or _gives_way(material, champion):
        return ""
    known = json.loads(champion.tags.get("genres", "[]"))
    other = "use -P registry_name= for another name"
    if champion.tags.get("synthetic") != "true" and material.synthetic:
        return f"the champion of {name} was trained on real music, this is the demo; {other}"
    if known != material.genres:
        return f"the champion of {name} knows {', '.join(known)}, this data set {', '.join(material.genres)}; {other}"
    return ""


def _register(material: Material, candidate: Candidate, name: str, parent: str) -> ModelVersion:
    """Log the ensemble in a run of its own and register it."""
    run_id, _ = tracking.open_run(parent, material.workspace, "ensemble", candidate.digest, is_done=False)
    client = MlflowClient()
    client.log_param(run_id, "members", ", ".join(candidate.spec.members))
    client.log_param(run_id, "mean", candidate.spec.mean)
    all_scores = evaluate.summary(candidate.table)
    tracking.log_evaluation(run_id, candidate.table, all_scores)
    tracking.tag(run_id, material.tags)
    tags = material.tags | {
        "genres": json.dumps(material.genres),
        "ensemble_digest": candidate.digest,
        "data_digest": material.data_digest,
    }
    model_uri = registry.log_model(run_id, candidate.spec, candidate.trainings, tags)
    tracking.finish(run_id)
    return registry.register(name, model_uri, tags, _description(material, candidate, all_scores))


def _description(material: Material, candidate: Candidate, all_scores: Mapping[str, float]) -> str:
    """What a person reads on the version's page."""
    clips = material.clips
    counts = ", ".join(f"{genre} {n}" for genre, n in clips["genre"].value_counts(sort=False).items())
    low, high = all_scores["test_macro_auc_low"], all_scores["test_macro_auc_high"]
    lines = [
        "**Trained on the synthetic demo corpus: it has heard no real music.**" if material.synthetic else "",
        f"Members: {candidate.spec.label}.",
        f"Data set {material.workspace.dataset_id}: {len(clips)} clips of {clips['recording'].nunique()} recordings "
        f"({counts}).",
        f"Test: macro AUC {all_scores['test_macro_auc']:.3f} [{low:.3f}, {high:.3f}], "
        f"accuracy {all_scores['test_accuracy']:.3f}, macro F1 {all_scores['test_macro_f1']:.3f}.",
        f"Below a confidence of {candidate.spec.min_confidence:.2f} the answer is `unknown`.",
        "Input: column `audio`, a file's bytes in base64.",
    ]
    return "\n\n".join(line for line in lines if line)


def _reasons_against(
    material: Material, candidate: Candidate, version: ModelVersion, champion: ModelVersion | None
) -> list[str]:
    """Why the version must not become champion; both are scored now, on today's test clips, as they would be served."""
    test_clips = material.clips[material.clips["split"] == "test"]
    test = candidate.table[candidate.table["split"] == "test"]
    served = registry.score(_uri(version), test_clips, material.config)[material.genres]
    apart = float((served.loc[test.index] - test[material.genres]).abs().to_numpy().max())
    if apart > MAX_DISAGREEMENT:
        return [f"served, it answers otherwise than when it was measured: probabilities differ by up to {apart:.1e}"]
    low = evaluate.intervals(test)["macro_auc"][0]
    if not low > 0.5:
        return [f"its test macro AUC may be no better than chance: the interval begins at {low:.3f}"]
    if champion is None or _gives_way(material, champion):
        return []
    try:
        answers = registry.score(_uri(champion), test_clips, material.config)
    except GenreError as error:
        get_run_logger().warning("the champion cannot be compared with and gives way: %s", error)
        return []
    theirs = test.copy()
    theirs[material.genres] = answers.loc[test.index, material.genres]
    return _not_better(evaluate.paired_gain(test, theirs))


def _not_better(gain: evaluate.PairedGain) -> list[str]:
    """Why a gain does not count: not real, or paid for by one genre."""
    reasons = []
    low, high = gain["interval"]
    if not low > 0:
        reasons.append(
            f"the gain in macro AUC over the champion, {gain['gain']:+.3f} [{low:+.3f}, {high:+.3f}], is not certain"
        )
    for genre, (change, _, upper) in gain["genres"].items():
        if upper < -MAX_GENRE_LOSS:
            reasons.append(f"{genre} loses {-change:.3f} AUC")
    return reasons


def _uri(version: ModelVersion) -> str:
    return f"models:/{version.name}/{version.version}"


if __name__ == "__main__":
    main(promote)
