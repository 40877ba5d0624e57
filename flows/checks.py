"""Checks of the parameters of each flow, before anything is started.

The command line calls them before it imports Prefect and MLflow, and each flow calls its own again, for runs that
Prefect starts. They import nothing slow, except where a value needs it, and read only files that a parameter names.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows import hyperparameters
from flows.hyperparameters import check_seed
from flows.parameters import FAST, LARGE_SHIFT, OPTIONS_EXAMPLE
from genre import datasets, parameters
from genre.acquisition import import_clips, segments
from genre.acquisition.download import DownloadSettings
from genre.acquisition.segments import SegmentSelection
from genre.acquisition.session import Pace
from genre.errors import UsageError
from genre.files import make_directory
from genre.library import answers
from genre.library.proposals import parse_genre_names
from genre.library.undo import check_undo_file
from genre.studies import feature_models, fetch, published_models
from genre.workers.pool import check_n_jobs
from genre.workspace import LIBRARY, Workspace
from tracking import store

Settings = Mapping[str, Any]


def check_retrain(settings: Settings) -> None:
    """Check the parameters of `retrain`.

    Raises
    ------
    GenreError
        If one is not accepted, or names a file that does not exist.
    """
    check_training(settings)
    check_promotion(settings["registry_name"], settings["min_gain"], settings["min_precision"])
    check_thresholds(settings["min_change"], settings["max_drift"])
    check_source(settings)
    dataset = datasets.get_dataset(settings["dataset"])
    check_weights(settings["weights"], settings, is_needed=dataset.synthetic)  # by the network, beside the demo


def check_build(settings: Settings) -> None:
    """Check the parameters of `build`; raises as `check_retrain`."""
    if not 0 <= (max_lost := settings["max_lost"]) <= 1:
        raise UsageError(f"max_lost must be a share of the clips, from 0 to 1; got {max_lost}")
    check_models(settings["model"], settings["dataset"])
    check_source(settings)
    check_weights(settings["weights"], settings)


def check_train(settings: Settings) -> None:
    """Check the parameters of `train`; raises as `check_retrain`."""
    check_training(settings)
    check_built(settings)
    check_weights(settings["weights"], settings)


def check_promote(settings: Settings) -> None:
    """Check the parameters of `promote`; raises as `check_retrain`."""
    check_promotion(settings["registry_name"], settings["min_gain"], settings["min_precision"])
    check_built(settings)


def check_pretrained(settings: Settings) -> None:
    """Check the parameters of `pretrained`; raises as `check_retrain`."""
    store.check_model_name(settings["registry_name"])
    check_weights(settings["weights"], settings, is_needed=True)


def check_rollback(settings: Settings) -> None:
    """Check the parameters of `rollback`; raises as `check_retrain`."""
    store.check_model_name(settings["registry_name"])


def check_drift(settings: Settings) -> None:
    """Check the parameters of `drift`; raises as `check_retrain`."""
    store.check_model_name(settings["registry_name"])
    find_log_folder(settings["max_drift"], settings["log"])
    datasets.dataset_id(settings["dataset"], settings["source"])


def check_archive(settings: Settings) -> None:
    """Check the parameters of `archive`; raises as `check_retrain`."""
    action = settings["action"]
    if action in ("export", "import") and not settings["file"]:
        raise UsageError(f"action={action} needs a Parquet file: add -P file=PATH")
    if action == "export":
        check_built(settings)
    datasets.dataset_id(settings["dataset"], settings["source"])


def check_acquire(settings: Settings) -> None:
    """Check the parameters of `acquire`; raises as `check_retrain`."""
    selection = make_selection(settings)
    selection.check_values()
    make_pace(settings).check_values()
    make_download_settings(settings).check_parameters()
    if (workers := settings["workers"]) not in (1, 2):
        raise UsageError(f"workers must be 1 or 2, got {workers}; more would not help, because the session is limited")
    segments.check_selection(settings["source"], selection)
    if settings["files"]:
        import_clips.check_files(Path(settings["files"]).expanduser().resolve())


def check_study(settings: Settings) -> None:
    """Check the parameters of `study`; raises as `check_retrain`."""
    feature_models.check_model(settings["model"])
    check_seed(settings["seed"])
    check_hyperparameters([settings["model"]], settings)
    check_built(settings)


def check_audit(settings: Settings) -> None:
    """Check the parameters of `audit`; raises as `check_retrain`."""
    for name in settings["model"].split(","):
        feature_models.check_model(name.strip())
    check_seed(settings["seed"])
    if (n_shown := settings["n_shown"]) < 0:
        raise UsageError(f"n_shown must be 0 or more, got {n_shown}")
    check_built(settings)


def check_paper(settings: Settings) -> None:
    """Check the parameters of `paper`; raises as `check_retrain`."""
    check_seed(settings["seed"])
    sources = [source for source in (settings["source"], settings["probabilities"]) if source]
    if not sources:
        raise UsageError("nothing to do: set -P source=df_features.csv, -P probabilities=PATH, or both")
    published_models.check_names(name.strip() for name in settings["model"].split(","))
    for source in sources:
        fetch.check_source(source)


def check_robustness(settings: Settings) -> None:
    """Check the parameters of `robustness`; raises as `check_retrain`."""
    check_seed(settings["seed"])
    name = settings["dataset"]
    if not datasets.get_dataset(name).has_audio:
        raise UsageError(f"data set {name!r} has features but no audio, so there is nothing to degrade")
    datasets.dataset_id(name, settings["source"])
    store.check_model_name(settings["registry_name"])
    if (n_clips := settings["n_clips"]) < 1:
        raise UsageError(f"n_clips must be at least 1, got {n_clips}")


def check_tag(settings: Settings) -> None:
    """Check the parameters of `tag`, before hours of work; raises as `check_retrain`."""
    store.check_model_name(settings["registry_name"])
    confidence = settings["min_confidence"]
    source = settings["source"]
    undo = settings["undo"]
    if confidence != -1 and not 0 <= confidence <= 1:
        raise UsageError(f"min_confidence must be from 0 to 1, or -1 for the model's own threshold; got {confidence}")
    if undo and (source or settings["write_tags"]):
        raise UsageError("undo cannot be combined with source or write_tags; leave source and write_tags out")
    if not undo and not source:
        raise UsageError("tag needs the folder of your music: -P source=~/Music")
    check_genre_options(settings)
    table_path(settings["out"])
    check_n_jobs(settings["n_jobs"])
    if undo:
        check_undo_file(Path(undo).expanduser().resolve())
    else:
        answers.check_folder(Path(source).expanduser())


def check_models(model: str, dataset: str) -> None:
    """Check the parameters ``model`` and ``dataset``."""
    datasets.get_dataset(dataset)
    if model != FAST:
        hyperparameters.select_models(model, dataset)


def check_training(settings: Settings) -> None:
    """Check the models, their hyper-parameters, the seed and the folds."""
    check_models(settings["model"], settings["dataset"])
    hyperparameters.check_folds(settings["folds"])
    check_seed(settings["seed"])
    if parameters.parse_json_object(settings["params"], "params"):
        names = hyperparameters.select_models(settings["model"], settings["dataset"])
        check_hyperparameters(names, settings)


def check_hyperparameters(names: list[str], settings: Settings) -> None:
    """Check hyper-parameters, if there are any: the libraries of the models are imported to do so, in seconds."""
    if parameters.parse_json_object(settings["params"], "params"):
        hyperparameters.resolve_hyperparameters(names, settings["params"])


def check_source(settings: Settings) -> None:
    """Check the source of a data set that is to be built, and the options of the data set, if there are any."""
    name = settings["dataset"]
    options = parameters.parse_json_object(settings["options"], "options", example=OPTIONS_EXAMPLE)
    datasets.dataset_id(name, settings["source"])
    check_n_jobs(settings["n_jobs"])
    if datasets.get_dataset(name).acquired:
        return  # the options may be those of `acquire`, which checks them, and the lists
    if options:
        datasets.check_options(name, options)
    datasets.check_listing(name, settings["source"])


def check_built(settings: Settings) -> None:
    """Check that a data set was built."""
    Workspace(datasets.dataset_id(settings["dataset"], settings["source"])).check_built()


def check_weights(path: str, settings: Settings, *, is_needed: bool = False) -> None:
    """Check the weights of the music network that were given, if there are any and a model needs them.

    Parameters
    ----------
    path : str
        Value of the parameter ``weights``.
    settings : mapping
        Parameters of the flow; ``model`` names the models.
    is_needed : bool
        Whether they are needed whatever the models.
    """
    if not (path or os.environ.get("GENRE_WEIGHTS")):
        return
    from genre import weights  # brings SciPy

    if is_needed or _need_weights(settings["model"], settings["dataset"]):
        weights.check_given(path)


def _need_weights(model: str, dataset: str) -> bool:
    """Return whether a model takes an input that the network computes of the data set's audio."""
    names = hyperparameters.select_models(model, dataset)
    return datasets.get_dataset(dataset).has_audio and any(hyperparameters.is_pretrained(name) for name in names)


