"""README, CONTRIBUTING and the pages of docs/ name only what exists: commands, files, options, links."""

import ast
import importlib
import importlib.util
import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import get_args

import click
import pytest
import yaml
from mlflow.cli import cli as mlflow_cli

from genre.errors import UsageError
from tests.support.project import ROOT

DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = ["architecture", "audioset", "datasets", "glossary", "paper", "production", "serving", "tagging", "training"]
PAGES += ["troubleshooting"]
ENTRY_POINTS = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)

#: Sent by flows, and what they are about; not modules, though they look like some.
EVENTS = {
    "genre.retrain.promoted",
    "genre.retrain.refused",
    "genre.retrain.undecided",
    "genre.drift.found",
    "genre.model.NAME",
}

#: Where a name written in backquotes may be looked for.
CODE = [*ROOT.glob("*.toml"), *ROOT.glob("*.txt"), ROOT / "MLproject", ROOT / "conda.yaml"]
CODE += [path for folder in ("genre", "tracking", "flows", "serving") for path in (ROOT / folder).rglob("*.py")]


def prose(doc: Path) -> str:
    return FENCE.sub("", doc.read_text())


def quoted(doc: Path) -> list[str]:
    """Return the texts in backquotes outside the blocks."""
    return re.findall(r"`([^`]+)`", prose(doc))


def commands(doc: Path) -> list[list[str]]:
    """Every command of the bash blocks, in words."""
    blocks = [code.replace("\\\n", " ") for code in fenced(doc, "bash")]
    return [shlex.split(part) for code in blocks for line in code.splitlines() if line for part in line.split(" && ")]


def fenced(doc: Path, language: str) -> list[str]:
    """The blocks of a language."""
    return [code for kind, code in FENCE.findall(doc.read_text()) if kind == language]


def rows(doc: Path, header: str) -> list[list[str]]:
    """The cells of the first table whose first column is called so, without its first two lines."""
    table = re.search(rf"^\| {re.escape(header)} \|.*\n(?:\|.*\|\n)+", doc.read_text(), re.M)
    assert table, f"{doc.name} has no table of {header}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


def named(cells: list[list[str]]) -> list[str]:
    """The names in backquotes in the first cell of each row."""
    return [name for cell, *_ in cells for name in re.findall(r"`([^`]+)`", cell)]


def every_command() -> list[list[str]]:
    """Return the commands of the blocks, and the complete ones in the text."""
    in_text = [quote for doc in DOCS for quote in quoted(doc) if re.match(r"python -m \w|mlflow run \.", quote)]
    return [c for doc in DOCS for c in commands(doc)] + [shlex.split(text) for text in in_text if "..." not in text]


def run_lines() -> list[list[str]]:
    return [c for c in every_command() if c[:2] == ["mlflow", "run"]]


def parse(command: click.Command, words: list[str]) -> click.Context:
    """The context that click makes of these words; a usage error is a failure."""
    while isinstance(command, click.Group):
        name = words[0]
        words = words[1:]
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"{command.name} has no {name!r}"
        command = found
    return command.make_context(command.name, list(words))


def test_the_documents_have_commands():
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
def test_every_parameter_exists_and_accepts_its_value(name: str, value: str):
    from flows.hyperparameters import resolve_hyperparameters, select_models
    from genre import datasets

    assert any(name in entry_point["parameters"] for entry_point in ENTRY_POINTS.values())
    value = value.strip("'")
    if value in ("", "...", "PATH"):
        return
    if name in ("options", "params"):
        assert json.loads(value)
    if name == "options":
        datasets.parameters.override_defaults(option_names(), json.loads(value), "any data set")
    if name == "dataset":
        assert datasets.get_dataset(value)
    if name == "model":
        assert resolve_hyperparameters(select_models(value, "folder"), "{}")
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
    kinds = [get_args(s[parameter].annotation)[0] for s in signatures if parameter in s]
    return sum(map(get_args, kinds), ())


