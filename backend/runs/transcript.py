"""What a run has said and done so far, put together from its events."""

from dataclasses import dataclass, field
from typing import Any

from backend.runs.repository import Event

NO_RESULT = "The call did not run."


@dataclass
class Transcript:
    """The answer is the text of all responses in order; what follows the last committed one may still be taken back."""

    answer: str = ""
    committed: int = 0
    """How much of the answer belongs to committed responses, in characters."""
    calls: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The calls by their id, in order; those that ended have a `result`."""
    responses: list[dict[str, Any]] = field(default_factory=list)
    """The committed responses."""

    @classmethod
    def of(cls, events: list[Event], responses: list[dict[str, Any]]) -> "Transcript":
        """Return the transcript up to the last committed step; text of a response that was not committed is void."""
        transcript = cls(responses=[dict(response) for response in responses])
        for event in events:
            transcript._take(event)
        transcript.answer = transcript.answer[: transcript.committed]
        return transcript

    @property
    def usage(self) -> dict[str, int]:
        """How often a model was asked, and the tokens of that."""
        used = [response.get("usage", {}) for response in self.responses]
        return {
            "requests": len(self.responses),
            "input_tokens": sum(int(one.get("input_tokens") or 0) for one in used),
            "output_tokens": sum(int(one.get("output_tokens") or 0) for one in used),
        }

    def add_text(self, delta: str) -> str:
        """Take in a piece of the answer and return it as it is told, set apart from the response before."""
        if self.answer and len(self.answer) == self.committed:
            delta = "\n\n" + delta
        self.answer += delta
        return delta

    def add_response(self, response: dict[str, Any], calls: list[dict[str, Any]]) -> list[Event]:
        """Take in a response that is about to be committed, and return the events of its calls."""
        self.responses.append(response)
        self.committed = len(self.answer)
        self.calls |= {call["call_id"]: call for call in calls}
        return [Event("tool_call", dict(call)) for call in calls]

    def settle(self, call_id: str, result: Any, *, is_error: bool, operation_id: int | None) -> Event:
        """Take in how a call ended, and return its event."""
        outcome = {"result": result, "is_error": is_error, "operation_id": operation_id}
        call = self.calls.setdefault(call_id, {"call_id": call_id})
        call |= outcome
        return Event("tool_result", {"call_id": call_id, "name": call.get("name"), **outcome})

    def settle_missing(self, outputs: dict[str, str] | None = None) -> list[Event]:
        """Settle the calls that never reached a tool, by what the model was told of them."""
        told = outputs or {}
        return [
            self.settle(call_id, {"error": told.get(call_id, NO_RESULT)}, is_error=True, operation_id=None)
            for call_id, call in self.calls.items()
            if "result" not in call
        ]

    def _take(self, event: Event) -> None:
        data = event.data
        match event.kind:
            case "text":
                self.answer = self.answer[: data["offset"]] + data["delta"]
            case "reset":
                self.answer = self.answer[: data["offset"]]
            case "tool_call":
                # It is committed with its response, behind the response's text.
                self.calls[data["call_id"]] = dict(data)
                self.committed = len(self.answer)
            case "tool_result":
                outcome = {name: data[name] for name in ("result", "is_error", "operation_id")}
                self.settle(data["call_id"], **outcome)
