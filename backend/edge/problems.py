"""Render each of our errors as `application/problem+json` (RFC 9457)."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from backend.errors import DocuTalkError, FieldProblem, InvalidInput, TooManyRequests, Unauthorized, for_people, plainly

log = structlog.get_logger()

TOO_LARGE = "The request is larger than 1 MiB, which is the limit."
_SENTENCES = {
    400: "The request could not be read.",
    404: "There is nothing at this address.",
    405: "This method is not allowed at this address.",
}


class ProblemResponse(JSONResponse):
    """An answer that describes an error."""

    media_type = "application/problem+json"


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    problems: Sequence[FieldProblem] = (),
    hint: str = "",
    headers: dict[str, str] | None = None,
    **more: Any,
) -> ProblemResponse:
    """Return a problem with a stable code, a sentence for people and a hint for programs; `more` adds members."""
    body: dict[str, Any] = {
        "type": f"urn:docutalk:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        **more,
    }
    if hint:
        body["hint"] = hint
    if problems:
        body["errors"] = [{"field": item.field, "message": item.message} for item in problems]
    return ProblemResponse(body, status, headers)


def problem_of(error: DocuTalkError) -> ProblemResponse:
    """Return the problem that describes one of our errors."""
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="docutalk"'
    problems = error.problems if isinstance(error, InvalidInput) else ()
    return problem(
        error.status, error.code, str(error), problems=problems, hint=error.hint, headers=headers, **error.members
    )


def install_problems(app: FastAPI) -> None:
    """Render every expected error as a problem. `EveryRequest` renders crashes."""

    @app.exception_handler(DocuTalkError)
    async def ours(_request: Request, error: DocuTalkError) -> ProblemResponse:
        if error.status >= 500 or isinstance(error, TooManyRequests):
            log.warning("request_refused", code=error.code)
        return problem_of(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> ProblemResponse:
        problems = [_field_problem(item) for item in error.errors()[:10]]
        hint = " ".join(f"{item.field}: {item.message}" for item in problems)
        return problem(422, "invalid_input", for_people(error.errors()), problems=problems, hint=hint)

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: HTTPException) -> ProblemResponse:
        phrase = HTTPStatus(error.status_code).phrase
        code = phrase.lower().replace(" ", "_").replace("-", "_")
        sentence = _SENTENCES.get(error.status_code, f"{phrase}.")
        hint = "GET /docs lists what there is." if error.status_code in (404, 405) else ""
        return problem(error.status_code, code, sentence, hint=hint, headers=dict(error.headers or {}))


def _field_problem(item: Any) -> FieldProblem:
    place = [str(part) for part in item["loc"][1:]]  # The first part only says where, such as in the body.
    match item["type"]:
        case "json_invalid":
            return FieldProblem("body", "The body is not valid JSON.")
        case "model_attributes_type" | "model_type":
            return FieldProblem("body", "Send a JSON object, with the header Content-Type: application/json.")
    return FieldProblem(".".join(place)[:100] or "body", plainly(item, "field"))
