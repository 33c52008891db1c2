"""A careful client's view of one run: it checks the event numbers, and assembles the answer by offsets."""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import httpx

Event = tuple[int | None, str, dict[str, Any]]


@dataclass
class Telling:
    """What one client has received about a run so far, over all its connections."""

    run_id: str = ""
    last_id: int = 0
    """The number of the last stored event."""
    text: str = ""
    has_ended: bool = False
    streamed: bool = False
    """Whether the client gets events rather than one JSON object."""
    drops: int = 0
    """How often the client hung up in the middle."""
    resumes: int = 0
    """How often the client returned with Last-Event-ID."""
    faults: list[str] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """Process the next event."""
        number, kind, data = event
        if number is not None:
            if number != self.last_id + 1:
                self.faults.append(f"run {self.run_id}: event {number} was told after event {self.last_id}")
            self.last_id = number
        if kind == "text":
            known = len(self.text) - data["offset"]
            if known < 0:
                self.faults.append(f"run {self.run_id}: text is missing before offset {data['offset']}")
            self.text += data["delta"][max(known, 0) :]
        elif kind == "reset":
            self.text = self.text[: data["offset"]]
        elif kind == "done":
            self.has_ended = True
            if data.get("response", self.text) != self.text:
                self.faults.append(f"run {self.run_id}: a stream told {self.text!r}, and done {data['response']!r}")

    def take_whole(self, reply: dict[str, Any]) -> None:
        """Process the answer as one JSON object."""
        self.run_id = self.run_id or reply["run_id"]
        self.text = reply.get("response", "")
        self.has_ended = True


async def events_of(answer: httpx.Response) -> AsyncGenerator[Event, None]:
    """Yield a stream's events: number, kind, data."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            number = int(fields["id"]) if "id" in fields else None
            yield number, fields["event"], json.loads(fields["data"])
            fields = {}
