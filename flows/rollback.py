"""Flow ``rollback``: reinstates the previous champion."""

from flows import checks
from flows.cli import main

if __name__ == "__main__":  # above the other imports, so that mistakes are answered before these take seconds
    main(__file__, checks.check_rollback, needs_workspace=False)

import os

from prefect import flow

from flows.parameters import LiftHold, RegistryName
from tracking import aliases, runs


@flow(name="rollback", flow_run_name="rollback {registry_name}")
def rollback(registry_name: RegistryName = "genre", lift: LiftHold = False) -> str:
    """Reinstate the previous champion, and promote nothing until that is lifted; a second rollback undoes the first.

    Returns
    -------
    str
        A sentence on the versions before and after, or on the hold.
    """
    checks.check_rollback({"registry_name": registry_name})
    runs.connect()
    decision = aliases.lift_hold(registry_name) if lift else aliases.roll_back(registry_name)
    if run_id := os.environ.get("MLFLOW_RUN_ID"):  # set by ``mlflow run``
        runs.set_tags(run_id, {"decision": decision})
    note = "" if lift else "; serving.deploy switches to it by itself, any other server must be restarted"
    print(f"{decision}{note}", flush=True)
    return decision
