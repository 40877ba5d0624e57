"""The logged model: takes audio files in base64, returns genres.

MLflow runs this file as a script when it loads the model, beside the copy of ``genre`` that was logged with it. The
model decodes base64 itself: MLflow's own decoding of binary columns leaves the text undecoded in some request forms.
"""

import ctypes
import io
import logging
import os
from collections.abc import Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
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
from genre.files import read_json

#: Longest file, seconds, and largest one, bytes: whole albums as MP3, ten minutes of CD-quality WAV. A file is
#: classified as a whole or refused: a prediction from the first minutes of a long mix would pass for one of all of it.
MAX_SECONDS = 3600
MAX_BYTES = 128 * 2**20

#: Limits of one request: rows, characters of base64, and seconds of audio after which no further row is begun. Four
#: hours take about forty seconds to classify, and MLflow's server answers 504 after sixty.
MAX_ROWS = 256
MAX_CHARACTERS = 512 * 2**20
MAX_REQUEST_SECONDS = 4 * 3600

#: As many rows at once as there are cores: more threads would only compete for Python's GIL.
DECODE_SLOTS = BoundedSemaphore(cpu_count())

#: Threads that resample a track's windows and compute their inputs while later windows are decoded.
WINDOW_EXECUTOR = ThreadPoolExecutor(cpu_count())

#: Settings of glibc's malloc, by their numbers in its malloc.h. By default a text or an array of megabytes is made of
#: pages that the system clears first, each time: a seventh of the processor time of a track of three minutes as FLAC.
#: So blocks of up to 32 MB, the most that glibc accepts, come from the heap, which keeps what a request has freed. All
#: threads share one heap: the first request comes in a new thread, whose own heap would have no page yet.
MALLOC_SETTINGS = {
    "M_MMAP_THRESHOLD": (-3, 2**25),
    "M_TOP_PAD": (-2, 2**26),
    "M_TRIM_THRESHOLD": (-1, 2**28),
    "M_ARENA_MAX": (-8, 1),
}

#: Status of an `AudioError` to the code that clients get, where the two differ.
CODES = {"not_finite": "undecodable"}

#: What a model says at its start if it knows no registered version of its own.
UNREGISTERED = (
    "this model does not know its registered name and version: model_version is null in every prediction, and "
    "predictions are not logged for -e drift; serve a version that -e promote or -e pretrained registered"
)

#: Logger with a name of its own: MLflow loads this file under another name each time.
logger = logging.getLogger("genre.serving")


class Window(NamedTuple):
    """A stretch of a file that can be classified: start and end in seconds, and the inputs of the members."""

    start_s: float
    end_s: float
    inputs: ClipInputs


class Track(NamedTuple):
    """A file that can be classified: its windows, at least one, and what to say of how it was heard."""

    windows: list[Window]
    note: str | None


@dataclass(frozen=True)
class Options:
    """Options of one request; attributes as in `GenreModel.predict`."""

    timeline: bool
    top_k: int
    min_confidence: float


