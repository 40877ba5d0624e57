"""A flow as a command line: options, help, errors."""

import inspect
import logging
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import typer
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner, Result

from flows import checks, cli
from flows.build import build
from flows.command import running
from flows.parameters import DryRun, Folds, VariantName
from genre.errors import GenreError
from tests.support.forward_proxy import PROXY_VARIABLES, forward_proxy
from tests.support.odd_servers import answering
from tests.support.project import ROOT
from tests.support.servers import free_port
from tests.support.sounds import write_music


class Recorder:
    """Function with the signature of another, which records its arguments."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.arguments: dict[str, Any] = {}

    def __call__(self, **arguments: Any) -> None:
        self.arguments = arguments


def sample(variant: VariantName = "corrected", dry_run: DryRun = True, folds: Folds = -1) -> None:
    """Do one thing, and
    nothing else.

    Then ``rest``.

    Returns
    -------
    None
        Of no use.
    """


def run(flow: Any, *arguments: str) -> Result:
    program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    program.command()(cli.make_command(inspect.signature(flow.fn), inspect.getdoc(flow.fn) or "", flow))
    return CliRunner().invoke(program, arguments, env={"COLUMNS": "300", "TERMINAL_WIDTH": "300"})


@pytest.fixture
def flow() -> Recorder:
    return Recorder(sample)


def test_the_options_of_a_command_line_are_the_parameters_of_the_flow(flow: Recorder):
    assert run(flow).exit_code == 0
    assert flow.arguments == {"variant": "corrected", "dry_run": True, "folds": -1, "verbose": False}
    assert run(flow, "--variant", "paper", "--dry-run", "false", "--folds", "5", "-v").exit_code == 0
    assert flow.arguments == {"variant": "paper", "dry_run": False, "folds": 5, "verbose": True}


@pytest.mark.parametrize("word", ["true", "True", "TRUE", "yes", "1"])
def test_words_for_true(flow: Recorder, word: str):
    assert run(flow, "--dry-run", word).exit_code == 0
    assert flow.arguments["dry_run"] is True


@pytest.mark.parametrize("word", ["false", "False", "FALSE", "no", "0"])
def test_words_for_false(flow: Recorder, word: str):
    assert run(flow, "--dry-run", word).exit_code == 0
    assert flow.arguments["dry_run"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dry-run", "maybe"], "'maybe' is neither true nor false"),
        (["--dry-run", ""], "'' is neither true nor false"),
        (["--dry-run"], "requires an argument"),
        (["--variant", "other"], "'other' is not one of"),
        (["--folds", "few"], "valid integer"),
    ],
)
def test_a_value_of_the_wrong_type_is_a_usage_error(flow: Recorder, options: list[str], message: str):
    done = run(flow, *options)
    assert done.exit_code == 2 and not flow.arguments
    assert message in done.stderr


def test_a_value_out_of_range_is_passed_on_to_the_flow(flow: Recorder):
    assert run(flow, "--folds", "50").exit_code == 0
    assert flow.arguments["folds"] == 50


def test_a_source_alone_names_the_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_music(tmp_path / "music", genres={"low": 200, "high": 400})
    given = {"dataset": "demo", "source": str(tmp_path / "music"), "seed": 1}
    assert cli.recognise_dataset(given) == given | {"dataset": "folder"}
    assert "data set folder: " in capsys.readouterr().out
    for untouched in ({**given, "source": ""}, {**given, "dataset": "tagged"}, {"source": str(tmp_path)}):
        assert cli.recognise_dataset(untouched) == untouched
    assert capsys.readouterr().out == ""


def test_help_shows_the_summary_and_the_text_range_and_default_of_each_option(flow: Recorder):
    text = run(flow, "--help").stdout
    assert "Do one thing, and nothing else." in text and "Then rest." in text
    assert "Returns" not in text and "Of no use" not in text
    for part in ("corrected|paper", "[default: corrected]", "true|false", "[default: True]", "[default: -1]"):
        assert part in text
    assert "From 2 to 20; 0 for none; -1 for 3 below 5,000 clips" in text


def test_help_of_a_flow_lists_all_of_its_options():
    text = run(build, "--help").stdout
    for name in build.parameters.properties:
        assert f"--{name.replace('_', '-')} " in text
    assert "One of audioset, demo, fma, folder, gtzan, published, tagged, vggish." in text


def answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **environment: str) -> str:
    """Run ``python -m flows.rollback`` in this process, up to the checks before its imports; return the one line."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cli.sys, "argv", ["rollback"])
    monkeypatch.setattr(cli, "run_flow", lambda *_: pytest.fail("the flow would be imported"))
    with pytest.raises(SystemExit, match="1"):
        cli.main(str(ROOT / "flows" / "rollback.py"), checks.check_rollback)
    shown = capsys.readouterr()
    assert not shown.out
    [line] = shown.err.splitlines()
    return line


