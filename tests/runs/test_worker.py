import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from backend.agent.assistant import AgentAssistant
from backend.agent.choice import ModelChoice
from backend.conversations.repository import ConversationRepository, MessageRepository
from backend.errors import TooManyRequests
from backend.identity.caller import Caller
from backend.jobs import finder
from backend.mcp_server.server import ToolServer
from backend.operations.perform import Operations
from backend.postgres.database import UTC, Database
from backend.runs import journal as journals
from backend.runs.journal import Journal
from backend.runs.models import RUNS, Run
from backend.runs.repository import Event, RunRepository
from backend.runs.turns import MOST_UNFINISHED_RUNS, Turn
from backend.tasks.tools import TASK_TOOLS
from backend.workspace.conversations import hide
from tests.conftest import query, wait_until
from tests.own_database import OwnDatabase, knowing_everybody, opened
from tests.runs.scripted import FINAL, Parts, ScriptedAssistant, echo
from tests.statements import on_statement


def row_of(database: Database, caller: Caller, turn: Turn) -> Run:
    with database.scope(caller.user_id, caller.zone) as scope:
        run = RunRepository(scope).get(turn.run_id)
        scope.session.expunge(run)
        return run


@pytest.mark.spec("RUN-1")
def test_two_messages_at_once_are_answered_in_order_and_the_second_knows_the_first_answer(
    database: Database, alice: Caller
) -> None:
    worked_on: list[list[str]] = []

    async def script(said: list[str], journal: Journal) -> None:
        worked_on.append(said)
        await asyncio.sleep(0.002)
        await echo(said, journal)

    async def rounds() -> None:
        parts = Parts.of(database, ScriptedAssistant(script))
        first, _ = await parts.say(alice, "hello")
        for number in range(20):
            worked_on.clear()
            said = (f"a{number}", f"b{number}")
            turns = await asyncio.gather(
                *(parts.worker.accept(alice, words, conversation_id=first.conversation_id) for words in said)
            )
            for turn in turns:
                assert (await parts.told(alice, turn))[-1].data["status"] == "completed"

            (*_, question), (*_, earlier, answer, later) = worked_on
            assert question == earlier
            assert answer == f"You said {earlier}."
            assert {earlier, later} == set(said)

    asyncio.run(rounds())


@pytest.mark.spec("RUN-15")
def test_one_user_does_not_take_every_slot(database: Database, alice: Caller, bob: Caller) -> None:
    begun, released = asyncio.Semaphore(0), asyncio.Event()

    async def script(said: list[str], journal: Journal) -> None:
        if said[-1] == "slow":
            begun.release()
            await released.wait()
        await echo(said, journal)

    async def crowd() -> dict[str, Any]:
        parts = Parts.of(database, ScriptedAssistant(script), slots=RUNS.most_of_a_user + 1)
        slow = [asyncio.create_task(parts.say(alice, "slow")) for _ in range(8)]
        async with asyncio.timeout(30):
            for _ in range(RUNS.most_of_a_user):
                await begun.acquire()
            _, reply = await parts.say(bob, "quick")
        released.set()
        await asyncio.gather(*slow)
        return reply

    assert asyncio.run(crowd())["response"] == "You said quick."


@pytest.mark.spec("RUN-16")
def test_a_user_has_only_so_many_messages_unanswered(database: Database, alice: Caller, bob: Caller) -> None:
    async def parts() -> Parts:
        return Parts.of(database, ScriptedAssistant(lambda _said, _journal: asyncio.sleep(0)))

    turns = asyncio.run(parts()).turns
    for _ in range(MOST_UNFINISHED_RUNS):
        turns.accept(alice, "hello", conversation_id=None)

    with pytest.raises(TooManyRequests) as refused:
        turns.accept(alice, "one too many", conversation_id=None)

    assert refused.value.retry_after
    assert turns.accept(bob, "hello", conversation_id=None).is_new


