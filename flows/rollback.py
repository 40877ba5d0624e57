"""Flow ``rollback``: the version that served before serves again."""

import os

from prefect import flow

from flows.cli import main
from flows.parameters import RegistryName
from tracking import aliases, registry, runs


@flow(name="rollback", flow_run_name="rollback {registry_name}")
def rollback(registry_name: RegistryName = "genre") -> str:
    """Make the previous champion champion again; a second time undoes it.

    Returns
    -------
    str
        What was done, in words.
    """
    registry.check_name(registry_name)
    runs.connect()
    decision = aliases.roll_back(registry_name)
    if launched := os.environ.get("MLFLOW_RUN_ID"):
        runs.set_tags(launched, {"decision": decision})
    print(f"{decision}; serving.deploy follows by itself, restart what else serves it", flush=True)
    return decision


if __name__ == "__main__":
    main(rollback)
