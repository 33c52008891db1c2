import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from fastapi import FastAPI, Request

from backend.edge.problems import install_problems
from backend.identity.caller import Caller
from backend.limits.fair_share import FairShare
from backend.postgres.database import Database
from backend.runs.journal import Journal
from backend.runs.routes import run_routes
from backend.wire.native import chat_routes, event_stream
from tests.conftest import query
from tests.runs.scripted import Parts, ScriptedAssistant, echo

Told = tuple[int | None, str, dict[str, Any]]

CONVERSATION: list[tuple[str, list[tuple[str, dict[str, Any]]], str]] = [
    ("Add a task to buy groceries", [("add_task", {"title": "Buy groceries"})], "Buy groceries"),
    ("I need to remember to pay bills", [("add_task", {"title": "Pay bills"})], "Pay bills"),
    (
        "Add a task to call mom and a task to prepare the meeting by next Friday, high priority",
        [("add_task", {"title": "Call mom"}), ("add_task", {"title": "Prepare the meeting", "priority": "high"})],
        "Prepare the meeting",
    ),
    ("Show me all my tasks", [("list_tasks", {"status": "all"})], "Call mom"),
    ("What's pending?", [("list_tasks", {"status": "pending"})], "Pay bills"),
    ("Mark task 3 as complete", [("complete_task", {"task_id": 3})], "Call mom"),
    ("Delete the meeting task", [("list_tasks", {}), ("delete_task", {"task_id": 4})], "Prepare the meeting"),
    (
        "Change task 1 to 'Call mom tonight'",
        [("update_task", {"task_id": 1, "title": "Call mom tonight"})],
        "Call mom tonight",
    ),
    ("What have I completed?", [("list_tasks", {"status": "completed"})], "Call mom"),
    ("Delete it", [("delete_task", {"task_id": 3})], "Call mom"),
]


def told(lines: Any) -> list[Told]:
    """Parse server-sent events: number, kind, data."""
    events: list[Told] = []
    number, kind = None, ""
    for line in lines:
        name, _, value = line.partition(": ")
        match name:
            case "id":
                number = int(value)
            case "event":
                kind = value
            case "data":
                events.append((number, kind, json.loads(value)))
            case "" if not value:
                number, kind = None, ""
    return events


