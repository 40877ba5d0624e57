"""Predictions of a logged model for files, with the code it was logged with: ``python -I library.py DESCRIPTOR``.

A script of its own, run outside the project, since two versions of one package cannot live in one process. Through the
pipe it receives the folder of the model, then tables with a column ``path``. The messages it sends are described in
`genre.workers.pool`, which it must not import.
"""

import base64
import logging
import os
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd

#: Largest file that is read, bytes: twice the most that any model of this project accepts.
MAX_BYTES = 2**28

#: Seconds that this process waits for its next batch before it ends.
_IDLE_S = 60.0


def predict_file(model: Any, path: str) -> dict[str, Any]:
    """Predict the genre of one file.

    Parameters
    ----------
    model : mlflow.pyfunc.PyFuncModel
        The loaded model.
    path : str
        Path of the file.

    Returns
    -------
    dict
        ``path``, ``genre``, ``confidence``, ``probabilities``, ``note`` (a sentence about how the file was heard, or
        None, as of all models logged before there were notes) and ``error``. With an error the four before it are
        None, otherwise ``error`` is; it holds ``code`` and ``message``. Codes in addition to the model's own:
        ``unreadable`` (with the system's reason), ``refused`` (from a model logged before there were codes),
        ``failed`` (a bug).
    """
    empty = ("genre", "confidence", "probabilities", "note", "error")
    prediction: dict[str, Any] = {"path": path} | dict.fromkeys(empty)
    try:
        size = Path(path).stat().st_size
        if size > MAX_BYTES:
            return prediction | _error(
                "too_large", f"the file has {size >> 20} MB; at most {MAX_BYTES >> 20} MB are accepted"
            )
        audio = base64.b64encode(Path(path).read_bytes()).decode()
    except OSError as error:
        return prediction | _error("unreadable", f"the file cannot be read: {error.strerror}")
    try:
        row = model.predict(pd.DataFrame({"audio": [audio]})).iloc[0]
    except Exception as error:  # a bug must not cost the other files their predictions
        traceback.print_exc()
        return prediction | _error("failed", f"the model failed ({type(error).__name__}); the traceback is in the log")
    if not pd.isna(row["error"]):
        is_text = isinstance(row["error"], str)  # from a model logged before errors had codes
        return prediction | (_error("refused", row["error"]) if is_text else {"error": row["error"]})
    return prediction | {name: row.get(name) for name in ("genre", "confidence", "probabilities", "note")}


def _error(code: str, message: str) -> dict[str, dict[str, str]]:
    return {"error": {"code": code, "message": message}}


def _serve_batches(pipe: Connection) -> None:
    """Predict each table of files that comes through the pipe."""
    # every process would repeat the model's warning, which the flow has logged
    logging.getLogger("genre.serving").setLevel(logging.ERROR)
    model = mlflow.pyfunc.load_model(pipe.recv())
    pipe.send(("ready", None))
    while pipe.poll(_IDLE_S):
        predictions = []
        for position, path in enumerate(pipe.recv()["path"]):
            pipe.send(("at", position))
            predictions.append(predict_file(model, path))
        pipe.send(("done", predictions))


def _main(pipe: Connection) -> None:
    try:
        _serve_batches(pipe)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # the parent process is gone
    except Exception as error:
        traceback.print_exc()
        reason = str(error).partition("\n")[0]
        pipe.send(("refused", f"the model cannot be loaded ({type(error).__name__}: {reason})"))


if __name__ == "__main__":
    os.dup2(2, 1)  # what decoders print goes to standard error
    _main(Connection(int(sys.argv[1])))
