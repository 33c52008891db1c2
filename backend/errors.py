"""Expected failures: each has a status, a stable code and a sentence that a person or a model can act on."""

from collections.abc import Mapping
from typing import Any, ClassVar


class DocuTalkError(Exception):
    """A failure that we foresaw; `str(error)` is safe to show to whoever caused it."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(self, sentence: str, *, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.members: dict[str, int | str] = {}
        """Further members of the problem, for programs."""
        self.retry_after = retry_after
        """Seconds after which trying again makes sense, or None."""


def plainly(complaint: Mapping[str, Any], noun: str) -> str:
    """Return pydantic's complaint about a field or an argument as a sentence, which holds nothing of its value."""
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


class FieldProblem:
    """One field of the input that was refused, with the reason."""

    __slots__ = ("field", "message")

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message


class InvalidInput(DocuTalkError):
    """The input was understood and refused."""

    status = 422
    code = "invalid_input"

    def __init__(self, sentence: str, *, problems: tuple[FieldProblem, ...] = ()) -> None:
        super().__init__(sentence)
        self.problems = problems


class Unauthorized(DocuTalkError):
    """There is no valid credential."""

    status = 401
    code = "unauthorized"


class Forbidden(DocuTalkError):
    """The credential is valid and does not reach this far."""

    status = 403
    code = "forbidden"


class NotFound(DocuTalkError):
    """Nothing of the caller's has this name; another user's row does not exist either."""

    status = 404
    code = "not_found"


class Conflict(DocuTalkError):
    """The state does not allow this now."""

    status = 409
    code = "conflict"


class TooManyRequests(DocuTalkError):
    """A limit was reached."""

    status = 429
    code = "too_many_requests"


class Unavailable(DocuTalkError):
    """Something that we depend on is away; trying again later makes sense."""

    status = 503
    code = "unavailable"


class DatabaseUnavailable(Unavailable):
    """The database does not answer."""

    code = "database_unavailable"

    def __init__(self, for_owner: str | None = None) -> None:
        super().__init__("The database does not answer right now. Try again in a few seconds.", retry_after=5)
        self.for_owner = for_owner or str(self)
        """What the owner of the installation can do about it; holds no password, and is not for callers."""


class NotReady(DocuTalkError):
    """The installation cannot serve as it is; the sentence says what its owner has to do."""

    status = 503
    code = "not_ready"
