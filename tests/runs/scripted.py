"""The parts that run turns, around an assistant that follows a test's script."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from backend.conversations.models import Message
from backend.identity.caller import Caller
from backend.jobs.leases import Leases
from backend.postgres.database import Database
from backend.runs.attempt import Assistant, Claimed
from backend.runs.follow import HEARTBEAT, Follower
from backend.runs.journal import Journal
from backend.runs.live import Live
from backend.runs.models import RUNS
from backend.runs.repository import Event
from backend.runs.turns import Turn, Turns
from backend.runs.worker import RunWorker

Script = Callable[[list[str], Journal], Awaitable[None]]
"""Gets the messages so far, oldest first, and a journal, and answers."""

FINAL: dict[str, Any] = {"output": [], "usage": {"input_tokens": 3, "output_tokens": 2}}


class ScriptedAssistant:
    """An assistant that answers by a script."""

    is_loaded = True
    is_ready = True

    def __init__(self, script: Script) -> None:
        self._script = script

    def models_for(self, _caller: Caller) -> tuple[str, ...]:
        return ("scripted",)

    def fixed_input(self, messages: list[Message], _caller: Caller) -> dict[str, Any]:
        return {"said": [message.content for message in messages]}

    async def answer(self, fixed_input: dict[str, Any], *, model: str, journal: Journal) -> None:
        assert model == "scripted"
        await self._script(fixed_input["said"], journal)


@dataclass(frozen=True)
class Parts:
    """The parts of one process, as far as runs go."""

    live: Live
    turns: Turns
    worker: RunWorker
    follower: Follower
    looking: asyncio.Task[None]

    @classmethod
    def of(
        cls,
        database: Database,
        assistant: Assistant,
        *,
        slots: int = 8,
        heartbeat_seconds: float = 15,
        lease_seconds: float = 15,
        guest_model_turns_per_day: int = 0,
    ) -> "Parts":
        live = Live()
        leases = Leases(database, RUNS, seconds=lease_seconds)
        turns = Turns(
            database,
            assistant,
            leases,
            guest_turns_per_day=0,
            guest_model_turns_per_day=guest_model_turns_per_day,
            history_messages=40,
        )
        worker = RunWorker(database, turns, leases, assistant, live, max_concurrent=slots)
        looking = asyncio.create_task(worker.run())
        return cls(live, turns, worker, Follower(database, live, heartbeat_seconds=heartbeat_seconds), looking)

    async def say(self, caller: Caller, words: str, conversation_id: int | None = None) -> tuple[Turn, dict[str, Any]]:
        """Send a message, and return the turn and its reply once the run has ended."""
        turn = await self.worker.accept(caller, words, conversation_id=conversation_id)
        return turn, (await self.told(caller, turn))[-1].data

    async def told(self, caller: Caller, turn: Turn, *, after: int = 0) -> list[Event]:
        """Follow a run to its end, and return its events without heartbeats."""
        events = self.follower.events(caller, turn.run_id, after=after)
        return [event async for event in without_heartbeats(events)]


def claimed_by(turns: Turns) -> Claimed | None:
    """Claim a run as the process of these turns would."""
    return turns._leases.claim(turns.attempts.begin)


async def without_heartbeats(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    async for event in events:
        if event is not HEARTBEAT:
            yield event


async def echo(said: list[str], journal: Journal) -> None:
    """Repeat the last message."""
    await journal.add_text(f"You said {said[-1]}.")
    await journal.finish(FINAL, outputs={})


def text_of(events: list[Event]) -> str:
    """Assemble the answer as a client does: by offset, dropping text at a reset."""
    text = ""
    for event in events:
        if event.kind == "text" and event.data["offset"] <= len(text):
            known = len(text) - event.data["offset"]
            text += event.data["delta"][known:]
        elif event.kind == "reset":
            text = text[: event.data["offset"]]
    return text
