"""End a run: in one transaction, write its message, citations, usage, row and last events."""

from collections.abc import Callable
from typing import Any, Literal

import structlog

from backend.conversations.models import Conversation, Message
from backend.conversations.repository import ConversationRepository, MessageRepository
from backend.errors import DocuTalkError
from backend.identity.accounts import UsageRepository
from backend.postgres.database import Scope
from backend.runs.citations import Checked, check, cited_in, passages_in
from backend.runs.models import Run
from backend.runs.repository import Event, RunRepository
from backend.runs.transcript import Transcript

log = structlog.get_logger()

EndStatus = Literal["completed", "failed", "cancelled"]
StillThere = Callable[[Scope, set[int]], set[int]]
"""Returns which of the given document ids belong to documents that the user still has."""

_SHOWN = ("name", "arguments", "result", "is_error", "operation_id")


class RunCancelled(DocuTalkError):
    """The user stopped the run, or deleted its conversation."""

    status = 200
    code = "run_cancelled"

    def __init__(self, why: str = "You stopped this answer.") -> None:
        super().__init__(f"{why} Anything already done is kept.")


class RunCrashed(DocuTalkError):
    """The run failed because of a bug in our code. The log has the error, with the run's id."""

    code = "run_crashed"

    def __init__(self) -> None:
        super().__init__(
            "Something went wrong on our side while answering. Anything already done is kept; send the message again."
        )


def told(error: DocuTalkError) -> dict[str, Any]:
    """Return an error in the form used in events and rows."""
    return {"code": error.code, "detail": str(error), "status": error.status, "retry_after": error.retry_after}


def end(
    scope: Scope,
    conversation: Conversation,
    run: Run,
    transcript: Transcript,
    *,
    status: EndStatus,
    still_there: StillThere,
    error: dict[str, Any] | None = None,
) -> list[Event]:
    """Write the end of a run, and return the run's last events.

    The rows of the run and of its conversation must be locked. If followers already have text with unproven citation
    marks, the last events replace that text, starting at the first such mark.
    """
    checked = _checked(scope, transcript, still_there)
    usage = transcript.usage
    if usage["input_tokens"] or usage["output_tokens"]:
        UsageRepository(scope).count_tokens(input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"])
    answer: Message | None = None
    if status == "completed" or transcript.answer or transcript.calls:
        answer = MessageRepository(scope).add(
            conversation_id=run.conversation_id,
            role="assistant",
            content=checked.text,
            run_id=run.id,
            tool_calls=list(transcript.calls.values()),
            citations=checked.citations,
        )
        ConversationRepository(scope).touch(conversation)
    RunRepository(scope).change(
        run,
        status=status,
        answer_id=answer.id if answer else None,
        error=error,
        usage=usage,
        ended_at=scope.now,
        lease_owner=None,
        lease_until=None,
    )
    citations = [Event("citation", citation) for citation in checked.citations]
    return [*_correction(transcript.answer, checked.text), *citations, done(run, answer)]


def cancel_now(
    scope: Scope, conversation: Conversation, run: Run, *, still_there: StillThere, why: RunCancelled | None = None
) -> None:
    """End a run as cancelled, although no process works on it or its process has not stopped yet.

    The rows of the conversation and of the run must be locked. A process that works on the run can commit nothing more.
    `why` is the reason that the user sees; by default, the user stopped the run.
    """
    runs = RunRepository(scope)
    transcript = Transcript.of(runs.events(run.id, after=0), runs.responses(run.id))
    # Discard text after the last committed step, including text that followers saw live and that was never stored.
    void = [Event("reset", {"offset": transcript.committed})] if run.attempt else []
    missing = transcript.settle_missing()
    attempt = run.attempt
    ended = end(
        scope,
        conversation,
        run,
        transcript,
        status="cancelled",
        still_there=still_there,
        error=told(why or RunCancelled()),
    )
    runs.append(run.id, [*void, *missing, *ended], attempt=attempt, last=True)


def done(run: Run, answer: Message | None) -> Event:
    """Return the event `done` for a run that has ended."""
    return Event(
        "done",
        {
            "conversation_id": run.conversation_id,
            "run_id": run.id,
            "message_id": run.answer_id,
            "status": run.status,
            "response": answer.content if answer else "",
            "tool_calls": [{name: call.get(name) for name in _SHOWN} for call in (answer.tool_calls if answer else [])],
            "citations": answer.citations if answer else [],
            "approvals": [],
            "model": run.model,
            "usage": run.usage or {},
            "error": run.error,
            **noticed(run),
        },
    )


def noticed(run: Run) -> dict[str, Any]:
    """Return the run's `model_notice` as a dict to merge into an event's data, or {} if it has none."""
    return {} if run.model_notice is None else {"model_notice": run.model_notice}


def _checked(scope: Scope, transcript: Transcript, still_there: StillThere) -> Checked:
    """Check the answer's citations against the passages that the run's calls returned.

    A passage counts only if the user still has its document.
    """
    if not (cited := cited_in(transcript.answer)):
        return Checked(transcript.answer, [], 0)
    results = [call["result"] for call in transcript.calls.values() if "result" in call and not call.get("is_error")]
    passages = {number: passage for number, passage in passages_in(results).items() if number in cited}
    there = still_there(scope, {passage.document_id for passage in passages.values()}) if passages else set()
    checked = check(
        transcript.answer, {number: passage for number, passage in passages.items() if passage.document_id in there}
    )
    log.info("citations_checked", proven=len(checked.citations), removed=checked.removed)
    return checked


def _correction(said: str, checked: str) -> list[Event]:
    """Return the events that change the text `said`, which followers already have, into the text `checked`."""
    if said == checked:
        return []
    same = next((place for place, pair in enumerate(zip(said, checked, strict=False)) if pair[0] != pair[1]), None)
    same = min(len(said), len(checked)) if same is None else same
    rest = [Event("text", {"delta": checked[same:], "offset": same})] if checked[same:] else []
    return [Event("reset", {"offset": same}), *rest]
