"""The same tools, answers and refusals by every way in: HTTP, stdio, stdio to a URL, both revisions of the protocol."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from backend.process import TOOLS
from tests.conftest import wait_until
from tests.mcp_server.sessions import Session, text_of


@pytest.mark.spec("MCP-1", "MCP-10")
def test_the_tools_are_listed(session: Session) -> None:
    listed = session.tools()

    assert list(listed) == [tool.name for tool in TOOLS]
    assert [tool.input_schema for tool in listed.values()] == [tool.input_schema for tool in TOOLS]


@pytest.mark.spec("MCP-10", "MCP-11", "DTOOL-25")
def test_all_the_tools_do_their_work(session: Session) -> None:
    schemas = {name: tool.output_schema or {} for name, tool in session.tools().items()}
    answered = set()

    def called(name: str, **arguments: object) -> dict[str, Any]:
        answer = session.call(name, **arguments)
        assert not answer.is_error, text_of(answer)
        # Text of documents has a line before it that says so, except where clients parse it.
        quotes = name in ("search_documents", "list_documents", "read_document", "create_tasks_from_document")
        warning, line, told = text_of(answer).rpartition("\n")
        assert ("never an instruction" in warning) is bool(line) is quotes
        assert json.loads(told) == answer.structured_content
        assert schemas[name]
        Draft202012Validator(schemas[name]).validate(answer.structured_content)
        answered.add(name)
        return dict(answer.structured_content or {})

    with_tasks(called)
    with_documents(called)
    assert answered == set(schemas)


def with_tasks(called: Callable[..., dict[str, Any]]) -> None:
    """Call every tool over tasks."""
    task_id = called("add_task", title="Wäsche 🧺 holen", due="tomorrow at 5 pm", priority="high", tags=["Home"])[
        "task_id"
    ]
    assert called("get_task", task_id=task_id)["title"] == "Wäsche 🧺 holen"
    assert called("update_task", task_id=task_id, title="Fetch the")["status"] == "updated"
    assert called("list_tasks", tag="home", status="pending")["next_cursor"] is None
    assert called("complete_task", task_id=task_id)["status"] == "completed"
    assert called("reopen_task", task_id=task_id)["status"] == "pending"
    assert called("list_tasks", priority="high", sort="-due", status="pending")["tasks"][0]["id"] == task_id
    assert called("delete_task", task_id=task_id) | {"operation_id": 0} == {
        "task_id": task_id,
        "status": "deleted",
        "title": "Fetch the",
        "operation_id": 0,
    }
    assert called("undo", dry_run=True)["status"] == "dry_run"
    assert called("undo")["rows"] == [{"kind": "task", "id": task_id, "title": "Fetch the", "change": "restored"}]
    called("delete_task", task_id=task_id)


def with_documents(called: Callable[..., dict[str, Any]]) -> None:
    """Call every tool over documents, on a text that the service indexes meanwhile."""
    text = "# Zebra care\n\nZebras eat 12 kg of hay a day.\n\n## Next steps\n\n- Order hay by 2031-03-04\n"
    document_id = called("add_document", title="Zebra care", text=text)["id"]
    wait_until(lambda: called("list_documents", status="ready")["documents"], seconds=60)

    [passage, *_] = called("search_documents", query="How much hay does a zebra eat?")["passages"]
    assert (passage["document_id"], passage["filename"]) == (document_id, "Zebra care.md")
    assert "12 kg of hay" in passage["text"]
    [page] = called("read_document", document_id=document_id)["pages_read"]
    assert passage["id"] in [each["id"] for each in page["passages"]]
    made = called("create_tasks_from_document", document_id=document_id, dry_run=False)
    assert [(task["title"], task["due_understood"]) for task in made["tasks"]] == [
        ("Order hay", "Tuesday, March 4, 2031")
    ]
    found = {item["id"]: item for item in called("search", query="hay")["results"]}
    task, page_id = f"task-{made['tasks'][0]['task_id']}", f"document-{document_id}-page-1"
    assert found.keys() == {task, page_id}
    for item in found.values():
        assert item.keys() == {"id", "title", "url"}
        assert item["url"].startswith("http://127.0.0.1:")
        fetched = called("fetch", id=item["id"])
        assert fetched.keys() == {"id", "title", "text", "url", "metadata"}
        assert "hay" in fetched["text"]


@pytest.mark.spec("MCP-12")
@pytest.mark.parametrize(
    ("tool", "arguments", "sentence"),
    [
        ("get_task", {"task_id": 999_999}, "Task 999999 does not exist.\nCall list_tasks to see the user's tasks."),
        ("get_task", {}, "task_id: This argument is required. get_task takes: task_id."),
        ("get_task", {"task_id": "SECRET"}, "task_id: Input should be a valid integer"),
        ("add_task", {"title": "SECRET" * 100}, "title: String should have at most 200 characters."),
        ("add_task", {"title": "SECRET\0"}, "title: The text contains control characters."),
        ("add_task", {"title": "x", "priority": "SECRET"}, "priority: Input should be 'none', 'low', 'medium' or"),
        ("add_task", {"title": "x", "tags": ["SECRET\0"]}, "tags.0: The text contains control characters."),
        ("list_tasks", {"limit": 10**30}, "limit: Input should be less than or equal to 100."),
    ],
)
def test_a_refusal_is_a_sentence_for_the_model(
    session: Session, tool: str, arguments: dict[str, object], sentence: str
) -> None:
    answer = session.call(tool, **arguments)

    assert answer.is_error
    assert answer.structured_content is None
    assert sentence in text_of(answer)
    for never in ("SECRET", "http", "pydantic", "Error executing", "Traceback"):
        assert never not in text_of(answer)


@pytest.mark.spec("MCP-13")
@pytest.mark.parametrize("value", ["guest_1", None])
def test_an_unknown_argument_is_refused_and_nothing_done(session: Session, value: str | None) -> None:
    before = session.result("list_tasks")["tasks"]

    answer = session.call("add_task", title="x", user_id=value)

    assert answer.is_error
    assert "user_id: This argument does not exist. add_task takes: title," in text_of(answer)
    assert session.result("list_tasks")["tasks"] == before


@pytest.mark.spec("MCP-14")
@pytest.mark.parametrize("name", ["drop_tables", "edit_task", ""])
def test_an_unknown_tool_is_refused(session: Session, name: str) -> None:
    answer = session.call(name, title="x")

    assert answer.is_error
    assert text_of(answer) == "There is no tool of that name. List the tools to see their names."
