"""The tools over several features, and what tools over documents are given before their transaction."""

from collections.abc import Callable
from typing import Any

from backend.documents.embedding.embedder import QueryVector
from backend.documents.quota import KeepingRules
from backend.operations.perform import Preparation
from backend.workspace.action_items import create_tasks_from_document, find_to_do
from backend.workspace.research import Links, Sought, fetch, search

WORKSPACE_TOOLS = (search, fetch, create_tasks_from_document)


def preparations(
    embed: Callable[[dict[str, Any]], QueryVector], *, address: str, rules: KeepingRules
) -> dict[str, Preparation]:
    """Return what the tools over documents are given before their transaction, by their names.

    `embed` turns checked arguments with a `query` into its embedding; `address` is the service's public one.
    """
    links = Links(address.rstrip("/"))
    return {
        "search_documents": lambda arguments, _: embed(arguments),
        "add_document": lambda *_: rules,
        "search": lambda arguments, _: Sought(embed(arguments), links),
        "fetch": lambda *_: links,
        "create_tasks_from_document": find_to_do,
    }
