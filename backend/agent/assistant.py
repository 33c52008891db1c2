"""The interface between the assistant and the rest of the service. It loads heavy libraries in the background."""

import asyncio
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from anyio.to_thread import run_sync

from backend.agent.choice import OFFLINE_NAME, ModelChoice
from backend.agent.errors import ModelFailed
from backend.agent.history import items_of
from backend.conversations.models import Message
from backend.identity.caller import Caller
from backend.limits.fair_share import FairShare
from backend.operations.tool import Tool
from backend.postgres.database import Clock
from backend.runs.journal import Journal

if TYPE_CHECKING:
    from backend.agent.loop import Loop
    from backend.mcp_server.server import ToolServer

log = structlog.get_logger()


class AgentAssistant:
    """Answers runs with the Agents SDK loop over our own MCP server."""

    def __init__(
        self,
        choice: ModelChoice,
        tools: tuple[Tool[Any, Any], ...],
        *,
        now: Clock,
        max_steps: int,
        history_characters: int,
        share: FairShare,
    ) -> None:
        self._choice = choice
        self._tools = tools
        self._quoting = frozenset(tool.name for tool in tools if tool.returns_documents)
        self._now = now
        self._max_steps = max_steps
        self._history_characters = history_characters
        self._share = share
        self._instructions = (Path(__file__).parent / "instructions.md").read_text()
        self._loop: Loop | None = None
        self._loaded = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """Whether the libraries are loaded and the model can answer."""
        return self._loop is not None

    @property
    def is_loaded(self) -> bool:
        """Whether loading has finished, successfully or not."""
        return self._loaded.is_set()

    @property
    def not_ready(self) -> str | None:
        """Why no turn can be answered now, in a sentence for the service's owner; None if turns can be answered."""
        if self.is_ready:
            return None
        if self.is_loaded:
            return "The model could not be loaded; the log says why. Check MODEL, and start the service again."
        return "The model is being loaded."

    async def load(self, server: "ToolServer") -> None:
        """Import the Agents SDK, and LiteLLM if the model needs it, on a worker thread."""
        try:
            self._loop = await run_sync(self._make_loop, server)
        except Exception:
            # A provider's library may raise any error. The service keeps running, and `/ready` and every run report the
            # error.
            log.exception("model_not_loaded", model=self._choice.shown)
        finally:
            self._loaded.set()

    async def close(self) -> None:
        """Close the connections to providers. Call this after the last run has ended."""
        if self._loop is not None:
            await self._loop.close()

    def models_for(self, caller: Caller) -> tuple[str, ...]:
        """Return the models that may answer this caller.

        If there are two, the second answers guests once their budget is spent.
        """
        shown = self._choice.shown
        if caller.kind == "person" or shown == OFFLINE_NAME:
            return (shown,)
        return (OFFLINE_NAME,) if self._choice.guests_get == "offline" else (shown, OFFLINE_NAME)

    def fixed_input(self, messages: list[Message], caller: Caller) -> dict[str, Any]:
        """Return a run's instructions, items and tool names, as JSON. Every attempt at the run uses this input."""
        now = self._now().astimezone(caller.zone)
        return {
            "instructions": self._instructions.format(
                today=f"{now:%A}, {now.date().isoformat()}", time=f"{now:%H:%M}", zone=caller.zone.key
            ),
            "items": items_of(messages, most_characters=self._history_characters, quoting=self._quoting),
            "tools": [tool.name for tool in self._tools if tool.scope in caller.scopes],
        }

    async def answer(self, fixed_input: dict[str, Any], *, model: str, journal: Journal) -> None:
        """Answer a run, and write every step to the journal, including the run's end.

        Raises:
            ModelFailed: The provider or its model failed. The journal has the steps that were done before the failure.
        """
        await self._loaded.wait()
        if self._loop is None:
            raise ModelFailed("The model could not be loaded; the service's log says why. Your message is kept.")
        await self._loop.answer(fixed_input, model=model, journal=journal)

    def _make_loop(self, server: "ToolServer") -> "Loop":
        module = importlib.import_module("backend.agent.loop")
        made: Loop = module.Loop(
            self._choice, server, quoting=self._quoting, max_steps=self._max_steps, share=self._share
        )
        return made
