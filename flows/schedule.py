"""Deployments of ``prefect.yaml`` served by one process, without workers: ``python -m flows.schedule [NAME...]``."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound, TerminationSignal
from prefect.runner import Runner
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL

from flows.command.running import bypass_proxies, check_server
from genre.errors import UsageError, exit_on_error
from genre.workspace import PROJECT_DIR

#: Most concurrent runs of each work pool. On ``gpu`` two trainings would share the device.
RUN_LIMITS = {"cpu": 4, "gpu": 1}

#: Seconds between two looks whether workers are to run what is served here.
POOL_CHECK_S = 10


def read_definitions(path: Path = PROJECT_DIR / "prefect.yaml") -> list[dict[str, Any]]:
    """Return the definitions in the file: the deployments of ``prefect deploy --all``."""
    definitions: list[dict[str, Any]] = yaml.safe_load(path.read_text())["deployments"]
    return definitions


def build_deployment(definition: dict[str, Any]) -> RunnerDeployment:
    """Import the flow of a definition of ``prefect.yaml`` and return its deployment.

    Raises
    ------
    UsageError
        If a schedule is not a cron schedule.
    """
    schedules = definition.get("schedules", [])
    if unsupported := [schedule for schedule in schedules if "cron" not in schedule]:
        raise UsageError(f"{definition['name']}: flows.schedule supports cron schedules only; got {unsupported[0]}")
    limit = definition.get("concurrency_limit")
    return RunnerDeployment.from_entrypoint(
        definition["entrypoint"],
        definition["name"],
        description=definition.get("description"),
        parameters=definition.get("parameters"),
        concurrency_limit=ConcurrencyLimitConfig(**limit) if isinstance(limit, dict) else limit,
        schedules=[Cron(schedule.pop("cron"), **schedule) for schedule in map(dict, schedules)],
    )


async def serve_deployments(definitions: list[dict[str, Any]], limits: dict[str, int]) -> None:
    """Serve deployments, on schedule and on demand, until the process ends; then pause their schedules.

    Parameters
    ----------
    definitions : list of dict
        Definitions from `read_definitions`.
    limits : dict
        Work pool to its largest number of concurrent runs. The pools themselves are not used.

    Raises
    ------
    UsageError
        If a deployment is one that workers run, or becomes one, or a schedule is not a cron schedule.
    """
    # a runner would pause the schedules of deployments that are the workers' by then
    runners = {
        pool: Runner(name=f"genre-{pool}", limit=limit, pause_on_shutdown=False) for pool, limit in limits.items()
    }
    names = []
    for definition in definitions:
        deployment = build_deployment(definition)
        name = f"{deployment.flow_name}/{deployment.name}"
        await _check_without_pool(name)
        await runners[definition["work_pool"]["name"]].aadd_deployment(deployment)
        names.append(name)
        print(f"serving {name}", flush=True)
    try:
        await asyncio.gather(_watch_pools(names), *(runner.start() for runner in runners.values()))
    finally:
        await _pause_schedules(names)


async def _check_without_pool(name: str) -> None:
    """Check that a deployment is not one that workers run: both would take its runs."""
    async with get_client() as client:
        with suppress(ObjectNotFound):
            if pool := (await client.read_deployment_by_name(name)).work_pool_name:
                raise UsageError(
                    f"{name} is deployed to the work pool {pool}; start a worker for it, "
                    f'or delete the deployment first: "prefect deployment delete {name}"'
                )


async def _watch_pools(names: list[str]) -> None:
    """Raise as `_check_without_pool` does, as soon as one of the deployments is deployed to a work pool."""
    while True:
        await asyncio.sleep(POOL_CHECK_S)
        for name in names:
            with suppress(httpx.HTTPError):  # the runners wait for the server to come back
                await _check_without_pool(name)


async def _pause_schedules(names: list[str]) -> None:
    """Pause the schedules of the deployments that no worker runs."""
    async with get_client() as client:
        for name in names:
            with suppress(ObjectNotFound, httpx.HTTPError):
                deployment = await client.read_deployment_by_name(name)
                if not deployment.work_pool_name:
                    await client.pause_deployment(deployment.id)


def select_definitions(names: list[str]) -> list[dict[str, Any]]:
    """Return the definitions of these names, or all definitions if there are no names.

    Raises
    ------
    UsageError
        If the file has no definition of a name.
    """
    definitions = {definition["name"]: definition for definition in read_definitions()}
    if unknown := set(names) - set(definitions):
        raise UsageError(f"prefect.yaml has no deployment {sorted(unknown)[0]!r}; choose from {', '.join(definitions)}")
    return [definitions[name] for name in dict.fromkeys(names or definitions)]


def _require_server() -> None:
    """Check that a Prefect server is named and answers."""
    if not PREFECT_API_URL.value():
        raise UsageError(
            'schedules need a Prefect server, and PREFECT_API_URL is not set; start one with "prefect server start" '
            "and set PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    check_server()


def run_schedule(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Deployments to serve. Default: all of them.")
    ] = None,
) -> None:
    """Serve deployments of prefect.yaml, on schedule and on demand, without a work pool."""
    definitions = select_definitions(names or [])
    bypass_proxies()
    _require_server()
    os.chdir(PROJECT_DIR)  # entry points are relative, and runs start in the folder that their deployment was made in
    try:
        asyncio.run(serve_deployments(definitions, RUN_LIMITS))
    except (KeyboardInterrupt, TerminationSignal):
        print("stopped; the schedules are paused until flows.schedule runs again", flush=True)


if __name__ == "__main__":
    with exit_on_error():
        typer.run(run_schedule)
