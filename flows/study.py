"""Flow ``study``: what matters to a model on features, and the paper's ablations beside its published numbers."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.cli import main
from flows.hyperparameters import resolve_hyperparameters
from flows.material import Material, load_material, log_material
from flows.parameters import (
    Dataset,
    FeatureModel,
    Hyperparameters,
    Seed,
    Source,
    VariantName,
    current_settings,
)
from flows.reports.tables import publish_table
from flows.trials import run_trial
from genre import datasets, evaluate, models
from genre.evaluate import importance
from genre.inputs import features
from genre.plots import comparison, training
from genre.probabilities.tables import genres_of, labels_of, proba_of
from genre.store import contents
from genre.studies import published_results, trials
from genre.training import job
from genre.workspace import Workspace
from tracking import cost, results, runs

#: The part that all others are compared with.
ALL_FEATURES = "all features"


@flow(name="study", flow_run_name="study {dataset}")
def study(
    dataset: Dataset = "demo",
    source: Source = "",
    variant: VariantName = "corrected",
    model: FeatureModel = "catboost",
    params: Hyperparameters = "{}",
    seed: Seed = 0,
) -> dict[str, float]:
    """Train a model on parts of the features, each a run, and measure what each feature and family is worth.

    Returns
    -------
    dict
        Part of the features to test macro AUC.
    """
    settings = current_settings()
    full = resolve_hyperparameters([trials.check_model(model)], params, seed)[model]
    workspace = Workspace(datasets.dataset_id(dataset, source))
    with workspace.lock(), runs.experiment_run(workspace, f"study {model}", settings) as run_id:
        material = load_material(dataset, source, variant)
        log_material(run_id, material)
        X = contents.load_features(material.clips, workspace.store_dir(material.config))
        fitted, whole = trials.fit_model(model, material.clips, X, params=full, seed=seed)
        ranking = rank_features(material, run_id, model, fitted, X, seed)
        chosen, tables = importance.ablation_subsets(ranking), {}
        for name, columns in chosen.items():
            fit = (
                partial(_fit_columns, material, model, full, seed, X, columns)
                if name != ALL_FEATURES
                else lambda: whole
            )
            identity = _identity(material, model, full, seed) | {"columns": ", ".join(columns)}
            tables[name] = run_trial(workspace, run_id, f"{model}, {name}", identity, fit)
        return publish_ablations(run_id, material, model, tables, chosen)


@task(cache_policy=NO_CACHE)
@cost.timed
def rank_features(material: Material, run_id: str, model: str, fitted: Any, X: pd.DataFrame, seed: int) -> list[str]:
    """Log importances: the model's own, permuted by feature and by family, SHAP; returns features, the first the best.

    The ranking is the model's own where it has one, which knows nothing of validation; else that of permutations.
    """
    names, side = list(features.FEATURE_NAMES), (material.clips["split"] == "validation").to_numpy()
    X_side, y_side = X.to_numpy()[side], material.clips["genre"].cat.codes.to_numpy()[side]
    ways = {"column": None, "feature": importance.group_by_feature(names), "family": features.FAMILIES}
    permuted = {}
    for way, groups in ways.items():
        permuted[way] = importance.permutation_importances(
            lambda Z: models.predict_proba(model, fitted, Z), X_side, y_side, columns=names, groups=groups, seed=seed
        )
        title = f"{model}: loss of macro AUC on validation when a {way} is shuffled"
        _log_bars(run_id, permuted[way], f"permutation_by_{way}", title)
    if model == "catboost":
        shap = importance.shap_values(fitted, X_side, columns=names, genres=material.genres)
        results.log_table(run_id, shap.reset_index(), "shap")
        results.log_figure(run_id, comparison.stacked_bars(shap, f"{model}: SHAP values", "Mean size, logits"), "shap")
    own = models.feature_importances(model, fitted, names)
    if own is None:
        return list(permuted["column"].index)
    results.log_table(run_id, own.reset_index(), "importances")
    results.log_figure(run_id, training.feature_importances(own, f"{model}: its own importances"), "importances")
    return list(own.index)


@task(cache_policy=NO_CACHE)
@cost.timed
def publish_ablations(
    run_id: str,
    material: Material,
    model: str,
    tables: Mapping[str, pd.DataFrame],
    columns: Mapping[str, list[str]],
) -> dict[str, float]:
    """Publish the parts side by side with the paper's; returns the test macro AUC of each."""
    test = {name: table[table["split"] == "test"] for name, table in tables.items()}
    rows = [_row(name, len(columns[name]), test[name], test[ALL_FEATURES]) for name in test]
    table = pd.DataFrame(rows)
    note = (
        f"{model} on parts of the features, test split of {material.workspace.dataset_id}; published: XGBoost on "
        "2,027 clips of AudioSet in seven genres (Bahuleyan 2018). Gains and p (McNemar) are against all features."
    )
    publish_table(run_id, table, "study", note)
    results.log_figure(
        run_id, comparison.interval_dots(_plot_rows(table, model), "Parts of the features", "Test macro AUC"), "study"
    )
    return {str(row["features"]): float(row["macro_auc"]) for row in rows}


def _row(name: str, n_columns: int, table: pd.DataFrame, whole: pd.DataFrame) -> dict[str, Any]:
    """One line of the table: scores here, the gain over all features, the published scores."""
    scores = evaluate.compute_metrics(labels_of(table), proba_of(table), genres_of(table))
    low, high = evaluate.confidence_intervals(table)["macro_auc"]
    gain = evaluate.paired_gain(table, whole)
    row = {"features": name, "n": n_columns} | {k: scores[k] for k in ("accuracy", "macro_f1", "macro_auc")}
    row |= {"macro_auc_low": low, "macro_auc_high": high, "gain": gain["gain"]}
    row |= {"gain_low": gain["interval"][0], "gain_high": gain["interval"][1], "p": evaluate.mcnemar_test(table, whole)}
    return row | {f"published_{k}": v for k, v in published_results.ABLATIONS[name]._asdict().items()}


def _plot_rows(table: pd.DataFrame, model: str) -> pd.DataFrame:
    here = table.rename(columns={"macro_auc": "value", "macro_auc_low": "low", "macro_auc_high": "high"})
    here = here.assign(label=table["features"], series=f"{model}, here")[["label", "series", "value", "low", "high"]]
    published = here.assign(series="XGBoost, published", value=table["published_macro_auc"], low=np.nan, high=np.nan)
    return pd.concat([here, published], ignore_index=True)


def _log_bars(run_id: str, table: pd.DataFrame, name: str, title: str) -> None:
    results.log_table(run_id, table.reset_index(), name)
    figure = training.feature_importances(table["mean"], title, spread=table["std"], unit="Drop of macro AUC")
    results.log_figure(run_id, figure, name)


def _identity(material: Material, model: str, params: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What a trial's table depends on, besides the columns."""
    return {
        "model": model,
        "seed": seed,
        "config": material.config.fingerprint,
        "data_digest": material.data_digest,
        "splits_digest": material.splits_digest,
        "code_digest": job.code_digest(model),
        **{f"hp.{k}": v for k, v in params.items()},
    }


def _fit_columns(
    material: Material, model: str, params: Mapping[str, Any], seed: int, X: pd.DataFrame, columns: list[str]
) -> pd.DataFrame:
    return trials.fit_model(model, material.clips, X, params=params, seed=seed, columns=columns)[1]


if __name__ == "__main__":
    main(study)
