"""The storm: kills in mid-turn, crashes of the database, and orderly stops."""

import asyncio
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bench.chaos.postgres import Postgres
from bench.chaos.services import Service, until
from bench.chaos.watch import Watch

CHOOSY_SECONDS = 1.0
"""The seconds for which a kill only hits the chosen process. After that it hits any process that is executing a run."""
STOP_SECONDS = 10.0
"""The most seconds that a service may take to stop."""
TRAP_SECONDS = 20.0
"""The most seconds that a kill waits for its event. After that, the kill is tried again."""
MOST_TRIES = 10
STEPS = (frozenset({"text"}), frozenset({"text"}), frozenset({"tool_call"}), frozenset({"tool_result"}))
"""The events that trigger a kill. `text` strikes while the model streams; it is listed twice, so it is chosen twice as
often. `tool_call` strikes before or between a response's calls, and `tool_result` after a call."""

Blow = Literal["kill 0", "kill 1", "kill both", "crash", "stop 0", "stop 1"]


@dataclass(frozen=True)
class Size:
    """The length of the storm: a number of kills and crashes, or a number of seconds."""

    seconds: float | None = None
    kills: int = 0
    crashes: int = 0
    is_calm: bool = False
    """Whether there are no kills, crashes or stops at all."""

    def blows(self, seed: int) -> Iterator[Blow]:
        """Yield the kills, crashes and stops, in an order that depends only on the seed."""
        if self.is_calm:
            return
        if self.seconds is None:
            yield from _shuffled(self.kills, self.crashes, random.Random(f"{seed} storm"))
            return
        for number in itertools.count():
            yield from _shuffled(8, 1, random.Random(f"{seed} storm {number}"))


@dataclass(frozen=True)
class Kill:
    """A killed process, and the runs it was executing."""

    service: str
    at: float
    run_ids: frozenset[str]


@dataclass(frozen=True)
class Crash:
    """A crash of the database."""

    at: float
    back_at: float
    processes: int


@dataclass(frozen=True)
class Stop:
    """A service that was asked to stop, and how it stopped."""

    service: str
    status: int | None
    seconds: float
    streams: int
    left: tuple[str, ...]
    """How the streams without a `reconnect` or `done` event ended."""


@dataclass
class Storm:
    """Carries out the storm, and records it."""

    services: Sequence[Service]
    postgres: Postgres
    watch: Watch
    size: Size
    seed: int
    after_each: Callable[[], None]
    """Called after each kill, crash or stop."""
    kills: list[Kill] = field(default_factory=list)
    crashes: list[Crash] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)

    async def rage(self) -> None:
        """Carry out all kills, crashes and stops one after the other; return when all services are ready again."""
        rng = random.Random(f"{self.seed} when")
        ends_at = time.monotonic() + (self.size.seconds or float("inf"))
        told_at = time.monotonic()
        for blow in self.size.blows(self.seed):
            await asyncio.sleep(rng.uniform(0.2, 1.0))
            for _ in range(MOST_TRIES):
                if time.monotonic() > ends_at or await self._strike(blow, rng):
                    break
            else:
                raise RuntimeError(f"There is nothing to strike for a {blow!r}: no run gets under way.")
            if time.monotonic() > ends_at:
                break
            self.after_each()
            if time.monotonic() > told_at + 15:
                told_at = time.monotonic()
                print(f"{len(self.kills)} kills, {len(self.crashes)} crashes, {len(self.stops)} stops", file=sys.stderr)
        if self.size.is_calm:
            await asyncio.sleep(self.size.seconds or 0)
        for service in self.services:
            await service.ready()

    async def _strike(self, blow: Blow, rng: random.Random) -> bool:
        for service in self.services:
            service.look()
        what, _, which = blow.partition(" ")
        if what == "crash":
            return await self._crash(rng)
        victim = self.services[int(which)] if which != "both" else rng.choice(self.services)
        if what == "stop":
            return await self._stop(victim)
        return await self._kill(victim, rng, with_the_other=which == "both")

    async def _kill(self, wanted: Service, rng: random.Random, *, with_the_other: bool) -> bool:
        """Kill one process or both in mid-turn, and restart at once."""
        await wanted.ready()
        for service in self.services:
            # Sometimes no other process is left to take over at once.
            if with_the_other or rng.random() < 0.75:
                await service.ready()
        victims: list[Service] = []
        choosy_until = time.monotonic() + CHOOSY_SECONDS

        def strike(hit: Service) -> bool:
            if hit is not wanted and time.monotonic() < choosy_until:
                return False
            falling = self.services if with_the_other else [hit]
            run_ids = [frozenset(self.watch.under_way(service)) for service in falling]
            if not all(service.is_ready and under_way for service, under_way in zip(falling, run_ids, strict=True)):
                return False
            for service, under_way in zip(falling, run_ids, strict=True):
                self.kills.append(Kill(service.name, time.time(), under_way))
                service.kill()
            victims.extend(falling)
            return True

        # Not always at the first event.
        await asyncio.sleep(rng.uniform(0, 0.5))
        if not await self.watch.trapped(rng.choice(STEPS), strike, seconds=TRAP_SECONDS):
            return False
        for service in victims:
            await service.killed()
            service.start()
        return True

    async def _crash(self, rng: random.Random) -> bool:
        """Crash the database during runs, and wait until the services have restarted it."""
        for service in self.services:
            await service.ready()
        await until(lambda: any(self.watch.under_way(service) for service in self.services), seconds=TRAP_SECONDS)
        at = time.time()
        processes = self.postgres.crash(whole=rng.random() < 0.5)
        if not await self.postgres.is_back():
            raise RuntimeError("Nobody has started the database again.")
        self.crashes.append(Crash(at, time.time(), processes))
        return True

    async def _stop(self, victim: Service) -> bool:
        """Ask a service to stop while streams are open, and restart it."""
        await victim.ready()

        def open_streams() -> bool:
            return any(stream.service is victim and stream.heard for stream in self.watch.streams)

        if not await until(open_streams, seconds=TRAP_SECONDS):
            return False
        streams = [stream for stream in self.watch.streams if stream.service is victim and stream.heard]
        status, seconds = await victim.stop()
        await until(lambda: not any(stream in self.watch.streams for stream in streams), seconds=2)
        left = [stream.ended for stream in streams if stream.ended not in ("reconnect", "done", "dropped")]
        self.stops.append(Stop(victim.name, status, seconds, len(streams), tuple(left)))
        victim.start()
        return True


def _shuffled(kills: int, crashes: int, rng: random.Random) -> list[Blow]:
    doubles = max(kills // 12, kills >= 4)
    blows: list[Blow] = []
    blows += ["kill both"] * doubles
    blows += ["crash"] * crashes
    blows += ["kill 0" if number % 2 else "kill 1" for number in range(kills - 2 * doubles)]
    blows += ["stop 0" if number % 2 else "stop 1" for number in range(max(kills // 15, 1))]
    rng.shuffle(blows)
    return blows
