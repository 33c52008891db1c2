"""The scripted model's answers, whose effects depend only on the request and whose words differ each time.

A real provider that is asked again after a crash also answers in other words. The differing words expose a service that
mixes the texts of two attempts.
"""

import itertools
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from bench.scripted_model import Answer, Request, ToolCall

WORDS = (
    "a",
    "plan",
    "is",
    "made",
    "of",
    "small",
    "steps",
    "each",
    "done",
    "once",
    "in",
    "its",
    "own",
    "time",
    "with",
    "care",
)
_SAID = re.compile(r"([a-z0-9-]+): add (\d+) tasks, (\d+) at once( and list them)?\.")
_STEP = re.compile(r"\S+ step (\d+) asked (\d+):")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a message asks for, so that its effects can be counted."""

    nonce: str
    tasks: int
    at_once: int
    """How many calls each response makes."""
    lists: bool = False
    """Whether the tasks are listed at the end."""

    def __str__(self) -> str:
        return f"{self.nonce}: add {self.tasks} tasks, {self.at_once} at once{' and list them' * self.lists}."

    @classmethod
    def of(cls, message: str) -> Self:
        """Parse a message."""
        found = _SAID.fullmatch(message)
        if found is None:
            raise ValueError(f"Nobody sent this: {message!r}")
        nonce, tasks, at_once, lists = found.groups()
        return cls(nonce, int(tasks), int(at_once), lists is not None)

    @property
    def titles(self) -> list[str]:
        """The titles of the tasks, each made of the nonce and a position."""
        return [f"{self.nonce} {position}" for position in range(1, self.tasks + 1)]

    @property
    def calls(self) -> int:
        """How many calls the whole answer makes."""
        return self.tasks + self.lists

    @property
    def responses(self) -> int:
        """How many responses the whole answer takes; the last one has no calls."""
        return math.ceil(self.tasks / self.at_once) + self.lists + 1

    def is_answered_by(self, answer: str) -> bool:
        """Return whether an answer consists of exactly one whole text for each response, in order."""
        said = answer.split("\n\n")
        steps = [_STEP.match(text) for text in said]
        return len(said) == self.responses and all(
            found is not None and found[1] == str(number) and text == words(self, number, asked=int(found[2]))
            for number, (text, found) in enumerate(zip(said, steps, strict=True), start=1)
        )


def words(wish: Wish, step: int, *, asked: int) -> str:
    """Return the text of a response, given that it is the service's request number `asked`."""
    rng = random.Random(f"{wish.nonce} {step} {asked}")
    return f"{wish.nonce} step {step} asked {asked}: {' '.join(rng.choices(WORDS, k=rng.randint(2, 16)))}."


def answering(*, pace: float) -> Callable[[Request], Answer]:
    """Return the script. A piece of an answer takes `pace` seconds, or half or twice that for some messages."""
    numbers = itertools.count(1)

    def reply(request: Request) -> Answer:
        said = request["messages"]
        last = max(place for place, message in enumerate(said) if message["role"] == "user")
        wish = Wish.of(_text(said[last]["content"]))
        done = sum(message["role"] == "tool" for message in said[last:])
        wait = pace * random.Random(wish.nonce).choice((0.5, 1, 1, 2))
        if done < wish.tasks:
            step = done // wish.at_once + 1
            titles = wish.titles[done : done + wish.at_once]
            wanted = tuple(ToolCall("add_task", {"title": title}, id=f"call_{n}") for n, title in enumerate(titles))
        else:
            step = wish.responses - (done < wish.calls)
            wanted = (ToolCall("list_tasks", {"query": wish.nonce}),) if done < wish.calls else ()
        return Answer(text=words(wish, step, asked=next(numbers)), calls=wanted, wait=wait)

    return reply


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
