"""What README and CONTRIBUTING tell people to type, click and open is there."""

import importlib.util
import inspect
import json
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import click
import pytest
import yaml
from mlflow.cli import cli as mlflow_cli

from flows import schedule
from genre.errors import UsageError
from tests.support.project import ROOT

DOCS = [path for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md") if (path := ROOT / name).exists()]
ENTRY_POINTS = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)

#: Where a name written in backquotes may be looked for.
CODE = [*ROOT.glob("*.toml"), *ROOT.glob("*.txt"), ROOT / "MLproject", ROOT / "conda.yaml"]
CODE += [path for folder in ("genre", "flows", "serving") for path in (ROOT / folder).rglob("*.py")]


def prose(doc: Path) -> str:
    return FENCE.sub("", doc.read_text())


def quoted(doc: Path) -> list[str]:
    """What stands in backquotes within the text."""
    return re.findall(r"`([^`]+)`", prose(doc))


def commands(doc: Path) -> list[list[str]]:
    """Every command of the bash blocks, in words."""
    blocks = [code for language, code in FENCE.findall(doc.read_text()) if language == "bash"]
    return [shlex.split(part) for code in blocks for line in code.splitlines() if line for part in line.split(" && ")]


def every_command() -> list[list[str]]:
    """Those of the blocks, and those told in the text that are whole."""
    told = [quote for doc in DOCS for quote in quoted(doc) if re.match(r"python -m \w|mlflow run \.", quote)]
    return [c for doc in DOCS for c in commands(doc)] + [shlex.split(text) for text in told if "..." not in text]


def run_lines() -> list[list[str]]:
    return [c for c in every_command() if c[:2] == ["mlflow", "run"]]


def parse(command: click.Command, words: list[str]) -> click.Context:
    """The context that click makes of these words; a usage error is a failure."""
    while isinstance(command, click.Group):
        name, words = words[0], words[1:]
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"{command.name} has no {name!r}"
        command = found
    return command.make_context(command.name, list(words))


def test_there_is_something_to_hold():
    assert len(run_lines()) >= 3
    assert len(given_parameters()) >= 5


@pytest.mark.parametrize("line", [c for c in every_command() if c[0] == "mlflow"], ids=shlex.join)
def test_mlflow_knows_the_command(line: list[str]):
    parse(mlflow_cli, line[1:])


@pytest.mark.parametrize("line", run_lines(), ids=shlex.join)
def test_mlflow_run_names_entry_point_and_parameters_that_exist(line: list[str]):
    given = parse(mlflow_cli, line[1:]).params
    assert given["uri"] == "."
    entry_point = ENTRY_POINTS[given["entry_point"]]
    for word in given["param_list"]:
        assert word.split("=")[0] in entry_point["parameters"]


def given_parameters() -> list[tuple[str, str]]:
    """Every ``-P name=value`` anywhere, also those in the text that belong to no command."""
    found = [pair for doc in DOCS for pair in re.findall(r"-P (\w+)=('[^']*'|[^\s`]*)", doc.read_text())]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize(("name", "value"), given_parameters())
def test_every_parameter_is_one_and_its_value_is_accepted(name: str, value: str):
    from flows.train import resolve_hyperparameters, select_models
    from genre import datasets, parameters

    assert any(name in entry_point["parameters"] for entry_point in ENTRY_POINTS.values())
    value = value.strip("'")
    if value in ("", "...", "PATH"):
        return
    if name in ("options", "params"):
        assert json.loads(value)
    if name == "options":
        parameters.complete(option_names(), json.loads(value), "any data set")
    if name == "dataset":
        assert datasets.get_dataset(value)
    if name == "model":
        assert resolve_hyperparameters(select_models(value), "{}")
    if name in ("variant", "split"):
        assert value in accepted(name)


def option_names() -> dict[str, object]:
    """Options of all data sets."""
    from genre import datasets, parameters

    modules = [kind.module for kind in datasets.DATASETS.values()]
    return {k: v for module in modules for k, v in parameters.keyword_defaults(module.load_clips).items()}


