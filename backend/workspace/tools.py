"""The tools that use both tasks and documents, and the functions that prepare a tool's inputs before it runs."""

from collections.abc import Callable
from typing import Any

from backend.documents.embedding.embedder import QueryVector
from backend.documents.quota import KeepingRules
from backend.operations.perform import Preparation
from backend.workspace.action_items import create_tasks_from_document, find_to_do
from backend.workspace.research import Links, Sought, fetch, search
from backend.workspace.undo import undo

WORKSPACE_TOOLS = (search, fetch, create_tasks_from_document, undo)


def preparations(
    embed: Callable[[dict[str, Any]], QueryVector], *, address: str, rules: KeepingRules
) -> dict[str, Preparation]:
    """Return the functions that prepare a tool's inputs before its transaction, by tool name.

    `embed` gets the tool's checked arguments and returns the embedding of the argument `query`. `address` is the
    service's public address.
    """
    links = Links(address.rstrip("/"))
    return {
        "search_documents": lambda arguments, _: embed(arguments),
        "add_document": lambda *_: rules,
        "search": lambda arguments, _: Sought(embed(arguments), links),
        "fetch": lambda *_: links,
        "create_tasks_from_document": find_to_do,
    }