def test_servers_that_do_not_answer_are_told_in_one_line_before_anything_is_imported(home, monkeypatch, capsys):
    url = f"http://127.0.0.1:{free_port()}"
    line = answer(monkeypatch, capsys, MLFLOW_TRACKING_URI=url.replace("//", "//user:s3cret@"))
    assert line.startswith(f"error: MLflow at {url} does not answer (Connection refused); ")
    line = answer(monkeypatch, capsys, MLFLOW_TRACKING_URI="warehouse://somewhere/db")
    assert line.startswith("error: MLFLOW_TRACKING_URI names a store of a kind that MLflow does not know; accepted")
    store = f"sqlite:///{home.parent / 'mlflow.db'}"
    line = answer(monkeypatch, capsys, MLFLOW_TRACKING_URI=store, PREFECT_API_URL=f"{url}/api")
    assert line.startswith(f"error: Prefect at {url}/api does not answer (Connection refused); ")


def test_folders_that_cannot_be_written_to_are_told_in_one_line_before_anything_is_imported(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "file").write_text("")
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    line = answer(monkeypatch, capsys, MLFLOW_TRACKING_URI=store, GENRE_HOME=str(tmp_path / "file"))
    assert line.startswith(f"error: cannot write to the folder {tmp_path / 'file'} (Not a directory); set GENRE_HOME")
    store = f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}"
    line = answer(monkeypatch, capsys, MLFLOW_TRACKING_URI=store, GENRE_HOME=str(tmp_path / "workspace"))
    assert line.startswith(f"error: MLflow's database {store} cannot be written to (Not a directory); set MLFLOW")


def test_a_flow_that_writes_nothing_to_the_workspace_does_not_need_it(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GENRE_HOME", str(tmp_path / "file"))
    with answering(200) as (url, asked):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        monkeypatch.setenv("PREFECT_API_URL", f"{url}/api")
        cli.check_surroundings(needs_workspace=False)
        with pytest.raises(GenreError, match="GENRE_HOME"):
            cli.check_surroundings(needs_workspace=True)
    assert asked == ["/health", "/api/health"]


def test_without_a_server_address_nothing_is_checked():
    with temporary_settings({PREFECT_API_URL: None}):
        running.check_server()


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/api", "http://[", "nonsense"])
def test_a_server_that_does_not_answer_is_a_foreseen_error(url: str, monkeypatch: pytest.MonkeyPatch):
    url = url.format(port=free_port())
    monkeypatch.setattr(running, "PREFECT_API_URL", UncheckedSetting(url))
    with pytest.raises(GenreError, match=r"does not answer.*prefect server start.*unset PREFECT_API_URL") as refused:
        running.check_server()
    assert url in str(refused.value)


class UncheckedSetting:
    """Prefect setting with a value that Prefect itself would refuse."""

    def __init__(self, url: str) -> None:
        self.url = url

    def value(self) -> str:
        return self.url


class HealthHandler(BaseHTTPRequestHandler):
    """Handler of health checks that records the path requested."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()
        self.server.requested_path = self.path  # type: ignore[attr-defined]

    def log_message(self, *arguments: Any) -> None:
        pass


def test_a_server_that_answers_passes_the_check():
    with HTTPServer(("127.0.0.1", 0), HealthHandler) as server:
        Thread(target=server.handle_request, daemon=True).start()
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{server.server_port}/api/"}):
            running.check_server()
    assert server.requested_path == "/api/health"  # type: ignore[attr-defined]


def test_only_the_repetitions_of_a_foreseen_error_are_left_out():
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    handler.addFilter(running._without_traceback)
    handler.addFilter(running._repetition_filter())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    error = GenreError("no music in x/")
    for text in ("Task run failed with exception: %r", "Encountered exception during execution: %r"):
        try:
            raise error
        except GenreError:
            logger.exception(text, error)
    logger.error("Finished in state %s", f"Failed('{error}')")
    logger.error("svm failed: %s", error)
    logger.error("Finished in state %s", "Failed('another reason')")
    assert [line.split()[0] for line in lines] == ["Task", "svm", "Finished"]


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without proxies, to which it is restored at the end."""
    for name in PROXY_VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "all_proxy"])
def test_a_prefect_server_of_another_machine_is_asked_through_the_proxy(no_proxies, monkeypatch, variable):
    with forward_proxy() as (proxy, asked), temporary_settings({PREFECT_API_URL: "http://prefect.example/api"}):
        monkeypatch.setenv(variable, proxy)
        running.bypass_proxies()
        running.check_server()
    assert asked == ["http://prefect.example/api/health"]


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_prefect_server_of_this_machine_is_asked_directly(no_proxies, monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)
    with forward_proxy() as (url, asked), temporary_settings({PREFECT_API_URL: f"{url}/api"}):
        running.bypass_proxies()
        running.check_server()
    assert asked == ["/api/health"]


@pytest.mark.parametrize("proxy", ["carrier-pigeon://loft", "socks6://127.0.0.1:9"])
def test_a_proxy_that_prefects_client_cannot_use_is_an_error_in_words(no_proxies, monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)
    with temporary_settings({PREFECT_API_URL: "http://prefect.example/api"}):
        running.bypass_proxies()
        with pytest.raises(GenreError, match="cannot be asked through the proxy"):
            running.check_server()
