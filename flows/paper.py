"""Flow ``paper``: the paper's table 2, as published, reproduced with the settings of its code, and corrected."""

from flows import checks
from flows.cli import main

if __name__ == "__main__":  # above the other imports, so that mistakes are answered before these take seconds
    main(__file__, checks.check_paper)

from collections.abc import Mapping
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.parameters import (
    ALL_MODELS,
    PublishedFeatures,
    PublishedModels,
    PublishedProbabilities,
    Seed,
    current_settings,
)
from flows.reports.links import publish_links
from flows.reports.tables import publish_table
from flows.trials import run_trial
from genre import ensemble, evaluate
from genre.datasets import published
from genre.errors import DataError
from genre.plots import comparison, evaluation
from genre.probabilities.tables import genres_of, labels_of, proba_of
from genre.splits import assignment, duplicates
from genre.studies import fetch, published_models, published_results, trials
from genre.training import job
from genre.workspace import Workspace
from tracking import cost, results, runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Tables = Mapping[str, pd.DataFrame]

#: Models shown in the paper's figures 5 and 6.
SHOWN_MODELS = ("vgg16_fine_tune", "xgboost", "ensemble")

#: Published model to the model that is compared with it, where that has another name.
STAND_IN = {"xgboost": "catboost"}


@flow(name="paper", flow_run_name="paper")
def reproduce_paper(
    source: PublishedFeatures = "",
    probabilities: PublishedProbabilities = "",
    model: PublishedModels = ALL_MODELS,
    seed: Seed = 0,
) -> dict[str, float]:
    """Score the paper's published predictions, and train its models again on its published features.

    Returns
    -------
    dict
        Model and variant to test macro AUC.

    Raises
    ------
    UsageError
        If neither features nor predictions are given, the seed is out of range, or the paper trains no such model.
    """
    settings = current_settings()
    checks.check_paper(settings)
    names = published_models.check_names(dict.fromkeys(name.strip() for name in model.split(",")))
    workspace = Workspace("paper")
    publish = partial(publish_links, figure="table_2")
    with workspace.lock(), runs.experiment_run(workspace, "paper", settings, publish) as run_id:
        published_tables = load_published_probabilities(run_id, workspace, probabilities) if probabilities else {}
        trained_tables = train_variants(run_id, workspace, source, published_tables, names, seed) if source else {}
        return publish_comparison(run_id, published_tables, trained_tables)


@task(cache_policy=NO_CACHE)
@cost.timed
def load_published_probabilities(run_id: str, workspace: Workspace, source: str) -> dict[str, pd.DataFrame]:
    """Load the published probabilities, and log figures like the paper's."""
    tables = published_results.read_probabilities(_probabilities_path(source, workspace.downloads_dir))
    for name in SHOWN_MODELS:
        results.log_figure(run_id, evaluation.confusion_matrix(tables[name]), f"confusion_matrix_{name}_published")
    curves = {name: tables[name] for name in SHOWN_MODELS}
    results.log_figure(run_id, comparison.mean_roc_curves(curves, "ROC, published probabilities"), "roc_published")
    pairs = pd.DataFrame(
        {"first": a, "second": b, "p": evaluate.mcnemar_test(tables[a], tables[b])} for a, b in combinations(tables, 2)
    )
    publish_table(run_id, pairs, "mcnemar", "McNemar's test between the published models, on their common clips.")
    return tables


def train_variants(
    run_id: str, workspace: Workspace, source: str, published_tables: Tables, models: list[str], seed: int
) -> dict[str, pd.DataFrame]:
    """Train each model in the ``paper`` and the ``corrected`` variant, each as a run; return the probability tables."""
    path = fetch.fetch_file(source, workspace.downloads_dir)
    runs.set_tags(run_id, {"sha256_source": fetch.file_sha256(path)})
    clips = published.load_clips(path, path.parent)
    features = published.load_features(path)
    test_clips = published_tables["svm"].index if published_tables else None
    check_published_table(run_id, features, test_clips, must_hold=fetch.is_url(source))
    clips = clips.set_index("clip_id").loc[features.index].reset_index()
    pairs = duplicates.between_recordings(duplicates.find_duplicates(features), clips)
    results.log_table(run_id, pairs, "copies")
    clips = duplicates.resolve_duplicates(clips, pairs, {})
    clips = clips.assign(split=_assign_split(clips, test_clips, seed))
    tables: dict[str, pd.DataFrame] = {}
    for model in models:
        for variant, fit in (("paper", published_models.fit_published_model), ("corrected", _fit_corrected)):
            identity = {
                "variant": variant,
                "seed": seed,
                "data_digest": job.table_digest(features),
                "splits_digest": job.table_digest(clips[["clip_id", "split"]].astype(str)),
                "code_digest": job.code_digest(model),
            }
            name = f"{model}, {variant}"
            tables[name] = run_trial(workspace, run_id, name, identity, partial(fit, model, clips, features, seed=seed))
    return tables


