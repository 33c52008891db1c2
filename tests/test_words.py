"""Messages of errors for people mention neither tools nor the API; that is what an error's hint is for."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

BACKEND = Path(__file__).parent.parent / "backend"
NOT_FOR_PEOPLE = re.compile(
    r"[a-z]+_[a-z]+|/api\b|\b(?:GET|POST|PATCH|PUT|DELETE) |`|\bTell the user\b|\bCall \w+_\w+"
    r"|Idempotency|multipart|Content-Type|boundary"
)
SETTINGS = re.compile(r"\b[A-Z]+_[A-Z_]+\b")
FOR_OWNERS = {"NotReady"}
"""Their messages are for the log and for the owner of the service."""


def sentences() -> Iterator[tuple[str, int, str]]:
    """Yield the location and the fixed words of each error message."""
    trees = {path: ast.parse(path.read_text()) for path in sorted(BACKEND.rglob("*.py"))}
    errors = {"DocuTalkError"}
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for _ in classes:
        errors |= {node.name for node in classes if any(getattr(base, "id", "") in errors for base in node.bases)}
    for path, tree in trees.items():
        ours = {
            id(call)
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and node.name in errors
            for call in ast.walk(node)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "__init__"
        }
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and (id(call) in ours or getattr(call.func, "id", "") in errors - FOR_OWNERS):
                for argument in call.args[:1]:
                    words = [part.value for part in ast.walk(argument) if isinstance(part, ast.Constant)]
                    yield str(path.relative_to(BACKEND)), call.lineno, "".join(map(str, words))


@pytest.mark.spec("HTTP-18")
def test_no_sentence_of_an_error_speaks_of_tools_or_of_the_api() -> None:
    found = list(sentences())

    assert len(found) > 50
    assert not [(path, line, words) for path, line, words in found if NOT_FOR_PEOPLE.search(SETTINGS.sub("", words))]
