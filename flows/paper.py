"""Flow ``paper``: the paper's table 2, as published, as its code gives it here, and corrected."""

from collections.abc import Mapping
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.cli import main
from flows.parameters import (
    PublishedFeatures,
    PublishedModels,
    PublishedProbabilities,
    Seed,
    check_seed,
    current_settings,
)
from flows.reports.tables import publish_table
from flows.trials import run_trial
from genre import ensemble, evaluate
from genre.datasets import published
from genre.errors import DataError, UsageError
from genre.plots import comparison, evaluation
from genre.probabilities.tables import genres_of, labels_of, proba_of
from genre.splits import assignment, duplicates
from genre.studies import fetch, published_models, published_results, trials
from genre.training import job
from genre.workspace import Workspace
from tracking import cost, results, runs

Tables = Mapping[str, pd.DataFrame]

#: Models shown in the paper's figures 5 and 6.
SHOWN_MODELS = ("vgg16_fine_tune", "xgboost", "ensemble")

#: All models of the paper that can be trained here.
ALL_MODELS = ",".join(published_models.MODEL_NAMES)

#: Where a published model is compared with one of another name here.
STAND_IN = {"xgboost": "catboost"}


@flow(name="paper", flow_run_name="paper")
def reproduce_paper(
    source: PublishedFeatures = "",
    probabilities: PublishedProbabilities = "",
    model: PublishedModels = ALL_MODELS,
    seed: Seed = 0,
) -> dict[str, float]:
    """Score what the paper published, and train its models again on its features.

    Returns
    -------
    dict
        Model and variant to test macro AUC.
    """
    check_seed(seed)
    if not source and not probabilities:
        raise UsageError("nothing to do: give -P source=df_features.csv, -P probabilities=PATH, or both")
    names = published_models.check_names(dict.fromkeys(name.strip() for name in model.split(",")))
    workspace = Workspace("paper")
    settings = current_settings()
    with workspace.lock(), runs.experiment_run(workspace, "paper", settings) as run_id:
        theirs = load_published_probabilities(run_id, workspace, probabilities) if probabilities else {}
        ours = train_variants(run_id, workspace, source, theirs, names, seed) if source else {}
        return publish_comparison(run_id, theirs, ours)


@task(cache_policy=NO_CACHE)
@cost.timed
def load_published_probabilities(run_id: str, workspace: Workspace, source: str) -> dict[str, pd.DataFrame]:
    """Read the published probabilities, and log figures like the paper's."""
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
    run_id: str, workspace: Workspace, source: str, theirs: Tables, models: list[str], seed: int
) -> dict[str, pd.DataFrame]:
    """Tables of each model in the ``paper`` and the ``corrected`` variant, each a run."""
    path = fetch.fetch_file(source, workspace.downloads_dir)
    runs.set_tags(run_id, {"sha256_source": fetch.file_sha256(path)})
    clips, features = published.load_clips(path, path.parent), published.load_features(path)
    test = theirs["svm"].index if theirs else None
    check_published_table(run_id, features, test, must_hold=fetch.is_url(source))
    clips = clips.set_index("clip_id").loc[features.index].reset_index()
    copies = duplicates.between_recordings(duplicates.find_duplicates(features), clips)
    results.log_table(run_id, copies, "copies")
    clips = duplicates.resolve_duplicates(clips, copies, {})
    clips = clips.assign(split=_assign_split(clips, test, seed))
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
            make = partial(fit, model, clips, features, seed=seed)
            tables[f"{model}, {variant}"] = run_trial(workspace, run_id, f"{model}, {variant}", identity, make)
    return tables


@task(cache_policy=NO_CACHE)
@cost.timed
def check_published_table(run_id: str, features: pd.DataFrame, names: pd.Index | None, *, must_hold: bool) -> None:
    """Say whether the features are those that were published; what was downloaded must be.

    Raises
    ------
    DataError
        If it was downloaded and is not.
    """
    found = published_results.check_features(features, names)
    n = int(found["ok"].sum())
    publish_table(run_id, found, "checks", f"{n} of {len(found)} checks that this is the published table hold.")
    if must_hold and n < len(found):
        failed = found[~found["ok"]].iloc[0]
        raise DataError(
            f"what was downloaded is not the published table: {failed['check']} is {failed['found']}, "
            f"expected {failed['expected']}; give another URL, or a path, which is only told and not refused"
        )


