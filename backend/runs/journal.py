"""The writes by a run's worker. Each step is one transaction, and followers see the step once it is committed."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from anyio.to_thread import run_sync
from sqlalchemy.event import listen

from backend.conversations.repository import ConversationRepository
from backend.errors import DocuTalkError, Unavailable
from backend.identity.caller import Caller
from backend.jobs.leases import Lease, LeaseLost
from backend.operations.perform import Outcome
from backend.plain_text import storable
from backend.postgres.database import Database, Scope
from backend.runs.ending import EndStatus, RunCancelled, StillThere, end, told
from backend.runs.live import Live
from backend.runs.repository import ENDED, Appended, Event, RunEnded, RunNotFound, RunRepository
from backend.runs.transcript import Transcript

STORE_TEXT_SECONDS = 1.0
"""How many seconds streamed text may stay unstored."""

Write = Callable[[RunRepository], None]
Result = TypeVar("Result")


async def unbroken(step: Coroutine[Any, Any, Result]) -> Result:
    """Finish a step even if the caller is cancelled during it, so that the caller knows whether the step was done."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and (failure := task.exception()) is not None:
            raise failure from None
        raise


class Journal:
    """The writes by one attempt at a run. A write fails if a later attempt has begun."""

    def __init__(
        self,
        database: Database,
        live: Live,
        *,
        caller: Caller,
        conversation_id: int,
        lease: Lease,
        still_there: StillThere,
        transcript: Transcript | None = None,
        stored: Sequence[Event] = (),
    ) -> None:
        self.run_id = lease.id
        self.interrupted: DocuTalkError | None = None
        """Why this attempt must stop early, or None."""
        self.ended: EndStatus | None = None
        """How the run ended; None until the end is committed."""
        self.is_work_left = False
        """Whether another run of the same user was waiting for this run to end."""
        self._database = database
        self._live = live
        self._caller = caller
        self._conversation_id = conversation_id
        self._attempt = lease.attempt
        self._still_there = still_there
        self._transcript = transcript or Transcript()
        self._replayed = len(self._transcript.responses)
        self._channel = live.open(lease.id, stored, text_start=len(self._transcript.answer))
        self._text_stored_at = time.monotonic()
        self._recorded: list[Event] = []
        self._step = asyncio.Lock()

    @property
    def next_response(self) -> int:
        """The number of the response that the model is producing, from 1."""
        return len(self._transcript.responses) + 1

    def committed_response(self, number: int) -> dict[str, Any] | None:
        """Return response `number`, counted from 1, if an earlier attempt committed it; otherwise None."""
        return self._transcript.responses[number - 1] if number <= self._replayed else None

    def committed_result(self, call_id: str) -> tuple[dict[str, Any], bool] | None:
        """Return a call's result and whether the result is an error, or None if the call is not finished."""
        call = self._transcript.calls.get(call_id, {})
        return (call["result"], call["is_error"]) if "result" in call else None

    def interrupt(self, why: DocuTalkError) -> None:
        """Prevent further steps. The current step is still finished. May be called on any thread.

        A database failure takes precedence over a request to stop. After a database failure it is unknown what was
        done, and only the next attempt can find out from the rows.
        """
        if self.interrupted is None or (isinstance(why, Unavailable) and not isinstance(self.interrupted, Unavailable)):
            self.interrupted = why

    def go_on(self) -> None:
        """Raise `interrupted` if this attempt must stop."""
        if self.interrupted is not None:
            raise self.interrupted

    def alone(self, step: Coroutine[Any, Any, Result]) -> Coroutine[Any, Any, Result]:
        """Return a coroutine that executes a writing step.

        No other step runs meanwhile, and the step always finishes.
        """

        async def locked() -> Result:
            async with self._step:
                return await step

        return unbroken(locked())

    async def add_text(self, delta: str) -> None:
        """Add text to the answer. Followers in this process get the text now, other followers within a second."""
        self.go_on()
        if not delta:
            return
        self._channel.text += self._transcript.add_text(storable(delta))
        self._channel.tell()
        if time.monotonic() - self._text_stored_at >= STORE_TEXT_SECONDS:
            await self._write(tuple)

    async def reset(self) -> None:
        """Discard the current response's text, because the provider broke off and the request will be repeated."""
        transcript = self._transcript
        if len(transcript.answer) > transcript.committed:
            transcript.answer = transcript.answer[: transcript.committed]
            self._channel.text, self._channel.text_start = "", transcript.committed
            void = Event("reset", {"offset": transcript.committed})
            await self._write(lambda: [void])

    async def add_response(
        self, response: dict[str, Any], calls: list[dict[str, Any]], *, outputs: dict[str, str]
    ) -> None:
        """Commit a response that calls tools, before any of these tools runs.

        Each item in `calls` is `{call_id, name, arguments}`. For each call in the earlier responses, `outputs` has the
        text that the model got back. Some of those calls never reached a tool, for example because no tool has that
        name. For them, this text is stored as the result.
        """
        self.go_on()
        missing = self._transcript.settle_missing(outputs)
        number = self.next_response
        called = self._transcript.add_response(response, calls)
        await self._write(lambda: [*missing, *called], self._keep(number, response))

    def record(self, scope: Scope, outcome: Outcome) -> None:
        """Write a call's result in the call's own transaction, so that it commits together with the call's effect."""
        event = self._transcript.settle(
            outcome.call_id or "", outcome.result, is_error=outcome.is_error, operation_id=outcome.operation_id
        )
        appended = RunRepository(scope).append(self.run_id, [event], attempt=self._attempt)
        # Followers see only committed events.
        listen(scope.session, "after_commit", lambda _session: self._recorded.extend(appended.events), once=True)

    def tell(self) -> None:
        """Wake followers, so that they get the events that calls have committed."""
        committed, self._recorded = self._recorded, []
        self._channel.store(committed)
        self._channel.tell()

    async def finish(self, response: dict[str, Any], *, outputs: dict[str, str]) -> None:
        """Commit the final response: the assistant's message, the usage, and the run's end."""
        self.go_on()
        number = self.next_response
        self._transcript.add_response(response, [])
        await self._end("completed", outputs=outputs, also=self._keep(number, response))

    async def fail(self, error: DocuTalkError) -> None:
        """Commit that the run failed, and why. The effects of its calls and the text so far are kept."""
        why = told(error)
        await self._end("failed", [Event("error", why)], error=why)

    async def cancel(self) -> None:
        """Commit that the user stopped the run. The effects of its calls and the text so far are kept."""
        await self._end("cancelled", error=told(RunCancelled()))

    def close(self) -> None:
        """Close the run's channel in memory. Followers then read the run's events from the database."""
        self._live.close(self.run_id, self._channel)

    async def _end(
        self,
        status: EndStatus,
        events: Sequence[Event] = (),
        *,
        outputs: dict[str, str] | None = None,
        error: dict[str, Any] | None = None,
        also: Write | None = None,
    ) -> None:
        def last(scope: Scope, runs: RunRepository) -> list[Event]:
            # To avoid deadlocks, rows are locked in the same order as when a message is accepted or a conversation is
            # deleted: the conversation, its runs, usage, counters.
            conversation = ConversationRepository(scope).find(self._conversation_id, lock=True)
            run = runs.find(self.run_id)
            if conversation is None or run is None:
                raise RunNotFound
            if run.status in ENDED:
                raise RunEnded
            if run.attempt != self._attempt:
                raise LeaseLost
            *corrections, done = end(
                scope,
                conversation,
                run,
                self._transcript,
                status=status,
                still_there=self._still_there,
                error=error,
            )
            return [*corrections, *events, done]

        # `_write` first waits for the call in progress. Only then is it known which calls did not run.
        await self._write(lambda: self._transcript.settle_missing(outputs), also, last=last, ending=status)

    async def _write(
        self,
        events: Callable[[], Sequence[Event]],
        also: Write | None = None,
        *,
        last: Callable[[Scope, RunRepository], list[Event]] | None = None,
        ending: EndStatus | None = None,
    ) -> None:
        """Commit the unstored text, then `events` and the events from `last`, and then the writes by `also`."""

        async def step() -> None:
            if ending in ("failed", "cancelled") and isinstance(self.interrupted, Unavailable):
                # It is unknown whether the call in progress was done. The next attempt finds out from the rows.
                raise self.interrupted
            new = events()
            text, start = self._channel.text, self._channel.text_start
            said = [Event("text", {"delta": text, "offset": start})] if text else []

            def write() -> Appended:
                with self._database.scope(self._caller.user_id, self._caller.zone) as scope:
                    runs = RunRepository(scope)
                    final = last(scope, runs) if last is not None else []
                    written = [*said, *new, *final]
                    appended = runs.append(self.run_id, written, attempt=self._attempt, last=last is not None)
                    if also is not None:
                        also(runs)
                    return appended

            appended = await run_sync(write)
            self.ended, self.is_work_left = ending, appended.is_work
            self._text_stored_at = time.monotonic()
            self._channel.text = self._channel.text[len(text) :]
            self._channel.text_start = start + len(text)
            self._channel.store(appended.events)
            self._channel.tell()

        await self.alone(step())

    def _keep(self, number: int, response: dict[str, Any]) -> Write:
        return lambda runs: runs.add_response(self.run_id, number=number, attempt=self._attempt, response=response)
