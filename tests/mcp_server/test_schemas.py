"""What is published must suit every provider: OpenAI's strict mode, Gemini, Anthropic, and MCP itself."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from agents.strict_schema import ensure_strict_json_schema
from jsonschema import Draft202012Validator

from backend.operations.tool import Tool
from backend.process import TOOLS

LIST_BYTES = 24 * 1024
MOST_TOOLS = 18
IN_ALL_THREE = {"type", "description", "enum", "items", "properties", "required", "minimum", "maximum"} | {
    "minItems",
    "maxItems",
    "nullable",
}
"""Gemini's subset of JSON schema, which is the narrowest."""

every_tool = pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)


@pytest.mark.spec("MCP-1")
def test_the_tools_over_tasks_and_documents_are_published() -> None:
    assert [tool.name for tool in TOOLS] == [
        "add_task",
        "list_tasks",
        "get_task",
        "update_task",
        "complete_task",
        "reopen_task",
        "delete_task",
        "search_documents",
        "list_documents",
        "read_document",
        "add_document",
        "search",
        "fetch",
        "create_tasks_from_document",
        "undo",
    ]
    assert all(tool.published for tool in TOOLS)


@pytest.mark.spec("MCP-2")
@every_tool
def test_an_input_schema_keeps_to_what_all_providers_take(tool: Tool[Any, Any]) -> None:
    schema = tool.input_schema

    assert schema["type"] == "object"
    for node in nodes(schema):
        assert node.keys() <= IN_ALL_THREE | {"additionalProperties"}
        assert isinstance(node["type"], str)
        if node["type"] == "object":
            assert node["additionalProperties"] is False
            assert set(node["required"]) <= node["properties"].keys()
    Draft202012Validator.check_schema(schema)


@pytest.mark.spec("MCP-2")
@every_tool
def test_an_input_schema_becomes_strict_for_openai(tool: Tool[Any, Any]) -> None:
    strict = ensure_strict_json_schema(copy.deepcopy(tool.input_schema))

    assert strict["additionalProperties"] is False
    assert strict["properties"].keys() == tool.input_schema["properties"].keys()


@pytest.mark.spec("MCP-2")
@every_tool
def test_names_are_what_anthropic_takes(tool: Tool[Any, Any]) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool.name)
    assert all(re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", name) for name in tool.input_schema["properties"])


@pytest.mark.spec("MCP-3")
@every_tool
def test_no_schema_mentions_a_user(tool: Tool[Any, Any]) -> None:
    told = json.dumps([tool.input_schema, tool.output_schema])

    assert not re.search("user_?id|tenant|owner", told, re.IGNORECASE)


@pytest.mark.spec("MCP-6")
@every_tool
def test_an_output_schema_stands_by_itself_and_says_what_a_result_is_made_of(tool: Tool[Any, Any]) -> None:
    told = json.dumps(tool.output_schema)

    assert "$ref" not in told
    assert "$defs" not in told
    # `perform` adds the number of the operation to the result of a write.
    added = {"operation_id"} if tool.writes else set()
    assert tool.output_schema["properties"].keys() - added <= tool.result_model.model_fields.keys()
    assert added <= tool.output_schema["properties"].keys()
    assert tool.output_schema["properties"]


@pytest.mark.spec("MCP-7")
@every_tool
def test_a_tool_that_may_return_text_of_documents_says_of_which(tool: Tool[Any, Any]) -> None:
    assert tool.returns_documents is hasattr(tool.result_model, "document_ids_read")


@pytest.mark.spec("MCP-7")
def test_what_is_prepared_before_a_transaction_is_no_argument() -> None:
    prepared = {tool.name: tool.prepared for tool in TOOLS if tool.prepared}

    assert prepared == {
        "search_documents": "vector",
        "add_document": "rules",
        "create_tasks_from_document": "to_do",
        "search": "sought",
        "fetch": "links",
    }
    for tool in TOOLS:
        assert tool.prepared not in tool.input_schema["properties"]


@pytest.mark.spec("MCP-8")
def test_search_and_fetch_take_the_one_argument_that_research_clients_send() -> None:
    schemas = {tool.name: tool.input_schema for tool in TOOLS}

    for name, argument in (("search", "query"), ("fetch", "id")):
        assert schemas[name]["required"] == list(schemas[name]["properties"]) == [argument]
        assert schemas[name]["properties"][argument]["type"] == "string"


@pytest.mark.spec("MCP-4")
def test_a_tool_is_published_with_all_that_a_client_shows(guest: httpx.Client) -> None:
    listed = tools_list(guest)["result"]["tools"]

    assert [tool["name"] for tool in listed] == [tool.name for tool in TOOLS]
    for tool in listed:
        assert tool["title"]
        assert "Use it" in tool["description"]
        assert tool["outputSchema"]["type"] == "object"
        Draft202012Validator.check_schema(tool["outputSchema"])
        hints = tool["annotations"]
        assert {type(hints[f"{name}Hint"]) for name in ("readOnly", "destructive", "idempotent", "openWorld")} == {bool}


@pytest.mark.spec("MCP-4")
def test_the_hints_tell_what_a_tool_does(guest: httpx.Client) -> None:
    hints = {tool["name"]: tool["annotations"] for tool in tools_list(guest)["result"]["tools"]}

    changing = ["update_task", "complete_task", "reopen_task", "delete_task"]
    writing = ["add_task", *changing, "add_document", "create_tasks_from_document", "undo"]
    assert [name for name, hint in hints.items() if not hint["readOnlyHint"]] == writing
    assert [name for name, hint in hints.items() if hint["destructiveHint"]] == ["delete_task", "undo"]
    assert [name for name, hint in hints.items() if not hint["idempotentHint"]] == ["add_task", "undo"]
    assert not any(hint["openWorldHint"] for hint in hints.values())


@pytest.mark.spec("MCP-5")
def test_the_list_of_tools_is_small_as_any_json_library_writes_it(guest: httpx.Client) -> None:
    result = tools_list(guest)["result"]

    assert 4_000 < len(json.dumps(result)) < LIST_BYTES  # 17,748 when this was written.
    assert len(result["tools"]) <= MOST_TOOLS


LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
ACCEPT = {"Accept": "application/json, text/event-stream"}


def tools_list(client: httpx.Client) -> Any:
    """Return the answer to tools/list as it stands on the wire."""
    body = client.post("/mcp", json=LIST, headers=ACCEPT).raise_for_status().text
    return json.loads(body.partition("data:")[2])


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a schema and every schema inside it."""
    yield schema
    for inner in [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]:
        yield from nodes(inner)
