"""What the tool calls of a conversation changed, and which of these changes still count."""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from backend.agent.offline import patterns as said
from backend.agent.offline.conversation import Turn
from backend.agent.offline.plan import Result, Task
from backend.agent.offline.telling import tasks_in

UNDO = "undo"
"""The name of the tool that undoes changes."""


@dataclass(slots=True)
class Change:
    """A successful call of a tool that writes."""

    id: int
    """The call's `operation_id`."""
    tool: str
    tasks: list[Task]
    turn: int
    """The turn in which the call was made."""
    since: tuple[int, int]
    """The turn, and the position in the conversation, at which the change was made or done again."""
    undoes: list[int] = field(default_factory=list)
    """The changes that this call undid."""
    counts: bool = True
    """Whether the change still counts: it was not undone, and it changed something."""


class Changes:
    """The changes of a conversation, read from the results of its tool calls."""

    def __init__(self) -> None:
        self._all = dict[int, Change]()
        self._turns = 0

    def add(self, turn: Turn) -> None:
        """Read the conversation's next turn."""
        self._turns += 1
        made = [(place, key, result) for key, calls in turn[1].items() for place, result in calls]
        for place, key, result in sorted(made, key=lambda call: call[0]):
            self._add(key, result, place)

    def last_turn(self, *tools: str) -> list[Change]:
        """Return the changes of the last turn that has any, the newest first.

        Undos are left out. With `tools`, only changes by these tools are looked at.
        """
        found = self.all(*tools)
        return [change for change in found if change.since[0] == found[0].since[0]]

    def all(self, *tools: str) -> list[Change]:
        """Return the changes that count, without undos, the newest first. With `tools`, only changes by these tools."""
        return self._sorted(
            change
            for change in self._all.values()
            if change.counts and change.tool != UNDO and (not tools or change.tool in tools)
        )

    def last_undo(self) -> list[Change]:
        """Return the undos of the last turn that has an undo that counts, the newest first.

        An undo that undid another undo is left out.
        """
        undos = [change for change in self._all.values() if change.counts and change.tool == UNDO]
        found = self._sorted(change for change in undos if not any(map(self._is_undo, change.undoes)))
        return [change for change in found if change.since[0] == found[0].since[0]]

    def changed_after(self, turn: int) -> bool:
        """Return whether a turn after this one changed something by other calls than undos."""
        return any(change.tool != UNDO and change.turn > turn for change in self._all.values())

    @property
    def ends_with_undo(self) -> bool:
        """Whether the last call that changed something was an undo. An undo of an undo is not one."""
        newest = max(self._all.values(), key=lambda change: change.turn, default=None)
        return newest is not None and newest.tool == UNDO and not any(map(self._is_undo, newest.undoes))

    def _add(self, key: str, result: Result, place: int) -> None:
        tool = key.split()[0]
        if isinstance(result, str):
            # A change that was undone elsewhere, or that changed nothing, does not count any more.
            if tool == UNDO and said.COUNTS_NO_MORE.fullmatch(result) and (known := self._named_in(key)):
                known.counts = False
            return
        number = result.get("operation_id")
        if not _is_number(number) or result.get("status") == "dry_run" or _arguments_in(key).get("dry_run") is True:
            return
        now = (self._turns, place)
        listed = result.get("undone") if tool == UNDO else None
        undone = [each for each in listed if _is_number(each)] if isinstance(listed, list) else []
        for each in undone:
            # A change that this conversation does not show. It is kept, because a redo makes it count again.
            self._all.setdefault(each, Change(each, "", _tasks_in_rows(result), 0, (0, 0), counts=False))
            self._undo(each, now)
        self._all[number] = Change(number, tool, tasks_in(result), self._turns, now, undone)

    def _undo(self, number: int, now: tuple[int, int]) -> None:
        """Note that a change was undone. If it was an undo, the changes that it had undone count again."""
        change = self._all[number]
        change.counts = False
        for each in change.undoes:
            if (again := self._all.get(each)) is not None:
                again.counts, again.since = True, now

    def _named_in(self, key: str) -> Change | None:
        number = _arguments_in(key).get("operation_id")
        return self._all.get(number) if _is_number(number) else None

    def _is_undo(self, number: int) -> bool:
        return number in self._all and self._all[number].tool == UNDO

    @staticmethod
    def _sorted(changes: Iterable[Change]) -> list[Change]:
        return sorted(changes, key=lambda change: change.since, reverse=True)


def tasks_of(changes: Collection[Change]) -> dict[int, tuple[Task, Change]]:
    """Return each task that these changes name, with the newest of its changes. `changes` has the newest first."""
    found = dict[int, tuple[Task, Change]]()
    for change in changes:
        for task in change.tasks:
            found.setdefault(task["id"], (task, change))
    return found


def _tasks_in_rows(result: dict[str, Any]) -> list[Task]:
    rows = result.get("rows")
    return [
        {"id": row["id"], "title": row.get("title")}
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and row.get("kind") == "task" and _is_number(row.get("id"))
    ]


def _arguments_in(key: str) -> dict[str, Any]:
    try:
        arguments = json.loads(key.partition(" ")[2])
    except ValueError:
        return {}
    return arguments if isinstance(arguments, dict) else {}


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
