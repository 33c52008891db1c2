"""The evidence after the storm: what clients saw, what the service shows, and what the tables hold."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from bench.chaos.delivery import Conversation, Message, Network, Person
from bench.chaos.postgres import Postgres, Row
from bench.chaos.storm import Crash, Kill, Stop

ENDED = ("completed", "failed", "cancelled")
_RUNS = """
    select user_id, id, conversation_id, message_id, answer_id, status, attempt, idempotency_key, error, last_seq,
        extract(epoch from created_at)::float8 as created_at, extract(epoch from ended_at)::float8 as ended_at
    from runs order by user_id, conversation_id, message_id
"""
_EVENTS = """
    select run_id, seq, kind, extract(epoch from created_at)::float8 as at,
        case when kind in ('run', 'done') then data end as data
    from run_events order by run_id, seq
"""
_CALLS = "select user_id, run_id, call_id, tool, outcome from operations where door = 'chat'"


class Clock:
    """Counts only the seconds in which a run could have been continued."""

    def __init__(self, ready: Sequence[tuple[float, float]], down: Sequence[tuple[float, float]]) -> None:
        """Store the spans in which a service was ready, and the spans in which the database was down."""
        marks = sorted(
            [(at, 1, 0) for at, _ in ready]
            + [(at, -1, 0) for _, at in ready]
            + [(at, 0, 1) for at, _ in down]
            + [(at, 0, -1) for _, at in down]
        )
        self._spans: list[tuple[float, float]] = []
        up = away = 0
        for (at, ups, downs), following in pairwise([*marks, (float("inf"), 0, 0)]):
            up, away = up + ups, away + downs
            if up and not away and following[0] > at:
                self._spans.append((at, following[0]))

    def between(self, start: float, end: float) -> float:
        """Return the seconds between two times in which a run could have been continued."""
        return sum(max(0.0, min(end, last) - max(start, first)) for first, last in self._spans)


@dataclass
class Evidence:
    """Everything that the checks examine."""

    conversations: list[Conversation]
    shown: dict[tuple[str, int], list[dict[str, Any]]]
    """Each conversation's messages as the service shows them, by user and conversation."""
    titles: dict[str, Counter[str]]
    """How often each title occurs among a user's tasks."""
    runs: list[Row]
    events: dict[str, list[Row]]
    calls: list[Row]
    kills: list[Kill]
    crashes: list[Crash]
    stops: list[Stop]
    clock: Clock
    lease_seconds: float
    surprises: list[str] = field(default_factory=list)

    @cached_property
    def messages(self) -> list[Message]:
        """All messages that the service accepted."""
        return [message for talk in self.conversations for message in talk.messages if message.accepted.is_set()]

    @cached_property
    def run_of_id(self) -> dict[str, Row]:
        """The runs by id."""
        return {run["id"]: run for run in self.runs}

    def run(self, message: Message) -> Row | None:
        """Return the first of a message's runs by id."""
        return self.run_of_id.get(min(message.run_ids))

    def shown_to(self, message: Message) -> list[dict[str, Any]]:
        """Return all messages of a message's conversation."""
        return self.shown.get((message.conversation.person.id, message.conversation.id or 0), [])

    @cached_property
    def in_turn(self) -> list[list[Row]]:
        """The runs of each conversation, in the order in which their messages were accepted."""
        of: dict[tuple[str, int], list[Row]] = defaultdict(list)
        for run in self.runs:
            of[run["user_id"], run["conversation_id"]].append(run)
        return list(of.values())

    def claims(self, run_id: str) -> list[float]:
        """Return the times at which a run was begun or taken over."""
        told = self.events.get(run_id, [])
        return [event["at"] for event in told if event["kind"] == "run" and event["data"]["status"] == "running"]


async def gathered(network: Network, postgres: Postgres, conversations: list[Conversation], **known: Any) -> Evidence:
    """Collect what the service shows and what the tables hold."""
    events: dict[str, list[Row]] = defaultdict(list)
    for event in postgres.query(_EVENTS):
        events[event["run_id"]].append(event)
    people = {conversation.person for conversation in conversations}
    return Evidence(
        conversations=conversations,
        shown={
            (talk.person.id, talk.id): await _messages(network, talk) for talk in conversations if talk.id is not None
        },
        titles={person.id: await _titles(network, person) for person in people},
        runs=postgres.query(_RUNS),
        events=events,
        calls=postgres.query(_CALLS),
        **known,
    )


async def _messages(network: Network, conversation: Conversation) -> list[dict[str, Any]]:
    url = f"{network.service(0).url}/api/conversations/{conversation.id}?last=500"
    answer = await network.http.get(url, headers=conversation.person.headers)
    told: list[dict[str, Any]] = answer.raise_for_status().json()["messages"]
    return told


async def _titles(network: Network, person: Person) -> Counter[str]:
    titles: Counter[str] = Counter()
    cursor = ""
    while True:
        url = f"{network.service(1).url}/api/tasks?limit=100{cursor and f'&cursor={cursor}'}"
        page = (await network.http.get(url, headers=person.headers)).raise_for_status().json()
        titles.update(task["title"] for task in page["tasks"])
        if (cursor := page["next_cursor"] or "") == "":
            return titles