@pytest.mark.spec("RUN-2")
def test_messages_beyond_the_slots_wait_and_all_are_answered(database: Database, alice: Caller) -> None:
    at_once, most = 0, 0
    two = asyncio.Event()

    async def script(said: list[str], journal: Journal) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        if at_once == 2:
            two.set()
        await two.wait()
        await asyncio.sleep(0.02)
        at_once -= 1
        await echo(said, journal)

    async def crowd() -> list[tuple[Turn, dict[str, Any]]]:
        parts = Parts.of(database, ScriptedAssistant(script), slots=2)
        return await asyncio.gather(*(parts.say(alice, f"m{number}") for number in range(9)))

    replies = asyncio.run(crowd())

    assert [reply["response"] for _, reply in replies] == [f"You said m{number}." for number in range(9)]
    assert most == 2


@pytest.mark.spec("RUN-3")
def test_a_defect_ends_the_run_and_leaves_the_conversation_usable(database: Database, alice: Caller) -> None:
    async def script(said: list[str], journal: Journal) -> None:
        if said[-1] == "fail":
            await journal.add_text("I begin")
            raise ZeroDivisionError("secret data")
        await echo(said, journal)

    async def twice() -> tuple[list[Any], dict[str, Any]]:
        parts = Parts.of(database, ScriptedAssistant(script))
        turn = await parts.worker.accept(alice, "fail", conversation_id=None)
        events = await parts.told(alice, turn)
        _, reply = await parts.say(alice, "again", turn.conversation_id)
        return events, reply

    with capture_logs() as logs:
        events, reply = asyncio.run(twice())

    assert [event.kind for event in events][-2:] == ["error", "done"]
    assert events[-1].data["status"] == "failed"
    assert events[-1].data["error"]["code"] == "run_crashed"
    assert events[-1].data["response"] == "I begin"
    assert "secret" not in str([event.data for event in events])
    assert [entry["event"] for entry in logs].count("run_crashed") == 1
    assert reply["response"] == "You said again."


@pytest.mark.spec("RUN-4")
def test_a_worker_that_stops_hands_its_runs_back_and_another_goes_on_at_once(database: Database, alice: Caller) -> None:
    async def cut_short(_said: list[str], journal: Journal) -> None:
        await journal.add_text("A long ")
        await asyncio.sleep(60)

    async def handed_over() -> tuple[list[Run], list[dict[str, Any]]]:
        first = Parts.of(database, ScriptedAssistant(cut_short))
        begun = await first.worker.accept(alice, "first", conversation_id=None)
        waiting = await first.worker.accept(alice, "second", conversation_id=begun.conversation_id)
        await first.worker.stop(seconds=0.05)
        first.looking.cancel()
        left = [row_of(database, alice, turn) for turn in (begun, waiting)]
        second = Parts.of(database, ScriptedAssistant(echo))
        async with asyncio.timeout(10):
            return left, [(await second.told(alice, turn))[-1].data for turn in (begun, waiting)]

    left, replies = asyncio.run(handed_over())

    assert [(run.status, run.lease_owner, run.lease_until) for run in left] == [("queued", None, None)] * 2
    assert [run.fruitless for run in left] == [0, 0]
    assert [reply["status"] for reply in replies] == ["completed"] * 2
    assert [reply["response"] for reply in replies] == ["You said first.", "You said second."]


@pytest.mark.spec("RUN-4")
def test_a_run_ends_once_even_when_it_is_interrupted_while_it_ends(database: Database, alice: Caller) -> None:
    async def script(said: list[str], journal: Journal) -> None:
        await echo(said, journal)
        await asyncio.sleep(60)

    async def interrupted() -> list[Any]:
        parts = Parts.of(database, ScriptedAssistant(script))
        turn = await parts.worker.accept(alice, "hello", conversation_id=None)
        await parts.told(alice, turn)
        await parts.worker.stop(seconds=0)
        return await parts.told(alice, turn)

    events = asyncio.run(interrupted())

    assert [event.kind for event in events] == ["run", "text", "done"]
    assert events[-1].data["status"] == "completed"


