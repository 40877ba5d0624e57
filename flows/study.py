"""Flow ``study``: importances of the features, and the paper's ablations beside its published scores."""

from flows import checks
from flows.cli import main

if __name__ == "__main__":  # above the other imports, so that mistakes are answered before these take seconds
    main(__file__, checks.check_study)

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.hyperparameters import resolve_hyperparameters
from flows.inputs import fill_inputs, install_weights
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
from flows.reports.links import publish_links
from flows.reports.tables import publish_table
from flows.trials import Fit, run_trial
from genre import datasets, evaluate, models
from genre.errors import DataError
from genre.evaluate import importance
from genre.inputs import INPUTS, column_names, features, is_vector
from genre.plots import comparison, training
from genre.probabilities.tables import genres_of, labels_of, proba_of
from genre.store import contents, parts
from genre.studies import published_results, trials
from genre.training import job
from genre.workspace import Workspace
from tracking import cost, results, runs


@flow(name="study", flow_run_name="study {dataset}")
def study(
    dataset: Dataset = "demo",
    source: Source = "",
    variant: VariantName = "corrected",
    model: FeatureModel = "catboost",
    params: Hyperparameters = "{}",
    seed: Seed = 0,
) -> dict[str, float]:
    """Train a model on subsets of the features, each in a run of its own, and rank features and families.

    Returns
    -------
    dict
        Subset of the features to test macro AUC.
    """
    settings = current_settings()
    checks.check_study(settings)
    hyperparameters = resolve_hyperparameters([model], params, seed, variant=variant)[model]
    workspace = Workspace(datasets.dataset_id(dataset, source))
    publish = partial(publish_links, figure="study")
    with workspace.lock(), runs.experiment_run(workspace, f"study {model}", settings, publish) as run_id:
        material = load_material(dataset, source, variant)
        log_material(run_id, material)
        inputs = models.select_inputs(model, variant, has_audio=material.has_audio)
        store = workspace.store_dir(material.config)
        for reason in install_weights(inputs, store, "").values():
            raise DataError(reason)
        fill_inputs(material, inputs)
        X = contents.load_table(material.clips, store, inputs)
        fitted, full_table = trials.fit_model(model, material.clips, X, params=hyperparameters, seed=seed)
        ranking = rank_features(material, run_id, model, fitted, X, seed)
        subsets = _column_subsets(ranking, inputs)
        full = next(iter(subsets))
        fit_subset = partial(_fit_subset, material, model, hyperparameters, seed, X)
        fits: dict[str, Fit] = {name: partial(fit_subset, columns) for name, columns in subsets.items()}
        fits[full] = lambda: full_table  # fitted for the ranking
        tables = {}
        for name, columns in subsets.items():
            identity = _trial_identity(material, model, hyperparameters, seed) | {"columns": ", ".join(columns)}
            tables[name] = run_trial(workspace, run_id, f"{model}, {name}", identity, fits[name])
        return publish_ablations(run_id, material, model, tables, subsets)


@task(cache_policy=NO_CACHE)
@cost.timed
def rank_features(material: Material, run_id: str, model: str, fitted: Any, X: pd.DataFrame, seed: int) -> list[str]:
    """Log importances: the model's own, by permutation and, for CatBoost, SHAP values.

    Returns
    -------
    list of str
        Features, the most important first: by the model's own importances, which do not depend on validation, or by
        permutation if it has none.
    """
    names = list(X.columns)
    is_validation = (material.clips["split"] == "validation").to_numpy()
    X_validation = X.to_numpy()[is_validation]
    y_validation = material.clips["genre"].cat.codes.to_numpy()[is_validation]
    # Columns of any other input are hundreds alike, which would hide each other: groups of them are permuted.
    further = [name for name in INPUTS if name != "features" and is_vector(name)]
    input_of = {column: name for name in further for column in column_names([name])}
    others = {name: input_of[name] for name in names if name not in features.FAMILIES}
    described = [name for name in names if others.get(name) in (None, "modulations")]
    groupings = {
        "column": dict(zip(names, names, strict=True)) | others,
        "feature": others | importance.group_by_feature(described),
        "family": features.FAMILIES | others,
    }
    permuted = {}
    for unit, groups in groupings.items():
        permuted[unit] = importance.permutation_importances(
            lambda X_shuffled: models.predict_proba(model, fitted, X_shuffled),
            X_validation,
            y_validation,
            columns=names,
            groups=groups,
            seed=seed,
        )
        title = f"{model}: loss of macro AUC on validation when a {unit} is shuffled"
        _log_bars(run_id, permuted[unit], f"permutation_by_{unit}", title)
    if model == "catboost":
        shap = importance.shap_values(fitted, X_validation, columns=names, genres=material.genres)
        results.log_table(run_id, shap.reset_index(), "shap")
        results.log_figure(run_id, comparison.stacked_bars(shap, f"{model}: SHAP values", "Mean size, logits"), "shap")
    own = models.feature_importances(model, fitted, names)
    if own is None:
        return list(permuted["column"].index)
    own = own.groupby(own.index.map(groupings["column"])).sum().sort_values(ascending=False, kind="stable")
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
    """Publish the scores of the subsets side by side with those of the paper.

    Returns
    -------
    dict
        Subset of the features to test macro AUC.
    """
    test = {name: table[table["split"] == "test"] for name, table in tables.items()}
    full = next(iter(test))
    rows = [_table_row(name, len(columns[name]), test[name], test[full]) for name in test]
    table = pd.DataFrame(rows)
    note = (
        f"{model} on subsets of the features, test split of {material.workspace.dataset_id}; published: XGBoost on "
        f"2,027 clips of AudioSet in seven genres (Bahuleyan 2018). Gains and p (McNemar) are against {full}."
    )
    publish_table(run_id, table, "study", note)
    figure = comparison.interval_dots(_plot_rows(table, model), "Subsets of the features", "Test macro AUC")
    results.log_figure(run_id, figure, "study")
    return {str(row["features"]): float(row["macro_auc"]) for row in rows}


