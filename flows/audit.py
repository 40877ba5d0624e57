"""Flow ``audit``: leaks between the splits and what they are worth, and the labels that models doubt most."""

from pathlib import Path

import pandas as pd
from mlflow import MlflowClient
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.cli import main
from flows.material import Material, load_material
from flows.parameters import (
    Dataset,
    FeatureModels,
    NShown,
    Seed,
    Source,
    VariantName,
    check_seed,
    current_settings,
)
from flows.reports.tables import publish_table
from genre import datasets, ensemble
from genre.errors import UsageError
from genre.files import write_atomically
from genre.plots import comparison
from genre.store import contents
from genre.studies import label_audit, trials
from genre.workspace import Workspace
from tracking import cost, results, runs

#: Pairs of splits whose scores are compared; benchmarks/quality/leaks.py takes twenty.
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
    """Report copies and what a careless split would gain by them, and list the clips whose label is doubted most.

    Returns
    -------
    dict
        ``copies``, ``honest`` and ``naive`` macro AUC, ``in_doubt``.
    """
    names = [trials.check_model(name.strip()) for name in dict.fromkeys(model.split(","))]
    check_seed(seed)
    if n_shown < 0:
        raise UsageError(f"n_shown must be 0 or more, got {n_shown}")
    settings = current_settings()
    workspace = Workspace(datasets.dataset_id(dataset, source))
    with workspace.lock(), runs.experiment_run(workspace, f"audit {workspace.dataset_id}", settings) as run_id:
        material = load_material(dataset, source, variant)
        X = contents.load_features(material.clips, workspace.store_dir(material.config))
        return measure_leakage(material, run_id, names[0], X, seed) | audit_labels(
            material, run_id, names, X, n_shown, seed
        )


@task(cache_policy=NO_CACHE)
@cost.timed
def measure_leakage(material: Material, run_id: str, name: str, X: pd.DataFrame, seed: int) -> dict[str, float]:
    """Publish how many copies there are, and the honest score beside that of a naive split."""
    found = material.workspace.read_duplicates()
    left_out = material.workspace.read_clips()["status"].value_counts()
    splits = trials.split_gap(name, material.clips, X, n_splits=N_SPLITS, seed=seed)
    means = {kind: trials.mean_interval(splits[kind]) for kind in ("honest", "naive", "gap")}
    table = pd.DataFrame(means.values(), columns=["macro_auc", "macro_auc_low", "macro_auc_high"])
    recordings = material.clips["recording"].nunique()
    note = (
        f"{len(material.clips)} clips of {recordings} recordings; {len(found)} pairs of clips of two listed recordings "
        f"are the same music ({int((found['kind'] == 'exact').sum())} exactly, "
        f"{int((found['first_genre'] != found['second_genre']).sum())} under two genres), and are one recording here; "
        f"{sum(n for status, n in left_out.items() if str(status).startswith('duplicate'))} clips left for it. "
        f"{name}, {N_SPLITS} splits: `naive` deals clips at random, `honest` keeps recordings whole."
    )
    table.insert(0, "split", list(means))
    results.log_table(run_id, found, "copies")
    publish_table(run_id, table, "leaks", note)
    drawn = splits.melt(id_vars="seed", value_vars=["honest", "naive"], var_name="series")
    drawn = drawn.assign(label="seed " + drawn["seed"].astype(str), low=float("nan"), high=float("nan"))
    results.log_figure(
        run_id, comparison.interval_dots(drawn, f"{name}: honest and naive splits", "Test macro AUC"), "leaks"
    )
    return {"copies": float(len(found)), "honest": means["honest"][0], "naive": means["naive"][0]}


@task(cache_policy=NO_CACHE)
@cost.timed
def audit_labels(
    material: Material, run_id: str, names: list[str], X: pd.DataFrame, n_shown: int, seed: int
) -> dict[str, float]:
    """Write the table and the page of labels in doubt; MLflow's page plays nothing and names no file."""
    tables = [trials.predict_out_of_fold(name, material.clips, X, seed=seed) for name in names]
    proba = ensemble.combine_tables(tables, "geometric")
    listed = label_audit.rank_label_issues(proba)
    results.log_table(run_id, listed.reset_index(), "label_audit")
    shown = listed.head(n_shown)
    clips = material.clips.set_index("clip_id").loc[shown.index]
    pictures, sounds = {}, {}
    if material.has_audio and len(shown):
        stored = contents.InputReader(clips.reset_index(), material.workspace.store_dir(material.config))[:]
        pictures = dict(zip(clips.index.astype(str), stored, strict=True))
        spans = zip(
            clips["path"].astype(str), clips["start_s"].astype(float), clips["end_s"].astype(float), strict=True
        )
        sounds = {str(i): label_audit.clip_url(*span) for i, span in zip(clips.index, spans, strict=True)}
    MlflowClient().log_text(run_id, label_audit.render_page(shown, proba, pictures, {}), "label_audit.html")
    folder = material.workspace.audit_dir
    _write_text(folder / "labels.csv", listed.join(material.clips.set_index("clip_id")["path"]).to_csv())
    _write_text(folder / "labels.html", label_audit.render_page(shown, proba, pictures, sounds))
    n = int(listed["in_doubt"].sum())
    get_run_logger().info("%d of %d labels are in doubt; go through %s", n, len(listed), folder / "labels.html")
    return {"in_doubt": float(n)}


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    main(audit_dataset)