@task(cache_policy=NO_CACHE)
@cost.timed
def publish_comparison(run_id: str, theirs: Tables, ours: Tables) -> dict[str, float]:
    """Publish table 2, with the ensembles of our trees with the published VGG-16."""
    theirs = {name: _test_rows(table) for name, table in theirs.items()}
    ours = {name: _test_rows(table) for name, table in ours.items()}
    ours |= _with_published_network(theirs, ours)
    rows = [_row(name, "published", table, None, None) for name, table in theirs.items()]
    for name, table in ours.items():
        model, variant = name.split(", ")
        then = theirs.get({v: k for k, v in STAND_IN.items()}.get(model, model))
        other = ours.get(f"{model}, paper") if variant == "corrected" else None
        rows.append(_row(model, variant, table, then if then is not None and _comparable(table, then) else None, other))
    table = pd.DataFrame(rows)
    note = (
        "Table 2: `printed` is what the paper says, `published` its own probabilities scored here, `paper` its code's "
        "settings trained here, `corrected` this project's. p: McNemar's test against the published model, and against "
        "the `paper` variant. CatBoost stands in for XGBoost."
    )
    publish_table(run_id, table, "table-2", note)
    drawn = table.rename(columns={"model": "label", "variant": "series", "macro_auc": "value"})
    drawn = drawn.rename(columns={"macro_auc_low": "low", "macro_auc_high": "high"})
    drawn["label"] = drawn["label"].replace(
        {k: f"{then} / {now}" for then, now in STAND_IN.items() for k in (then, now)}
    )
    results.log_figure(run_id, comparison.interval_dots(drawn, "The paper's table 2", "Test macro AUC"), "table_2")
    for name, part in ours.items():
        results.log_figure(run_id, evaluation.confusion_matrix(part), f"confusion_matrix_{name.replace(', ', '_')}")
    if ours:
        results.log_figure(run_id, comparison.mean_roc_curves(ours, "ROC, trained here"), "roc")
    return {f"{row['model']}, {row['variant']}": float(row["macro_auc"]) for row in rows}


def _row(
    model: str, variant: str, table: pd.DataFrame, then: pd.DataFrame | None, paper_variant: pd.DataFrame | None
) -> dict[str, Any]:
    """One line of table 2."""
    scores = evaluate.compute_metrics(labels_of(table), proba_of(table), genres_of(table))
    bounds = evaluate.confidence_intervals(table)
    row: dict[str, Any] = {"model": model, "variant": variant, "clips": len(table)}
    for key, printed in (published_results.TABLE_2[model]._asdict() if variant == "published" else {}).items():
        row[f"printed_{key}"] = printed
    for key in ("accuracy", "macro_f1", "macro_auc"):
        row |= {key: scores[key], f"{key}_low": bounds[key][0], f"{key}_high": bounds[key][1]}
    row["p_against_published"] = float("nan") if then is None else evaluate.mcnemar_test(table, then)
    row["p_against_paper"] = float("nan") if paper_variant is None else evaluate.mcnemar_test(table, paper_variant)
    return row


def _with_published_network(theirs: Tables, ours: Tables) -> dict[str, pd.DataFrame]:
    """Ensembles of our trees with the published VGG-16, where both judged the same clips."""
    made = {}
    for variant in ("paper", "corrected"):
        trees, network = ours.get(f"catboost, {variant}"), theirs.get("vgg16_fine_tune")
        if trees is not None and network is not None and _comparable(trees, network):
            common = network.index.intersection(trees.index)
            genres = genres_of(trees)
            members = [trees.loc[common], trees.loc[common].assign(**{g: network.loc[common, g] for g in genres})]
            made[f"ensemble, {variant}"] = ensemble.combine_tables(members, "arithmetic")
    return made


def _comparable(table: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether a table has the genres and all clips of the published one; other tables may number theirs alike."""
    same = set(genres_of(table)) == set(genres_of(other))
    return same and bool(other.index.isin(table.index).all())


def _test_rows(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"] == "test"]


def _assign_split(clips: pd.DataFrame, names: pd.Index | None, seed: int) -> Any:
    """The published test set where the table has it, with as many clips to validate; else a dealt split."""
    if names is None or not names.isin(clips["clip_id"]).all():
        return clips["recording"].map(assignment.assign_splits(clips).set_index("recording")["split"])
    from sklearn.model_selection import train_test_split

    rest = clips[~clips["clip_id"].isin(names)]
    held = train_test_split(rest["clip_id"], test_size=len(names), stratify=rest["genre"], random_state=seed)[1]
    side = pd.Series("train", index=clips.index).mask(clips["clip_id"].isin(held), "validation")
    return side.mask(clips["clip_id"].isin(names), "test")


def _fit_corrected(model: str, clips: pd.DataFrame, features: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """What a training here makes of the published table."""
    return trials.fit_model(model, clips, features, seed=seed)[1]


def _probabilities_path(source: str, directory: Path) -> Path:
    """Path of the published probabilities; those of a folder's URL are downloaded one by one."""
    if not (fetch.is_url(source) and source.endswith("/")):
        return fetch.fetch_file(source, directory)
    folder = directory / "pred_probas"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (published_results.NAMES_FILE, *published_results.PICKLE_FILES.values()):
        fetched = fetch.fetch_file(source + name, directory)
        (folder / name).write_bytes(fetched.read_bytes())
    return folder


if __name__ == "__main__":
    main(reproduce_paper)
