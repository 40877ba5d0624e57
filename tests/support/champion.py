"""A model logged and registered as the flows do."""

from pathlib import Path

from genre import models


def log_champion(folder: Path, data: models.Data, members: dict[str, dict]) -> Path:
    """Train models, log them as one as the flows do, make it the champion of a store in `folder`, and fetch it."""
    import mlflow

    from genre import models
    from genre.config import AudioConfig
    from genre.ensemble import Ensemble
    from tracking import packaging, registry

    trainings = {}
    for name, params in members.items():
        trainings[name] = folder / name
        model = models.train(name, data, params, 0, folder / name / "model")
        models.save(name, model, folder / name / "model")
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("serving", artifact_location=(folder / "artifacts").as_uri())
    run = client.create_run(experiment)
    ensemble = Ensemble(data.genres, AudioConfig(), tuple(members), "geometric", 0.5)
    uri = packaging.log_model(run.info.run_id, ensemble, trainings, {})
    client.set_registered_model_alias("genre", "champion", registry.register("genre", uri, {}, "").version)
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder / "model")))
