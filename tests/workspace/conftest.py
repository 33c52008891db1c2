"""Tools that are performed as one user, among them those that keep documents."""

from collections.abc import Callable
from typing import Any

import pytest

from backend.documents.quota import KeepingRules
from backend.identity.caller import Caller
from backend.operations.perform import Call, Operations
from backend.operations.tool import Tool
from backend.postgres.database import Database


@pytest.fixture
def operations(database: Database) -> Operations:
    """Performs tools. Documents are kept up to the usual limits."""
    return Operations(database, preparations={"add_document": lambda *_: KeepingRules()})


@pytest.fixture
def perform(operations: Operations, alice: Caller) -> Callable[..., dict[str, Any]]:
    """Performs a tool as alice, and returns its result."""

    def performed(tool: Tool[Any, Any], call: Call | None = None, **arguments: Any) -> dict[str, Any]:
        return operations.perform(tool, arguments, alice, call).result

    return performed