@task(cache_policy=NO_CACHE)
@cost.timed
def check_published_table(run_id: str, features: pd.DataFrame, test_clips: pd.Index | None, *, must_hold: bool) -> None:
    """Check that the features are the published ones, and publish the checks as a table.

    Parameters
    ----------
    run_id : str
        Run that gets the table.
    features : pd.DataFrame
        Features to check.
    test_clips : pd.Index, optional
        Names of the published test clips, which the table should have.
    must_hold : bool
        Whether a failed check is an error, as it is for a downloaded table. Otherwise it is only reported.

    Raises
    ------
    DataError
        If a check fails and `must_hold` is true.
    """
    checks = published_results.check_features(features, test_clips)
    n_passed = int(checks["ok"].sum())
    note = f"{n_passed} of {len(checks)} checks that this is the published table hold."
    publish_table(run_id, checks, "checks", note)
    if must_hold and n_passed < len(checks):
        failed = checks[~checks["ok"]].iloc[0]
        raise DataError(
            f"the downloaded table is not the published one: {failed['check']} is {failed['found']}, "
            f"expected {failed['expected']}; use another URL, or a local path (a mismatch is then only reported)"
        )


@task(cache_policy=NO_CACHE)
@cost.timed
def publish_comparison(run_id: str, published_tables: Tables, trained_tables: Tables) -> dict[str, float]:
    """Publish table 2, with ensembles of the CatBoost models trained here and the published VGG-16.

    Returns
    -------
    dict
        Model and variant to test macro AUC.
    """
    published_tables = {name: _test_rows(table) for name, table in published_tables.items()}
    trained_tables = {name: _test_rows(table) for name, table in trained_tables.items()}
    trained_tables |= _with_published_network(published_tables, trained_tables)
    rows = _comparison_rows(published_tables, trained_tables)
    table = pd.DataFrame(rows)
    note = (
        "Table 2. `printed`: figures in the paper. `published`: its published probabilities, scored here. `paper`: "
        "models trained here with the settings of its code. `corrected`: models trained here with this project's "
        "settings. p: McNemar's test against the published model, and against the `paper` variant. CatBoost stands in "
        "for XGBoost."
    )
    publish_table(run_id, table, "table-2", note)
    results.log_figure(run_id, _comparison_figure(table), "table_2")
    for name, proba in trained_tables.items():
        results.log_figure(run_id, evaluation.confusion_matrix(proba), f"confusion_matrix_{name.replace(', ', '_')}")
    if trained_tables:
        results.log_figure(run_id, comparison.mean_roc_curves(trained_tables, "ROC, trained here"), "roc")
    return {f"{row['model']}, {row['variant']}": float(row["macro_auc"]) for row in rows}


def _comparison_rows(published_tables: Tables, trained_tables: Tables) -> list[dict[str, Any]]:
    """Return the rows of table 2: the published models, then the models trained here."""
    rows = [_row(name, "published", table, None, None) for name, table in published_tables.items()]
    published_name = {here: name for name, here in STAND_IN.items()}
    for name, table in trained_tables.items():
        model, variant = name.split(", ")
        counterpart = published_tables.get(published_name.get(model, model))
        if counterpart is not None and not _comparable(table, counterpart):
            counterpart = None
        paper_variant = trained_tables.get(f"{model}, paper") if variant == "corrected" else None
        rows.append(_row(model, variant, table, counterpart, paper_variant))
    return rows