@pytest.mark.spec("RUN-5")
@pytest.mark.parametrize("when", ["while it waits", "while it writes"])
def test_deleting_a_conversation_ends_its_run_without_a_crash(database: Database, alice: Caller, when: str) -> None:
    async def script(said: list[str], journal: Journal) -> None:
        for number in range(40):
            await journal.add_text(f"{number} ")
            if when == "while it writes":
                await journal.add_response(FINAL, [], outputs={})
            await asyncio.sleep(0.005)
        await echo(said, journal)

    def delete(turn: Turn) -> None:
        with database.scope(alice.user_id, alice.zone) as scope:
            hide(turn.conversation_id, scope)

    async def deleted() -> tuple[list[Any], list[Any]]:
        parts = Parts.of(database, ScriptedAssistant(script))
        turn = await parts.worker.accept(alice, "hello", conversation_id=None)
        following = asyncio.create_task(parts.told(alice, turn))
        await asyncio.sleep(0.03)
        await asyncio.to_thread(delete, turn)
        return await following, await parts.told(alice, turn)

    with capture_logs() as logs:
        events, afterwards = asyncio.run(deleted())

    assert [event.kind for event in events][-2:] == ["error", "done"]
    assert events[-1].data["status"] == "cancelled"
    assert events[-1].data["error"]["status"] == 404
    assert [event.kind for event in afterwards] == ["error", "done"]
    assert "run_crashed" not in [entry["event"] for entry in logs]


@pytest.mark.spec("RUN-6")
def test_no_connection_is_held_while_the_model_speaks(database_url: str, alice: Caller) -> None:
    database = Database()
    database.open(database_url)
    held: list[int] = []

    async def script(said: list[str], journal: Journal) -> None:
        # The check for work with which the worker began the turn may still be in progress.
        for _ in range(1_000):
            if not database.pool_status()["checked_out"]:
                break
            await asyncio.sleep(0.005)
        for number in range(20):
            await journal.add_text(f"{number} ")
            await asyncio.sleep(0.005)
            held.append(database.pool_status()["checked_out"])
        await echo(said, journal)

    async def turn() -> None:
        parts = Parts.of(database, ScriptedAssistant(script))
        await parts.worker.accept(alice, "hello", conversation_id=None)
        await parts.worker.stop(seconds=10)

    try:
        asyncio.run(turn())
    finally:
        database.close()

    assert held == [0] * 20