def accepted(parameter: str) -> tuple[str, ...]:
    from flows.acquire import acquire
    from flows.retrain import retrain

    signatures = [inspect.signature(flow.fn).parameters for flow in (retrain, acquire)]
    return sum((s[parameter].annotation.__args__ for s in signatures if parameter in s), ())


def test_the_params_of_the_experiment_are_of_its_model():
    from flows.train import resolve_hyperparameters, select_models

    lines = [line for line in run_lines() if any(word.startswith("params=") for word in line)]
    assert lines
    for line in lines:
        given = dict(word.split("=", 1) for word in parse(mlflow_cli, line[1:]).params["param_list"])
        resolve_hyperparameters(select_models(given["model"]), given["params"])


def modules() -> list[str]:
    return sorted({c[i + 2] for c in every_command() for i in range(len(c) - 2) if c[i : i + 2] == ["python", "-m"]})


@pytest.mark.parametrize("module", modules())
def test_a_module_that_is_run_exists_and_tells_its_options(module: str):
    assert importlib.util.find_spec(module)
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stdout + done.stderr


def test_python_that_is_typed_compiles():
    codes = [c[c.index("-c") + 1] for c in every_command() if c[0] == "python" and "-c" in c]
    assert codes
    for code in codes:
        compile(code, "README", "exec")


def test_the_deployments_that_are_served_exist():
    lines = [c for c in every_command() if c[:3] == ["python", "-m", "flows.schedule"]]
    assert sorted(name for line in lines for name in line[3:]) == ["weekly"]
    assert len(schedule.select_definitions([])) > len(schedule.select_definitions(["weekly"])) == 1
    with pytest.raises(UsageError, match="no deployment 'daily'; choose from nightly, weekly"):
        schedule.select_definitions(["weekly", "daily"])


@pytest.mark.parametrize("doc", DOCS, ids=lambda p: p.name)
def test_every_link_leads_somewhere(doc: Path):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(doc)):
        if not link.startswith(("http://", "https://", "#")):
            assert (doc.parent / link.split("#")[0]).exists(), link


@pytest.mark.parametrize("doc", DOCS, ids=lambda p: p.name)
def test_every_file_that_is_named_exists(doc: Path):
    made = {"mlflow.db", "mlruns/", "workspace/", "uv.lock", "request.json"}  # by the commands, or not at all
    for quote in quoted(doc):
        if re.fullmatch(r"[\w./-]+(/|\.(py|toml|txt|yaml|md))", quote) and quote not in made:
            assert (ROOT / quote).exists(), quote


@pytest.mark.parametrize("doc", DOCS, ids=lambda p: p.name)
def test_every_name_in_the_code_exists(doc: Path):
    """Constants, environment variables and dotted names; file names have their own test."""
    for quote in quoted(doc):
        if re.fullmatch(r"[A-Z][A-Z0-9]*_[A-Z0-9_]+|[A-Z]{6,}|[A-Z][a-z]+[A-Z]\w+", quote):
            assert re.search(rf"\b{quote}\b", code()) or in_tests(quote), quote
        elif re.fullmatch(r"(genre|flows|serving)(\.\w+)+", quote):
            assert importlib.util.find_spec(quote), quote


@cache
def code() -> str:
    return "\n".join(path.read_text() for path in CODE)


def in_tests(name: str) -> bool:
    return any(name in path.read_text() for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_models_that_are_named_are_all_models(name: str):
    """A list of models in the text is the whole list."""
    from genre.models import MODELS

    if not (ROOT / name).exists():
        pytest.skip(f"no {name}")
    listed = re.search(r"^Models: (.*?)[;.]", prose(ROOT / name), re.M | re.S)
    if listed:
        assert set(re.findall(r"`(\w+)`", listed[1])) == set(MODELS)


def test_what_is_served_answers_to_the_address_that_is_printed():
    """README serves on one port, asks with curl on it, and `serving.request` asks there by default."""
    serve = next(c for c in every_command() if c[:3] == ["mlflow", "models", "serve"])
    port = serve[serve.index("-p") + 1]
    assert f"127.0.0.1:{port}/invocations" in (ROOT / "README.md").read_text()
    assert f"127.0.0.1:{port}" in (ROOT / "serving" / "request.py").read_text()
