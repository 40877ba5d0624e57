"""A model that is logged and registered as the flows do it."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genre.models import TrainingData


def log_champion(folder: Path, data: "TrainingData", members: dict[str, dict]) -> Path:
    """Train models, log them as one ensemble as the flows do, make it the champion of a store, and download it."""
    import mlflow

    from genre import models
    from genre.config import AudioConfig
    from genre.ensemble import Ensemble
    from tracking import packaging, registry

    trainings = {}
    for name, params in members.items():
        trainings[name] = folder / name
        model = models.train_model(name, data, params, 0, folder / name / "model")
        models.save_model(name, model, folder / name / "model")
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("serving", artifact_location=(folder / "artifacts").as_uri())
    run = client.create_run(experiment)
    inputs = {name: list(models.select_inputs(name, "corrected", has_audio=False)) for name in members}
    ensemble = Ensemble(data.genres, AudioConfig(), tuple(members), "geometric", 0.5, inputs=inputs)
    uri = packaging.log_model(run.info.run_id, ensemble, trainings, {})
    client.set_registered_model_alias("genre", "champion", registry.register_version("genre", uri, {}, "").version)
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder / "model")))
