"""Classify files with a served model: ``python -m serving.request FILE... [--url URL]``."""

import argparse
import base64
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
from urllib3.exceptions import ProtocolError

from genre.errors import GenreError
from genre.proxies import exempt_loopback

#: Address at which the commands of the documentation serve the model.
URL = "http://127.0.0.1:5001"

#: Most bytes and files of one request, so that memory stays small and each request ends well within MLflow's 60
#: seconds; a larger file is sent alone.
BATCH_BYTES = 16 * 2**20
BATCH_FILES = 16

#: Longest wait for the response to one request, seconds.
TIMEOUT_S = 300

#: Exit codes other than 0: a file could not be classified; the server could not be reached. argparse also exits with 2
#: when the arguments are wrong.
SOME_FAILED = 1
REQUEST_FAILED = 2

Prediction = dict[str, Any]


class NoServerError(GenreError):
    """No server of a genre model at the given address."""


class RefusedError(GenreError):
    """A request that the served model refused as a whole or failed to answer."""


class BusyError(RefusedError):
    """A request that waited in vain for its turn."""


def predict_audio(audio: Sequence[bytes], url: str = URL, params: Mapping[str, Any] | None = None) -> list[Prediction]:
    """Classify some audio files with a served model, in one request.

    Parameters
    ----------
    audio : sequence of bytes
        Contents of the files.
    url : str
        Address of the served model, without ``/invocations``.
    params : mapping, optional
        ``timeline`` (bool), ``top_k`` (int), ``min_confidence`` (0..1). Models logged before these existed ignore them.

    Returns
    -------
    list of dict
        For each file ``genre``, ``confidence``, ``probabilities`` (best first), ``error`` (None or ``code`` and
        ``message``), ``model_version``, ``warning`` (a sentence about the model), ``note`` (a sentence about how the
        file was heard) and ``timeline``, the last four None where the response has none; the same form for models
        logged when errors were plain text.

    Raises
    ------
    NoServerError
        If `url` is not an address, no server answers there, or it does not serve one of this project's models.
    RefusedError
        If the request is refused as a whole; `BusyError` if the server has too much to do.
    """
    rows = [{"audio": base64.b64encode(data).decode()} for data in audio]
    body = {"dataframe_records": rows} | ({"params": dict(params)} if params else {})
    response = _post(url, body)
    if response.status_code in (404, 405):
        raise NoServerError(f"the server at {url} does not serve a model: it has no /invocations; check --url")
    if not response.ok:
        kind = BusyError if response.status_code == 503 else RefusedError
        raise kind(f"the server at {url} responded with {response.status_code}: {_error_message(response)}")
    try:
        return [_normalise(prediction) for _, prediction in zip(audio, response.json()["predictions"], strict=True)]
    except (ValueError, KeyError, TypeError):
        raise NoServerError(
            f"the server at {url} does not serve a genre model; check --url (it responded with: {response.text[:200]})"
        ) from None


def _post(url: str, body: Mapping[str, Any]) -> requests.Response:
    """Send a request for predictions, turning the exceptions of requests into this project's errors."""
    try:
        return requests.post(f"{url.rstrip('/')}/invocations", json=body, timeout=TIMEOUT_S)
    except requests.Timeout:
        raise RefusedError(
            f"{url} did not respond within {TIMEOUT_S} s; send less audio per request, or check the server's log"
        ) from None
    except requests.exceptions.ProxyError:
        raise NoServerError(
            f"the proxy set in your environment cannot reach {url}; add the server's host to NO_PROXY"
        ) from None
    except requests.ConnectionError as error:
        if isinstance(error.args[0], ProtocolError):
            raise RefusedError(
                f"{url} closed the connection before it responded; send less audio per request, or check the "
                "server's log"
            ) from None
        raise NoServerError(
            f'no server answers at {url}; start it with "mlflow models serve -m models:/genre@champion -p 5001 '
            '--env-manager local", or give its address with --url'
        ) from None
    except ValueError:  # requests raises a subclass of it for an invalid URL
        raise NoServerError(f"{url!r} is not a valid address; the address of a served model looks like {URL}") from None
    except requests.RequestException as error:
        raise RefusedError(f"{url} broke off its response ({type(error).__name__}); check the server's log") from None


def _error_message(response: requests.Response) -> str:
    """Return the message of an error response; MLflow puts the whole request before it."""
    try:
        text = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        text = response.text
    return text.rpartition("Error: ")[2].strip()[:500]


def _normalise(prediction: Prediction) -> Prediction:
    """Convert a prediction of any version of the model to the form of the newest."""
    error = prediction["error"]
    if isinstance(error, str):
        error = failed_prediction("failed", error)["error"]
    proba = prediction["probabilities"]
    ranked = proba and dict(sorted(proba.items(), key=lambda item: -item[1]))
    absent = dict.fromkeys(("model_version", "warning", "note", "timeline"))
    return absent | prediction | {"error": error, "probabilities": ranked}


def failed_prediction(code: str, message: str) -> Prediction:
    """Return the prediction of a file that could not be classified.

    Parameters
    ----------
    code : str
        In snake_case.
    message : str
        A sentence.

    Returns
    -------
    dict
        As from `predict_audio`.
    """
    empty = ("genre", "confidence", "probabilities", "model_version", "warning", "note", "timeline")
    return dict.fromkeys(empty) | {"error": {"code": code, "message": message}}