class GenreModel(PythonModel):
    """An `Ensemble` behind MLflow's pyfunc interface."""

    def load_context(self, context: Any) -> None:
        """Load the ensemble and predict once, so that the first request finds everything loaded and compiled.

        The settings of `_prepare_process` hold for the whole process.
        """
        _prepare_process()
        folder = Path(context.artifacts["ensemble"])
        self.ensemble = Ensemble.load(folder)
        self.version = None  # keeps the predictions made here out of the answer log
        self._warm_up()
        self.version = _registered_version(folder.parent.parent)
        if self.version is None:
            logger.warning("%s", UNREGISTERED)
        if self.ensemble.warning:
            logger.warning("%s", self.ensemble.warning)

    def _warm_up(self) -> None:
        """Predict audio in common formats, and what is none, so that both decoders are loaded."""
        rows = [_noise_audio(kind) for kind in ("FLAC", "MP3") if kind in soundfile.available_formats()]
        rows.append(pybase64.b64encode_as_string(b"no audio"))
        for _ in range(2):
            # `to_dict` because MLflow's server calls it on every prediction
            self.predict(None, pd.DataFrame({"audio": rows})).to_dict(orient="records")

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict the genres of some audio files.

        Parameters
        ----------
        context : PythonModelContext
            Passed by MLflow; not used.
        model_input : pd.DataFrame
            Column ``audio``: the bytes of a file in base64, any format, sampling rate and number of channels. At most
            `MAX_ROWS` rows.
        params : dict, optional
            ``timeline`` (bool, default False): return the probabilities of each window too. ``top_k`` (int from 1;
            default all): return the probabilities of the likeliest genres only. ``min_confidence`` (0..1; default the
            learnt threshold): below it the genre is ``unknown``.

        Returns
        -------
        pd.DataFrame
            ``genre`` (or ``unknown``), ``confidence`` (0..1), ``probabilities`` (dict, the highest first), ``error``
            (``code`` and ``message`` if the row has no prediction, else None), ``model_version`` (such as
            ``genre/3``, None for a model of no registry), ``warning`` (a sentence about the model, or None), ``note``
            (a sentence about how the file was heard, such as that its channels cancel out, or None), and, if
            requested, ``timeline``: a list of ``start_s``, ``end_s`` and ``probabilities``. A file longer than a clip
            is cut into ten-second windows, whose probabilities are averaged; silent windows are skipped.

        Raises
        ------
        MlflowException
            If there is no column ``audio``, a parameter is out of range, or the request too large: status 400.
        """
        texts = _read_rows(model_input)
        options = self._options(params or {})
        rows: list[Track | AudioError] = []
        n_seconds = 0.0
        for text in texts:
            row = self._prepare_row(text, n_seconds)
            rows.append(row)
            n_seconds += row.windows[-1].end_s if isinstance(row, Track) else 0.0
        columns = ["genre", "confidence", "probabilities", "error", "model_version", "warning", "note"]
        columns += ["timeline"] * options.timeline
        fixed = {"model_version": self.version, "warning": self.ensemble.warning or None}
        records = [[(record | fixed).get(column) for column in columns] for record in self._predict_rows(rows, options)]
        # as objects: otherwise pandas turns None into NaN, which JSON does not have
        return pd.DataFrame(records, columns=columns, dtype=object)

    def _options(self, params: Mapping[str, Any]) -> Options:
        """Return the options of a request after checking their range; MLflow has checked their types."""
        top_k = params.get("top_k")
        min_confidence = params.get("min_confidence")
        if top_k is not None and not top_k >= 1:
            raise MlflowException.invalid_parameter_value(f"top_k must be at least 1, got {top_k}")
        if min_confidence is not None and not 0 <= min_confidence <= 1:
            raise MlflowException.invalid_parameter_value(
                f"min_confidence must be between 0 and 1, got {min_confidence}"
            )
        return Options(
            timeline=bool(params.get("timeline")),
            top_k=top_k or len(self.ensemble.genres),
            min_confidence=self.ensemble.min_confidence if min_confidence is None else min_confidence,
        )

    def _prepare_row(self, text: Any, seconds_before: float) -> Track | AudioError:
        """Return the windows of one row, or the reason why it has none."""
        try:
            if seconds_before >= MAX_REQUEST_SECONDS:
                raise AudioError(
                    "too_long",
                    f"the rows before this one last {MAX_REQUEST_SECONDS // 3600} hours, the limit per request; "
                    "send this row in another request",
                )
            with DECODE_SLOTS:
                return self._prepare_track(_decode_base64(text))
        except AudioError as error:
            return error
        except Exception:  # a bug must not cost the other rows their predictions, nor show clients a traceback
            return _internal_error()

    def _prepare_track(self, data: bytes) -> Track:
        """Cut a file into ten-second windows and compute their inputs; silent windows of a longer track are skipped."""
        futures: list[Future[Window | AudioError]] = []
        notes: set[str] = set()
        last = None
        for window in decoding.decode_native_windows(data, self.ensemble.config, max_s=MAX_SECONDS, notes=notes):
            if last:
                futures.append(WINDOW_EXECUTOR.submit(self._prepare_window, last))
                wait(futures[-2:-1])  # no more than three windows in memory
            last = window
        assert last is not None  # `decode_native_windows` raises when there is no window
        last_window = self._prepare_window(last, WINDOW_EXECUTOR)
        windows = [*(future.result() for future in futures), last_window]
        usable = [window for window in windows if isinstance(window, Window)]
        if isinstance(last_window, AudioError) and not usable:
            raise last_window
        return Track(usable, "; ".join(sorted(notes)) or None)

    def _prepare_window(self, window: decoding.NativeWindow, executor: Executor | None = None) -> Window | AudioError:
        """Resample one window and compute its inputs; return the error if it cannot be classified.

        The `executor` is as in `Ensemble.compute_inputs`; none for a call that itself runs in one.
        """
        try:
            clip = prepare_clip(window.resample(self.ensemble.config), self.ensemble.config)
        except AudioError as error:
            return error
        inputs = self.ensemble.compute_inputs(clip, executor)
        return Window(window.start_s, window.start_s + clip.size / self.ensemble.config.sr, inputs)

    def _predict_rows(self, rows: list[Track | AudioError], options: Options) -> list[dict[str, Any]]:
        """Return all rows of the response, predicting the windows of all files together."""
        windows = [window.inputs for row in rows if isinstance(row, Track) for window in row.windows]
        try:
            proba = iter(self.ensemble.predict_inputs(windows))
        except Exception:  # a bug, as in `_prepare_row`
            error = _internal_error()
            rows = [error if isinstance(row, Track) else row for row in rows]
        return [
            self._error_row(row)
            if isinstance(row, AudioError)
            else self._prediction_row(row, np.stack([next(proba) for _ in row.windows]), options)
            for row in rows
        ]

    def _error_row(self, error: AudioError) -> dict[str, Any]:
        """Return one row of the response for a file without a prediction."""
        code = CODES.get(error.status, error.status)
        return {"error": {"code": code, "message": error.reason}}

    def _prediction_row(self, track: Track, proba: np.ndarray, options: Options) -> dict[str, Any]:
        """Return one row of the response, from the probabilities of its windows."""
        windows = track.windows
        mean = proba.mean(axis=0)
        middle = windows[len(windows) // 2]
        by_genre = dict(zip(self.ensemble.genres, mean.tolist(), strict=True))
        answer_log.log_prediction(self.version, by_genre, middle.inputs.get("features"), self.ensemble.config)
        confidence = float(mean.max())
        best = self.ensemble.genres[int(mean.argmax())]
        row = {
            "genre": best if confidence >= options.min_confidence else UNKNOWN,
            "confidence": confidence,
            "probabilities": self._rank_genres(mean, options.top_k),
            "error": None,
            "note": track.note,
        }
        if options.timeline:
            row["timeline"] = [
                {"start_s": w.start_s, "end_s": w.end_s, "probabilities": self._rank_genres(p, options.top_k)}
                for w, p in zip(windows, proba, strict=True)
            ]
        return row

    def _rank_genres(self, proba: np.ndarray, top_k: int) -> dict[str, float]:
        """Return the likeliest genres with their probabilities, best first."""
        order = np.argsort(-proba, kind="stable")[:top_k]
        return {self.ensemble.genres[i]: float(proba[i]) for i in order}


def _read_rows(model_input: pd.DataFrame) -> list[Any]:
    """Return the column ``audio`` of a request, refusing one that is too large."""
    column = model_input.get("audio")
    if not isinstance(column, pd.Series):  # a column that stands twice is a DataFrame
        raise MlflowException.invalid_parameter_value(
            "the request must have one column 'audio'; send each file's bytes there in base64"
        )
    if len(column) > MAX_ROWS:
        raise MlflowException.invalid_parameter_value(
            f"the request has {len(column)} rows; at most {MAX_ROWS} are accepted; send the others in another request"
        )
    rows = column.tolist()
    if sum(len(text) for text in rows if isinstance(text, str)) > MAX_CHARACTERS:
        raise MlflowException.invalid_parameter_value(
            f"the request is larger than the limit of {MAX_CHARACTERS >> 20} MB; send fewer files per request"
        )
    return rows


def _decode_base64(text: Any) -> bytes:
    """Decode a base64 string strictly, allowing line breaks only."""
    if not isinstance(text, str) or not text.strip():
        raise AudioError("empty", "the file is empty, or none was sent; send a file's bytes in base64")
    if len(text) > MAX_BYTES * 4 // 3 + 4:
        raise AudioError(
            "too_large",
            f"the file is larger than the limit of {MAX_BYTES >> 20} MB; send it in parts, or as MP3",
        )
    try:
        return _decode_strictly(text)
    except ValueError as error:
        raise AudioError("not_base64", f"this row is not base64: {error}; send a file's bytes in base64") from None


def _decode_strictly(text: str) -> bytes:
    """Decode base64, first as it is: removing line breaks copies the whole text, and most clients send none."""
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:
        return pybase64.b64decode("".join(text.split()), validate=True)


def _internal_error() -> AudioError:
    """Log the traceback of a bug and return the error that the client gets."""
    logger.exception("a row could not be classified")
    return AudioError("failed", "this file could not be analysed; the reason is in the server's log")


def _prepare_process() -> None:
    """Set the threads of BLAS and the memory that is kept between requests.

    BLAS gets one thread: the products of a clip are too small to be divided, and threads that wait for each other made
    a prediction take twice as long on a busy machine.
    """
    threadpool_limits(1, "blas")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None  # only glibc has it
    if mallopt:
        for number, value in MALLOC_SETTINGS.values():
            mallopt(number, value)


def _noise_audio(kind: str) -> str:
    """Return twelve seconds of noise as a client might send them, in a format named as in soundfile."""
    y = np.random.default_rng(0).normal(0, 0.1, (12 * 44100, 2))
    file = io.BytesIO()
    soundfile.write(file, y, 44100, format=kind)
    return pybase64.b64encode_as_string(file.getvalue())


def _registered_version(folder: Path) -> str | None:
    """Return the registered name and version of a model, such as ``genre/3``, or None.

    MLflow until 3.17 names in one file the version that it was asked for; the other is there since registration.
    """
    asked_for = folder / "registered_model_meta"
    meta = yaml.safe_load(asked_for.read_text()) if asked_for.is_file() else {}
    if meta.get("model_name"):
        return f"{meta['model_name']}/{meta['model_version']}"
    registered = read_json(folder / answer_log.VERSION_FILE)
    return f"{registered['name']}/{registered['version']}" if registered else None


set_model(GenreModel())
