"""`python -m bench.chaos`: two services share one embedded database, and both are killed and crashed at random.

The exit status is 1 if a goal is missed; the data and logs are then kept in the directory it prints.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bench.chaos.checks import goals
from bench.chaos.clients import Clients, Habits
from bench.chaos.delivery import Network
from bench.chaos.evidence import Clock, Evidence, gathered
from bench.chaos.postgres import Postgres
from bench.chaos.report import Report, counts_of, machine, numbers_of
from bench.chaos.script import answering
from bench.chaos.services import Service, environment, free_port
from bench.chaos.storm import Size, Stop, Storm
from bench.chaos.watch import Watch
from bench.scripted_model import ScriptedModel, scripted_model

SETTLE_SECONDS = 120.0
"""The most seconds that the last runs may take to end."""


@dataclass(frozen=True)
class Plan:
    """The options from the command line."""

    seed: int
    size: Size
    users: int
    conversations: int
    habits: Habits
    lease_seconds: float
    pace: float
    forked: bool


def main() -> int:
    """Run the benchmark, print the table, and return the exit status."""
    given = _parser().parse_args()
    counted = (given.kills or given.crashes) and not given.calm
    size = Size(None if counted else given.seconds, given.kills, given.crashes, is_calm=given.calm)
    habits = replace(Habits(), cancels=given.cancels)
    plan = Plan(
        given.seed, size, given.users, given.conversations, habits, given.lease_seconds, given.pace, not given.cold
    )
    # The database's socket needs a short path, which the database's own user must be able to reach.
    directory = Path(tempfile.mkdtemp(prefix="chaos-"))
    report = None
    try:
        with scripted_model(answering(pace=plan.pace)) as model:
            report = asyncio.run(_run(plan, model, directory))
    finally:
        if report is not None and report.is_met:
            shutil.rmtree(directory)
        else:
            print(f"The data and the logs are in {directory}.", file=sys.stderr)
    print(report.as_text())
    if given.result is not None:
        report.write(given.result)
    return 0 if report.is_met else 1


async def _run(plan: Plan, model: ScriptedModel, directory: Path) -> Report:
    data_dir = directory / "data"
    settings = environment(
        data_dir,
        ENVIRONMENT="test",
        MODEL="openai/scripted",
        OPENAI_BASE_URL=model.url,
        OPENAI_API_KEY="x",
        GUESTS_PER_HOUR=0,
        GUEST_TURNS_PER_DAY=0,
        GUEST_MODEL_TURNS_PER_DAY=0,
        CHAT_WAIT_SECONDS=20,
        LEASE_SECONDS=plan.lease_seconds,
    )
    services = [Service(name, settings, directory, free_port(), plan.forked) for name in ("A", "B")]
    watch, postgres = Watch(), Postgres(data_dir)
    network = Network(services, watch)
    clients = Clients(network, seed=plan.seed, habits=plan.habits)
    storm = Storm(services, postgres, watch, plan.size, plan.seed, after_each=model.requests.clear)
    began = time.monotonic()
    try:
        for service in services:
            # One after the other, because the first one creates the database.
            service.start()
            await service.ready()
        await _weather(plan, clients, storm)
        await _settled(postgres)
        clock = Clock(
            [span for service in services for span in service.spans],
            [(crash.at, crash.back_at) for crash in storm.crashes],
        )
        known = {"kills": storm.kills, "crashes": storm.crashes, "stops": storm.stops, "clock": clock}
        evidence = await gathered(network, postgres, clients.conversations, **known, lease_seconds=plan.lease_seconds)
        major = postgres.query("show server_version")[0]["server_version"].split(".")[0]
        for service in services:
            status, seconds = await service.stop()
            storm.stops.append(Stop(service.name, status, seconds, 0, ()))
    finally:
        await network.http.aclose()
        for service in services:
            service.end()
        postgres.end()
    evidence.surprises += [*network.surprises, *(told for service in services for told in service.surprises)]
    evidence.surprises += _tracebacks(directory)
    return _report(plan, evidence, network, major, time.monotonic() - began)


async def _weather(plan: Plan, clients: Clients, storm: Storm) -> None:
    """Let users talk during the storm; return when every conversation has got one more answer."""
    async with asyncio.TaskGroup() as group:
        group.create_task(clients.talk(users=plan.users, at_once=plan.conversations))
        await storm.rage()
        clients.close()
    await clients.go_on_everywhere()


async def _settled(postgres: Postgres) -> None:
    """Wait until every run has ended, or time is up; the checks find runs that have not ended."""
    deadline = time.monotonic() + SETTLE_SECONDS
    statement = "select 1 from runs where status not in ('completed', 'failed', 'cancelled') limit 1"
    while time.monotonic() < deadline:
        if not await asyncio.to_thread(postgres.query, statement):
            break
        await asyncio.sleep(0.2)


def _tracebacks(directory: Path) -> Iterator[str]:
    """Yield the bugs that the services' logs show."""
    for path in sorted(directory.glob("*.out")):
        for line in path.read_text(errors="replace").splitlines():
            told = json.loads(line) if line.startswith("{") else {"event": line}
            if "exception" in told or "level" not in told:
                yield f"{path.name}: {line[:2000]}"
    for path in sorted(directory.glob("*.err")):
        if "Traceback" in (text := path.read_text(errors="replace")):
            yield f"{path.name}: {text[text.index('Traceback') :][:2000]}"


def _report(plan: Plan, evidence: Evidence, network: Network, major: str, seconds: float) -> Report:
    size = plan.size
    asked = f"{size.kills} kills, {size.crashes} crashes" if size.seconds is None else f"{size.seconds:g} s"
    processes = "forked from one that has imported everything" if plan.forked else "fresh interpreters"
    return Report(
        facts={
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": f"{machine()}, PostgreSQL {major}",
            "seed and size": f"{plan.seed}, {asked}{', calm' * size.is_calm}",
            "users and their conversations at once": f"{plan.users}, {plan.conversations}",
            "services": f"2 processes, {processes}, LEASE_SECONDS={plan.lease_seconds:g}",
            "duration": f"{seconds / 60:.1f} minutes",
        },
        counts=counts_of(evidence, network),
        numbers=numbers_of(evidence, network),
        goals=goals(evidence),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="everything random follows from it")
    parser.add_argument("--seconds", type=float, default=60, help="how long the storm lasts, unless it is counted")
    parser.add_argument("--kills", type=int, default=0, help="kill processes in mid-turn so many times")
    parser.add_argument("--crashes", type=int, default=0, help="crash the database so many times")
    parser.add_argument("--calm", action="store_true", help="strike at nothing, for --seconds")
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--conversations", type=int, default=2, help="how many each user has at a time")
    parser.add_argument("--cancels", type=float, default=0.03, help="the share of messages that are cancelled")
    parser.add_argument("--pace", type=float, default=0.03, help="seconds that the model takes for a word")
    parser.add_argument("--lease-seconds", type=float, default=2)
    parser.add_argument("--cold", action="store_true", help="start each process in a fresh interpreter")
    parser.add_argument("--result", type=Path, help="write the result here, as .md or .json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