def check_promotion(registry_name: str, min_gain: float, min_precision: float) -> None:
    """Check the parameters of a promotion.

    Raises
    ------
    UsageError
        If the name is not a valid name of a registered model, or a number is out of range.
    """
    store.check_model_name(registry_name)
    if not 0 <= min_gain < 1:
        raise UsageError(f"min_gain must be a difference of AUC, from 0 to below 1; got {min_gain}")
    if not 0 < min_precision <= 1:
        raise UsageError(f"min_precision must be a share above 0, at most 1; got {min_precision}")


def check_thresholds(min_change: float, max_drift: float) -> None:
    """Check the thresholds of change and drift.

    Raises
    ------
    UsageError
        If a threshold is out of range, or there is no prediction log to measure drift in.
    """
    if not 0 <= min_change <= 1:
        raise UsageError(f"min_change must be a share of the clips, from 0 to 1; got {min_change}")
    if max_drift:
        find_log_folder(max_drift)


def find_log_folder(max_drift: float, log: str = "") -> Path:
    """Return the folder of the log of predictions, after checking `max_drift`.

    Parameters
    ----------
    max_drift : float
        Population stability index, above 0.
    log : str
        Folder of the log. Default: the folder that ``GENRE_LOG`` names.

    Raises
    ------
    UsageError
        If `max_drift` is not above 0, or there is neither a `log` nor ``GENRE_LOG``.
    """
    if not max_drift > 0:  # also true for NaN
        raise UsageError(
            f"max_drift must be a population stability index above 0, such as {LARGE_SHIFT}, got {max_drift}"
        )
    if log:
        return Path(log).expanduser().resolve()
    from genre import answer_log  # brings SciPy

    folder = answer_log.log_dir()
    if folder is None:
        raise UsageError(
            "drift is measured on a log of predictions, and none is set: "
            "set GENRE_LOG to its folder, both here and where the model is served"
        )
    return folder


