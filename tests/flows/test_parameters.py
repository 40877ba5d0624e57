"""Parameters of the flows: their texts, and that the accepted values shown are the ones the flows accept."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import pytest
from prefect.context import FlowRunContext
from prefect.utilities.callables import parameter_schema

from flows import checks, hyperparameters, parameters, retrain, train
from flows.command.signatures import read_flow
from flows.parameters import Option, current_settings
from genre import datasets, evaluate, models
from genre.acquisition.download import DownloadSettings
from genre.acquisition.segments import SegmentSelection
from genre.acquisition.session import Pace
from genre.errors import DataError, UsageError
from genre.studies import drift, feature_models, published_models
from tests.support.project import ROOT

OPTIONS: dict[str, tuple[type, Option]] = {
    name: get_args(alias)
    for name, alias in vars(parameters).items()
    if len(get_args(alias)) == 2 and isinstance(get_args(alias)[1], Option)
}
BOUNDED = {name for name, (_, option) in OPTIONS.items() if option.json_schema().keys() - {"description"}}

Check = Callable[[Any], object]


def check_entry_point(name: str, **given: Any) -> None:
    """Check the parameters of an entry point, where data sets need not have been built."""
    signature = read_flow(ROOT / "flows" / f"{name}.py").signature
    defaults = {parameter.name: parameter.default for parameter in signature.parameters.values()}
    with suppress(DataError):
        getattr(checks, f"check_{name}")(defaults | given)


def check_download(**given: Any) -> None:
    DownloadSettings(url="http://127.0.0.1/{ytid}", **given).check_values()


#: Check of each parameter that has bounds or choices.
CHECKS: dict[str, Check] = {
    "Dataset": datasets.get_dataset,
    "Seed": lambda value: hyperparameters.resolve_hyperparameters(["svm"], "{}", seed=value),
    "Folds": lambda value: hyperparameters.resolve_hyperparameters(["svm"], "{}", folds=value),
    "MinGain": lambda value: checks.check_promotion("genre", value, 0.8),
    "MinPrecision": lambda value: checks.check_promotion("genre", 0.0, value),
    "MaxLost": lambda value: check_entry_point("build", max_lost=value),
    "MinChange": lambda value: checks.check_thresholds(value, 0.0),
    "DriftTrigger": lambda value: checks.check_thresholds(0.0, value),
    "MaxDrift": lambda value: checks.find_log_folder(value, "log"),
    "NShown": lambda value: check_entry_point("audit", n_shown=value),
    "NClips": lambda value: check_entry_point("robustness", n_clips=value),
    "MinConfidence": lambda value: check_entry_point("tag", source="/", write_tags=True, min_confidence=value),
    "MaxGenres": lambda value: check_entry_point("tag", source="/", write_tags=True, max_genres=value),
    "PerGenre": lambda value: SegmentSelection(per_genre=value).check_values(),
    "SegmentSeed": lambda value: SegmentSelection(seed=value).check_values(),
    "MaxClips": lambda value: Pace(max_clips=value).check_values(),
    "MaxHours": lambda value: Pace(max_hours=value).check_values(),
    "IntervalS": lambda value: Pace(interval_s=value).check_values(),
    "RetryS": lambda value: Pace(retry_s=value).check_values(),
    "RestS": lambda value: Pace(rest_s=value).check_values(),
    "Downloads": lambda value: check_entry_point("acquire", workers=value),
    "SampleRate": lambda value: check_download(sr=value),
    "TimeoutS": lambda value: check_download(timeout_s=value),
}


def edges(kind: type, option: Option) -> tuple[list[Any], list[Any]]:
    """Return the outermost values that a parameter's text accepts, and those just outside."""
    step = 1 if kind is int else 0.001
    inside = [b for b in (option.minimum, option.maximum) if b is not None]
    inside += [option.above + step] if option.above is not None else []
    inside += [option.below - step] if option.below is not None else []
    outside = [option.minimum - step] if option.minimum is not None else []
    outside += [option.maximum + step] if option.maximum is not None else []
    outside += [b for b in (option.above, option.below) if b is not None]
    special = [value for value in option.special if not isinstance(value, str)]
    outside += [min(special) - step] if special else []
    accepted = inside + special + list(option.choices)
    refused = [b for b in outside if b not in special] + ["?"] * bool(option.choices)
    return accepted, refused


