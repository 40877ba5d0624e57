"""Ask a served model for the genre of some files: ``python -m serving.request FILE... [--url URL]``."""

import argparse
import base64
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from genre.errors import GenreError

#: Where the commands of the documentation serve.
URL = "http://127.0.0.1:5001"

#: At most so much is sent at once, so that memory stays small and each request ends well within MLflow's 60 seconds;
#: a larger file goes alone.
BATCH_BYTES, BATCH_FILES = 16 * 2**20, 16

#: Patience with one request, seconds.
TIMEOUT_S = 300

#: Exit codes beside 0: some file has no answer; nothing could be asked, which argparse's wrong usage is too.
SOME_FAILED, REQUEST_FAILED = 1, 2

Prediction = dict[str, Any]


class NoServerError(GenreError):
    """Nothing that serves a model is at the address given."""


class RefusedError(GenreError):
    """A served model that refuses a whole request, or fails at it."""


def predict_audio(audio: Sequence[bytes], url: str = URL, params: Mapping[str, Any] | None = None) -> list[Prediction]:
    """What a served model answers to some audio files, in one request.

    Parameters
    ----------
    audio : sequence of bytes
        Contents of the files.
    url : str
        Where the model is served, without ``/invocations``.
    params : mapping, optional
        ``timeline`` (bool), ``top_k`` (int), ``min_confidence`` (0..1). A model logged before there were any ignores
        them.

    Returns
    -------
    list of dict
        For each file ``genre``, ``confidence``, ``probabilities`` (best first), ``error`` (None or ``code`` and
        ``message``), ``model_version`` and ``timeline``, the last two None where there is none; also from a model
        logged when errors were plain text.

    Raises
    ------
    NoServerError
        If `url` is no address, nothing answers there, or what answers serves no model of ours.
    RefusedError
        If the request as a whole is refused.
    """
    rows = [{"audio": base64.b64encode(data).decode()} for data in audio]
    body = {"dataframe_records": rows} | ({"params": dict(params)} if params else {})
    try:
        response = requests.post(f"{url.rstrip('/')}/invocations", json=body, timeout=TIMEOUT_S)
    except requests.Timeout:
        raise RefusedError(
            f"{url} did not answer within {TIMEOUT_S} s; send less at once, or look at its log"
        ) from None
    except requests.exceptions.ProxyError:
        raise NoServerError(f"the proxy of your environment does not reach {url}; name its host in NO_PROXY") from None
    except requests.ConnectionError:
        raise NoServerError(
            f'nothing answers at {url}; start it with "mlflow models serve -m models:/genre@champion -p 5001 '
            '--env-manager local", or name it with --url'
        ) from None
    except ValueError:  # of requests: no address
        raise NoServerError(f"the address of a served model looks like {URL}, got {url!r}") from None
    except requests.RequestException as error:
        raise RefusedError(f"{url} broke off its answer ({type(error).__name__}); look at its log") from None
    if response.status_code in (404, 405):
        raise NoServerError(f"{url} serves no model, it has no /invocations; check --url")
    if not response.ok:
        raise RefusedError(f"{url} answered {response.status_code}: {_error_message(response)}")
    try:
        return [_normalise(answer) for _, answer in zip(audio, response.json()["predictions"], strict=True)]
    except (ValueError, KeyError, TypeError):
        raise NoServerError(f"what answers at {url} is no genre model: {response.text[:200]}") from None


def _error_message(response: requests.Response) -> str:
    """The sentence in a response that is an error; MLflow puts the whole request before it."""
    try:
        text = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        text = response.text
    return text.rpartition("Error: ")[2].strip()[:500]


def _normalise(answer: Prediction) -> Prediction:
    """An answer of any version of the model in the form of the newest."""
    error = answer["error"]
    if isinstance(error, str):
        error = failed_prediction("failed", error)["error"]
    proba = answer["probabilities"]
    ranked = proba and dict(sorted(proba.items(), key=lambda item: -item[1]))
    return {"model_version": None, "timeline": None} | answer | {"error": error, "probabilities": ranked}


