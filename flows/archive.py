"""Flow ``archive``: a store as fewer files, to be kept or handed on."""

from pathlib import Path
from typing import Literal

from prefect import flow, get_run_logger

from flows.cli import main
from genre import datasets
from genre.config import AudioConfig, Variant
from genre.errors import UsageError
from genre.store.archive import compact_parts, export_store, restore_store
from genre.workspace import Workspace

Action = Literal["compact", "export", "import"]


@flow(name="archive", flow_run_name="archive {dataset}: {action}")
def archive(
    dataset: str = "demo", source: str = "", variant: Variant = "corrected", action: Action = "compact", file: str = ""
) -> str:
    """Compact a data set's features and spectrograms, write them as one Parquet file, or take them from one.

    Parameters
    ----------
    dataset, source, variant
        As for the flow ``build``.
    action : {"compact", "export", "import"}
        Merge the parts that many builds left; write what is usable to `file`; or take what `file` has, which ``build``
        then need not compute where the music's files have the same names, sizes and times.
    file : str
        The Parquet file of ``export`` and ``import``. A relative path counts from the project's folder.

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