@pytest.mark.spec("RUN-7")
def test_a_turn_with_one_tool_call_writes_in_four_transactions(
    database_url: str, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Text is also stored once a second, and on a busy machine this turn may take that long.
    monkeypatch.setattr(journals, "STORE_TEXT_SECONDS", 60)
    database = Database()
    database.open(database_url)
    transactions: list[str] = []
    by_thread: dict[int, list[str]] = {}

    def heard(statement: str) -> None:
        # A follower reads on another thread at the same time.
        writes = by_thread.setdefault(threading.get_ident(), [])
        if statement == "COMMIT":
            if writes:
                transactions.append(" ".join(writes))
            writes.clear()
        elif statement.lstrip()[:6].lower() in ("insert", "update", "delete"):
            writes.append(statement.split()[2] if statement.lower().startswith("insert") else statement.split()[1])

    async def turn() -> dict[str, Any]:
        operations = Operations(database)
        assistant = AgentAssistant(
            ModelChoice(), TASK_TOOLS, now=database.now, max_steps=5, history_characters=10_000, share=operations.share
        )
        await assistant.load(ToolServer(TASK_TOOLS, operations))
        parts = Parts.of(database, assistant)
        on_statement(database, heard)
        _, reply = await parts.say(alice, "Add a task to buy groceries")
        return reply

    try:
        reply = asyncio.run(turn())
    finally:
        database.close()

    accepted, responded, acted, ended = transactions
    assert [call["name"] for call in reply["tool_calls"]] == ["add_task"]
    assert "messages" in accepted
    assert "run_responses" in responded
    assert "tasks" in acted
    assert "operations" in acted
    assert "run_events" in acted
    assert "messages" in ended
    assert "run_responses" in ended


@pytest.mark.spec("RUN-8")
def test_an_answer_is_listed_right_after_its_question(database: Database, alice: Caller) -> None:
    with database.scope(alice.user_id, alice.zone) as scope:
        conversation = ConversationRepository(scope).add(first_message="one")
        messages = MessageRepository(scope)
        for role, content, run in (
            ("user", "one", "r1"),
            ("user", "two", "r2"),
            ("assistant", "to one", "r1"),
            ("user", "three", "r3"),
            ("assistant", "to two", "r2"),
        ):
            messages.add(
                conversation_id=conversation.id,
                role="user" if role == "user" else "assistant",
                content=content,
                run_id=run,
            )

        def listed(**chosen: Any) -> list[str]:
            return [message.content for message in messages.all(conversation.id, **chosen)]

        assert listed(last=9) == ["one", "to one", "two", "to two", "three"]
        third = messages.all(conversation.id, last=9)[-1].id
        assert listed(last=9, up_to=third) == ["one", "to one", "two", "to two", "three"]
        assert listed(last=9, up_to=third - 2) == ["one", "to one", "two", "to two"]


@pytest.mark.spec("CHAT-6")
def test_an_idempotency_key_is_forgotten_after_a_day(
    database: Database, superuser_url: str, new_caller: Callable[..., Caller]
) -> None:
    caller = new_caller()

    async def say(words: str) -> Turn:
        parts = Parts.of(database, ScriptedAssistant(echo))
        turn = await parts.worker.accept(caller, words, conversation_id=None, idempotency_key="the-key")
        await parts.told(caller, turn)
        return turn

    first = asyncio.run(say("one"))
    repeated = asyncio.run(say("one"))
    query(superuser_url, "update runs set created_at = now() - interval '25 hours' where id = %s", first.run_id)
    other = asyncio.run(say("two"))

    assert repeated.run_id == first.run_id
    assert not repeated.is_new
    assert other.is_new
    assert other.run_id != first.run_id


@pytest.mark.spec("RUN-45")
def test_the_end_of_a_run_looks_for_another_only_when_one_waits(
    database_url: str, alice: Caller, bob: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is checked periodically, and nobody listens to notifications.
    monkeypatch.setattr(finder, "LOOK_SECONDS", 3600)
    looks: list[str] = []

    async def story(database: Database) -> tuple[int, list[str]]:
        async with asyncio.timeout(20):
            idle = Parts.of(database, ScriptedAssistant(echo))
            for number in range(4):
                await idle.say(alice, str(number))
            quiet = len(looks)
            parts = Parts.of(database, ScriptedAssistant(echo), slots=1)
            first = await parts.worker.accept(alice, "first", conversation_id=None)
            waiting = [await parts.worker.accept(bob, "for a slot", conversation_id=None)]
            waiting.append(
                await parts.worker.accept(bob, "for the one before", conversation_id=waiting[0].conversation_id)
            )
            await parts.told(alice, first)
            return quiet, [(await parts.told(bob, turn))[-1].data["response"] for turn in waiting]

    with opened(database_url) as database:
        on_statement(database, lambda statement: looks.append(statement) if "claimable_runs" in statement else None)
        quiet, replies = asyncio.run(story(database))

    assert quiet == 1, "The process looks once as it begins."
    assert replies == ["You said for a slot.", "You said for the one before."]


@pytest.mark.spec("LEASE-14")
def test_a_run_of_a_deleted_conversation_is_ended_and_blocks_nobody(
    own: OwnDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finder, "LOOK_SECONDS", 0.1)

    async def story(database: Database) -> tuple[dict[str, Any], list[Event]]:
        guests = knowing_everybody(database)
        alice, bob = (guests.caller(guests.welcome_guest(address="tests", zone=UTC)[1]) for _ in range(2))
        waiting = Parts.of(database, ScriptedAssistant(echo)).turns
        of_alice, of_bob = (
            waiting.accept(caller, "hello", conversation_id=None, has_slot=False) for caller in (alice, bob)
        )
        # An older version does not know deleted conversations, and accepts messages in them.
        own.query("update conversations set deleted_at = now() where user_id = %s", alice.user_id)
        parts = Parts.of(database, ScriptedAssistant(echo))
        async with asyncio.timeout(20):
            answered = await parts.told(bob, of_bob)
            await asyncio.to_thread(wait_until, lambda: not own.query("select 1 from runs where ended_at is null"))
            own.query("update conversations set deleted_at = null")
            return answered[-1].data, await parts.told(alice, of_alice)

    with opened(own.url) as database:
        answered, ended = asyncio.run(story(database))

    assert answered["status"] == "completed"
    assert ended[-1].data["status"] == "cancelled"
