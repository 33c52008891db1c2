"""Derive from followers' events which process executes which run, so that a kill can hit a process in mid-turn."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from bench.chaos.services import Service


@dataclass(eq=False, slots=True)
class Stream:
    """A followed stream: the process that serves it, and how it ended."""

    service: Service
    pid: int
    heard: int = 0
    ended: str = ""
    """`done`, `reconnect`, `dropped` by the client, `broken` in the middle, or `closed` properly without a reason."""


@dataclass(slots=True)
class _Trap:
    kinds: frozenset[str]
    spring: Callable[[Service], bool]
    sprung: asyncio.Event


class Watch:
    """Sees every event that any client gets."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        """The open streams."""
        self._places: dict[str, tuple[Service, int]] = {}
        self._trap: _Trap | None = None

    def under_way(self, service: Service) -> set[str]:
        """Return the runs that the service's process executes now, as far as clients can know."""
        return {run_id for run_id, place in self._places.items() if place == (service, service.pid)}

    def saw(self, stream: Stream, run_id: str, kind: str, *, stored: bool) -> None:
        """Process one event. If a trap waits for this event, spring the trap first."""
        stream.heard += 1
        if kind in ("run", "done"):
            self._places.pop(run_id, None)
        elif kind == "text" and not stored and stream.pid == stream.service.pid:
            # Only the process that executes a run sends its text before the text is stored.
            self._places[run_id] = (stream.service, stream.pid)
        trap = self._trap
        if (
            trap is not None
            and kind in trap.kinds
            and run_id in self.under_way(stream.service)
            and trap.spring(stream.service)
        ):
            self._trap = None
            trap.sprung.set()

    async def trapped(self, kinds: frozenset[str], spring: Callable[[Service], bool], *, seconds: float) -> bool:
        """Call `spring` with a service at the next event of these kinds in a run that the service is executing.

        While `spring` returns False, it is called again at each further such event. Returns whether `spring` returned
        True in time.
        """
        self._trap = _Trap(kinds, spring, asyncio.Event())
        sprung = self._trap.sprung
        try:
            await asyncio.wait_for(sprung.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            self._trap = None
        return True