def predict_files(
    names: Sequence[str], url: str = URL, params: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Prediction]]:
    """Classify files with a served model, several per request as long as the request stays small.

    Parameters
    ----------
    names : sequence of str
        Paths; ``-`` is standard input.
    url, params
        As for `predict_audio`.

    Yields
    ------
    dict
        Some of the names, in their order, each with its prediction. A file that cannot be read has the error
        ``unreadable``, one whose request is refused ``refused``.

    Raises
    ------
    NoServerError
        As from `predict_audio`.
    """
    batch: dict[str, bytes | Prediction] = {}
    for name in dict.fromkeys(names):
        try:
            batch[name] = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        except OSError as error:
            batch[name] = failed_prediction("unreadable", f"the file cannot be read: {error.strerror or error}")
        if len(batch) >= BATCH_FILES or sum(map(len, batch.values())) >= BATCH_BYTES:
            yield _predict_batch(batch, url, params)
            batch = {}
    if batch:
        yield _predict_batch(batch, url, params)


def _predict_batch(
    batch: Mapping[str, bytes | Prediction], url: str, params: Mapping[str, Any] | None
) -> dict[str, Prediction]:
    """Replace the audio of a batch by predictions; if the server refuses the batch, each file is sent alone.

    Not if the server is busy, which sixteen requests instead of one would not help.
    """
    audio = {name: data for name, data in batch.items() if isinstance(data, bytes)}
    predictions: dict[str, Prediction] = {}
    try:
        if audio:
            predictions = dict(zip(audio, predict_audio(list(audio.values()), url, params), strict=True))
    except RefusedError as error:
        if len(audio) > 1 and not isinstance(error, BusyError):
            predictions = {name: _predict_batch({name: data}, url, params)[name] for name, data in audio.items()}
        else:
            predictions = {name: failed_prediction("refused", str(error)) for name in audio}
    return {name: predictions[name] if isinstance(data, bytes) else data for name, data in batch.items()}


def format_prediction(name: str, answer: Prediction, *, width: int, top_k: int | None = None) -> list[str]:
    """Format one prediction as lines of a table.

    Parameters
    ----------
    name : str
        Name of the file.
    answer : dict
        From `predict_audio`.
    width : int
        Width of the column of file names, characters.
    top_k : int, optional
        Largest number of genres to show; by default all.

    Returns
    -------
    list of str
        File, genre, confidence and the other genres, best first; then the note, if there is one, and one line per
        window of the timeline.
    """
    if error := answer["error"]:
        return [_format_row(name, "error", "", f"{error['code']}: {error['message']}", width)]
    others = {k: p for k, p in list(answer["probabilities"].items())[:top_k] if k != answer["genre"]}
    lines = [_format_row(name, answer["genre"], f"{answer['confidence']:.2f}", _format_probabilities(others), width)]
    if answer["note"]:
        lines.append(_format_row("  note", answer["note"], "", "", width))
    for window in answer["timeline"] or []:
        ranked = sorted(window["probabilities"].items(), key=lambda item: -item[1])[:top_k]
        best, p = ranked[0]
        span = f"  {_format_time(window['start_s'])} - {_format_time(window['end_s'])}"
        lines.append(_format_row(span, best, f"{p:.2f}", _format_probabilities(dict(ranked[1:])), width))
    return lines


def _format_row(name: str, genre: str, confidence: str, remark: str, width: int) -> str:
    return f"{name:<{width}}  {genre:<16}  {confidence:>10}  {remark}".rstrip()


def _format_probabilities(proba: Mapping[str, float]) -> str:
    return ", ".join(f"{genre} {p:.2f}" for genre, p in proba.items())


def _format_time(seconds: float) -> str:
    """Format a time within a track as minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.request",
        description="Classify audio files with a served model.",
        epilog=(
            "Exit code: 0 if every file was classified, 1 if one could not be, 2 if the server could not be reached "
            "or the arguments are wrong."
        ),
    )
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="audio file; - is standard input, which is also read without any FILE"
    )
    parser.add_argument("--url", default=URL, help="address of the served model (default: %(default)s)")
    parser.add_argument("--timeline", action="store_true", help="add a line for each ten-second window")
    parser.add_argument("--top-k", type=int, metavar="N", help="list only the N likeliest genres (default: all)")
    return parser


def main() -> int:
    """Print the genre of each file named on the command line, or of standard input, and return the exit code."""
    exempt_loopback()
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.top_k is not None and arguments.top_k < 1:
        parser.error(f"--top-k must be 1 or more, got {arguments.top_k}")
    if not arguments.files and sys.stdin.isatty():
        parser.error("no audio to classify; name one or more files, or pipe one in")
    names = arguments.files or ["-"]
    params = {"timeline": True} if arguments.timeline else {}
    params |= {"top_k": arguments.top_k} if arguments.top_k else {}
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names of files may be any bytes
    try:
        return _print_table(names, arguments.url, params)
    except GenreError as error:
        print(f"error: {error}", file=sys.stderr)
        return REQUEST_FAILED


def _print_table(names: Sequence[str], url: str, params: Mapping[str, Any]) -> int:
    """Print each prediction as it arrives, and return the exit code."""
    width = max(map(len, [*names, "  10:00 - 10:10"]))
    header = [_format_row("file", "genre", "confidence", "other genres", width)]
    versions = set()
    warnings = {None}
    n_failed = 0
    for batch in predict_files(names, url, params):
        for name, prediction in batch.items():
            if (warning := prediction["warning"]) not in warnings:
                print(f"warning: {warning}", file=sys.stderr, flush=True)
                warnings.add(warning)
            lines = format_prediction(name, prediction, width=width, top_k=params.get("top_k"))
            print(*header, *lines, sep="\n", flush=True)
            header = []  # printed once, with the first prediction
            versions.add(prediction["model_version"])
            n_failed += prediction["error"] is not None
    if named_versions := sorted(versions - {None}):
        print(f"\nmodel: {', '.join(named_versions)}")
    return SOME_FAILED if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
