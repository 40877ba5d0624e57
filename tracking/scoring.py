"""Scoring a logged model in a fresh process, with the code it was logged with."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import soundfile as sf

from genre.config import AudioConfig
from genre.errors import AudioError, GenreError
from genre.safety.model_code import ForeignCodeError
from genre.store import computing
from genre.workspace import PROJECT_DIR
from tracking import registry

#: Seconds to wait before each further attempt to score: for a download that timed out, a disk that was full for a
#: moment, or a process that was killed for memory.
RETRY_PAUSES_S = (2.0, 10.0)


def score_clips(model_uri: str, clips: pd.DataFrame, config: AudioConfig, *, max_refused: float = 0.0) -> pd.DataFrame:
    """Predict clips with a logged model, in a fresh process with the code it was logged with.

    Parameters
    ----------
    model_uri : str
        ``models:/...``.
    clips : pd.DataFrame
        Columns ``clip_id``, ``path``, ``start_s``, ``end_s``.
    config : AudioConfig
        Configuration with which the clips are decoded.
    max_refused : float
        Largest share of the clips that the model may refuse. Default 0.

    Returns
    -------
    pd.DataFrame
        Indexed by ``clip_id``, without the clips that were refused; one column per genre. Its ``attrs`` hold
        ``ms_per_clip``, the time per prediction with the model loaded and warm, and ``n_refused``.

    Raises
    ------
    GenreError
        If the model cannot be downloaded or run in three attempts, carries code that is not accepted, or refuses more
        clips than it may.
    """
    scored = _score_patiently(model_uri, clips, config)
    is_refused = scored["error"].notna()
    refused = scored[is_refused]
    if len(refused) > max_refused * len(scored):
        raise GenreError(
            f"{model_uri} refuses {len(refused)} of {len(scored)} clips; {refused.index[0]}: {refused['error'].iloc[0]}"
        )
    predicted = scored[~is_refused].drop(columns="error")
    predicted.attrs = scored.attrs | {"n_refused": len(refused)}
    return predicted


def _score_patiently(model_uri: str, clips: pd.DataFrame, config: AudioConfig) -> pd.DataFrame:
    """Score clips, again after a pause where the network, the disk or the memory fails."""
    for pause_s in RETRY_PAUSES_S:
        try:
            return _score_once(model_uri, clips, config)
        except (AudioError, ForeignCodeError):  # neither a clip nor a version is any other after a pause
            raise
        except (GenreError, OSError):
            time.sleep(pause_s)
    try:
        return _score_once(model_uri, clips, config)
    except OSError as error:
        raise GenreError(f"cannot score {model_uri}: {error}") from error


def _score_once(model_uri: str, clips: pd.DataFrame, config: AudioConfig) -> pd.DataFrame:
    """Return the probabilities of clips and, of those that are refused, the reason as ``error``."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with _start_process(folder) as process:  # it loads its libraries while the clips are cut
            try:
                model = registry.download_model(model_uri, folder / "model", sync=False)
                task = {"model": str(model), "files": _write_clips(clips, config, folder)}
            except BaseException:
                process.kill()
                raise
            _, errors = process.communicate(json.dumps(task))
        if process.returncode:
            last_line = (errors.strip().splitlines() or [f"its process ended with code {process.returncode}"])[-1]
            raise GenreError(f"cannot score {model_uri}: {last_line}")
        return pd.read_parquet(folder / "out.parquet")


def _start_process(folder: Path) -> subprocess.Popen[str]:
    """Start a process that scores what it is sent, outside the project and its environment, into ``out.parquet``."""
    script = str(PROJECT_DIR / "serving" / "isolated" / "score.py")
    return subprocess.Popen(
        [sys.executable, "-I", script, "out.parquet"],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k not in ("MLFLOW_RUN_ID", "PYTHONPATH", "GENRE_LOG")},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _write_clips(clips: pd.DataFrame, config: AudioConfig, folder: Path) -> dict[str, str]:
    """Write each clip as a file of its own, float samples at the models' rate; clip id to path."""
    files = {}
    for n, clip in enumerate(clips.itertuples()):
        path = folder / f"{n}.wav"
        y = computing.read_clip(clip, config)
        try:
            sf.write(path, y, config.sr, subtype="FLOAT")
        except sf.LibsndfileError as error:  # the disk is full
            raise OSError(f"cannot write {path}: {error}") from error
        files[str(clip.clip_id)] = str(path)
    return files
