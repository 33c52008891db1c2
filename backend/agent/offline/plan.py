"""What the rules are made of: calls, their results, and plans that make them."""

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

Result = dict[str, Any] | str
Call = tuple[str, dict[str, Any]]
Plan = Generator[list[Call], list[Result], str]
Fields = dict[str, Any]
"""Arguments of a tool."""
Task = dict[str, Any]
Act = Callable[[list[int]], Plan]
"""What is done with the tasks of these numbers."""
Rule = tuple[str, str, Any]
"""The plan, what it acts with, and what it is given."""


class Question(NamedTuple):
    """A question that was left open."""

    words: str
    answered: Callable[[str], Plan | None]
    """Returns what the next message leads to, where it is an answer."""


def says(sentence: str) -> Plan:
    """Return the plan that only says a sentence."""
    yield from ()
    return sentence
