"""Models that can do with features alone; without scikit-learn and SciPy, since the command line names them."""

from genre import models
from genre.errors import UsageError


def check_model(name: str) -> str:
    """Check that a model can do with features alone, and return its name.

    Raises
    ------
    UsageError
        If it is unknown or takes something else.
    """
    if models.select_inputs(name, "paper", has_audio=False) != ("features",):
        raise UsageError(f"{name} takes no features alone; choose from {', '.join(list_models())}")
    return name


def list_models() -> list[str]:
    """List the models that can do with features alone."""
    names = models.model_names("features")
    return [name for name in names if models.select_inputs(name, "paper", has_audio=False) == ("features",)]
