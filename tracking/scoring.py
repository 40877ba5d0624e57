"""Scoring a logged model in a fresh process, with the code it was logged with."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import soundfile as sf

from genre.config import AudioConfig
from genre.errors import GenreError
from genre.store import computing
from genre.workspace import PROJECT_DIR
from tracking import registry


def score_clips(model_uri: str, clips: pd.DataFrame, config: AudioConfig) -> pd.DataFrame:
    """Predict clips with a logged model, in a fresh process with the code it was logged with.

    Parameters
    ----------
    model_uri : str
        ``models:/...``.
    clips : pd.DataFrame
        Columns ``clip_id``, ``path``, ``start_s``, ``end_s``.
    config : AudioConfig
        Configuration with which the clips are decoded.

    Returns
    -------
    pd.DataFrame
        Indexed by ``clip_id``; one column per genre. Its ``attrs`` hold ``ms_per_clip``, the time per prediction
        with the model loaded and warm.

    Raises
    ------
    GenreError
        If the model cannot be downloaded or loaded, or refuses a clip.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with _start_process(folder) as process:  # it loads its libraries while the clips are cut
            try:
                model = registry.download_model(model_uri, folder / "model")
                task = {"model": str(model), "files": _write_clips(clips, config, folder)}
            except BaseException:
                process.kill()
                raise
            _, errors = process.communicate(json.dumps(task))
        if process.returncode:
            last_line = (errors.strip().splitlines() or [f"its process ended with code {process.returncode}"])[-1]
            raise GenreError(f"cannot score {model_uri}: {last_line}")
        scored = pd.read_parquet(folder / "out.parquet")
    refused = scored[scored["error"].notna()]
    if len(refused):
        raise GenreError(f"{model_uri} refuses {len(refused)} clips; {refused.index[0]}: {refused['error'].iloc[0]}")
    return scored.drop(columns="error")


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
        sf.write(path, computing.read_clip(clip, config), config.sr, subtype="FLOAT")
        files[str(clip.clip_id)] = str(path)
    return files
