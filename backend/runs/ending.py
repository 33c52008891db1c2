"""The end of a run: the assistant's message, the usage, the run's row and its last events, in one transaction."""

from typing import Any, Literal

from backend.conversations.models import Conversation, Message
from backend.conversations.repository import ConversationRepository, MessageRepository
from backend.database import Scope
from backend.errors import DocuTalkError
from backend.identity.accounts import UsageRepository
from backend.runs.models import Run
from backend.runs.repository import Event, RunRepository
from backend.runs.transcript import Transcript

EndStatus = Literal["completed", "failed", "cancelled"]

_SHOWN = ("name", "arguments", "result", "is_error", "operation_id")


class RunCancelled(DocuTalkError):
    """The user stopped the run."""

    status = 200
    code = "run_cancelled"

    def __init__(self) -> None:
        super().__init__("You stopped this answer. What was done until then stays.")


class RunCrashed(DocuTalkError):
    """The run met a defect of ours; the log has it under the run's id."""

    code = "run_crashed"

    def __init__(self) -> None:
        super().__init__(
            "Something went wrong on our side while answering. What was done stays; send the message again."
        )


def told(error: DocuTalkError) -> dict[str, Any]:
    """Return an error as events and rows tell it."""
    return {"code": error.code, "detail": str(error), "status": error.status, "retry_after": error.retry_after}


def end(
    scope: Scope,
    conversation: Conversation,
    run: Run,
    transcript: Transcript,
    *,
    status: EndStatus,
    error: dict[str, Any] | None = None,
) -> Event:
    """Write the end of a run, whose row and whose conversation's are locked, and return the event that tells it."""
    usage = transcript.usage
    if usage["input_tokens"] or usage["output_tokens"]:
        UsageRepository(scope).count_tokens(input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"])
    answer: Message | None = None
    if status == "completed" or transcript.answer or transcript.calls:
        answer = MessageRepository(scope).add(
            conversation_id=run.conversation_id,
            role="assistant",
            content=transcript.answer,
            run_id=run.id,
            tool_calls=list(transcript.calls.values()),
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
    return done(run, answer)


def done(run: Run, answer: Message | None) -> Event:
    """Return the last event of a run that has ended."""
    return Event(
        "done",
        {
            "conversation_id": run.conversation_id,
            "run_id": run.id,
            "message_id": run.answer_id,
            "status": run.status,
            "response": answer.content if answer else "",
            "tool_calls": [{name: call.get(name) for name in _SHOWN} for call in (answer.tool_calls if answer else [])],
            "citations": [],
            "approvals": [],
            "model": run.model,
            "usage": run.usage or {},
            "error": run.error,
        },
    )
