"""The form that every error answer must have."""

from typing import Any

import httpx


def refused(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """Assert that an answer is a complete problem with a sentence, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]
    problem: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "code"} <= problem.keys()
    assert problem["status"] == status
    assert problem["type"] == f"urn:docutalk:problem:{problem['code']}"
    assert problem["detail"].endswith((".", "…"))
    assert len(problem["detail"]) < 2_000
    assert "Traceback" not in answer.text
    assert "pydantic" not in answer.text
    assert "psycopg" not in answer.text
    if code is not None:
        assert problem["code"] == code
    return problem
