"""The logged model: audio files in base64 in, genres out.

MLflow runs this file as a script when it loads the model, beside the copy of ``genre`` that was logged with it. The
model decodes base64 itself: MLflow's own decoding of binary columns passes the text on undecoded in some request forms.
"""

import io
import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pybase64
import soundfile
import yaml
from joblib import cpu_count
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel
from threadpoolctl import threadpool_limits

from genre import answer_log
from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.config import UNKNOWN
from genre.ensemble import ClipInputs, Ensemble
from genre.errors import AudioError

#: Longest file, seconds, and largest one, bytes: whole albums as mp3, ten minutes of CD-quality wav. All of a file is
#: listened to or it is refused: an answer on the first minutes of a long mix would pass for one on all of it.
MAX_SECONDS = 3600
MAX_BYTES = 128 * 2**20

#: Of one request: rows, characters of base64, and seconds of audio after which no further row is begun. Four hours are
#: some forty seconds of work, and MLflow's server answers 504 after sixty.
MAX_ROWS = 256
MAX_CHARACTERS = 512 * 2**20
MAX_REQUEST_SECONDS = 4 * 3600

#: As many rows at once as there are cores: more threads only take Python's lock from each other.
DECODE_SLOTS = BoundedSemaphore(cpu_count())

#: Threads that listen to a track's windows while later ones are decoded: a track takes a fifth less time.
WINDOW_EXECUTOR = ThreadPoolExecutor(cpu_count())

#: Status of an `AudioError` to the code that a client sees, where it is another.
CODES = {"not_finite": "undecodable"}


logger = logging.getLogger(__name__)


class Window(NamedTuple):
    """A stretch of a file that can be judged: its ends in seconds, and what the members take of it."""

    start_s: float
    end_s: float
    inputs: ClipInputs


@dataclass(frozen=True)
class Options:
    """What a request asks for; attributes as in `GenreModel.predict`."""

    timeline: bool
    top_k: int
    min_confidence: float