def check_genre_options(settings: Settings) -> None:
    """Check the parameters that only apply to writing tags; whether the model has the genres is checked later.

    Raises
    ------
    UsageError
        If one is out of range, or given without ``write_tags``.
    """
    if settings["max_genres"] < 1:
        raise UsageError(f"max_genres must be 1 or more; got {settings['max_genres']}")
    given = {
        "dry_run=false": not settings["dry_run"],
        "overwrite=true": settings["overwrite"],
        "max_genres": settings["max_genres"] > 1,
        "genre_names": parse_genre_names(settings["genre_names"]),
    }
    useless = " and ".join(name for name, is_given in given.items() if is_given)
    if useless and not settings["write_tags"]:
        raise UsageError(f"without write_tags nothing is done with {useless}; add -P write_tags=true")


def table_path(out: str) -> Path:
    """Return the path of the table of a music library, in a folder that exists now.

    Raises
    ------
    UsageError
        If it has another suffix than those of a table.
    GenreError
        If the table's folder cannot be created.
    """
    path = Path(out or LIBRARY.table_path).expanduser().resolve()
    if path.suffix not in (".csv", ".parquet"):
        raise UsageError(f"out must end in .csv or .parquet; got {out}")
    make_directory(path.parent)
    return path


def make_selection(settings: Settings) -> SegmentSelection:
    """Return the criteria by which `acquire` selects segments."""
    names = ("genres", "policy", "per_genre", "seed", "split", "labels", "ontology", "test_list")
    chosen = {name: settings[name] for name in names}
    return SegmentSelection(**chosen, descendants=settings["descendants"] == "yes")


def make_pace(settings: Settings) -> Pace:
    """Return how fast, and up to when, `acquire` downloads."""
    return Pace(**{name: settings[name] for name in ("max_clips", "max_hours", "interval_s", "retry_s", "rest_s")})


def make_download_settings(settings: Settings) -> DownloadSettings:
    """Return how `acquire` downloads a clip, with the cookies file and the proxy that the environment names."""
    chosen = {name: settings[name] for name in ("url", "sr", "format", "timeout_s")}
    cookies = os.environ.get("GENRE_COOKIES", "")
    return DownloadSettings(**chosen, cookies=cookies, proxy=os.environ.get("GENRE_PROXY", ""))
