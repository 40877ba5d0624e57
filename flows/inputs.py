"""Inputs of the models of a flow: which they are, the weights that they need, and their computation."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefect import get_run_logger

from flows.material import Material
from genre import models, weights
from genre.config import AudioConfig
from genre.errors import DataError
from genre.inputs import BASE_INPUTS, get_input
from genre.store import building, contents


def required_inputs(model_names: Iterable[str], config: AudioConfig, *, has_audio: bool) -> list[str]:
    """Return the inputs of every build and those that some models take, each once; of features only, those alone."""
    if not has_audio:
        return ["features"]
    taken = [name for model in model_names for name in models.select_inputs(model, config.variant, has_audio=True)]
    return list(dict.fromkeys([*BASE_INPUTS, *taken]))


def install_weights(names: Iterable[str], directory: Path, source: str) -> dict[str, str]:
    """Put the weights that some inputs are computed with into a store.

    Parameters
    ----------
    names : iterable of str
        Names of inputs.
    directory : Path
        The store.
    source : str
        Path of the weights, as for `genre.weights.find_weights`; empty to look for them.

    Returns
    -------
    dict
        Input whose weights cannot be had to the reason.
    """
    needy = [name for name in names if get_input(name).weights_file]
    if not needy:
        return {}
    try:
        path = weights.find_weights(source)
    except weights.WeightsUnavailableError as error:
        has_weights = all((directory / get_input(name).weights_file).exists() for name in needy)
        if has_weights and not weights.are_turned_off(source):
            return {}
        get_run_logger().warning("%s; the models that take %s are left out", error, " and ".join(needy))
        return dict.fromkeys(needy, str(error))
    for name in needy:
        contents.install_weights(path, directory, name)
    return {}


def find_start_weights(hyperparameters: dict[str, dict[str, Any]], source: str) -> dict[str, str]:
    """Put the path of the music network's weights into the hyper-parameters of the models that start from them.

    Parameters
    ----------
    hyperparameters : dict
        Model to its hyper-parameters. Where the default of ``weights`` is empty, it is set to the path of the converted
        weights: those it names already, as for `genre.weights.find_weights`, else those of `source`.
    source : str
        Path of the weights, as for `genre.weights.find_weights`; empty to look for them.

    Returns
    -------
    dict
        Model whose weights cannot be had to the reason.
    """
    missing = {}
    for name, values in hyperparameters.items():
        if models.default_params(name).get("weights") != "":
            continue
        try:
            values["weights"] = str(weights.find_weights(values["weights"] or source).resolve())
        except weights.WeightsUnavailableError as error:
            get_run_logger().warning("%s; %s is left out", error, name)
            missing[name] = str(error)
    return missing


def fill_inputs(material: Material, names: Iterable[str]) -> None:
    """Compute those inputs of a model that the build left out, for the clips that lack them.

    Raises
    ------
    DataError
        If one cannot be computed for a clip, with the reason.
    """
    directory = material.workspace.store_dir(material.config)
    further = [name for name in names if name not in BASE_INPUTS]
    unread = building.build_store(material.clips, material.config, directory, names=further).unread
    if unread:
        raise DataError(f"{len(unread)} of {len(material.clips)} clips: {next(iter(unread.values()))}")
    for name in further:
        contents.require_computed(material.clips, directory, name)
