"""Flow ``retrain``, the main job: build, train, promote."""

from prefect import flow

from flows import tracking
from flows.acquire import acquire, remembered
from flows.build import Deal, build
from flows.cli import main
from flows.promote import check as check_promotion
from flows.promote import promote
from flows.train import FAST, check, chosen, train
from genre import datasets, evaluate, parameters
from genre.config import Variant
from genre.workspace import Workspace


@flow(name="retrain", flow_run_name="retrain {dataset}")
def retrain(
    dataset: str = "demo",
    source: str = "",
    variant: Variant = "corrected",
    split: Deal = "dealt",
    options: str = "{}",
    model: str = FAST,
    params: str = "{}",
    seed: int = 0,
    folds: int = -1,
    registry_name: str = "genre",
    min_gain: float = 0.0,
    min_precision: float = evaluate.PRECISION,
    n_jobs: int = -1,
    dask: str = "",
) -> str:
    """Build the data set, train the models, register the best ensemble, and make it champion if it is better.

    Parameters
    ----------
    dataset, source, variant, split, options, n_jobs, dask
        As for the flow ``build``; for ``audioset``, the options are arguments of the flow ``acquire``, by default those
        of its last run.
    model, params, seed, folds
        As for the flow ``train``.
    registry_name, min_gain, min_precision
        As for the flow ``promote``.

    Returns
    -------
    str
        What was decided, in words.
    """
    settings = dict(locals())
    check(chosen(model), params, seed, folds)
    check_promotion(registry_name, min_gain, min_precision)
    workspace = Workspace(datasets.dataset_id(dataset, source))
    with workspace.lock(), tracking.experiment(workspace, f"retrain {workspace.dataset_id}", settings):
        if datasets.get(dataset).acquired:
            acquire(**remembered(source, parameters.parse(options, "options")))
            options = "{}"
        build(dataset, source, variant, split, options, n_jobs, dask)
        train(dataset, source, variant, model, params, seed, folds)
        return promote(dataset, source, variant, registry_name, min_gain, min_precision)


if __name__ == "__main__":
    main(retrain)
