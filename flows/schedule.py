"""Deployments of ``prefect.yaml`` in one process, without a worker: ``python -m flows.schedule [NAME...]``."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound, TerminationSignal
from prefect.runner import Runner
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL

from flows.cli import check_server
from genre.errors import UsageError, exit_on_error
from genre.workspace import PROJECT_DIR

#: Runs at once that are of no pool with a limit of its own, and of ``gpu``: two trainings would share the device.
RUN_LIMITS = {"cpu": 4, "gpu": 1}


def read_definitions(path: Path = PROJECT_DIR / "prefect.yaml") -> list[dict[str, Any]]:
    """What ``prefect deploy --all`` would deploy, as the file has it."""
    found: list[dict[str, Any]] = yaml.safe_load(path.read_text())["deployments"]
    return found


def build_deployment(definition: dict[str, Any]) -> RunnerDeployment:
    """A definition of ``prefect.yaml`` as a deployment that is served; its flow is imported.

    Raises
    ------
    UsageError
        If a schedule is not one by cron.
    """
    schedules = definition.get("schedules", [])
    if other := [schedule for schedule in schedules if "cron" not in schedule]:
        raise UsageError(f"{definition['name']}: flows.schedule knows schedules by cron only, got {other[0]}")
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
    """Run what falls due of some definitions until the process is ended, and pause their schedules then.

    Parameters
    ----------
    definitions : list of dict
        As `read_definitions` gives them.
    limits : dict
        Work pool to how many of its runs may be under way at once; the pools themselves are not used.
    """
    runners = {pool: Runner(name=f"genre-{pool}", limit=limit) for pool, limit in limits.items()}
    for definition in definitions:
        made = build_deployment(definition)
        await _refuse_workers(f"{made.flow_name}/{made.name}")
        await runners[definition["work_pool"]["name"]].aadd_deployment(made)
        print(f"serving {definition['entrypoint'].split(':')[1]}/{definition['name']}", flush=True)
    await asyncio.gather(*(runner.start() for runner in runners.values()))


async def _refuse_workers(name: str) -> None:
    """See that a deployment is not one that workers run: it would stay theirs, and lose its folder."""
    async with get_client() as client:
        with suppress(ObjectNotFound):
            if pool := (await client.read_deployment_by_name(name)).work_pool_name:
                raise UsageError(
                    f"{name} is deployed for the workers of pool {pool}; start one, "
                    f'or make it free first: "prefect deployment delete {name}"'
                )


def select_definitions(names: list[str]) -> list[dict[str, Any]]:
    """Definitions of these names, or all of them where none is named.

    Raises
    ------
    UsageError
        If one is not there.
    """
    known = {definition["name"]: definition for definition in read_definitions()}
    if unknown := set(names) - set(known):
        raise UsageError(f"prefect.yaml has no deployment {sorted(unknown)[0]!r}; choose from {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names or known)]


def run_schedule(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Deployments to serve; all of them if none is named.")
    ] = None,
) -> None:
    """Serve deployments of prefect.yaml, all or those named, on schedule and on demand, without a work pool."""
    listed = select_definitions(names or [])
    if not PREFECT_API_URL.value():
        raise UsageError(
            'schedules are kept by a Prefect server: start one with "prefect server start", '
            "and set PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    check_server()
    os.chdir(PROJECT_DIR)  # entry points are relative, and runs begin where their deployment was made
    try:
        asyncio.run(serve_deployments(listed, RUN_LIMITS))
    except (KeyboardInterrupt, TerminationSignal):
        print("ended; the schedules are paused until they are served again", flush=True)


if __name__ == "__main__":
    with exit_on_error():
        typer.run(run_schedule)
