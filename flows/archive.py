"""Flow ``archive``: a store merged into fewer files, or written to and read from one Parquet file."""

from flows import checks
from flows.cli import main

if __name__ == "__main__":  # above the other imports, so that mistakes are answered before these take seconds
    main(__file__, checks.check_archive)

from pathlib import Path

from prefect import flow, get_run_logger

from flows.inputs import install_weights
from flows.parameters import ArchiveAction, ArchiveFile, Dataset, Source, VariantName, current_settings
from genre import datasets
from genre.config import AudioConfig
from genre.store.archive import compact_parts, export_store, read_further_inputs, restore_store
from genre.workspace import Workspace


@flow(name="archive", flow_run_name="archive {dataset}: {action}")
def archive(
    dataset: Dataset = "demo",
    source: Source = "",
    variant: VariantName = "corrected",
    action: ArchiveAction = "compact",
    file: ArchiveFile = "",
) -> str:
    """Compact a data set's features and spectrograms, export them to one Parquet file, or import them from one.

    Returns
    -------
    str
        Sentence with the number of parts or clips.

    Raises
    ------
    UsageError
        If the file to export to or import from is not given.
    """
    checks.check_archive(current_settings())
    workspace = Workspace(datasets.dataset_id(dataset, source))
    config = AudioConfig(variant=variant)
    directory = workspace.store_dir(config)
    path = Path(file).expanduser().resolve()
    with workspace.lock():
        if action == "compact":
            n_before, n_after = compact_parts(directory)
            summary = f"parts in the store: {n_before} before, {n_after} now"
        elif action == "export":
            n_clips = export_store(workspace.read_clips(), config, directory, path)
            summary = f"{n_clips} clips written to {path}, {path.stat().st_size / 1e6:,.1f} MB"
        else:
            install_weights(read_further_inputs(path), directory, "")
            summary = f"{restore_store(path, config, directory)} clips read from {path}"
    get_run_logger().info("%s", summary)
    return summary
