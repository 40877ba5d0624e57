"""Ask a served model for the genre of some files: ``python -m serving.request FILE... [--url URL]``."""

import argparse
import base64
import sys
from pathlib import Path
from typing import Any

import requests

#: What to do where no server is.
NOBODY = (
    'nothing answers at {url}; start it with "mlflow models serve -m models:/genre@champion -p 5001 '
    '--env-manager local", or name it with --url'
)


def ask(file: Path, url: str) -> dict[str, Any]:
    """Answer of the model served at `url` to one file.

    Raises
    ------
    OSError
        If the file cannot be read, or the server not be reached (`requests.ConnectionError`), or refuses the request
        (`requests.HTTPError`).
    """
    rows = [{"audio": base64.b64encode(file.read_bytes()).decode()}]
    response = requests.post(f"{url.rstrip('/')}/invocations", json={"dataframe_records": rows}, timeout=300)
    if not response.ok:
        raise requests.HTTPError(f"{url} answered {response.status_code}: {response.text[:500]}")
    answer: dict[str, Any] = response.json()["predictions"][0]
    return answer


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
    n_failed = 0
    for file in arguments.files:
        try:
            answer = ask(file, arguments.url)
        except requests.ConnectionError:
            print(NOBODY.format(url=arguments.url), file=sys.stderr)
            return 1
        except ValueError:  # of requests: no address
            print(f"--url takes an address such as http://127.0.0.1:5001, got {arguments.url!r}", file=sys.stderr)
            return 1
        except OSError as error:
            answer = {"error": error.strerror or str(error)}
        n_failed += bool(answer["error"])
        print(line(file, answer), flush=True)
    return int(n_failed > 0)


if __name__ == "__main__":
    sys.exit(main())
