"""The logged model: audio files in base64 in, genres out.

MLflow runs this file as a script when it loads the model, beside the copy of ``genre`` that was logged with it. The
model decodes base64 itself: MLflow's own decoding of binary columns passes the text on undecoded in some request forms.
"""

import base64
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from genre import audio
from genre.ensemble import Ensemble
from genre.errors import AudioError

#: Longest stretch of a file that is listened to, seconds, and largest file, bytes: ten minutes of CD-quality audio.
MAX_SECONDS = 600
MAX_BYTES = 128 * 2**20

#: Answer below the confidence that was learnt on validation.
UNKNOWN = "unknown"


logger = logging.getLogger(__name__)


class GenreModel(PythonModel):
    """An `Ensemble` behind MLflow's pyfunc interface."""

    def load_context(self, context: Any) -> None:
        """Load the ensemble, and let it hear ten seconds of noise, so that the first request finds it warm."""
        self.ensemble = Ensemble.load(Path(context.artifacts["ensemble"]))
        noise = np.random.default_rng(0).normal(0, 0.1, self.ensemble.config.n_samples).astype(np.float32)
        self.ensemble.predict_proba([noise])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Genres of some audio files.

        Parameters
        ----------
        context : PythonModelContext
            MLflow's; not used.
        model_input : pd.DataFrame
            Column ``audio``: the bytes of a file in base64, any format, rate and number of channels.
        params : dict, optional
            None are known.

        Returns
        -------
        pd.DataFrame
            ``genre`` (``unknown`` below the learnt confidence), ``confidence`` (0..1), ``probabilities`` (dict of all
            genres), ``error`` (why a row has none of these, else None). A file longer than a clip is cut into
            ten-second windows, whose probabilities are averaged.

        Raises
        ------
        MlflowException
            If there is no column ``audio``.
        """
        if "audio" not in model_input:
            raise MlflowException.invalid_parameter_value(
                "the request needs a column 'audio': a file's bytes in base64"
            )
        rows = [self._answer(text) for text in model_input["audio"]]
        # as objects, or pandas makes a NaN of None, which is no JSON
        return pd.DataFrame(rows, columns=["genre", "confidence", "probabilities", "error"], dtype=object)

    def _answer(self, text: Any) -> dict[str, Any]:
        """One row of the response."""
        try:
            windows = self._windows(_decode(text))
            proba = self.ensemble.predict_proba(windows).mean(axis=0)
        except AudioError as error:
            return _refusal(error.reason)
        except Exception:  # whatever it is, the other rows get their answers and no client a traceback
            logger.exception("a row could not be answered")
            return _refusal("this file could not be analysed; the server's log says why")
        confidence = float(proba.max())
        best = self.ensemble.genres[int(proba.argmax())]
        return {
            "genre": best if confidence >= self.ensemble.min_confidence else UNKNOWN,
            "confidence": confidence,
            "probabilities": dict(zip(self.ensemble.genres, proba.tolist(), strict=True)),
            "error": None,
        }

    def _windows(self, data: bytes) -> list[np.ndarray]:
        """The ten-second windows of a file that can be judged; a silent one in a longer track is passed over."""
        config, usable = self.ensemble.config, []
        last = AudioError("too_short", "the file holds no audio")
        for _, window in audio.decode_windows(data, config, duration_s=MAX_SECONDS):
            try:
                usable.append(audio.clip(window, config))
            except AudioError as error:
                last = error
        if not usable:
            raise last
        return usable


def _refusal(reason: str) -> dict[str, Any]:
    return {"genre": None, "confidence": None, "probabilities": None, "error": reason}


def _decode(text: Any) -> bytes:
    """Bytes of a base64 string, strictly read but for line breaks."""
    if not isinstance(text, str) or not text:
        raise AudioError("undecodable", "no audio in this row; send a file's bytes in base64")
    if len(text) > MAX_BYTES * 4 // 3 + 4:
        raise AudioError("undecodable", f"the file is larger than {MAX_BYTES >> 20} MB, the most that is accepted")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise AudioError("undecodable", f"this row is not base64: {error}") from None


set_model(GenreModel())