def _column_subsets(ranking: list[str], inputs: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns of each subset, the full set first: all inputs, the paper's ablations, each further input."""
    ablations = importance.ablation_subsets([name for name in ranking if name in features.FAMILIES])
    if list(inputs) == ["features"]:
        return ablations
    further = {name: column_names([name]) for name in inputs if name != "features"}
    return {" and ".join(inputs): column_names(inputs)} | ablations | further


def _table_row(name: str, n_columns: int, table: pd.DataFrame, full_table: pd.DataFrame) -> dict[str, Any]:
    """Return a row of the table: scores here, the gain over the full set, and the published scores if there are any."""
    scores = evaluate.compute_metrics(labels_of(table), proba_of(table), genres_of(table))
    low, high = evaluate.confidence_intervals(table)["macro_auc"]
    gain = evaluate.paired_gain(table, full_table)
    unpublished = published_results.PublishedScores(np.nan, np.nan, np.nan)
    published = published_results.ABLATIONS.get(name, unpublished)._asdict()
    return {
        "features": name,
        "n": n_columns,
        "accuracy": scores["accuracy"],
        "macro_f1": scores["macro_f1"],
        "macro_auc": scores["macro_auc"],
        "macro_auc_low": low,
        "macro_auc_high": high,
        "gain": gain["gain"],
        "gain_low": gain["interval"][0],
        "gain_high": gain["interval"][1],
        "p": evaluate.mcnemar_test(table, full_table),
        **{f"published_{metric}": score for metric, score in published.items()},
    }


def _plot_rows(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return the rows of the figure: the scores here with their intervals, and the published ones without."""
    here = table.rename(columns={"macro_auc": "value", "macro_auc_low": "low", "macro_auc_high": "high"})
    here = here.assign(label=table["features"], series=f"{model}, here")[["label", "series", "value", "low", "high"]]
    published = here.assign(series="XGBoost, published", value=table["published_macro_auc"], low=np.nan, high=np.nan)
    return pd.concat([here, published], ignore_index=True)


def _log_bars(run_id: str, table: pd.DataFrame, name: str, title: str) -> None:
    """Log permutation importances as a table and a figure."""
    results.log_table(run_id, table.reset_index(), name)
    figure = training.feature_importances(table["mean"], title, spread=table["std"], unit="Drop of macro AUC")
    results.log_figure(run_id, figure, name)


def _trial_identity(material: Material, model: str, params: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return everything that a trial's result depends on, except its columns."""
    return {
        "model": model,
        "seed": seed,
        "config": material.config.fingerprint,
        "data_digest": material.data_digest,
        "splits_digest": material.splits_digest,
        "code_digest": job.code_digest(model),
        "weights": parts.weights_digests(
            models.get_model(model).input_names, material.workspace.store_dir(material.config)
        ),
        **{f"hp.{name}": value for name, value in params.items()},
    }


def _fit_subset(
    material: Material, model: str, params: Mapping[str, Any], seed: int, X: pd.DataFrame, columns: list[str]
) -> pd.DataFrame:
    """Train the model on some of the features; return its probability table."""
    return trials.fit_model(model, material.clips, X, params=params, seed=seed, columns=columns)[1]
