"""Decisions on a registered version, as the flows that register one return and print them."""

import os
import shlex
from dataclasses import dataclass
from enum import StrEnum

import mlflow

from flows.reports.tables import is_subflow
from genre.errors import hide_secrets
from tracking import registry


class PromotionOutcome(StrEnum):
    """Outcome of a promotion."""

    PROMOTED = "promoted"
    REFUSED = "refused"
    #: Nothing could be decided, as the champion cannot be scored or is gone; the next promotion decides anew.
    UNDECIDED = "undecided"
    #: The ensemble is a registered version already, and the decision on it stands.
    UNCHANGED = "unchanged"
    #: Versions of this data set cannot be registered beside the champion.
    NOT_REGISTERED = "not registered"


@dataclass(frozen=True)
class PromotionDecision:
    """Decision of a promotion.

    Attributes
    ----------
    outcome : PromotionOutcome
        The decision.
    sentence : str
        The decision and its reasons, for people.
    """

    outcome: PromotionOutcome
    sentence: str


def print_decision(decision: PromotionDecision, name: str) -> None:
    """Print a decision and, unless another flow goes on after it, how to use the champion."""
    advice = "" if is_subflow() else f"\n\n{next_command(name)}"
    print(f"{decision.sentence}{advice}", flush=True)


def next_command(name: str) -> str:
    """Return the commands that serve the champion, or advice on how to get one."""
    if registry.find_version_by_alias(name, "champion") is None:
        command = "mlflow run . --env-manager local -P source=PATH"
        return f'there is no champion yet; if a version was no better than chance, train on more music: "{command}"'
    uri = mlflow.get_tracking_uri()
    has_password = hide_secrets(uri) != uri or "MLFLOW_TRACKING_PASSWORD" in os.environ
    # a store with a password is named by the variables of the shell in which this command was given
    store = "" if has_password else f"MLFLOW_TRACKING_URI={shlex.quote(uri)} "
    serve = f"{store}mlflow models serve -m models:/{name}@champion -p 5001 --env-manager local"
    return f"To serve the champion:\n  {serve}\nTo classify files with it:\n  python -m serving.request FILE..."
