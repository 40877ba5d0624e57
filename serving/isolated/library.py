"""Answers of a logged model to files, with the code it was logged with: ``python -I library.py DESCRIPTOR``.

A script of its own, run outside the project, since two versions of one package cannot live in one process. It is told
the folder of the model through the pipe, then gets tables with a column ``path``; what it says when is in
`genre.workers.pool`, which it must not import.
"""

import base64
import os
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd

#: A file beyond this is not even read: the most that any model of ours accepts, twice.
MAX_BYTES = 2**28

#: Seconds that this process waits for its next batch before it ends by itself.
_IDLE_S = 60.0


def predict_file(model: Any, path: str) -> dict[str, Any]:
    """What a model says of one file.

    Parameters
    ----------
    model : mlflow.pyfunc.PyFuncModel
        The loaded model.
    path : str
        Of the file.

    Returns
    -------
    dict
        ``path``, ``genre``, ``confidence``, ``probabilities`` and ``error``, the last three None where there are none;
        ``error`` holds ``code`` and ``message``. Codes beside the model's own: ``unreadable`` (the system's reason),
        ``refused`` (a model of before there were codes), ``failed`` (a bug).
    """
    said: dict[str, Any] = {"path": path, "genre": None, "confidence": None, "probabilities": None, "error": None}
    try:
        size = Path(path).stat().st_size
        if size > MAX_BYTES:
            return said | _error("too_large", f"the file has {size >> 20} MB, more than the {MAX_BYTES >> 20} accepted")
        audio = base64.b64encode(Path(path).read_bytes()).decode()
    except OSError as error:
        return said | _error("unreadable", f"the file cannot be read: {error.strerror}")
    try:
        row = model.predict(pd.DataFrame({"audio": [audio]})).iloc[0]
    except Exception as error:  # whatever it is, the other files get their answers
        traceback.print_exc()
        return said | _error("failed", f"the model failed ({type(error).__name__}); its last words are in the log")
    if not pd.isna(row["error"]):
        return said | (_error("refused", row["error"]) if isinstance(row["error"], str) else {"error": row["error"]})
    return said | {name: row[name] for name in ("genre", "confidence", "probabilities")}


def _error(code: str, message: str) -> dict[str, dict[str, str]]:
    return {"error": {"code": code, "message": message}}


def _serve_batches(pipe: Connection) -> None:
    """Answer each table of files that comes through the pipe."""
    model = mlflow.pyfunc.load_model(pipe.recv())
    pipe.send(("ready", None))
    while pipe.poll(_IDLE_S):
        answers = []
        for at, path in enumerate(pipe.recv()["path"]):
            pipe.send(("at", at))
            answers.append(predict_file(model, path))
        pipe.send(("done", answers))


def _main(pipe: Connection) -> None:
    try:
        _serve_batches(pipe)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # whoever started this is gone
    except Exception as error:
        traceback.print_exc()
        reason = str(error).partition("\n")[0]
        pipe.send(("refused", f"the model cannot be loaded ({type(error).__name__}: {reason})"))


if __name__ == "__main__":
    os.dup2(2, 1)  # what decoders print
    _main(Connection(int(sys.argv[1])))