def test_the_params_of_the_experiment_are_of_its_model():
    from flows.hyperparameters import resolve_hyperparameters, select_models

    lines = [line for line in run_lines() if any(word.startswith("params=") for word in line)]
    assert lines
    for line in lines:
        given = dict(word.split("=", 1) for word in parse(mlflow_cli, line[1:]).params["param_list"])
        resolve_hyperparameters(select_models(given["model"], "folder"), given["params"])


def modules() -> list[str]:
    return sorted({c[i + 2] for c in every_command() for i in range(len(c) - 2) if c[i : i + 2] == ["python", "-m"]})


@pytest.mark.parametrize("module", modules())
def test_a_module_that_is_run_exists_and_lists_its_options(module: str):
    assert importlib.util.find_spec(module)
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stdout + done.stderr


def test_python_in_the_documents_compiles():
    codes = [c[c.index("-c") + 1] for c in every_command() if c[0] == "python" and "-c" in c]
    assert codes
    for code in codes:
        compile(code, "README", "exec")


def test_the_python_of_the_readme_is_made_of_names_that_exist():
    """Every import, and every attribute of a module that is imported."""
    [code] = fenced(ROOT / "README.md", "python")
    modules: dict[str, object] = {}
    for node in ast.walk(tree := ast.parse(code)):
        if isinstance(node, ast.Import):
            modules |= {name.asname or name.name: importlib.import_module(name.name) for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = importlib.import_module(str(node.module))
            for name in node.names:
                if not hasattr(base, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")
                modules[name.asname or name.name] = getattr(base, name.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert hasattr(modules[node.value.id], node.attr), ast.unparse(node)


def test_yaml_that_is_shown_is_yaml():
    found = [code for doc in DOCS for code in fenced(doc, "yaml")]
    assert found
    assert all(yaml.safe_load(code) for code in found)


def test_the_errors_of_ours_that_are_explained_are_in_the_code():
    lines = (ROOT / "docs" / "troubleshooting.md").read_text().splitlines()
    errors = [line.split("|")[1].strip().removeprefix("error: ") for line in lines if line.startswith("| error: ")]
    assert len(errors) >= 8
    for words in errors:
        for part in words.split("..."):
            assert part.strip().partition(" 127.")[0] in code(), words


def test_the_deployments_that_are_served_exist():
    schedule = importlib.import_module("flows.schedule")
    lines = [c for c in every_command() if c[:3] == ["python", "-m", "flows.schedule"]]
    assert {name for line in lines for name in line[3:]} == {"weekly"}
    assert len(schedule.select_definitions([])) > len(schedule.select_definitions(["weekly"])) == 1
    with pytest.raises(UsageError, match="no deployment 'daily'; choose from nightly, weekly"):
        schedule.select_definitions(["weekly", "daily"])


def test_every_deployment_that_is_run_or_listed_exists():
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    known = {f"{d['entrypoint'].split(':')[1]}/{d['name']}" for d in deployments}
    text = (ROOT / "docs" / "production.md").read_text()
    assert set(re.findall(r"`(\w+/\w+)`", text)) == known
    assert set(re.findall(r"prefect deployment run (\S+)", text)) <= known


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_page_is_there_and_reached_from_the_readme():
    assert [path.stem for path in DOCS if path.parent.name == "docs"] == PAGES
    links = re.findall(r"\]\(([^)\s]+)\)", prose(ROOT / "README.md"))
    assert {f"docs/{page}.md" for page in PAGES} <= {link.split("#")[0] for link in links}


def test_the_readme_lists_all_data_sets_models_and_commands():
    from genre.datasets import DATASETS
    from genre.models import MODELS

    readme = ROOT / "README.md"
    assert sorted(named(rows(readme, "data set"))) == sorted(DATASETS)
    assert sorted(named(rows(readme, "model"))) == sorted(MODELS)
    assert {name.removeprefix("-e ") for name in named(rows(readme, "command"))} >= set(ENTRY_POINTS) - {"main"}


def test_the_pages_list_all_data_sets_and_models():
    from genre.datasets import DATASETS
    from genre.models import MODELS

    assert sorted(named(rows(ROOT / "docs" / "datasets.md", "`dataset`"))) == sorted(DATASETS)
    assert sorted(named(rows(ROOT / "docs" / "training.md", "model"))) == sorted(MODELS)


def test_the_readme_lists_every_environment_variable_of_ours():
    listed = set(named(rows(ROOT / "README.md", "environment variable")))
    ours = set(re.findall(r"environ(?:\.get\(|\[)\"(GENRE_\w+)\"", code())) | {"GENRE_COOKIES", "GENRE_PROXY"}
    assert ours <= listed


def test_the_options_of_acquire_and_tag_are_all_listed():
    """A page that lists options lists all of them, but for the ones that other pages explain."""
    for page, entry_point in (("audioset", "acquire"), ("tagging", "tag")):
        listed = named(rows(ROOT / "docs" / f"{page}.md", "option"))
        assert set(listed) | {"source", "split", "url"} >= set(ENTRY_POINTS[entry_point]["parameters"])


def test_the_hyper_parameters_that_are_listed_are_those_there_are():
    from genre import models

    for cells in rows(ROOT / "docs" / "training.md", "model"):
        [name] = named([cells])
        listed = dict(re.findall(r"`(\w+)` ([^ ,]+)", cells[-1]))
        if listed:
            defaults = models.default_params(name)
            assert list(listed) == list(defaults), name
            assert {k: number(v) for k, v in listed.items()} == {k: number(str(v)) for k, v in defaults.items()}, name


def number(text: str) -> float | str:
    """A number or a fraction as a number, and a word as it is."""
    try:
        return float(Fraction(text))
    except ValueError:
        return text


def test_the_project_and_its_extras_are_installed_editable():
    """A copy of the packages in site-packages would look for the workspace there."""
    lines = [c for c in every_command() if c[:2] == ["pip", "install"] and any(re.match(r"\.(\[|$)", w) for w in c)]
    lines.remove(shlex.split("pip install --no-deps --no-build-isolation -e ."))  # after the hashed pins
    assert len(lines) >= 6
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for line in lines:
        extra = line[5].strip(".[]")
        assert line[2:5] == ["-c", f"requirements{'-dev' * (extra == 'dev')}.txt", "-e"], shlex.join(line)
        assert extra in ("", *extras)
    for doc in DOCS:
        assert not re.search(r"requirements\.txt ['\"]?\.\[", doc.read_text()), doc.name


@pytest.mark.parametrize("doc", DOCS, ids=lambda p: p.name)
def test_every_link_leads_somewhere(doc: Path):
    """To a file that exists and, where a heading is named, to that heading."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(doc)):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = doc.parent / name if name else doc
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(doc: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.+)$", prose(doc), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


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
        elif quote in EVENTS:
            assert "genre.{event}" in code() and "genre.model.{" in code()
        elif re.fullmatch(r"(genre|tracking|flows|serving)(\.\w+)+", quote):
            assert importlib.util.find_spec(quote), quote


@pytest.mark.parametrize("doc", DOCS, ids=lambda p: p.name)
def test_every_benchmark_that_is_named_exists(doc: Path):
    for name in re.findall(r"\bbenchmarks/[\w/]+\.py", doc.read_text()):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\bpython -m (benchmarks\.[\w.]+)", doc.read_text()):
        assert (ROOT / f"{name.replace('.', '/')}.py").exists(), name


@cache
def code() -> str:
    return "\n".join(path.read_text() for path in CODE)


def in_tests(name: str) -> bool:
    return any(name in path.read_text() for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__))


def test_models_that_are_named_are_all_models():
    """A list of models in the text is the whole list."""
    from genre.models import MODELS

    listed = [found for doc in DOCS for found in re.findall(r"^Models: (.*?)[;.]", prose(doc), re.M | re.S)]
    assert listed
    for models in listed:
        assert set(re.findall(r"`(\w+)`", models)) == set(MODELS)


def test_the_documented_address_is_the_default_of_the_client():
    """README serves on one port, asks with curl on it, and `serving.request` asks there by default."""
    serve = next(c for c in every_command() if c[:3] == ["mlflow", "models", "serve"])
    port = serve[serve.index("-p") + 1]
    assert f"127.0.0.1:{port}/invocations" in (ROOT / "README.md").read_text()
    assert f"127.0.0.1:{port}" in (ROOT / "serving" / "request.py").read_text()
