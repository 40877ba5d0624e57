"""Secrets in addresses, which no message, log or traceback shows."""

import io
import logging
import pickle
import time

import pytest

from genre.errors import AudioError, GenreError, UsageError, exit_on_error, first_line, hide_in_exception, hide_secrets
from genre.safety.logs import hide_in_logs

#: A text, and what is left of it.
HIDDEN = {
    "http://user:password@host.example:5000/api": "http://host.example:5000/api",
    "http://user:p%40ss%2Fw%3F@host.example/x": "http://host.example/x",
    "http://user:p@ss@host.example/x": "http://host.example/x",
    "postgresql://user:pa/ss@db.example/mlflow": "postgresql://db.example/mlflow",
    "http://user:pa?ss#w@host.example/x": "http://host.example/x",
    "postgresql+psycopg2://u:p@[::1]:5432/mlflow?sslpassword=p": "postgresql+psycopg2://[::1]:5432/mlflow?...",
    "HTTPS://token@host.example/x": "HTTPS://host.example/x",
    "https://b.s3.example/a.csv?X-Amz-Signature=9f&X-Amz-Date=1": "https://b.s3.example/a.csv?...",
    "cannot get https://h.example/a.csv?sig=9f.": "cannot get https://h.example/a.csv?....",
    "first http://u:p@a.example/x?k=1, then (https://b.example/?k=2) and 'http://c.example/y?k=3'; the end": (
        "first http://a.example/x?..., then (https://b.example/?...) and 'http://c.example/y?...'; the end"
    ),
    '{"url":"http://u:p@h.example/p?sig=9f","n":1}': '{"url":"http://h.example/p?...","n":1}',
    "http://h.example:8080?mail=a@b.example": "http://h.example:8080?...",
}

#: Texts that stay as they are.
KEPT = [
    "http://host.example:5000/#/experiments/1/runs/0a1b",
    "http://[::1]:5000/x@y",
    "https://host.example/@artist/songs",
    "is it at http://host.example/path?",
    "git@host.example:path/x.git",
    "write to me@example.com?",
    r"C:\music\who?\a@b",
    "C:/music/u@v?",
    "file:///C:/music/a@b/c",
    "models:/genre@champion",
    "sqlite:////srv/mlflow.db",
    '{"a":"http://host.example","mail":"a@b.example"}',
]


@pytest.mark.parametrize("text", HIDDEN)
def test_user_password_and_query_of_an_address_are_hidden(text):
    assert hide_secrets(text) == HIDDEN[text]
    assert hide_secrets(HIDDEN[text]) == HIDDEN[text]


@pytest.mark.parametrize("text", KEPT)
def test_what_has_no_secret_stays(text):
    assert hide_secrets(text) == text


@pytest.mark.parametrize("text", ["a" * 200_000, "http://" + "a" * 200_000, "a://b:" * 20_000, "a://b?" * 20_000])
def test_a_long_text_takes_no_long_time(text):
    started = time.process_time()
    hide_secrets(text)
    assert time.process_time() - started < 10  # with its square it would be minutes


def test_an_error_of_this_project_never_holds_one():
    error = UsageError("cannot use http://user:password@host.example/x?key=1; give another")
    assert str(error) == "cannot use http://host.example/x?...; give another"
    assert isinstance(error, ValueError)
    for pickled in (error, AudioError("silent", "no sound in it")):
        copy = pickle.loads(pickle.dumps(pickled))
        assert type(copy) is type(pickled) and str(copy) == str(pickled)


#: Address with a password, by a name of which tracebacks may quote the lines.
ADDRESS = "http://user:password@host.example"


def raise_with_causes() -> None:
    try:
        try:
            raise OSError(f"no answer from {ADDRESS}")
        except OSError as error:
            raise ConnectionError(error) from None
    except ConnectionError as error:
        raise RuntimeError(f"failed at {ADDRESS}?key=password") from error


def test_other_errors_lose_them_with_all_that_led_to_them():
    with pytest.raises(RuntimeError) as caught:
        raise_with_causes()
    hide_in_exception(caught.value)
    assert str(caught.value) == "failed at http://host.example?..."
    assert str(caught.value.__cause__) == "no answer from http://host.example"


def test_a_traceback_of_a_command_shows_none(capsys):
    with pytest.raises(RuntimeError) as caught, exit_on_error():
        raise_with_causes()
    assert "password" not in repr(caught.value)
    with pytest.raises(SystemExit), exit_on_error():
        raise GenreError(f"no answer from {ADDRESS}")
    assert capsys.readouterr().err == "error: no answer from http://host.example\n"


def test_no_library_logs_one():
    before = logging.getLogRecordFactory()
    stream = io.StringIO()
    logger = logging.Logger("a library")  # outside the tree of loggers, which other tests look at
    logger.addHandler(logging.StreamHandler(stream))
    hide_in_logs()
    try:
        logger.warning("retrying %s, %d left", f"{ADDRESS}/x?key=password", 3)
        try:
            raise_with_causes()
        except RuntimeError:
            logger.exception("it failed: 100%")
    finally:
        logging.setLogRecordFactory(before)
    text = stream.getvalue()
    assert "retrying http://host.example/x?..., 3 left" in text
    assert "it failed: 100%" in text and "RuntimeError: failed at http://host.example?..." in text
    assert "ConnectionError: no answer from http://host.example\n" in text
    assert "user:password" not in text


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError("\nno answer from http://user:password@host.example\nand more"), "no answer from http://host.example"),
        (ValueError(""), "ValueError"),
        (ValueError(), "ValueError"),
    ],
)
def test_an_error_has_a_first_line(error: Exception, line: str):
    assert first_line(error) == line
