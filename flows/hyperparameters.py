"""Models and hyper-parameters that a flow is asked for, as names and JSON."""

from typing import Any

from flows.parameters import FAST, MAX_FOLDS, check_seed
from genre import models, parameters
from genre.errors import UsageError


def select_models(model: str) -> list[str]:
    """Names that ``model=`` stands for.

    Raises
    ------
    UsageError
        If one is unknown.
    """
    names = models.model_names(fast=True) if model == FAST else [name.strip() for name in model.split(",")]
    return [models.get_model(name).name for name in dict.fromkeys(names)]


def resolve_hyperparameters(names: list[str], params: str, seed: int = 0, folds: int = -1) -> dict[str, dict[str, Any]]:
    """Full hyper-parameters of each model, from the JSON given; and whether the seed and the folds are some.

    Raises
    ------
    UsageError
        If the JSON, a model, a hyper-parameter, the seed or the folds are wrong.
    """
    if folds not in (-1, 0, *range(2, MAX_FOLDS + 1)):
        raise UsageError(f"folds must be -1, 0, or from 2 to {MAX_FOLDS}, got {folds}")
    check_seed(seed)
    given = parameters.parse_json_object(params, "params")
    by_model = bool(given) and all(isinstance(value, dict) for value in given.values())
    if not by_model and len(names) > 1 and given:
        example = f'{{"{names[0]}": {{...}}}}'
        raise UsageError(f"params for several models must name them, as in {example}; got {params}")
    if by_model:
        parameters.override_defaults(dict.fromkeys(names), given, "params")
    return {name: models.check_params(name, given.get(name, {}) if by_model else given) for name in names}
