"""The order of work, as Prefect flows: each runs as ``python -m flows.NAME`` and is an entry point of MLproject."""

from genre.safety.telemetry import switch_off_telemetry

switch_off_telemetry()  # here, as Prefect and MLflow ask for it when the modules of this package import them
