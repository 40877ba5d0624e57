"""Flow ``pretrained``: registers the genres that a published music network knows; nothing is trained."""

from flows import checks
from flows.cli import main

if __name__ == "__main__":  # above the other imports, so that mistakes are answered before these take seconds
    main(__file__, checks.check_pretrained)

import hashlib
import json
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.decisions import PromotionDecision, PromotionOutcome, print_decision
from flows.parameters import RegistryName, WeightsPath, current_settings
from flows.reports.links import publish_links
from genre import models
from genre.config import AudioConfig
from genre.core import CORE, source_digest
from genre.ensemble import Ensemble
from genre.inputs import load_weights
from genre.models import musicnn_tags
from genre.safety.model_code import remember_installed_code
from genre.store import contents, parts
from genre.weights import find_weights
from genre.workspace import PROJECT_DIR, Workspace
from tracking import aliases, cost, model_card, packaging, registry, runs

#: Name of the model, in `genre.models.PRETRAINED`.
NAME = "musicnn_tags"

#: Data set that its versions name, which no data set of music is called.
DATA_SET = "pretrained"


@flow(name="pretrained", flow_run_name="pretrained {registry_name}")
def pretrained(weights: WeightsPath = "", registry_name: RegistryName = "genre") -> PromotionDecision:
    """Register a published network's own genres, and make them champion unless one was trained on real music.

    Returns
    -------
    PromotionDecision
        Decision and its reasons.

    Raises
    ------
    DataError
        If the weights cannot be had.
    """
    settings = current_settings()
    checks.check_pretrained(settings)
    workspace = Workspace(DATA_SET)
    publish = partial(publish_links, registry_name=registry_name)
    with workspace.lock(), runs.experiment_run(workspace, DATA_SET, settings, publish) as run_id:
        decision = register_pretrained(workspace, find_weights(weights), registry_name, run_id)
        runs.set_tags(run_id, {"decision": decision.sentence})
        print_decision(decision, registry_name)
    return decision


@task(cache_policy=NO_CACHE)
@cost.timed
def register_pretrained(workspace: Workspace, weights: Path, name: str, parent: str) -> PromotionDecision:
    """Register the network with its genres, unless that is a version already, and decide whether it serves."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        spec = _write_model(folder, weights)
        digest = _digest(spec, folder)
        version = registry.find_version_by_digest(name, digest)
        is_new = version is None
        if version is None:
            version = _log_and_register(workspace, spec, folder, name, parent, digest)
        MlflowClient().update_model_version(name, version.version, model_card.render_pretrained_card(spec))
    champion = registry.find_version_by_alias(name, "champion")
    standing = "the champion" if champion and champion.version == version.version else ""
    if "rolled_back" in version.tags:
        standing = f"rolled back on {version.tags['rolled_back']}"
    if standing:
        sentence = f"nothing to register: this network is already version {version.version} of {name} ({standing})"
        return PromotionDecision(PromotionOutcome.UNCHANGED, sentence)
    if hold := registry.describe_hold(name):
        return PromotionDecision(PromotionOutcome.UNDECIDED, f"version {version.version} of {name}: undecided: {hold}")
    if champion and not registry.gives_way(champion):
        return _keep_champion(version, champion, is_new=is_new)
    if champion is None and (lost := registry.find_lost_champion(name, str(version.version))):
        return _leave_undecided(version, lost)
    aliases.promote_version(name, version, champion)
    remark = f"over version {champion.version}, which was not trained on music of yours" if champion else ""
    text = f"promoted {remark}".strip()
    MlflowClient().set_model_version_tag(name, version.version, "decision", text)
    return PromotionDecision(PromotionOutcome.PROMOTED, f"version {version.version} of {name}: {text}")


def _keep_champion(version: ModelVersion, champion: ModelVersion, *, is_new: bool) -> PromotionDecision:
    """Leave a champion that was trained on real music in its place."""
    reason = f"version {champion.version}, the champion, was trained on music of its own"
    if not is_new and "decision" in version.tags:
        sentence = f"nothing to register: this network is already version {version.version} of {version.name}; {reason}"
        return PromotionDecision(PromotionOutcome.UNCHANGED, sentence)
    text = f"refused: {reason}"
    MlflowClient().set_model_version_tag(version.name, version.version, "decision", text)
    sentence = f"version {version.version} of {version.name}: {text}; {_alias_advice(version)}"
    return PromotionDecision(PromotionOutcome.REFUSED, sentence)


def _leave_undecided(version: ModelVersion, lost_champion: str) -> PromotionDecision:
    """Leave a registered model that has lost its champion without one."""
    reason = registry.describe_lost_champion(version.name, lost_champion)
    text = aliases.defer_version(version.name, version, [reason])
    MlflowClient().set_model_version_tag(version.name, version.version, "decision", text)
    sentence = f"version {version.version} of {version.name}: {text}; {_alias_advice(version)}"
    return PromotionDecision(PromotionOutcome.UNDECIDED, sentence)


def _alias_advice(version: ModelVersion) -> str:
    """Return the advice to register the network under a name of its own."""
    command = "mlflow run . --env-manager local -e pretrained -P registry_name=another"
    return f'to serve version {version.version} beside it, run "{command}"'


def _write_model(folder: Path, weights: Path) -> Ensemble:
    """Write the files of the model and its weights, and return it as an ensemble of one."""
    contents.install_weights(weights, folder, "embeddings")
    models.save_model(NAME, musicnn_tags.TAGS_BY_GENRE, folder / "model")
    return Ensemble(
        genres=list(musicnn_tags.TAGS_BY_GENRE),
        config=AudioConfig(),
        members=(NAME,),
        mean="arithmetic",
        min_confidence=musicnn_tags.MIN_CONFIDENCE,
        temperature=musicnn_tags.TEMPERATURE,
        inputs={NAME: list(models.get_model(NAME).input_names)},
    )


def _digest(spec: Ensemble, folder: Path) -> str:
    """Return twelve hexadecimal digits that identify the network and the code that turns its tags into genres."""
    code = (PROJECT_DIR / "serving" / "model.py").read_text()
    weights = parts.weights_digests(spec.input_names, folder)
    identity = [weights, packaging.pinned_requirements(spec.members), source_digest(CORE), code]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]


def _log_and_register(
    workspace: Workspace, spec: Ensemble, folder: Path, name: str, parent: str, digest: str
) -> ModelVersion:
    """Log the model in a run of its own and register it, with its card."""
    run_id, _ = runs.open_run(parent, workspace, NAME, digest, is_done=False)
    client = MlflowClient()
    tags = {
        "data_set": DATA_SET,
        "synthetic": "false",
        "pretrained": "true",
        "genres": json.dumps(spec.genres),
        "ensemble_digest": digest,
    }
    runs.set_tags(run_id, tags)
    client.log_text(run_id, load_weights(folder, spec.input_names)["musicnn.npz"].license, "LICENSE-musicnn.md")
    model_uri = packaging.log_model(run_id, spec, {NAME: folder}, tags, folder)
    remember_installed_code()
    runs.finish_run(run_id)
    return registry.register_version(name, model_uri, tags, spec.label)
