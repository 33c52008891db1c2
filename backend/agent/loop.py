"""The Agents SDK loop for one run, with our MCP server in the same process and a model whose responses are recorded.

Importing this module imports the Agents SDK, so `assistant.py` imports this module in the background.
"""

from collections.abc import Collection
from typing import Any, cast

import mcp_types
from agents import Agent, MaxTurnsExceeded, ModelBehaviorError, ModelSettings, RunConfig, Runner, set_trace_processors
from agents.mcp import MCPServer, MCPToolMetaContext
from agents.models.interface import Model
from agents.run_config import ToolExecutionConfig
from agents.tool_context import ToolContext

from backend.agent.choice import OFFLINE_NAME, ModelChoice
from backend.agent.errors import ModelFailed, TooManySteps
from backend.agent.offline.model import OfflineModel
from backend.agent.recording import RecordedModel
from backend.identity.caller import current_caller
from backend.limits.fair_share import FairShare
from backend.mcp_server.server import ToolServer, told
from backend.operations.perform import Call
from backend.runs.journal import Journal

# Otherwise, the SDK's default exporter would send prompts to OpenAI whenever there is an OpenAI key.
set_trace_processors([])


class Loop:
    """Runs the SDK's loop with the model that a run names."""

    def __init__(
        self, choice: ModelChoice, server: ToolServer, *, quoting: frozenset[str], max_steps: int, share: FairShare
    ) -> None:
        """Set up the loop.

        Args:
            choice: The model that answers runs that do not use the offline model.
            server: Our MCP server.
            quoting: The names of the tools whose results quote documents.
            max_steps: The most requests to the model in one run.
            share: The slots in which users' calls run.
        """
        self._quoting = quoting
        self._share = share
        self._choice = choice
        self._server = server
        self._max_steps = max_steps
        # Only RecordedModel retries requests, because it can also retry a stream that broke off.
        once = {"timeout": choice.timeout_seconds, "num_retries": 0, "max_retries": 0}
        self._settings = ModelSettings(include_usage=True, parallel_tool_calls=True, extra_args=once)
        self._listed: dict[frozenset[str], list[mcp_types.Tool]] = {}
        self._models: dict[str, Model] = {OFFLINE_NAME: OfflineModel()}
        if choice.shown != OFFLINE_NAME:
            # Imported here, because LiteLLM takes as long to load as everything else together, and the offline model
            # does not need it.
            from backend.agent.providers import litellm_model

            self._models[choice.shown] = litellm_model(choice)

    async def close(self) -> None:
        """Close the connections to providers."""
        for model in self._models.values():
            await model.close()

    async def answer(self, fixed_input: dict[str, Any], *, model: str, journal: Journal) -> None:
        """Run the loop on a run's fixed input, and commit the run's end to the journal.

        Raises:
            ModelFailed: The model failed. The journal has the steps that were done before the failure.
        """
        if model not in self._models:
            raise ModelFailed(f"The model {model} is no longer configured. Send the message again.")
        recorded = RecordedModel(self._models[model], model, journal, streaming=self._choice.streaming)
        agent = Agent(
            name="DocuTalk",
            instructions=fixed_input["instructions"],
            model=recorded,
            model_settings=self._settings,
            mcp_servers=[
                ToolsInProcess(
                    self._server, journal, await self._tools(fixed_input["tools"]), self._quoting, self._share
                )
            ],
        )
        try:
            await Runner.run(
                agent,
                fixed_input["items"],
                max_turns=self._max_steps,
                run_config=RunConfig(
                    tracing_disabled=True,
                    tool_not_found_behavior="return_error_to_model",
                    # Execute the calls in the response's order: a user who says "A and B" expects A to get the first
                    # number.
                    tool_execution=ToolExecutionConfig(max_function_tool_concurrency=1),
                ),
            )
        except MaxTurnsExceeded:
            raise TooManySteps(model, self._max_steps) from None
        except ModelBehaviorError as error:
            raise ModelFailed(f"The model {model} gave an unusable answer. Try again.") from error
        await recorded.finish()

    async def _tools(self, allowed: Collection[str]) -> list[mcp_types.Tool]:
        """Return the tools in `allowed`, as the server lists them for the caller's scopes.

        `allowed` has the names of the run's tools, which were stored when the run began.
        """
        scopes = current_caller().scopes
        if scopes not in self._listed:
            self._listed[scopes] = await self._server.list_tools()
        return [tool for tool in self._listed[scopes] if tool.name in allowed]


class ToolsInProcess(MCPServer):
    """Our own MCP server, wrapped in the interface that the SDK expects.

    It uses no socket, and one object serves one run.
    """

    def __init__(
        self,
        server: ToolServer,
        journal: Journal,
        tools: list[mcp_types.Tool],
        quoting: frozenset[str],
        share: FairShare,
    ) -> None:
        super().__init__(tool_meta_resolver=_call_id)
        self._share = share
        self._quoting = quoting
        self._server = server
        self._journal = journal
        self._tools = tools

    @property
    def name(self) -> str:
        """The server's name."""
        return "docutalk"

    async def connect(self) -> None:
        """Do nothing, because the server is an object in this process."""

    async def cleanup(self) -> None:
        """Do nothing, because the server outlives the run."""

    async def list_tools(self, *_context: Any, **_more: Any) -> list[mcp_types.Tool]:
        """List the run's tools, which were stored when the run began."""
        return self._tools

    async def call_tool(
        self, tool_name: str, arguments: dict[str, Any] | None, meta: dict[str, Any] | None = None
    ) -> mcp_types.CallToolResult:
        """Call a tool as the run's caller, under the call's id.

        If an earlier attempt at the run finished this call, return the recorded result without calling the tool.
        """
        journal = self._journal
        call_id = (meta or {})["call_id"]
        if (committed := journal.committed_result(call_id)) is not None:
            result, is_error = committed
            return told(result, is_error=is_error, quotes_documents=tool_name in self._quoting)
        call = Call(
            run_id=journal.run_id,
            call_id=call_id,
            record=journal.record,
            on_unavailable=journal.interrupt,
            has_slot=True,
        )
        # Wait for a slot here, because a stop can end the wait here. Once the call has begun, it always finishes.
        async with self._share.slot(current_caller().user_id, is_patient=True):
            # Begin no call after a stop, or after another call whose outcome is unknown.
            journal.go_on()
            done = await journal.alone(self._server.call_tool(tool_name, arguments or {}, call=call))
        journal.tell()
        return done

    async def list_prompts(self) -> mcp_types.ListPromptsResult:
        """Return an empty list, because there are no prompts."""
        return mcp_types.ListPromptsResult(prompts=[])

    async def get_prompt(self, name: str, *_arguments: Any, **_more: Any) -> mcp_types.GetPromptResult:
        """Raise KeyError, because there are no prompts."""
        raise KeyError(name)


def _call_id(context: MCPToolMetaContext) -> dict[str, Any]:
    # The SDK's annotation allows more than the SDK passes: for a call, it always passes a ToolContext.
    return {"call_id": cast("ToolContext[Any]", context.run_context).tool_call_id}