class GenreModel(PythonModel):
    """An `Ensemble` behind MLflow's pyfunc interface."""

    def load_context(self, context: Any) -> None:
        """Load the ensemble and ask it, so that the first request finds everything loaded and compiled.

        BLAS is kept to one thread in the whole process: the products of a clip are too small to be shared out, and
        threads that wait for each other made an answer take twice as long on a busy machine.
        """
        threadpool_limits(1, "blas")
        folder = Path(context.artifacts["ensemble"])
        self.ensemble = Ensemble.load(folder)
        self.version = None  # which keeps this first answer out of the log of answers
        rows = [_noise_audio(kind) for kind in ("FLAC", "MP3") if kind in soundfile.available_formats()]
        rows.append(pybase64.b64encode_as_string(b"no audio"))  # which both decoders are asked about
        for _ in range(2):
            self.predict(None, pd.DataFrame({"audio": rows})).to_dict(orient="records")  # as MLflow does
        self.version = _registered_version(folder.parent.parent)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Genres of some audio files.

        Parameters
        ----------
        context : PythonModelContext
            MLflow's; not used.
        model_input : pd.DataFrame
            Column ``audio``: the bytes of a file in base64, any format, rate and number of channels. At most
            `MAX_ROWS` rows.
        params : dict, optional
            ``timeline`` (bool, default False): answer for each window too. ``top_k`` (int from 1; default all): how
            many genres have their probability told. ``min_confidence`` (0..1; default the learnt one): below it the
            answer is ``unknown``.

        Returns
        -------
        pd.DataFrame
            ``genre`` (or ``unknown``), ``confidence`` (0..1), ``probabilities`` (dict, the highest first), ``error``
            (``code`` and ``message``: why a row has none of these, else None), ``model_version`` (such as
            ``genre/3``, None for a model of no registry), and, where asked for, ``timeline``: a list of ``start_s``,
            ``end_s`` and ``probabilities``. A file longer than a clip is cut into ten-second windows, whose
            probabilities are averaged; silent ones are passed over.

        Raises
        ------
        MlflowException
            If there is no column ``audio``, a parameter is out of range, or the request too large: status 400.
        """
        rows, options = _read_rows(model_input), self._options(params or {})
        answers, n_seconds = [], 0.0
        for text in rows:
            heard = self._prepare_row(text, n_seconds)
            answers.append(heard)
            n_seconds += heard[-1].end_s if isinstance(heard, list) else 0.0
        columns = ["genre", "confidence", "probabilities", "error", "model_version"] + ["timeline"] * options.timeline
        told = [[answer.get(column) for column in columns] for answer in self._predict_rows(answers, options)]
        # as objects, or pandas makes a NaN of None, which is no JSON
        return pd.DataFrame(told, columns=columns, dtype=object)

    def _options(self, params: Mapping[str, Any]) -> Options:
        """What is asked for, within range; types are checked by MLflow."""
        top_k, min_confidence = params.get("top_k"), params.get("min_confidence")
        if top_k is not None and not top_k >= 1:
            raise MlflowException.invalid_parameter_value(f"top_k is a number of genres, at least 1; got {top_k}")
        if min_confidence is not None and not 0 <= min_confidence <= 1:
            raise MlflowException.invalid_parameter_value(f"min_confidence lies between 0 and 1; got {min_confidence}")
        return Options(
            timeline=bool(params.get("timeline")),
            top_k=top_k or len(self.ensemble.genres),
            min_confidence=self.ensemble.min_confidence if min_confidence is None else min_confidence,
        )

    def _prepare_row(self, text: Any, seconds_before: float) -> list[Window] | AudioError:
        """What can be judged of one row, at least one window, or why there is nothing."""
        try:
            if seconds_before >= MAX_REQUEST_SECONDS:
                raise AudioError(
                    "too_long",
                    f"the rows before this one last {MAX_REQUEST_SECONDS // 3600} hours, the most that one request is "
                    "answered for; send this row in another",
                )
            with DECODE_SLOTS:
                return self._prepare_windows(_decode_base64(text))
        except AudioError as error:
            return error
        except Exception:  # whatever it is, the other rows get their answers and no client a traceback
            return _internal_error()

    def _prepare_windows(self, data: bytes) -> list[Window]:
        """The ten-second windows of a file that can be judged; a silent one in a longer track is passed over."""
        heard: list[Future[Window | AudioError]] = []
        last = None
        for window in decoding.decode_windows(data, self.ensemble.config, max_s=MAX_SECONDS):
            if last:
                heard.append(WINDOW_EXECUTOR.submit(self._prepare_window, *last))
                wait(heard[-2:-1])  # no more than three windows lie in memory
            last = window
        assert last is not None  # or `decode_windows` would have said why
        judged = self._prepare_window(*last)
        windows = [*(future.result() for future in heard), judged]
        usable = [window for window in windows if isinstance(window, Window)]
        if isinstance(judged, AudioError) and not usable:
            raise judged
        return usable

    def _prepare_window(self, start_s: float, y: np.ndarray) -> Window | AudioError:
        """What the members take of one window, or why it cannot be judged."""
        try:
            clip = prepare_clip(y, self.ensemble.config)
        except AudioError as error:
            return error
        return Window(start_s, start_s + clip.size / self.ensemble.config.sr, self.ensemble.compute_inputs(clip))

    def _predict_rows(self, rows: list[list[Window] | AudioError], options: Options) -> list[dict[str, Any]]:
        """All rows of the response, the windows of all of them judged together."""
        windows = [window.inputs for row in rows if isinstance(row, list) for window in row]
        try:
            proba = iter(self.ensemble.predict_inputs(windows))
        except Exception:  # as in `_prepare_row`
            error = _internal_error()
            rows = [error if isinstance(row, list) else row for row in rows]
        return [
            self._error_row(row)
            if isinstance(row, AudioError)
            else self._prediction_row(row, np.stack([next(proba) for _ in row]), options)
            for row in rows
        ]

    def _error_row(self, error: AudioError) -> dict[str, Any]:
        told = {"code": CODES.get(error.status, error.status), "message": error.reason}
        return {"error": told, "model_version": self.version}

    def _prediction_row(self, windows: list[Window], proba: np.ndarray, options: Options) -> dict[str, Any]:
        """One row of the response, from the probabilities of its windows."""
        mean, middle = proba.mean(axis=0), windows[len(windows) // 2]
        chances = dict(zip(self.ensemble.genres, mean.tolist(), strict=True))
        answer_log.log_prediction(self.version, chances, middle.inputs.get("features"), self.ensemble.config)
        confidence, best = float(mean.max()), self.ensemble.genres[int(mean.argmax())]
        answer = {
            "genre": best if confidence >= options.min_confidence else UNKNOWN,
            "confidence": confidence,
            "probabilities": self._rank_genres(mean, options.top_k),
            "error": None,
            "model_version": self.version,
        }
        if options.timeline:
            answer["timeline"] = [
                {"start_s": w.start_s, "end_s": w.end_s, "probabilities": self._rank_genres(p, options.top_k)}
                for w, p in zip(windows, proba, strict=True)
            ]
        return answer

    def _rank_genres(self, proba: np.ndarray, top_k: int) -> dict[str, float]:
        """The likeliest genres, best first."""
        order = np.argsort(-proba, kind="stable")[:top_k]
        return {self.ensemble.genres[i]: float(proba[i]) for i in order}


def _read_rows(model_input: pd.DataFrame) -> list[Any]:
    """The column ``audio`` of a request that is not too large."""
    column = model_input.get("audio")
    if not isinstance(column, pd.Series):
        raise MlflowException.invalid_parameter_value("the request needs one column 'audio': a file's bytes in base64")
    if len(column) > MAX_ROWS:
        raise MlflowException.invalid_parameter_value(
            f"the request has {len(column)} rows; send at most {MAX_ROWS}, and the others in another"
        )
    rows = column.tolist()
    if sum(len(text) for text in rows if isinstance(text, str)) > MAX_CHARACTERS:
        raise MlflowException.invalid_parameter_value(
            f"the request is larger than {MAX_CHARACTERS >> 20} MB, the most that is accepted; send fewer files at once"
        )
    return rows


def _decode_base64(text: Any) -> bytes:
    """Bytes of a base64 string, strictly read but for line breaks."""
    if not isinstance(text, str) or not text.strip():
        raise AudioError("empty", "no audio in this row; send a file's bytes in base64")
    if len(text) > MAX_BYTES * 4 // 3 + 4:
        raise AudioError(
            "too_large",
            f"the file is larger than {MAX_BYTES >> 20} MB, the most that is accepted; send it in parts, or as mp3",
        )
    try:
        return _decode_strictly(text)
    except ValueError as error:
        raise AudioError("not_base64", f"this row is not base64: {error}; send a file's bytes in base64") from None


def _decode_strictly(text: str) -> bytes:
    """Bytes of base64, with line breaks or without, which is looked for first: taking them out costs a copy."""
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:
        return pybase64.b64decode("".join(text.split()), validate=True)


def _internal_error() -> AudioError:
    """What is answered to a bug of ours, whose traceback goes to the log."""
    logger.exception("a row could not be answered")
    return AudioError("failed", "this file could not be analysed; the server's log says why")


def _noise_audio(kind: str) -> str:
    """Twelve seconds of noise as a client might send them, in a format by soundfile's name."""
    y, file = np.random.default_rng(0).normal(0, 0.1, (12 * 44100, 2)), io.BytesIO()
    soundfile.write(file, y, 44100, format=kind)
    return pybase64.b64encode_as_string(file.getvalue())


def _registered_version(folder: Path) -> str | None:
    """Name and version by which MLflow fetched the model from a registry; it writes them beside what it fetched."""
    path = folder / "registered_model_meta"
    known = yaml.safe_load(path.read_text()) if path.is_file() else {}
    return f"{known['model_name']}/{known['model_version']}" if known.get("model_name") else None


set_model(GenreModel())
