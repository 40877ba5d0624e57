"""Models and hyper-parameters of a flow, parsed from names and JSON."""

from typing import Any

from flows.parameters import FAST, MAX_FOLDS, check_seed
from genre import models, parameters
from genre.config import Variant
from genre.errors import UsageError


def select_models(model: str) -> list[str]:
    """Return the model names that the parameter ``model`` stands for, each once.

    Raises
    ------
    UsageError
        If a name is unknown.
    """
    names = models.model_names(fast=True) if model == FAST else [name.strip() for name in model.split(",")]
    return [models.get_model(name).name for name in dict.fromkeys(names)]


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
    if folds not in (-1, 0, *range(2, MAX_FOLDS + 1)):
        raise UsageError(f"folds must be -1, 0, or from 2 to {MAX_FOLDS}, got {folds}")
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
