"""The types that the rules use: calls, results, and plans that make calls."""

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

Result = dict[str, Any] | str
Call = tuple[str, dict[str, Any]]
Plan = Generator[list[Call], list[Result], str]
Fields = dict[str, Any]
"""A tool's arguments."""
Task = dict[str, Any]
Act = Callable[[list[int]], Plan]
"""Returns a plan for the tasks with the given numbers."""
Rule = tuple[str, str, Any]
"""A plan's name, the detail for the plan, and the pattern's match. The plan gets the match and the detail."""


class Question(NamedTuple):
    """A question to the user that is still open."""

    words: str
    answered: Callable[[str], Plan | None]
    """Returns the plan for the next message, or None if that message is not an answer."""


def says(sentence: str) -> Plan:
    """Return a plan that makes no calls and answers with a sentence."""
    yield from ()
    return sentence
