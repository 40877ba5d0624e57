"""Flow ``rollback``: reinstates the previous champion."""

import os

from prefect import flow

from flows.cli import main
from flows.parameters import RegistryName
from tracking import aliases, registry, runs


@flow(name="rollback", flow_run_name="rollback {registry_name}")
def rollback(registry_name: RegistryName = "genre") -> str:
    """Reinstate the previous champion; a second rollback undoes the first.

    Returns
    -------
    str
        A sentence on the versions before and after.
    """
    registry.check_name(registry_name)
    runs.connect()
    decision = aliases.roll_back(registry_name)
    if run_id := os.environ.get("MLFLOW_RUN_ID"):  # set by ``mlflow run``
        runs.set_tags(run_id, {"decision": decision})
    print(f"{decision}; serving.deploy switches to it by itself, any other server must be restarted", flush=True)
    return decision


if __name__ == "__main__":
    main(rollback)
