"""AudioSet's clips that the flow ``acquire`` has downloaded so far."""

from pathlib import Path

import pandas as pd

from genre.acquisition.ledger import Ledger
from genre.errors import DataError
from genre.workspace import Workspace


def load_clips(source: None, directory: Path) -> pd.DataFrame:
    """List the downloaded clips and those that are unavailable; segments still waiting are left out.

    Parameters
    ----------
    source : None
        Not used: the lists were read when the segments were selected.
    directory : Path
        Folder of the data set, with the ledger.

    Returns
    -------
    pd.DataFrame
        Clips table. The video is the recording. A padded clip ends where its audio does. An unavailable clip has the
        class of its download fault as status.

    Raises
    ------
    DataError
        If no clip has been downloaded yet.
    """
    workspace = Workspace(directory.name)
    if not workspace.ledger_path.exists():
        raise DataError(
            f"no segments in {directory}; "
            'run "mlflow run . --env-manager local -e acquire" with the same -P source= first'
        )
    ledger = Ledger(workspace.ledger_path)
    try:
        genres = list(ledger.done_by_genre())
        table = ledger.read_segments()
    finally:
        ledger.close()
    table = table[table["status"] != "waiting"]
    done = table["status"] == "done"
    if not done.any():
        raise DataError(
            f"none of the {len(table)} segments requested so far could be downloaded; "
            'run "mlflow run . --env-manager local -e acquire" again, or choose other genres there'
        )
    return pd.DataFrame(
        {
            "clip_id": table["clip_id"],
            "path": (f"{workspace.audio_dir}/" + table["path"]).where(done, ""),
            "genre": pd.Categorical(table["genre"], categories=genres),
            "recording": table["ytid"],
            "dataset": "audioset",
            "start_s": 0.0,
            "end_s": (table["duration_s"] - table["padded_s"]).where(done, 0.0),
            "split": table["split"].where(table["split"] != ""),
            "stamp": table["sha256"].str[:16],
            "status": table["error"].mask(done, "pending"),
            "reason": table["message"].mask(done, ""),
        }
    )