def test_every_parameter_with_bounds_has_a_check():
    assert set(CHECKS) == BOUNDED


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_the_values_shown_are_the_values_accepted(
    name: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GENRE_LOG", str(tmp_path))
    accepted, refused = edges(*OPTIONS[name])
    assert accepted and refused
    for value in accepted:
        CHECKS[name](value)
    for value in refused:
        with pytest.raises(UsageError):
            CHECKS[name](value)


def test_the_variant_decides_the_defaults_of_a_model():
    both = '{"svm": {"C": 3.0}}'
    for variant in ("corrected", "paper"):
        resolved = hyperparameters.resolve_hyperparameters(["svm", "catboost"], both, variant=variant)
        assert resolved["svm"] == models.default_params("svm", variant) | {"C": 3.0}
        assert resolved["catboost"] == models.default_params("catboost", variant)
    assert models.default_params("svm", "paper") != models.default_params("svm")


@pytest.mark.parametrize("name", ["audit", "paper", "robustness", "retrain", "study", "train"])
@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_wrong_seed_is_refused_before_anything_is_written(name: str, seed: int, home: Path):
    with pytest.raises(UsageError, match=f"seed must be a whole number from 0 to 4294967295, got {seed}"):
        check_entry_point(name, seed=seed)
    assert not home.exists()


def test_the_defaults_that_are_repeated_here_are_those_of_the_library():
    assert parameters.TARGET_PRECISION == evaluate.TARGET_PRECISION
    assert parameters.LARGE_SHIFT == drift.LARGE_SHIFT


@pytest.mark.parametrize(
    ("option", "description"),
    [
        (Option("Text."), "Text."),
        (Option("Text.", minimum=0), "Text. 0 or more."),
        (Option("Text.", above=0), "Text. Above 0."),
        (Option("Text.", above=0, maximum=1), "Text. Above 0, at most 1."),
        (Option("Text.", minimum=0, below=1), "Text. 0 or more, below 1."),
        (Option("Text.", minimum=2, maximum=20, special={0: "none"}), "Text. From 2 to 20; 0 for none."),
        (Option("Text.", special={"": "this machine"}), "Text. Empty for this machine."),
        (Option("Text.", choices=("a", "b")), "Text. One of a, b."),
    ],
)
def test_the_accepted_values_follow_the_text(option: Option, description: str):
    assert option.description == description


def test_the_range_of_the_form_includes_special_values():
    shown = Option("Text.", above=0, maximum=1, special={-1: "the usual one"}).json_schema()
    assert shown == {"description": "Text. Above 0, at most 1; -1 for the usual one.", "minimum": -1, "maximum": 1}
    assert Option("Text.", above=0, below=1).json_schema().keys() == {
        "description",
        "exclusiveMinimum",
        "exclusiveMaximum",
    }


def test_the_texts_name_every_data_set_and_model():
    texts = {name: option.description for name, (_, option) in OPTIONS.items()}
    assert all(name in texts["Dataset"] for name in datasets.DATASETS)
    assert all(name in texts["ModelNames"] for name in models.MODELS)
    assert all(name in texts["PublishedModels"] for name in published_models.MODEL_NAMES)
    for name in models.MODELS:
        assert (f" {name}," in f"{texts['FeatureModel']},".replace(".", ",")) == (name in feature_models.list_models())


def test_prefect_shows_bounds_choices_and_defaults_but_does_not_enforce_them():
    shown = parameter_schema(retrain.retrain.fn).properties
    assert (shown["folds"]["minimum"], shown["folds"]["maximum"], shown["folds"]["default"]) == (-1, 20, -1)
    assert (shown["min_gain"]["minimum"], shown["min_gain"]["exclusiveMaximum"]) == (0, 1)
    assert shown["dataset"]["enum"] == sorted(datasets.DATASETS)
    assert shown["variant"]["enum"] == ["corrected", "paper"]
    given = {"folds": 50, "seed": -1, "min_gain": 7.0, "dataset": "millionsong"}
    assert retrain.retrain.validate_parameters(given).items() >= given.items()


def test_the_settings_of_a_run_are_all_parameters_in_the_order_of_the_signature():
    given = train.train.validate_parameters({"folds": 0, "dataset": "gtzan"})  # as Prefect does at the start of a run
    with FlowRunContext.model_construct(flow=train.train, parameters=given):
        settings = current_settings()
    assert list(settings.items())[:2] == [("dataset", "gtzan"), ("source", "")]
    assert list(settings) == list(train.train.parameters.properties)
    assert settings["folds"] == 0 and settings["model"] == "fast"
    with pytest.raises(RuntimeError, match="running flow"):
        current_settings()
