import asyncio
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from backend.agent.assistant import AgentAssistant
from backend.agent.choice import ModelChoice
from backend.limits.fair_share import FairShare
from backend.mcp_server.server import ToolServer
from backend.operations.perform import Operations
from backend.postgres.database import Database


def assistant(choice: ModelChoice) -> AgentAssistant:
    return AgentAssistant(
        choice, (), now=lambda: datetime.now(UTC), max_steps=1, history_characters=100, share=FairShare()
    )


async def loaded(choice: ModelChoice) -> tuple[str | None, str | None]:
    """Return the reasons for not being ready before and after loading."""
    made = assistant(choice)
    before = made.not_ready
    await made.load(ToolServer((), Operations(Database())))
    return before, made.not_ready


@pytest.mark.spec("AGENT-80")
def test_a_model_that_is_being_loaded_is_not_ready_and_then_is() -> None:
    before, after = asyncio.run(loaded(ModelChoice()))

    assert before is not None
    assert "being loaded" in before
    assert after is None


@pytest.mark.spec("AGENT-80")
def test_a_model_that_could_not_be_loaded_says_so() -> None:
    # Keys that a provider's module cannot work with simulate a broken library.
    broken = ModelChoice(name="openai/any", keys=cast(dict[str, Any], None))

    _, after = asyncio.run(loaded(broken))

    assert after is not None
    assert "could not be loaded" in after
