"""Undo against whatever was done: random histories, and hundreds of hostile calls."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.documents.quota import KeepingRules
from backend.documents.rest_tools import delete_document
from backend.documents.tools import add_document
from backend.errors import DocuTalkError
from backend.identity.authenticator import Authenticator
from backend.identity.caller import Caller
from backend.operations.perform import Call, Operations
from backend.operations.tool import Tool
from backend.postgres.database import UTC, Database
from backend.tasks.tools import add_task, complete_task, delete_task, edit_task, reopen_task, toggle_task, update_task
from backend.workspace.undo import undo
from tests.conftest import query

Rows = dict[tuple[str, int], str]
"""The content of each row that a user sees, by kind and number."""
SEEN = """
    select 'task', id, (to_jsonb(t) - 'version' - 'updated_at')::text from tasks t where user_id = %s
    union all select 'document', id, sha256 from documents where user_id = %s and deleted_at is null
"""
CI, WHOLE = 60, 500

NUMBERS = st.integers(1, 4)
TITLES = st.sampled_from(["milk", "bread", "Ärger 🧺", "a'b\"c\\d", "; drop table tasks"])
ACTIONS = st.one_of(
    st.tuples(st.just(add_task), st.fixed_dictionaries({"title": TITLES}, optional={"due": st.just("2099-12-30")})),
    st.tuples(
        st.just(update_task),
        st.fixed_dictionaries({"task_id": NUMBERS, "title": TITLES}, optional={"tags": st.just(["x"])}),
    ),
    st.tuples(
        st.sampled_from([complete_task, reopen_task, delete_task, toggle_task]),
        st.fixed_dictionaries({"task_id": NUMBERS}),
    ),
    st.tuples(st.just(edit_task), st.fixed_dictionaries({"task_id": NUMBERS, "completed": st.booleans()})),
    st.tuples(st.just(add_document), st.fixed_dictionaries({"title": TITLES, "text": TITLES})),
    st.tuples(st.just(delete_document), st.fixed_dictionaries({"document_id": NUMBERS})),
    st.tuples(st.just(undo), st.fixed_dictionaries({"back": st.integers(0, 6), "dry_run": st.booleans()})),
)
HISTORIES = st.lists(ACTIONS, min_size=5, max_size=25)


@pytest.fixture(scope="module")
def operations(database: Database) -> Operations:
    return Operations(database, preparations={"add_document": lambda *_: KeepingRules(most_bytes_of_a_user=0)})


@pytest.fixture(scope="module")
def seen(superuser_url: str) -> Callable[[Caller], Rows]:
    def rows(caller: Caller) -> Rows:
        found = query(superuser_url, SEEN, caller.user_id, caller.user_id)
        return {(kind, number): content for kind, number, content in found}

    return rows


@pytest.fixture(scope="module")
def play(
    operations: Operations, authenticator: Authenticator, seen: Callable[[Caller], Rows]
) -> Callable[[list[tuple[Tool[Any, Any], dict[str, Any]]]], int]:
    """Plays a history as a new user, and checks each undo against what the rows were; returns how many were refused."""

    def played(history: list[tuple[Tool[Any, Any], dict[str, Any]]]) -> int:
        caller = authenticator.caller(authenticator.welcome_guest(address="tests", zone=UTC)[1])
        changes: dict[int, dict[tuple[str, int], tuple[str | None, str | None]]] = {}
        undone: dict[int, int] = {}
        rows = seen(caller)
        refused = 0
        for tool, arguments in history:
            target = None
            given = dict(arguments)
            if tool is undo:
                if not changes:
                    continue
                target = sorted(changes)[-1 - min(given.pop("back"), len(changes) - 1)]
                given["operation_id"] = target
            try:
                done = operations.perform(tool, given, caller).operation_id
            except DocuTalkError:
                done = None
            after = seen(caller)
            changed = {key: (rows.get(key), after.get(key)) for key in rows | after if rows.get(key) != after.get(key)}
            if target is not None:
                mine = changes[target]
                is_as_left = all(rows.get(key) == new for key, (_, new) in mine.items())
                possible = bool(mine) and target not in undone and is_as_left
                # A document cannot come back while the user has the same file again.
                clashes = {old for (kind, _), (old, new) in mine.items() if kind == "document" and old and not new}
                possible = possible and not clashes & {row for (kind, _), row in rows.items() if kind == "document"}
                assert (done is not None) == possible or given["dry_run"], (tool.name, given, mine, rows)
                expected = {k: (new, old) for k, (old, new) in mine.items()} if done and not given["dry_run"] else {}
                assert changed == expected
                if done is not None and not given["dry_run"]:
                    undone = {k: by for k, by in undone.items() if by != target} | {target: done}
            if done is None:
                assert not changed
                refused += 1
            else:
                changes[done] = changed
            rows = after
        return refused

    return played


@pytest.mark.spec("UNDO-1")
@pytest.mark.spec("UNDO-4")
@given(history=HISTORIES)
@settings(max_examples=40, derandomize=True, deadline=None)
def test_undo_gives_back_what_was_there_or_changes_nothing(play: Callable[..., int], history: list[Any]) -> None:
    play(history)


@pytest.mark.long
@pytest.mark.spec("UNDO-1")
@given(history=HISTORIES)
@settings(max_examples=700, deadline=None)
def test_undo_gives_back_what_was_there_in_ten_thousand_steps(play: Callable[..., int], history: list[Any]) -> None:
    play(history)


def hostile_calls(many: int) -> list[tuple[Tool[Any, Any], dict[str, Any]]]:
    """Return calls as an obedient model might make them, told to destroy as much as possible."""
    chance = random.Random(7)

    def call(number: int) -> tuple[Tool[Any, Any], dict[str, Any]]:
        task_id = chance.randint(1, 40)
        calls: list[tuple[Tool[Any, Any], dict[str, Any]]] = [
            (delete_task, {"task_id": task_id}),
            (update_task, {"task_id": task_id, "title": f"gone {number}", "description": "x" * 10_000}),
            (update_task, {"task_id": task_id, "due": "1970-01-02", "tags": ["🧨", "'; --"], "priority": "high"}),
            (complete_task, {"task_id": task_id}),
            (toggle_task, {"task_id": task_id}),
            (edit_task, {"task_id": task_id, "title": "\u202egnol", "completed": True, "due": "none"}),
            (add_task, {"title": f"spam {number}"}),
            (add_document, {"title": f"spam {number}", "text": f"Buy {number}."}),
            (delete_document, {"document_id": chance.randint(1, 5)}),
            (undo, {}),
        ]
        return chance.choice(calls)

    return [call(number) for number in range(many)]


@pytest.fixture
def things(operations: Operations, alice: Caller, seen: Callable[[Caller], Rows]) -> Rows:
    """Thirty tasks and four documents, as they are before anybody is hostile."""
    for number in range(30):
        wanted = {"title": f"task {number}", "description": f"words {number}", "tags": ["a"], "due": "2031-02-03 04:05"}
        operations.perform(add_task, wanted, alice)
    for number in range(4):
        operations.perform(add_document, {"title": f"note {number}", "text": f"Hay {number}."}, alice)
    for task_id in (3, 6, 9):
        operations.perform(complete_task, {"task_id": task_id}, alice)
    return seen(alice)


@pytest.mark.spec("UNDO-3")
@pytest.mark.parametrize("many", [CI, pytest.param(WHOLE, marks=pytest.mark.long)])
def test_one_request_undoes_a_hostile_turn(
    operations: Operations, alice: Caller, seen: Callable[[Caller], Rows], things: Rows, many: int
) -> None:
    chat = replace(alice, door="chat")
    run_id = uuid4().hex
    done = [attempt(operations, chat, tool, arguments, run_id) for tool, arguments in hostile_calls(many)]
    assert done.count(None) < many / 2
    assert seen(alice) != things

    undone = operations.perform(undo, {"run_id": run_id}, alice)

    assert seen(alice) == things
    operations.perform(undo, {"operation_id": undone.operation_id}, alice)
    assert seen(alice) != things


@pytest.mark.spec("UNDO-3")
@pytest.mark.parametrize("many", [CI, pytest.param(WHOLE, marks=pytest.mark.long)])
def test_one_request_undoes_all_that_a_hostile_client_did(
    operations: Operations, alice: Caller, seen: Callable[[Caller], Rows], things: Rows, many: int
) -> None:
    client = replace(alice, door="mcp", client="obedient")
    done = [attempt(operations, client, tool, arguments, None) for tool, arguments in hostile_calls(many)]
    first = next(number for number in done if number)
    operations.perform(add_task, {"title": "by hand, meanwhile"}, alice)
    [added] = [key for key in seen(alice) if "by hand, meanwhile" in seen(alice)[key]]

    preview = operations.perform(undo, {"operation_id": first, "and_later": True, "dry_run": True}, alice)
    operations.perform(undo, {"operation_id": first, "and_later": True}, alice)

    assert {key: content for key, content in seen(alice).items() if key != added} == things
    assert added in seen(alice)
    assert len(json.dumps(preview.result)) < 200 * many + 10_000


def attempt(
    operations: Operations, caller: Caller, tool: Tool[Any, Any], arguments: dict[str, Any], run_id: str | None
) -> int | None:
    """Make a call, and return its operation's number, or None if it was refused."""
    try:
        call = Call(run_id=run_id, call_id=uuid4().hex if run_id else None)
        return operations.perform(tool, arguments, caller, call).operation_id
    except DocuTalkError:
        return None
