"""The types of the rules: calls, results, and plans that make calls."""

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

Result = dict[str, Any] | str
Call = tuple[str, dict[str, Any]]
Plan = Generator[list[Call], list[Result], str]
Fields = dict[str, Any]
"""Arguments of a tool."""
Task = dict[str, Any]
Act = Callable[[list[int]], Plan]
"""A plan for the tasks with these numbers."""
Rule = tuple[str, str, Any]
"""The name of the plan, its detail, and the match it gets."""


class Question(NamedTuple):
    """A question to the user that is still open."""

    words: str
    answered: Callable[[str], Plan | None]
    """Returns the plan for the next message, or None if that is not an answer."""


def says(sentence: str) -> Plan:
    """Return a plan that only says a sentence."""
    yield from ()
    return sentence
