"""The goals, and for each goal a check that finds violations."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from bench.chaos.evidence import ENDED, Evidence
from bench.chaos.postgres import Row
from bench.chaos.script import Wish
from bench.chaos.storm import STOP_SECONDS, Kill

CLAIM_SECONDS = 5.0
"""How many seconds after its lease expired a run may be claimed."""


@dataclass(frozen=True)
class Goal:
    """A goal and its violations; it is met if there are none."""

    name: str
    found: list[str]


def goals(evidence: Evidence) -> list[Goal]:
    """Check every goal."""
    checks: dict[str, Callable[[Evidence], Iterator[str]]] = {
        "0 lost": lost,
        "0 done twice": done_twice,
        "0 out of order": out_of_order,
        "0 gaps, and all streams tell the stored answer": gaps,
        "0 conversations that cannot go on": stuck,
        f"every run claimed within {evidence.lease_seconds:g} + {CLAIM_SECONDS:g} s": claimed_late,
        f"every stop within {STOP_SECONDS:g} s, status 0, streams told": stopped_badly,
        "0 surprises for clients and in logs": lambda known: iter(known.surprises),
    }
    return [Goal(name, list(check(evidence))) for name, check in checks.items()]


def lost(evidence: Evidence) -> Iterator[str]:
    """Yield acknowledged messages that got neither the requested result nor an error with the reason."""
    for message in evidence.messages:
        run = evidence.run(message)
        what = f"{message.wish.nonce}, run {min(message.run_ids)}"
        if run is None or run["status"] not in ENDED:
            yield f"{what}: has not ended, {run and run['status']}"
            continue
        if run["status"] == "failed" and not (run["error"] or {}).get("detail"):
            yield f"{what}: failed and does not say why"
        if run["status"] == "cancelled" and message.cancelled_at is None:
            yield f"{what}: cancelled by nobody"
        said = [shown for shown in evidence.shown_to(message) if shown["run_id"] == run["id"]]
        if not any(shown["role"] == "user" and shown["content"] == str(message.wish) for shown in said):
            yield f"{what}: the message is not in its conversation"
        if run["status"] == "completed":
            answers = [shown["content"] for shown in said if shown["role"] == "assistant"]
            if not answers or not message.wish.is_answered_by(answers[0]):
                yield f"{what}: the answer is not what the model said: {answers}"
            calls = [call for shown in said for call in shown["tool_calls"]]
            if not _are_calls_of(message.wish, calls):
                yield f"{what}: its calls are not what the model asked for: {calls}"
            titles = evidence.titles[message.conversation.person.id]
            yield from (f"{what}: task {title!r} is missing" for title in message.wish.titles if not titles[title])


def _are_calls_of(wish: Wish, calls: list[dict[str, Any]]) -> bool:
    added = [call["result"].get("title") for call in calls if call["name"] == "add_task"]
    listed = [call["result"].get("tasks") for call in calls if call["name"] == "list_tasks"]
    return (
        len(calls) == wish.calls
        and not any(call["is_error"] for call in calls)
        and added == wish.titles
        and all(sorted(task["title"] for task in tasks) == sorted(wish.titles) for tasks in listed)
    )


def done_twice(evidence: Evidence) -> Iterator[str]:
    """Yield runs, messages, tasks and operations that exist twice, and tasks that no message asked for."""
    keys = Counter((run["user_id"], run["idempotency_key"]) for run in evidence.runs)
    sent = [message for conversation in evidence.conversations for message in conversation.messages]
    asked = {title for message in sent for title in message.wish.titles}
    for message in evidence.messages:
        what, person = f"{message.wish.nonce}, runs {sorted(message.run_ids)}", message.conversation.person
        if len(message.run_ids) > 1 or len(message.conversation_ids) > 1 or keys[person.id, message.key] != 1:
            yield f"{what}: equal posts are {keys[person.id, message.key]} runs in {message.conversation_ids}"
        roles = Counter(
            (shown["role"], shown["run_id"])
            for shown in evidence.shown_to(message)
            if shown["run_id"] in message.run_ids
        )
        yield from (f"{what}: {count} messages of {role}" for (role, _), count in roles.items() if count > 1)
    for titles in evidence.titles.values():
        yield from (f"task {title!r} stands {count} times" for title, count in titles.items() if count > 1)
        yield from (f"task {title!r} was not asked for" for title in titles if title not in asked)
    calls = Counter((call["run_id"], call["call_id"]) for call in evidence.calls)
    yield from (f"call {call} has {count} operations" for call, count in calls.items() if count > 1)
    added = Counter(call["run_id"] for call in evidence.calls if call["tool"] == "add_task" and call["outcome"] == "ok")
    for message in evidence.messages:
        for run_id in message.run_ids:
            if added[run_id] > message.wish.tasks:
                yield f"run {run_id}: {added[run_id]} tasks added instead of {message.wish.tasks}"


def out_of_order(evidence: Evidence) -> Iterator[str]:
    """Yield answers in the wrong place, and runs of one conversation that overlapped in time."""
    for (user_id, conversation_id), shown in evidence.shown.items():
        where = f"conversation {conversation_id} of {user_id}"
        for before, said in pairwise([{"role": "", "run_id": ""}, *shown]):
            wanted = ("user", said["run_id"])
            if said["role"] == "assistant" and (before["role"], before["run_id"]) != wanted:
                yield f"{where}: the answer of run {said['run_id']} does not stand after its question"
    places = {run["id"]: run["message_id"] for run in evidence.runs}
    for message in evidence.messages:
        earlier = message.after
        if earlier is not None and places.get(min(earlier.run_ids), 0) > places.get(min(message.run_ids), 0):
            yield f"{message.wish.nonce} was accepted before {earlier.wish.nonce}, which was sent earlier"
    for runs in evidence.in_turn:
        executed = [run for run in runs if _first_step(evidence, run) is not None]
        for before, run in pairwise(executed):
            began = _first_step(evidence, run) or 0.0
            if before["ended_at"] is None or began < before["ended_at"]:
                yield f"run {run['id']} began at {began}, run {before['id']} before it ended at {before['ended_at']}"


def gaps(evidence: Evidence) -> Iterator[str]:
    """Yield runs whose events are not 1, 2, 3, … `done`, and clients whose text differs from the stored answer."""
    for run in evidence.runs:
        events = evidence.events.get(run["id"], [])
        numbers, kinds = [event["seq"] for event in events], [event["kind"] for event in events]
        if numbers != list(range(1, run["last_seq"] + 1)):
            yield f"run {run['id']}: its events are {numbers}, its last {run['last_seq']}"
        if kinds.count("done") != 1 or kinds[-1] != "done":
            yield f"run {run['id']}: `done` is not once at the end of {kinds}"
        elif events[-1]["data"]["status"] != run["status"]:
            yield f"run {run['id']}: `done` says {events[-1]['data']['status']}, the run is {run['status']}"
    for message in evidence.messages:
        run_id = min(message.run_ids)
        said = [shown["content"] for shown in evidence.shown_to(message) if shown["run_id"] == run_id]
        stays = said[1] if len(said) > 1 else ""
        for telling in message.tellings:
            yield from telling.faults
            if telling.has_ended and telling.text != stays:
                yield f"run {run_id}: a client was told {telling.text!r}, and what stays is {stays!r}"


def stuck(evidence: Evidence) -> Iterator[str]:
    """Yield conversations whose last message got no answer."""
    for conversation in evidence.conversations:
        if conversation.id is None:
            continue
        run = evidence.run(conversation.messages[-1]) if conversation.messages[-1].accepted.is_set() else None
        if run is None or run["status"] != "completed":
            why = run and (run["status"], run["error"])
            yield f"conversation {conversation.id} of {conversation.person.id}: one more message: {why}"


@dataclass(frozen=True)
class Wait:
    """How long a run waited until a process executed it."""

    run_id: str
    why: str
    seconds: float
    """The wait in seconds of wall clock time."""
    able: float
    """The seconds of the wait in which a service was ready and the database was up."""


def interrupted(evidence: Evidence) -> list[tuple[Kill, Row]]:
    """Return each kill with each run that it interrupted."""
    hit = [(kill, evidence.run_of_id.get(run_id)) for kill in evidence.kills for run_id in sorted(kill.run_ids)]
    return [(kill, run) for kill, run in hit if run and (run["ended_at"] is None or run["ended_at"] > kill.at)]


def takeovers(evidence: Evidence) -> list[Wait]:
    """Return how long each run that a kill interrupted waited until it was claimed again, or ended."""
    return [_wait(evidence, run, "taken over", kill.at) for kill, run in interrupted(evidence)]


def last_steps(evidence: Evidence) -> Counter[str]:
    """Count, by kind, the last event of each interrupted run before its interruption."""
    before = [
        [event["kind"] for event in evidence.events[run["id"]] if event["at"] <= kill.at]
        for kill, run in interrupted(evidence)
    ]
    return Counter(kinds[-1] for kinds in before if kinds)


def turns(evidence: Evidence) -> list[Wait]:
    """Return the wait from turn to claim, for each run that came after an earlier run of its conversation."""
    waits = []
    for runs in evidence.in_turn:
        free_at = 0.0
        for run in runs:
            if free_at and evidence.claims(run["id"]):
                waits.append(_wait(evidence, run, "begun in turn", max(free_at, run["created_at"])))
            free_at = max(free_at, run["ended_at"] or 0.0)
    return waits


def cancels(evidence: Evidence) -> list[Wait]:
    """Return the time from cancel to end, for each run that was cancelled before its end."""
    waits = []
    for message in evidence.messages:
        run = evidence.run(message)
        if run is not None and message.cancelled_at is not None and (run["ended_at"] or 0) > message.cancelled_at:
            able = evidence.clock.between(message.cancelled_at, run["ended_at"])
            waits.append(Wait(run["id"], "ended after a cancel", run["ended_at"] - message.cancelled_at, able))
    return waits


def claimed_late(evidence: Evidence) -> Iterator[str]:
    """Yield the runs that waited too long until a process continued them."""
    for wait in (*takeovers(evidence), *turns(evidence), *cancels(evidence)):
        if wait.able > evidence.lease_seconds + CLAIM_SECONDS:
            yield f"run {wait.run_id} was {wait.why} after {wait.seconds:.1f} s, of which {wait.able:.1f} s count"


def stopped_badly(evidence: Evidence) -> Iterator[str]:
    """Yield the stops that took too long, failed, or ended streams without a notice."""
    for stop in evidence.stops:
        if stop.status != 0 or stop.seconds > STOP_SECONDS or stop.left:
            yield f"{stop}"


def failures(evidence: Evidence) -> Counter[str]:
    """Count the failed runs by error code."""
    return Counter(run["error"]["code"] for run in evidence.runs if run["status"] == "failed" and run["error"])


def median_and_most(waits: list[Wait]) -> str:
    """Format the number, median and maximum of some waits, in seconds."""
    if not waits:
        return "none"
    seconds = [wait.seconds for wait in waits]
    able = max(wait.able for wait in waits)
    return f"{len(waits)}: median {statistics.median(seconds):.1f} s, max {max(seconds):.1f} s ({able:.1f} s able)"


def _wait(evidence: Evidence, run: Row, why: str, since: float) -> Wait:
    moments = [at for at in (*evidence.claims(run["id"]), run["ended_at"]) if at is not None and at >= since]
    until = min(moments, default=float("inf"))
    return Wait(run["id"], why, until - since, evidence.clock.between(since, until))


def _first_step(evidence: Evidence, run: Row) -> float | None:
    """Return when the first event of a run occurred, other than its start and end."""
    steps = [
        event["at"] for event in evidence.events.get(run["id"], []) if event["kind"] not in ("run", "done", "error")
    ]
    return min(steps, default=None)
