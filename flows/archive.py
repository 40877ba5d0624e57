"""Flow ``archive``: a store merged, exported or imported; old files pruned; split assignments restored."""

from flows import checks
from flows.cli import main

if __name__ == "__main__":  # above the other imports, so that mistakes are answered before these take seconds
    main(__file__, checks.check_archive)

from pathlib import Path

import pandas as pd
from prefect import flow, get_run_logger

from flows.inputs import install_weights
from flows.parameters import (
    ArchiveAction,
    ArchiveFile,
    Dataset,
    PruneDryRun,
    Source,
    VariantName,
    current_settings,
)
from genre import datasets
from genre.config import AudioConfig
from genre.errors import DataError
from genre.files import remove_path
from genre.store import pruning
from genre.store.archive import compact_parts, export_store, read_further_inputs, restore_store
from genre.workspace import Workspace
from tracking import registry, results, runs


@flow(name="archive", flow_run_name="archive {dataset}: {action}")
def archive(
    dataset: Dataset = "demo",
    source: Source = "",
    variant: VariantName = "corrected",
    action: ArchiveAction = "compact",
    file: ArchiveFile = "",
    dry_run: PruneDryRun = True,
) -> str:
    """Compact a data set's features and spectrograms, export them to one Parquet file, or import them from one.

    Pruning removes old trainings, stores and logged models; nothing that is served, or that training and promotion read
    now, is removed. Split assignments that are lost or damaged are restored from MLflow.

    Returns
    -------
    str
        Sentence with the number of parts, clips, files or recordings.

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
        elif action == "import":
            install_weights(read_further_inputs(path), directory, "")
            known = workspace.read_clips(["clip_id", "stamp"]) if workspace.is_built() else None
            summary = f"{restore_store(path, config, directory, known)} clips read from {path}"
        elif action == "prune":
            summary = prune_files(workspace, dry_run)
        else:
            summary = restore_splits(workspace)
    get_run_logger().info("%s", summary)
    return summary


def prune_files(workspace: Workspace, dry_run: bool) -> str:
    """Remove what no command reads any more, or only list it; return a sentence with the total."""
    runs.connect()
    items = pruning.list_prunable(workspace)
    kept = {folder.name for folder in pruning.current_trainings(workspace)}
    old_models = registry.list_old_models(runs.workspace_id(workspace), kept)
    rows = [(item.kind, 1, item.n_bytes) for item in items]
    rows += [("logged model", 1, registry.model_bytes(model)) for model in old_models]
    table = pd.DataFrame(rows, columns=["kind", "n", "bytes"]).groupby("kind", sort=False).sum()
    for kind, row in table.iterrows():
        get_run_logger().info("%s: %d, %.1f MB", kind, row["n"], row["bytes"] / 1e6)
    total = f"{table['n'].sum()} items, {table['bytes'].sum() / 1e6:,.1f} MB"
    if dry_run:
        return f"{total} can be removed; nothing was: add -P dry_run=false to remove them"
    for item in items:
        remove_path(item.path)
    for model in old_models:
        registry.delete_model(model)
    return f"{total} removed"


def restore_splits(workspace: Workspace) -> str:
    """Add those split assignments that MLflow holds and the workspace lacks; return a sentence with their number."""
    runs.connect()
    held = results.restore_assignments(workspace)
    try:
        present = workspace.read_assignments()
    except DataError as error:
        get_run_logger().warning("%s", error)
        present = None
    table = held if present is None else pd.concat([present, held]).drop_duplicates("recording", ignore_index=True)
    workspace.write_assignments(table)
    n_new = len(table) - (0 if present is None else len(present))
    return f"{n_new} of {len(table)} recordings have their split from MLflow; run -e build next"
