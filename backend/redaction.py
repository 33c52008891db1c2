"""Erase a deleted document's text from JSON."""

from typing import Any


def without_document(value: Any, document_id: int) -> Any:
    """Return a JSON value with all strings emptied in objects that have this `document_id`. Keys and numbers stay."""
    match value:
        case dict() if value.get("document_id") == document_id:
            return {key: without_text(item) for key, item in value.items()}
        case dict():
            return {key: without_document(item, document_id) for key, item in value.items()}
        case list():
            return [without_document(item, document_id) for item in value]
        case _:
            return value


def without_text(value: Any) -> Any:
    """Return a JSON value with every string emptied. Keys and numbers stay."""
    match value:
        case str():
            return ""
        case dict():
            return {key: without_text(item) for key, item in value.items()}
        case list():
            return [without_text(item) for item in value]
        case _:
            return value
