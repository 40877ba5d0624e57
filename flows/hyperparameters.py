"""Models and hyper-parameters of a flow, parsed from names and JSON."""

from typing import Any

from flows.parameters import FAST, MAX_FOLDS, MAX_SEED
from genre import datasets, models, parameters
from genre.config import Variant
from genre.errors import UsageError


def select_models(model: str, dataset: str) -> list[str]:
    """Return the model names that the parameter ``model`` stands for on a data set, each once.

    A network that has heard real music only says nothing of synthetic sound: ``fast`` leaves it out there.

    Raises
    ------
    UsageError
        If a name is unknown.
    """
    if model != FAST:
        names = [models.get_model(name.strip()).name for name in dict.fromkeys(model.split(","))]
        if given := [name for name in names if name in models.PRETRAINED]:
            raise UsageError(f"{given[0]} is not trained: register it as it is by -e pretrained")
        return names
    is_synthetic = datasets.get_dataset(dataset).synthetic
    return [name for name in models.model_names(fast=True) if not (is_synthetic and is_pretrained(name))]


def resolve_hyperparameters(
    names: list[str], params: str, seed: int = 0, folds: int = -1, variant: Variant = "corrected"
) -> dict[str, dict[str, Any]]:
    """Return the full hyper-parameters of each model, after checking the seed and the folds.

    Parameters
    ----------
    names : list of str
        Models.
    params : str
        JSON object of hyper-parameters, or of one such object per model; the others keep their defaults.
    seed : int
        Seed, from 0 to 2**32 - 1.
    folds : int
        Folds: -1 (automatic), 0 (none), or from 2 to 20.
    variant : {"corrected", "paper"}
        Variant of which the defaults are taken.

    Raises
    ------
    UsageError
        If the JSON, a model, a hyper-parameter, the seed or the number of folds is not accepted.
    """
    check_folds(folds)
    check_seed(seed)
    overrides = parameters.parse_json_object(params, "params")
    is_per_model = bool(overrides) and all(isinstance(value, dict) for value in overrides.values())
    if overrides and not is_per_model and len(names) > 1:
        example = f'{{"{names[0]}": {{...}}}}'
        raise UsageError(f"params for several models must name them, as in {example}; got {params}")
    if not is_per_model:
        return {name: models.check_params(name, overrides, variant) for name in names}
    parameters.override_defaults(dict.fromkeys(names), overrides, "params")  # refuses the name of another model
    return {name: models.check_params(name, overrides.get(name, {}), variant) for name in names}


def check_seed(seed: int) -> None:
    """Check that a seed is in the range that NumPy accepts.

    Raises
    ------
    UsageError
        If it is not.
    """
    if not 0 <= seed <= MAX_SEED:
        raise UsageError(f"seed must be a whole number from 0 to {MAX_SEED}, got {seed}")


def check_folds(folds: int) -> None:
    """Check that a number of folds is accepted.

    Raises
    ------
    UsageError
        If it is not.
    """
    if folds not in (-1, 0, *range(2, MAX_FOLDS + 1)):
        raise UsageError(f"folds must be -1, 0, or from 2 to {MAX_FOLDS}, got {folds}")


def is_pretrained(name: str) -> bool:
    """Return whether a model takes an input that a pretrained network computes."""
    from genre.inputs import get_input  # brings SciPy, in 0.6 s, and most checks do without

    return any(get_input(input_name).weights_file for input_name in models.get_model(name).input_names)