def streamed(client: httpx.Client, body: dict[str, Any]) -> list[Told]:
    with client.stream("POST", "/api/chat", json=body, headers={"Accept": "text/event-stream"}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        return told(answer.iter_lines())


def events_of(client: httpx.Client, run_id: str, *, after: int = 0) -> list[Told]:
    return told(
        client.get(f"/api/runs/{run_id}/events", headers={"Last-Event-ID": str(after)})
        .raise_for_status()
        .text.split("\n")
    )


@pytest.mark.spec("CHAT-1")
@pytest.mark.parametrize("protocol", [pytest.param("json", marks=pytest.mark.slow), "sse"])
def test_ten_turns_of_one_conversation_do_what_they_say(guest: httpx.Client, protocol: str) -> None:
    body: dict[str, Any] = {}
    for message, calls, named in CONVERSATION:
        body["message"] = message
        if protocol == "json":
            reply = guest.post("/api/chat", json=body).raise_for_status().json()
        else:
            events = streamed(guest, body)
            assert [number for number, _, _ in events if number] == list(
                range(1, 1 + len([number for number, _, _ in events if number]))
            )
            assert events[-1][1] == "done"
            reply = events[-1][2]
            kinds = [kind for _, kind, _ in events if kind in ("tool_call", "tool_result")]
            assert kinds.count("tool_call") == kinds.count("tool_result") == len(calls)

        assert reply["status"] == "completed", message
        assert [call["name"] for call in reply["tool_calls"]] == [name for name, _ in calls], message
        for call, (_, arguments) in zip(reply["tool_calls"], calls, strict=True):
            assert not call["is_error"]
            assert arguments.items() <= call["arguments"].items()
            assert call["result"]
        assert named in reply["response"], message
        if message == "Show me all my tasks":
            for title in ("Buy groceries", "Pay bills", "Call mom", "Prepare the meeting"):
                assert title in reply["response"]
        assert reply["model"] == "offline-rules-1"
        body["conversation_id"] = reply["conversation_id"]

    tasks = {task["id"]: task for task in guest.get("/api/tasks").json()["tasks"]}
    assert {number: task["title"] for number, task in tasks.items()} == {1: "Call mom tonight", 2: "Pay bills"}
    shown = guest.get(f"/api/conversations/{body['conversation_id']}").json()
    assert [message["role"] for message in shown["messages"]] == ["user", "assistant"] * 10


@pytest.mark.spec("CHAT-2")
def test_the_due_date_of_a_message_is_resolved_by_the_server(guest: httpx.Client) -> None:
    reply = guest.post("/api/chat", json={"message": CONVERSATION[2][0]}).json()

    due = guest.get("/api/tasks/2").json()
    berlin = ZoneInfo("Europe/Berlin")
    today = datetime.now(berlin).date()
    friday = today - timedelta(days=today.weekday()) + timedelta(days=11)
    assert due["priority"] == "high"
    assert datetime.fromisoformat(due["due"]) == datetime.combine(friday, time(23, 59), berlin)
    assert reply["tool_calls"][1]["result"]["due"] == due["due"]


@pytest.mark.spec("CHAT-3")
def test_a_stream_tells_what_the_json_answer_tells(guest: httpx.Client) -> None:
    events = streamed(guest, {"message": "Add a task to buy milk"})
    reply = events[-1][2]
    text = ""
    for _, kind, data in events:
        if kind == "text" and data["offset"] <= len(text):
            text += data["delta"][len(text) - data["offset"] :]

    assert events[0][:2] == (1, "run")
    assert text == reply["response"]
    assert {kind for number, kind, _ in events if number is None} <= {"text"}
    assert guest.get(f"/api/runs/{reply['run_id']}").json()["status"] == "completed"


@pytest.mark.spec("CHAT-4")
def test_a_client_that_drops_comes_back_for_exactly_the_rest(guest: httpx.Client) -> None:
    with guest.stream(
        "POST", "/api/chat", json={"message": "Add a task to buy milk"}, headers={"Accept": "text/event-stream"}
    ) as answer:
        lines = answer.iter_lines()
        first = told([next(lines), next(lines), next(lines), next(lines)])
    ((number, _, data),) = first
    events_of(guest, data["run_id"])
    whole = events_of(guest, data["run_id"])

    assert number == 1
    assert whole[0] == first[0]
    assert whole[-1][1] == "done"
    assert [event[0] for event in whole] == list(range(1, len(whole) + 1))
    for seen in range(1, len(whole) + 1):
        assert events_of(guest, data["run_id"], after=seen) == whole[seen:]
    assert [task["title"] for task in guest.get("/api/tasks").json()["tasks"]] == ["Buy milk"]


@pytest.mark.spec("CHAT-5")
def test_twenty_equal_posts_with_one_key_are_one_run(guest: httpx.Client) -> None:
    def post(_number: int) -> httpx.Response:
        return guest.post("/api/chat", json={"message": "Add a task to buy milk"}, headers={"Idempotency-Key": "k1"})

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(post, range(20)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert len(guest.get("/api/tasks").json()["tasks"]) == 1
    assert len(guest.get("/api/conversations").json()["conversations"]) == 1


@pytest.mark.spec("CHAT-5")
def test_a_key_with_another_body_is_refused(guest: httpx.Client) -> None:
    guest.post("/api/chat", json={"message": "Add a task to buy milk"}, headers={"Idempotency-Key": "k1"})

    answer = guest.post("/api/chat", json={"message": "Add a task to buy tea"}, headers={"Idempotency-Key": "k1"})

    assert answer.status_code == 422
    assert answer.json()["code"] == "idempotency_key_reused"
    assert len(guest.get("/api/tasks").json()["tasks"]) == 1


@pytest.mark.spec("CHAT-5")
def test_the_same_key_of_another_user_is_another_key(guest: httpx.Client, other_guest: httpx.Client) -> None:
    for client, words in ((guest, "Add a task to buy milk"), (other_guest, "Add a task to buy tea")):
        answer = client.post("/api/chat", json={"message": words}, headers={"Idempotency-Key": "k1"})
        assert answer.status_code == 200
        assert len(client.get("/api/tasks").json()["tasks"]) == 1


@pytest.mark.spec("CHAT-7")
def test_an_answer_that_takes_longer_than_the_wait_is_found_at_its_run(database: Database, alice: Caller) -> None:
    seen = asyncio.Event()

    async def slow(said: list[str], journal: Journal) -> None:
        await seen.wait()
        await echo(said, journal)

    async def as_alice(_request: Request) -> Caller:
        return alice

    async def talk() -> tuple[httpx.Response, httpx.Response, httpx.Response]:
        parts = Parts.of(database, ScriptedAssistant(slow))
        app = FastAPI()
        app.include_router(chat_routes(parts.worker, parts.follower, as_alice, wait_seconds=0.2))
        app.include_router(
            run_routes(database, parts.worker, parts.follower, as_alice, stream_of=event_stream, share=FairShare())
        )
        install_problems(app)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            early = await client.post("/api/chat", json={"message": "hello"})
            state = await client.get(early.headers["location"])
            seen.set()
            return early, state, await client.get(early.headers["location"] + "/events")

    early, state, events = asyncio.run(talk())

    assert early.status_code == 202
    assert early.json()["status"] == state.json()["status"] == "running"
    assert early.headers["location"] == f"/api/runs/{early.json()['run_id']}"
    assert told(events.text.split("\n"))[-1][2]["response"] == "You said hello."


@pytest.mark.spec("CHAT-8")
def test_a_deleted_conversation_and_its_run_are_gone(guest: httpx.Client) -> None:
    reply = guest.post("/api/chat", json={"message": "hello"}).json()

    assert guest.delete(f"/api/conversations/{reply['conversation_id']}").status_code == 204

    assert guest.get(f"/api/conversations/{reply['conversation_id']}").status_code == 404
    assert guest.get(f"/api/runs/{reply['run_id']}").status_code == 404
    assert guest.get(f"/api/runs/{reply['run_id']}/events").status_code == 404
    again = guest.post("/api/chat", json={"message": "hello", "conversation_id": reply["conversation_id"]})
    assert again.status_code == 404


@pytest.mark.slow
@pytest.mark.spec("CHAT-8")
def test_deleting_a_conversation_while_it_is_answered_never_crashes(
    guest: httpx.Client, capfd: pytest.CaptureFixture[str]
) -> None:
    conversation_id = guest.post("/api/chat", json={"message": "hello"}).json()["conversation_id"]

    def post(number: int) -> int:
        body = {"message": f"Add a task to buy {number}", "conversation_id": conversation_id}
        return guest.post("/api/chat", json=body).status_code

    with ThreadPoolExecutor(6) as pool:
        posts = [pool.submit(post, number) for number in range(6)]
        statuses = [guest.delete(f"/api/conversations/{conversation_id}").status_code]
        statuses += [post.result() for post in posts]

    assert statuses[0] == 204
    assert set(statuses) <= {200, 204, 404}
    assert guest.get(f"/api/conversations/{conversation_id}").status_code == 404
    assert "crashed" not in "".join(capfd.readouterr())


@pytest.mark.spec("CHAT-9")
def test_the_older_path_answers_only_the_user_it_names(guest: httpx.Client, other_guest: httpx.Client) -> None:
    me, other = (client.get("/api/me").json()["id"] for client in (guest, other_guest))

    assert guest.post(f"/api/{me}/chat", json={"message": "Add a task to buy milk"}).status_code == 200
    refused = guest.post(f"/api/{other}/chat", json={"message": "hello"})
    unknown = guest.post("/api/nobody/chat", json={"message": "hello"})

    assert refused.status_code == unknown.status_code == 404
    assert refused.json() == unknown.json()
    assert other_guest.get("/api/conversations").json()["conversations"] == []


@pytest.mark.spec("CHAT-10")
@pytest.mark.parametrize("last", ["-1", "x", "99999999999999999999"])
def test_a_last_event_id_that_is_none_is_refused(guest: httpx.Client, last: str) -> None:
    run_id = guest.post("/api/chat", json={"message": "hello"}).json()["run_id"]

    answer = guest.get(f"/api/runs/{run_id}/events", headers={"Last-Event-ID": last})

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.spec("RUN-14")
def test_a_turn_leaves_its_run_responses_and_events_as_rows(guest: httpx.Client, superuser_url: str) -> None:
    reply = guest.post("/api/chat", json={"message": "Add a task to buy milk"}).json()

    ((status, attempt, last_seq, ended),) = query(
        superuser_url, "select status, attempt, last_seq, ended_at from runs where id = %s", reply["run_id"]
    )
    responses = query(superuser_url, "select number from run_responses where run_id = %s order by 1", reply["run_id"])
    events = query(superuser_url, "select seq from run_events where run_id = %s order by 1", reply["run_id"])
    calls = query(superuser_url, "select call_id from operations where run_id = %s order by id", reply["run_id"])
    assert (status, attempt) == ("completed", 1)
    assert ended is not None
    assert responses == [(1,), (2,)]
    assert events == [(seq,) for seq in range(1, last_seq + 1)]
    assert calls == [(f"{reply['run_id']}-1-1",)]
