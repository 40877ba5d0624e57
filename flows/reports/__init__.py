"""Tables and figures that the flows show in Prefect and on the terminal."""