def failed_prediction(code: str, message: str) -> Prediction:
    """Answer to a file that has none.

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
    error = {"code": code, "message": message}
    empty = ("genre", "confidence", "probabilities", "model_version", "timeline")
    return dict.fromkeys(empty) | {"error": error}


def predict_files(
    names: Sequence[str], url: str = URL, params: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Prediction]]:
    """What a served model answers to files, several in one request as far as that stays small.

    Parameters
    ----------
    names : sequence of str
        Paths; ``-`` is standard input.
    url, params
        As for `predict_audio`.

    Yields
    ------
    dict
        Some of the names, in their order, each with its answer. A file that cannot be read has the error
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
    """The batch with answers in place of audio; where it is refused as a whole, each file is asked for alone."""
    audio = {name: data for name, data in batch.items() if isinstance(data, bytes)}
    try:
        found = dict(zip(audio, predict_audio(list(audio.values()), url, params), strict=True)) if audio else {}
    except RefusedError as error:
        if len(audio) > 1:
            found = {name: _predict_batch({name: data}, url, params)[name] for name, data in audio.items()}
        else:
            found = {name: failed_prediction("refused", str(error)) for name in audio}
    return {name: found[name] if isinstance(data, bytes) else data for name, data in batch.items()}


def format_prediction(name: str, answer: Prediction, *, width: int, top_k: int | None = None) -> list[str]:
    """One answer as lines of a table.

    Parameters
    ----------
    name : str
        Of the file.
    answer : dict
        From `predict_audio`.
    width : int
        Characters for the names of files.
    top_k : int, optional
        At most so many genres are shown; by default all.

    Returns
    -------
    list of str
        File, genre, confidence and the other genres, best first; then one line for each window of its timeline.
    """
    if error := answer["error"]:
        return [_format_row(name, "error", "", f"{error['code']}: {error['message']}", width)]
    others = {k: p for k, p in list(answer["probabilities"].items())[:top_k] if k != answer["genre"]}
    out = [_format_row(name, answer["genre"], f"{answer['confidence']:.2f}", _format_probabilities(others), width)]
    for window in answer["timeline"] or []:
        ranked = sorted(window["probabilities"].items(), key=lambda item: -item[1])[:top_k]
        best, p = ranked[0]
        span = f"  {_format_time(window['start_s'])} - {_format_time(window['end_s'])}"
        out.append(_format_row(span, best, f"{p:.2f}", _format_probabilities(dict(ranked[1:])), width))
    return out


def _format_row(name: str, genre: str, confidence: str, rest: str, width: int) -> str:
    return f"{name:<{width}}  {genre:<16}  {confidence:>10}  {rest}".rstrip()


def _format_probabilities(proba: Mapping[str, float]) -> str:
    return ", ".join(f"{genre} {p:.2f}" for genre, p in proba.items())


def _format_time(seconds: float) -> str:
    """Time within a track: minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.request",
        description="Ask a served model for the genre of some files.",
        epilog="Exit code: 0 if every file has an answer, 1 if one has none, 2 if nothing could be asked.",
    )
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="audio; - is standard input, also read if none is named"
    )
    parser.add_argument("--url", default=URL, help="where the model is served (default: %(default)s)")
    parser.add_argument("--timeline", action="store_true", help="also each ten-second window")
    parser.add_argument("--top-k", type=int, metavar="N", help="only so many genres (default: all)")
    return parser


def main() -> int:
    """Print the genre of each file named on the command line, or of standard input; see the exit codes above."""
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.top_k is not None and arguments.top_k < 1:
        parser.error(f"--top-k must be 1 or more, got {arguments.top_k}")
    if not arguments.files and sys.stdin.isatty():
        parser.error("name some files, or pipe one in")
    names = arguments.files or ["-"]
    params = {"timeline": True} if arguments.timeline else {}
    params |= {"top_k": arguments.top_k} if arguments.top_k else {}
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a file may be called anything
    try:
        return _print_table(names, arguments.url, params)
    except GenreError as error:
        print(f"error: {error}", file=sys.stderr)
        return REQUEST_FAILED


def _print_table(names: Sequence[str], url: str, params: Mapping[str, Any]) -> int:
    """Print each answer as it comes; returns the exit code."""
    width = max(map(len, [*names, "  10:00 - 10:10"]))
    versions, n_failed, header = set(), 0, _format_row("file", "genre", "confidence", "other genres", width)
    for batch in predict_files(names, url, params):
        for name, answer in batch.items():
            table = format_prediction(name, answer, width=width, top_k=params.get("top_k"))
            print(*([header] if header else []), *table, sep="\n", flush=True)
            header = ""
            versions.add(answer["model_version"])
            n_failed += answer["error"] is not None
    if known := sorted(versions - {None}):
        print(f"\nmodel: {', '.join(known)}")
    return SOME_FAILED if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
