"""Flow ``archive``: a store as fewer files, to be kept or handed on."""

from pathlib import Path

from prefect import flow, get_run_logger

from flows.cli import main
from flows.parameters import ArchiveAction, ArchiveFile, Dataset, Source, VariantName
from genre import datasets
from genre.config import AudioConfig
from genre.errors import UsageError
from genre.store.archive import compact_parts, export_store, restore_store
from genre.workspace import Workspace


@flow(name="archive", flow_run_name="archive {dataset}: {action}")
def archive(
    dataset: Dataset = "demo",
    source: Source = "",
    variant: VariantName = "corrected",
    action: ArchiveAction = "compact",
    file: ArchiveFile = "",
) -> str:
    """Compact a data set's features and spectrograms, write them as one Parquet file, or take them from one.

    Returns
    -------
    str
        What was done, in words.
    """
    if action != "compact" and not file:
        raise UsageError(f"action={action} needs -P file=PATH, a Parquet file")
    workspace, config = Workspace(datasets.dataset_id(dataset, source)), AudioConfig(variant=variant)
    path, directory = Path(file).expanduser().resolve(), workspace.store_dir(config)
    with workspace.lock():
        if action == "compact":
            before, after = compact_parts(directory)
            done = f"{before} parts are now {after}"
        elif action == "export":
            n = export_store(workspace.read_clips(), config, directory, path)
            done = f"{n} clips in {path}, {path.stat().st_size / 1e6:,.1f} MB"
        else:
            done = f"{restore_store(path, config, directory)} clips taken from {path}"
    get_run_logger().info("%s", done)
    return done


if __name__ == "__main__":
    main(archive)
