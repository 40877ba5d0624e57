"""All of MLflow: runs, logged results, the registry, promotion. No Prefect."""

from genre.safety.telemetry import switch_off_telemetry

switch_off_telemetry()  # here, as MLflow asks for it when it is imported, and the modules of this package import it
