"""Flow ``audit``: duplicates, the scores that a careless split would give, and the labels that models doubt most."""

from flows import checks
from flows.cli import main

if __name__ == "__main__":  # above the other imports, so that mistakes are answered before these take seconds
    main(__file__, checks.check_audit)

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.material import Material, load_material
from flows.parameters import (
    Dataset,
    FeatureModels,
    NShown,
    Seed,
    Source,
    VariantName,
    current_settings,
)
from flows.reports.links import publish_links
from flows.reports.tables import publish_table
from genre import datasets, ensemble
from genre.files import write_atomically
from genre.plots import comparison
from genre.store import contents
from genre.studies import label_audit, label_correction, trials
from genre.workspace import Workspace
from tracking import cost, results, runs

#: Pairs of splits whose scores are compared; benchmarks/quality/leaks.py uses twenty.
N_SPLITS = 5


@flow(name="audit", flow_run_name="audit {dataset}")
def audit_dataset(
    dataset: Dataset = "demo",
    source: Source = "",
    variant: VariantName = "corrected",
    model: FeatureModels = "logistic_regression,svm",
    n_shown: NShown = 60,
    seed: Seed = 0,
) -> dict[str, float]:
    """Report duplicates and how much a careless split inflates the scores, and list the most doubtful labels.

    Returns
    -------
    dict
        ``copies`` (pairs of duplicates), ``honest`` and ``naive`` (test macro AUC), ``in_doubt`` (labels).

    Raises
    ------
    UsageError
        If a model is unknown or takes no features, or the seed or `n_shown` is out of range.
    """
    settings = current_settings()
    checks.check_audit(settings)
    names = [name.strip() for name in dict.fromkeys(model.split(","))]
    workspace = Workspace(datasets.dataset_id(dataset, source))
    publish = partial(publish_links, figure="leaks")
    with workspace.lock(), runs.experiment_run(workspace, f"audit {workspace.dataset_id}", settings, publish) as run_id:
        material = load_material(dataset, source, variant)
        X = contents.load_features(material.clips, workspace.store_dir(material.config))
        leakage = measure_leakage(material, run_id, names[0], X, seed)
        return leakage | audit_labels(material, source, run_id, names, X, n_shown, seed)


@task(cache_policy=NO_CACHE)
@cost.timed
def measure_leakage(material: Material, run_id: str, name: str, X: pd.DataFrame, seed: int) -> dict[str, float]:
    """Publish the number of duplicates, and the scores with recordings kept whole and with clips split at random."""
    pairs = material.workspace.read_duplicates()
    splits = trials.split_gap(name, material.clips, X, n_splits=N_SPLITS, seed=seed)
    means = {kind: trials.mean_interval(splits[kind]) for kind in ("honest", "naive", "gap")}
    table = pd.DataFrame(means.values(), columns=["macro_auc", "macro_auc_low", "macro_auc_high"])
    table.insert(0, "split", list(means))
    note = (
        f"{_describe_duplicates(material, pairs)} "
        f"{name}, {N_SPLITS} pairs of splits: `naive` splits clips at random, `honest` keeps recordings whole."
    )
    results.log_table(run_id, pairs, "copies")
    publish_table(run_id, table, "leaks", note)
    dots = splits.melt(id_vars="seed", value_vars=["honest", "naive"], var_name="series")
    dots = dots.assign(label="seed " + dots["seed"].astype(str), low=float("nan"), high=float("nan"))
    figure = comparison.interval_dots(dots, f"{name}: honest and naive splits", "Test macro AUC")
    results.log_figure(run_id, figure, "leaks")
    return {"copies": float(len(pairs)), "honest": means["honest"][0], "naive": means["naive"][0]}


def _describe_duplicates(material: Material, pairs: pd.DataFrame) -> str:
    """Return sentences with the numbers of clips, recordings and duplicates."""
    n_recordings = material.clips["recording"].nunique()
    n_exact = int((pairs["kind"] == "exact").sum())
    n_two_genres = int((pairs["first_genre"] != pairs["second_genre"]).sum())
    n_dropped = int(material.workspace.read_clips()["status"].astype(str).str.startswith("duplicate").sum())
    return (
        f"{len(material.clips)} clips of {n_recordings} recordings. {len(pairs)} pairs of clips from different "
        f"recordings are duplicates ({n_exact} exactly, {n_two_genres} under two genres) and count as one recording; "
        f"{n_dropped} clips are left out as duplicates."
    )


@task(cache_policy=NO_CACHE)
@cost.timed
def audit_labels(
    material: Material, source: str, run_id: str, names: list[str], X: pd.DataFrame, n_shown: int, seed: int
) -> dict[str, float]:
    """Write the table and the page of labels in doubt; the page in MLflow has no players, file names or corrections."""
    tables = [trials.predict_out_of_fold(name, material.clips, X, seed=seed) for name in names]
    proba = ensemble.combine_tables(tables, "geometric")
    ranking = label_audit.rank_label_issues(proba)
    results.log_table(run_id, ranking.reset_index(), "label_audit")
    shown = ranking.head(n_shown)
    clips = material.clips.set_index("clip_id")
    spectrograms, audio_urls = _read_illustrations(material, clips.loc[shown.index])
    MlflowClient().log_text(run_id, label_audit.render_page(shown, proba, spectrograms, {}), "label_audit.html")
    folder = material.workspace.audit_dir
    _write_text(folder / "labels.csv", ranking.join(clips["path"]).to_csv())
    listing = label_correction.load_listing(material.clips, source) if material.has_audio else None
    _write_text(folder / "labels.html", label_audit.render_page(shown, proba, spectrograms, audio_urls, listing))
    n_in_doubt = int(ranking["in_doubt"].sum())
    page_path = folder / "labels.html"
    get_run_logger().info(
        "%d of %d labels are in doubt; review and correct them in %s", n_in_doubt, len(ranking), page_path
    )
    return {"in_doubt": float(n_in_doubt)}


def _read_illustrations(material: Material, clips: pd.DataFrame) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the spectrogram and the URL of the audio of each clip; nothing where there is no audio."""
    if not material.has_audio or clips.empty:
        return {}, {}
    ids = clips.index.astype(str)
    stored = contents.InputReader(clips.reset_index(), material.workspace.store_dir(material.config))[:]
    spans = zip(clips["path"].astype(str), clips["start_s"].astype(float), clips["end_s"].astype(float), strict=True)
    urls = [label_audit.clip_url(*span) for span in spans]
    return dict(zip(ids, stored, strict=True)), dict(zip(ids, urls, strict=True))


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
