"""Ask a served model for the genre of some files: ``python -m serving.request FILE... [--url URL]``."""

import argparse
import base64
import sys
from pathlib import Path
from typing import Any

import requests


def ask(files: list[Path], url: str) -> list[dict[str, Any]]:
    """Answers of the model served at `url`, one per file, in order.

    Raises
    ------
    OSError
        If a file cannot be read, or the server not be reached.
    requests.HTTPError
        If the server refuses the request.
    """
    rows = [{"audio": base64.b64encode(f.read_bytes()).decode()} for f in files]
    response = requests.post(f"{url.rstrip('/')}/invocations", json={"dataframe_records": rows}, timeout=300)
    if not response.ok:
        raise requests.HTTPError(f"{url} answered {response.status_code}: {response.text[:500]}")
    return response.json()["predictions"]


def line(file: Path, answer: dict[str, Any]) -> str:
    """One answer as text: the genre, its confidence, then the other probabilities, highest first."""
    if answer["error"]:
        return f"{file}: error: {answer['error']}"
    ranked = sorted(answer["probabilities"].items(), key=lambda item: -item[1])
    rest = ", ".join(f"{genre} {p:.2f}" for genre, p in ranked if genre != answer["genre"])
    return f"{file}: {answer['genre']} {answer['confidence']:.2f} ({rest})"


def main() -> int:
    """Print the genre of each file named on the command line; 1 if one has none."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.request", description="Ask a served model for the genre of some files."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "--url", default="http://127.0.0.1:5001", help="where the model is served (default: %(default)s)"
    )
    arguments = parser.parse_args()
    try:
        answers = ask(arguments.files, arguments.url)
    except requests.ConnectionError:
        print(
            f'nothing answers at {arguments.url}; start it with "mlflow models serve -m models:/genre@champion -p 5001 '
            '--env-manager local", or name it with --url',
            file=sys.stderr,
        )
        return 1
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    for file, answer in zip(arguments.files, answers, strict=True):
        print(line(file, answer))
    return int(any(answer["error"] for answer in answers))


if __name__ == "__main__":
    sys.exit(main())
