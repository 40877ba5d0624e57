"""Reports that libraries send home about their use: off, unless the user's own environment has them on."""

import os

#: Variables by which libraries are asked to send nothing home. MLflow reads the first when it is imported; Prefect's
#: server reads the second; Prefect in a terminal the third, and it takes 1, which MLflow does not: its own variable
#: decides there. Streamlit reads the last.
SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
}


def switch_off_telemetry() -> None:
    """Switch reports off in this process and those that it starts; a variable that is set stays as it is."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
