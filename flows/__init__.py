"""The order of work, as Prefect flows: each runs as ``python -m flows.NAME`` and is an entry point of MLproject."""
