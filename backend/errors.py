"""Expected failures. Each has an HTTP status, a stable code, a sentence for people, and maybe a hint for models."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar


class DocuTalkError(Exception):
    """An expected failure. `str(error)` is a sentence for the person who caused it, and is safe to show."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(self, sentence: str, *, hint: str = "", retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.hint = hint
        """What a model or a program can do about the failure. It may name tools and API fields, and people never see
        it."""
        self.members: dict[str, int | str] = {}
        """Additional members of the problem+json response, for programs."""
        self.retry_after = retry_after
        """Seconds after which a retry makes sense, or None."""

    @property
    def result(self) -> dict[str, str]:
        """Return the result of a tool call that failed with this error."""
        return {"error": str(self), **({"hint": self.hint} if self.hint else {})}


def for_models(result: Mapping[str, str]) -> str:
    """Return the text that a model gets for a failed call: the sentence for people, and the hint on the next line."""
    return "\n".join(filter(None, (result.get("error"), result.get("hint"))))


def plainly(complaint: Mapping[str, Any], noun: str) -> str:
    """Return a sentence for one of pydantic's errors, without the rejected value. `noun` is "field" or "argument"."""
    limits = complaint.get("ctx", {})
    match complaint["type"]:
        case "string_too_short" | "too_short" if limits.get("min_length") == 1:
            return "This may not be empty."
        case "extra_forbidden":
            return f"This {noun} does not exist."
        case "missing":
            return f"This {noun} is required."
        case "string_unicode":
            return "The text contains characters that are not Unicode."
    return f"{complaint['msg'].removeprefix('Value error, ').rstrip('.')}."


_NOUNS = {
    "due": "due date",
    "tags": "tag",
    "only": "task number",
    "task_id": "task number",
    "document_id": "document number",
    "document_ids": "document number",
    "conversation_id": "conversation number",
    "operation_id": "change number",
    "token_id": "token number",
    "page_number": "page number",
    "passage_id": "passage number",
    "time_zone": "time zone",
    "expires_in_days": "number of days",
}


def for_people(complaints: Iterable[Mapping[str, Any]]) -> str:
    """Return sentences for people about at most three of pydantic's errors, without the API's field names."""
    said = [*dict.fromkeys(map(_for_people, complaints))]
    return " ".join([*said[:3], *(["There are more problems."] if len(said) > 3 else [])])


def _for_people(complaint: Mapping[str, Any]) -> str:
    if complaint["type"] == "extra_forbidden":
        return "The request contains something unknown."
    if complaint["type"] in ("json_invalid", "model_attributes_type", "model_type"):
        return "The request could not be read."
    noun = _noun_of(complaint["loc"])
    limits, given = complaint.get("ctx", {}), complaint.get("input")
    match complaint["type"]:
        case "value_error":
            return f"{noun.capitalize()}: {plainly(complaint, 'value')}"
        case "missing":
            return f"The {noun} is missing."
        case "literal_error" | "enum":
            return f"The {noun} must be one of these: {limits['expected'].replace(' or ', ', ')}."
        case "string_too_long" if isinstance(given, str):
            return f"The {noun} may have at most {limits['max_length']:,} characters; this one has {len(given):,}."
        case "too_long":
            return f"At most {limits['max_length']:,} of these are allowed: {noun}."
        case "string_too_short" | "too_short" if limits.get("min_length") == 1:
            return f"The {noun} may not be empty."
        case "greater_than_equal":
            return f"The {noun} must be at least {limits['ge']:,}."
        case "less_than_equal":
            return f"The {noun} must be at most {limits['le']:,}."
        case "string_unicode":
            return f"The {noun} contains characters that are not Unicode."
    return f"The {noun} is not valid."


def _noun_of(place: Sequence[Any]) -> str:
    """Return an error's field name in words for people. A field name that the caller made up is not repeated."""
    name = next((part for part in reversed(place) if isinstance(part, str)), "")
    return _NOUNS.get(name) or (name if re.fullmatch(r"[a-z]{2,20}", name) and name != "body" else "request")


class FieldProblem:
    """A rejected input field, and the reason."""

    __slots__ = ("field", "message")

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message


class InvalidInput(DocuTalkError):
    """The input is well-formed, but a value in it is not allowed."""

    status = 422
    code = "invalid_input"

    def __init__(self, sentence: str, *, hint: str = "", problems: tuple[FieldProblem, ...] = ()) -> None:
        super().__init__(sentence, hint=hint)
        self.problems = problems


class Unauthorized(DocuTalkError):
    """There is no valid credential."""

    status = 401
    code = "unauthorized"


class Forbidden(DocuTalkError):
    """The credential is valid but does not allow this."""

    status = 403
    code = "forbidden"


class NotFound(DocuTalkError):
    """The caller has no row with this id. A row that belongs to another user does not exist for the caller either."""

    status = 404
    code = "not_found"


class Conflict(DocuTalkError):
    """The current state does not allow this operation."""

    status = 409
    code = "conflict"


class TooManyRequests(DocuTalkError):
    """A limit was reached."""

    status = 429
    code = "too_many_requests"


class Unavailable(DocuTalkError):
    """Something that the service depends on is unavailable. A later retry makes sense."""

    status = 503
    code = "unavailable"


class DatabaseUnavailable(Unavailable):
    """The database does not answer."""

    code = "database_unavailable"

    def __init__(self, for_owner: str | None = None) -> None:
        super().__init__("The database does not answer right now. Try again in a few seconds.", retry_after=5)
        self.for_owner = for_owner or str(self)
        """What the installation's owner can do about the failure. It contains no password, and callers never see it."""


class NotReady(DocuTalkError):
    """The installation cannot serve in its present state. `str(error)` says what its owner must do."""

    status = 503
    code = "not_ready"


class NewerSchema(NotReady):
    """The database's schema is at a revision that this version of the code does not know."""

    def __init__(self) -> None:
        super().__init__(
            "This database was migrated by a newer version of DocuTalk. Update DocuTalk, or restore a backup from "
            "before that migration."
        )
