"""Score audio files with a logged model, with the code it was logged with: ``python -I score.py OUT``.

A script of its own, run outside the project: two versions of one package cannot live in one process. It reads from
standard input, as JSON, the folder of the model and the files by clip id, so that it can be started before these exist.
"""

import base64
import json
import sys
import time
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd

#: Files per batch: some tens of megabytes.
BATCH_FILES = 32


def score_files(model: str, files: dict[str, str]) -> pd.DataFrame:
    """Predict the probabilities of some files.

    Parameters
    ----------
    model : str
        Folder of the logged model.
    files : dict
        Clip id to path.

    Returns
    -------
    pd.DataFrame
        Indexed by ``clip_id``; one column per genre, and ``error``. Its ``attrs`` hold ``ms_per_clip``.
    """
    # the warnings would be about versions, which reading every installed package takes a second; nobody would see them
    loaded = mlflow.pyfunc.load_model(model, suppress_warnings=True)
    ids = list(files)
    rows = []
    started = time.perf_counter()
    for start in range(0, len(ids), BATCH_FILES):
        batch = ids[start : start + BATCH_FILES]
        audio = [base64.b64encode(Path(files[i]).read_bytes()).decode() for i in batch]
        predictions = loaded.predict(pd.DataFrame({"audio": audio}))
        rows += [(p.probabilities or {}) | {"error": _error_message(p.error)} for p in predictions.itertuples()]
    table = pd.DataFrame(rows, index=pd.Index(ids, name="clip_id"))
    table.attrs["ms_per_clip"] = 1000 * (time.perf_counter() - started) / max(len(ids), 1)
    return table


def _error_message(error: Any) -> str | None:
    """Return the reason for a missing prediction as text; models logged by older versions give text without a code."""
    return f"{error['code']}: {error['message']}" if isinstance(error, dict) else error


if __name__ == "__main__":
    score_files(**json.load(sys.stdin)).to_parquet(sys.argv[1])
