"""All of MLflow: runs, logged results, the registry, promotion. No Prefect."""
