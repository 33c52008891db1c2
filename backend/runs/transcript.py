"""A run's text and tool calls so far, built from the run's events."""

from dataclasses import dataclass, field
from typing import Any

from backend.runs.repository import Event

NO_RESULT = "The call did not run."


@dataclass
class Transcript:
    """A run's answer and tool calls so far. The text after the last committed response may later be discarded."""

    answer: str = ""
    committed: int = 0
    """How many characters of the answer belong to committed responses."""
    calls: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The calls by call id, in the order in which the model made them. A finished call has a `result`."""
    responses: list[dict[str, Any]] = field(default_factory=list)
    """The committed responses."""

    @classmethod
    def of(cls, events: list[Event], responses: list[dict[str, Any]]) -> "Transcript":
        """Return the transcript up to the last committed step, without the text of an uncommitted response."""
        transcript = cls(responses=[dict(response) for response in responses])
        for event in events:
            transcript._take(event)
        transcript.answer = transcript.answer[: transcript.committed]
        return transcript

    @property
    def usage(self) -> dict[str, int]:
        """The number of requests to the model, and the number of tokens that they used."""
        used = [response.get("usage", {}) for response in self.responses]
        return {
            "requests": len(self.responses),
            "input_tokens": sum(int(one.get("input_tokens") or 0) for one in used),
            "output_tokens": sum(int(one.get("output_tokens") or 0) for one in used),
        }

    def add_text(self, delta: str) -> str:
        """Add text to the answer, after a blank line if a new response begins; return the added text."""
        if self.answer and len(self.answer) == self.committed:
            delta = "\n\n" + delta
        self.answer += delta
        return delta

    def add_response(self, response: dict[str, Any], calls: list[dict[str, Any]]) -> list[Event]:
        """Add a response that is about to be committed, and return the events for its calls."""
        self.responses.append(response)
        self.committed = len(self.answer)
        self.calls |= {call["call_id"]: call for call in calls}
        return [Event("tool_call", dict(call)) for call in calls]

    def settle(self, call_id: str, result: Any, *, is_error: bool, operation_id: int | None) -> Event:
        """Record how a call ended, and return the event for its result."""
        outcome = {"result": result, "is_error": is_error, "operation_id": operation_id}
        call = self.calls.setdefault(call_id, {"call_id": call_id})
        call |= outcome
        return Event("tool_result", {"call_id": call_id, "name": call.get("name"), **outcome})

    def settle_missing(self, outputs: dict[str, str] | None = None) -> list[Event]:
        """Record the calls that never reached a tool as failed, and return their events.

        `outputs` has the text that the model got for each call instead of a result.
        """
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
                # A call is committed together with its response, so the response's text is committed, too.
                self.calls[data["call_id"]] = dict(data)
                self.committed = len(self.answer)
            case "tool_result":
                outcome = {name: data[name] for name in ("result", "is_error", "operation_id")}
                self.settle(data["call_id"], **outcome)
