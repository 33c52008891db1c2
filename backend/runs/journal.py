"""Everything that the worker of a run writes, each step in one transaction, told to followers once it is committed."""

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
from backend.runs.repository import ENDED, Appended, Event, RunEnded, RunRepository
from backend.runs.transcript import Transcript

STORE_TEXT_SECONDS = 1.0
"""The longest that streamed text stays unstored."""

Write = Callable[[RunRepository], None]
Result = TypeVar("Result")


async def unbroken(step: Coroutine[Any, Any, Result]) -> Result:
    """Finish a step even when whoever waits for it is cancelled meanwhile: it must be known whether it was done."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and (failure := task.exception()) is not None:
            raise failure from None
        raise


class Journal:
    """One attempt at a run, as it is written down; every write is fenced by the attempt's number."""

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
        """Why this attempt is to stop before its end."""
        self.ended: EndStatus | None = None
        """How the run ended, once that is committed."""
        self.is_work_left = False
        """Whether another run of the user waited for that end."""
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
        """The number of the response that is being made, from 1."""
        return len(self._transcript.responses) + 1

    def committed_response(self, number: int) -> dict[str, Any] | None:
        """Return the response of a number that an earlier attempt committed, from 1, or None."""
        return self._transcript.responses[number - 1] if number <= self._replayed else None

    def committed_result(self, call_id: str) -> tuple[dict[str, Any], bool] | None:
        """Return the result of a call that ended in an earlier attempt, and whether it is an error's; or None."""
        call = self._transcript.calls.get(call_id, {})
        return (call["result"], call["is_error"]) if "result" in call else None

    def interrupt(self, why: DocuTalkError) -> None:
        """Let no further step begin; the one that is under way is finished. May be called on any thread.

        That nobody knows what was done weighs more than a wish to stop: the rows tell it to the next attempt.
        """
        if self.interrupted is None or (isinstance(why, Unavailable) and not isinstance(self.interrupted, Unavailable)):
            self.interrupted = why

    def go_on(self) -> None:
        """Raise why this attempt is to stop, if it is."""
        if self.interrupted is not None:
            raise self.interrupted

    async def alone(self, step: Coroutine[Any, Any, Result]) -> Result:
        """Do a step that writes, whole and while no other is under way."""

        async def locked() -> Result:
            async with self._step:
                return await step

        return await unbroken(locked())

    async def add_text(self, delta: str) -> None:
        """Take in a piece of the answer: followers here see it now, others within a second."""
        self.go_on()
        if not delta:
            return
        self._channel.text += self._transcript.add_text(storable(delta))
        self._channel.tell()
        if time.monotonic() - self._text_stored_at >= STORE_TEXT_SECONDS:
            await self._write(tuple)

    async def reset(self) -> None:
        """Take back the text of the response that is being made: the provider broke off and is asked again."""
        transcript = self._transcript
        if len(transcript.answer) > transcript.committed:
            transcript.answer = transcript.answer[: transcript.committed]
            self._channel.text, self._channel.text_start = "", transcript.committed
            void = Event("reset", {"offset": transcript.committed})
            await self._write(lambda: [void])

    async def add_response(
        self, response: dict[str, Any], calls: list[dict[str, Any]], *, outputs: dict[str, str]
    ) -> None:
        """Commit a response that calls tools, before any of them runs.

        `calls` are `{call_id, name, arguments}`; `outputs` holds what the earlier calls returned to the model, so that
        calls which never reached a tool, of unknown names say, are told of too.
        """
        self.go_on()
        missing = self._transcript.settle_missing(outputs)
        number = self.next_response
        called = self._transcript.add_response(response, calls)
        await self._write(lambda: [*missing, *called], self._keep(number, response))

    def record(self, scope: Scope, outcome: Outcome) -> None:
        """Write a call's result beside its effect, inside the transaction of the call."""
        event = self._transcript.settle(
            outcome.call_id or "", outcome.result, is_error=outcome.is_error, operation_id=outcome.operation_id
        )
        appended = RunRepository(scope).append(self.run_id, [event], attempt=self._attempt)
        # Followers see only what is committed.
        listen(scope.session, "after_commit", lambda _session: self._recorded.extend(appended.events), once=True)

    def tell(self) -> None:
        """Make the followers see what a call committed."""
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
        """Commit that the run ended without an answer, and why; what was done and said stays."""
        why = told(error)
        await self._end("failed", [Event("error", why)], error=why)

    async def cancel(self) -> None:
        """Commit that the user stopped the run; what was done and said stays."""
        await self._end("cancelled", error=told(RunCancelled()))

    def close(self) -> None:
        """Let followers go on from the database alone."""
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
            # Locked in the order of an accepted or a deleted conversation, so that there is no deadlock: the
            # conversation, its runs, the usage, the numbers.
            conversation = ConversationRepository(scope).get(self._conversation_id, lock=True)
            run = runs.get(self.run_id, lock=True)
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

        # The call that is under way ends first: only then is it known which ones did not run.
        await self._write(lambda: self._transcript.settle_missing(outputs), also, last=last, ending=status)

    async def _write(
        self,
        events: Callable[[], Sequence[Event]],
        also: Write | None = None,
        *,
        last: Callable[[Scope, RunRepository], list[Event]] | None = None,
        ending: EndStatus | None = None,
    ) -> None:
        """Commit the unstored text and then the events, with what `also` and `last` write beside them."""

        async def step() -> None:
            if ending in ("failed", "cancelled") and isinstance(self.interrupted, Unavailable):
                # The call that was under way may or may not have been done: the rows tell it to the next attempt.
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