def _comparison_figure(table: pd.DataFrame) -> "Figure":
    """Plot the macro AUC of table 2 with its intervals; a published model and its stand-in share a line."""
    columns = {"model": "label", "variant": "series", "macro_auc": "value"}
    dots = table.rename(columns=columns | {"macro_auc_low": "low", "macro_auc_high": "high"})
    for published_model, here in STAND_IN.items():
        dots["label"] = dots["label"].replace([published_model, here], f"{published_model} / {here}")
    return comparison.interval_dots(dots, "The paper's table 2", "Test macro AUC")


def _row(
    model: str, variant: str, table: pd.DataFrame, counterpart: pd.DataFrame | None, paper_variant: pd.DataFrame | None
) -> dict[str, Any]:
    """Return one row of table 2.

    `counterpart` is the published model with which the row is compared by McNemar's test, and `paper_variant` the same
    model with the settings of the paper's code.
    """
    scores = evaluate.compute_metrics(labels_of(table), proba_of(table), genres_of(table))
    bounds = evaluate.confidence_intervals(table)
    row: dict[str, Any] = {"model": model, "variant": variant, "clips": len(table)}
    if variant == "published":
        printed = published_results.TABLE_2[model]._asdict()
        row |= {f"printed_{metric}": value for metric, value in printed.items()}
    for metric in ("accuracy", "macro_f1", "macro_auc"):
        low, high = bounds[metric]
        row |= {metric: scores[metric], f"{metric}_low": low, f"{metric}_high": high}
    row["p_against_published"] = float("nan") if counterpart is None else evaluate.mcnemar_test(table, counterpart)
    row["p_against_paper"] = float("nan") if paper_variant is None else evaluate.mcnemar_test(table, paper_variant)
    return row


def _with_published_network(published_tables: Tables, trained_tables: Tables) -> dict[str, pd.DataFrame]:
    """Combine the CatBoost models trained here with the published VGG-16, where both predicted the same clips."""
    ensembles = {}
    network = published_tables.get("vgg16_fine_tune")
    for variant in ("paper", "corrected"):
        trees = trained_tables.get(f"catboost, {variant}")
        if trees is not None and network is not None and _comparable(trees, network):
            common = network.index.intersection(trees.index)
            genres = genres_of(trees)
            members = [trees.loc[common], trees.loc[common].assign(**{g: network.loc[common, g] for g in genres})]
            ensembles[f"ensemble, {variant}"] = ensemble.combine_tables(members, "arithmetic")
    return ensembles


def _comparable(table: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Return True if a table has the genres and all clips of a published one.

    Without the genres, clips of another data set that happen to have the same ids would be compared.
    """
    has_same_genres = set(genres_of(table)) == set(genres_of(other))
    return has_same_genres and bool(other.index.isin(table.index).all())


def _test_rows(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"] == "test"]


def _assign_split(clips: pd.DataFrame, test_clips: pd.Index | None, seed: int) -> Any:
    """Return the split of each clip.

    If the table has all published test clips, they are the test split, and as many other clips are drawn for
    validation. Otherwise recordings are assigned to splits as in a build.
    """
    if test_clips is None or not test_clips.isin(clips["clip_id"]).all():
        return clips["recording"].map(assignment.assign_splits(clips).set_index("recording")["split"])
    from sklearn.model_selection import train_test_split

    others = clips[~clips["clip_id"].isin(test_clips)]
    _, validation_clips = train_test_split(
        others["clip_id"], test_size=len(test_clips), stratify=others["genre"], random_state=seed
    )
    split = pd.Series("train", index=clips.index).mask(clips["clip_id"].isin(validation_clips), "validation")
    return split.mask(clips["clip_id"].isin(test_clips), "test")


def _fit_corrected(model: str, clips: pd.DataFrame, features: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Train a model with this project's settings; return its probability table."""
    return trials.fit_model(model, clips, features, seed=seed)[1]


def _probabilities_path(source: str, directory: Path) -> Path:
    """Return the path of the published probabilities, after downloading them if `source` is a URL."""
    if not (fetch.is_url(source) and source.endswith("/")):
        return fetch.fetch_file(source, directory)
    folder = directory / "pred_probas"
    folder.mkdir(parents=True, exist_ok=True)
    # a folder cannot be listed by its URL, but the names of its files are known
    for name in (published_results.NAMES_FILE, *published_results.PICKLE_FILES.values()):
        downloaded = fetch.fetch_file(source + name, directory)
        (folder / name).write_bytes(downloaded.read_bytes())
    return folder
