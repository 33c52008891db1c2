"""Everything that the worker of a run writes, each step in one transaction, told to followers once it is committed."""

import time
from collections.abc import Callable
from typing import Any, Literal

from anyio.to_thread import run_sync

from backend.conversations.repository import ConversationRepository, MessageRepository
from backend.database import Database, Scope
from backend.errors import DocuTalkError
from backend.identity.accounts import UsageRepository
from backend.identity.caller import Caller
from backend.operations.perform import Outcome
from backend.plain_text import storable
from backend.runs.live import Live
from backend.runs.repository import ENDED, Event, RunEnded, RunRepository

STORE_TEXT_SECONDS = 1.0
"""The longest that streamed text stays unstored."""

Write = Callable[[RunRepository], None]


class Journal:
    """One attempt at a run, as it is written down. Its answer is the text of all responses, in order."""

    def __init__(
        self,
        database: Database,
        live: Live,
        *,
        caller: Caller,
        run_id: str,
        conversation_id: int,
        attempt: int,
        model: str,
    ) -> None:
        self.run_id = run_id
        self._database = database
        self._live = live
        self._channel = live.open(run_id)
        self._caller = caller
        self._conversation_id = conversation_id
        self._attempt = attempt
        self._model = model
        self._text_stored_at = time.monotonic()
        self._answer = ""
        self._response_start = 0
        self._responses = 0
        self._calls: dict[str, dict[str, Any]] = {}
        self._usage = {"requests": 0, "input_tokens": 0, "output_tokens": 0}

    @property
    def next_response(self) -> int:
        """The number of the response that is being made, from 1."""
        return self._responses + 1

    async def add_text(self, delta: str) -> None:
        """Take in a piece of the answer: followers here see it now, others within a second."""
        if not delta:
            return
        delta = storable(delta)
        if self._answer and len(self._answer) == self._response_start:
            delta = "\n\n" + delta
        self._answer += delta
        self._channel.text += delta
        self._channel.tell()
        if time.monotonic() - self._text_stored_at >= STORE_TEXT_SECONDS:
            await self._write([])

    async def reset(self) -> None:
        """Take back the text of the response that is being made: the provider broke off and is asked again."""
        if len(self._answer) > self._response_start:
            self._answer = self._answer[: self._response_start]
            self._channel.text, self._channel.text_start = "", self._response_start
            await self._write([Event("reset", {"offset": self._response_start})])

    async def add_response(
        self, response: dict[str, Any], calls: list[dict[str, Any]], *, outputs: dict[str, str]
    ) -> None:
        """Commit a response that calls tools, before any of them runs.

        `calls` are `{call_id, name, arguments}`; `outputs` holds what the earlier calls returned to the model, so that
        calls which never reached a tool, of unknown names say, are told of too.
        """
        missing = self._settle_missing(outputs)
        self._calls |= {call["call_id"]: call for call in calls}
        events = [*missing, *(Event("tool_call", dict(call)) for call in calls)]

        await self._write(events, self._with(response))

    def record(self, scope: Scope, outcome: Outcome) -> None:
        """Write a call's result beside its effect, inside the transaction of the call."""
        event = self._settle(outcome.call_id or "", outcome.result, outcome.is_error, outcome.operation_id)
        RunRepository(scope).append(self.run_id, [event])

    def tell(self) -> None:
        """Make the followers look for what a call committed."""
        self._channel.stored_seq += 1
        self._channel.tell()

    async def finish(self, response: dict[str, Any], *, outputs: dict[str, str]) -> None:
        """Commit the final response: the assistant's message, the usage, and the run's end."""
        await self._end("completed", self._settle_missing(outputs), also=self._with(response))

    async def fail(self, error: DocuTalkError) -> None:
        """Commit that the run ended without an answer, and why; what was done and said stays."""
        told = {"code": error.code, "detail": str(error), "status": error.status, "retry_after": error.retry_after}
        await self._end("failed", [*self._settle_missing({}), Event("error", told)], error=told)

    def close(self) -> None:
        """Let followers go on from the database alone."""
        self._live.close(self.run_id)

    async def _end(
        self,
        status: Literal["completed", "failed"],
        events: list[Event],
        *,
        error: dict[str, Any] | None = None,
        also: Write | None = None,
    ) -> None:
        def end(scope: Scope, runs: RunRepository) -> Event:
            # Locked in the order of an accepted or a deleted conversation, so that there is no deadlock: the
            # conversation, its runs, the usage, the numbers.
            conversations = ConversationRepository(scope)
            conversation = conversations.get(self._conversation_id, lock=True)
            run = runs.get(self.run_id, lock=True)
            if run.status in ENDED:
                raise RunEnded
            if self._usage["input_tokens"] or self._usage["output_tokens"]:
                UsageRepository(scope).count_tokens(
                    input_tokens=self._usage["input_tokens"], output_tokens=self._usage["output_tokens"]
                )
            message_id = None
            if status == "completed" or self._answer or self._calls:
                message_id = (
                    MessageRepository(scope)
                    .add(
                        conversation_id=self._conversation_id,
                        role="assistant",
                        content=self._answer,
                        run_id=self.run_id,
                        tool_calls=list(self._calls.values()),
                    )
                    .id
                )
                conversations.touch(conversation)
            if also is not None:
                also(runs)
            runs.change(run, status=status, answer_id=message_id, error=error, usage=self._usage, ended_at=scope.now)
            return Event("done", self._reply(status, message_id, error))

        await self._write(events, last=end)

    def _reply(self, status: str, message_id: int | None, error: dict[str, Any] | None) -> dict[str, Any]:
        shown = ("name", "arguments", "result", "is_error", "operation_id")
        return {
            "conversation_id": self._conversation_id,
            "run_id": self.run_id,
            "message_id": message_id,
            "status": status,
            "response": self._answer,
            "tool_calls": [{name: call.get(name) for name in shown} for call in self._calls.values()],
            "citations": [],
            "approvals": [],
            "model": self._model,
            "usage": self._usage,
            "error": error,
        }

    async def _write(
        self,
        events: list[Event],
        also: Write | None = None,
        *,
        last: Callable[[Scope, RunRepository], Event] | None = None,
    ) -> None:
        """Commit the unstored text and then the events, with what `also` and `last` write beside them."""
        text, start = self._channel.text, self._channel.text_start
        told = [Event("text", {"delta": text, "offset": start})] if text else []

        def write() -> int:
            with self._database.scope(self._caller.user_id, self._caller.zone) as scope:
                runs = RunRepository(scope)
                final = [last(scope, runs)] if last is not None else []
                seq = runs.append(self.run_id, [*told, *events, *final], last=last is not None)
                if also is not None:
                    also(runs)
                return seq

        seq = await run_sync(write)
        self._text_stored_at = time.monotonic()
        self._response_start = len(self._answer) if also is not None else self._response_start
        self._channel.text = self._channel.text[len(text) :]
        self._channel.text_start = start + len(text)
        self._channel.stored_seq = max(seq, self._channel.stored_seq)
        self._channel.tell()

    def _settle(self, call_id: str, result: Any, is_error: bool, operation_id: int | None) -> Event:
        outcome = {"result": result, "is_error": is_error, "operation_id": operation_id}
        call = self._calls.setdefault(call_id, {"call_id": call_id})
        call |= outcome
        return Event("tool_result", {"call_id": call_id, "name": call.get("name"), **outcome})

    def _settle_missing(self, outputs: dict[str, str]) -> list[Event]:
        return [
            self._settle(call_id, {"error": outputs.get(call_id, "The call did not run.")}, True, None)
            for call_id, call in self._calls.items()
            if "result" not in call
        ]

    def _with(self, response: dict[str, Any]) -> Write:
        """Count the response, and return what commits it."""
        number = self.next_response
        self._responses += 1
        self._usage["requests"] += 1
        for name in ("input_tokens", "output_tokens"):
            self._usage[name] += int(response.get("usage", {}).get(name) or 0)
        return lambda runs: runs.add_response(self.run_id, number=number, attempt=self._attempt, response=response)
