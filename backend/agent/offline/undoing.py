"""The plans that undo changes. Only changes that the conversation itself shows are undone, with one exception.

The exception is "undo the last change" in a conversation that has changed nothing: the tool then takes the user's last
change, wherever it was made.
"""

import re
from typing import Any

from backend.agent.offline import patterns as said
from backend.agent.offline import selection
from backend.agent.offline.changes import UNDO, Change, Changes, tasks_of
from backend.agent.offline.details import parts_of, title_of
from backend.agent.offline.plan import Call, Plan, Result, Task, says
from backend.agent.offline.planner import Planner
from backend.agent.offline.telling import described, lines_of

MOST_TURNS = 3
"""How many turns are tried, the newest first, if it turns out that a turn's calls changed nothing."""

# Sentences.
UNDONE, DONE_AGAIN = "Undone", "Done again"
NOTHING_HERE = (
    "Nothing was changed in this conversation that I could undo. If you mean a change made elsewhere, say "
    '"undo the last change".'
)
NO_UNDO_HERE = "There is no undo in this conversation that I could take back, so I changed nothing."
CHANGED_AFTER = (
    'Something else was changed after that undo, so I changed nothing. Say "undo the undo" if you still want to take '
    "it back."
)
NOT_DELETED = "This conversation shows no deletion of {}, so I changed nothing."
NOT_CHANGED = "This conversation shows no change of {} that I could undo, so I changed nothing."
ELSEWHERE = 'If that was your last change, say "undo the last change".'
NEW_TASK = 'For a new task, say "Add a task to …".'
ONLY_COMPLETED = 'Task {0} was completed, not deleted. Say "Reopen task {0}" to open it again.'
TAKE_IT_BACK = 'Do you mean the undo? Say "redo" to take it back'
GO_BACK = ', or "undo the last change" to go one step further back'
WHICH_TASK = "Which of these do you mean?"


class Undoer(Planner):
    """The plans for undoing changes."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = Changes()
        """The changes of the turns before the one that is answered."""
        self.steps_back = True
        """Whether "undo that" said again can only mean one step further back.

        After "bring back the milk task" it could also mean that undo.
        """

    def undo(self, _: re.Match[str], detail: str) -> Plan:
        """Undo what the last turn changed. Said again, it goes one turn further back."""
        changes = self.changes.all()
        if not changes:
            return self._undone([{}], steps_back=True) if detail == "last" else says(NOTHING_HERE)
        if detail != "last" and self.changes.ends_with_undo and not self.steps_back:
            return says(self._which_undo())
        return self._back(changes)

    def undo_kind(self, match: re.Match[str], _: str) -> Plan:
        """Undo changes of one kind, as in "undo the deletion" or "undo the change to task 3"."""
        tools = next(tools for pattern, tools in said.KINDS if pattern.match(match["kind"]))
        text = _named_in(match)
        if text and not said.IT.fullmatch(text) and not said.THEM.fullmatch(text):
            return self._on_named(text, self.changes.all(*tools), NOT_CHANGED)
        found = self.changes.last_turn(*tools)
        if not found:
            return says(self._not_shown(NOT_CHANGED, "that kind", []))
        is_last = found[0].since[0] == self.changes.last_turn()[0].since[0]
        is_only = len({change.since[0] for change in self.changes.all(*tools)}) == 1
        if match["last"] or is_last or is_only:
            return self._undone([{"operation_id": change.id} for change in found])
        return self._choose(self.changes.all(*tools))

    def undo_task(self, match: re.Match[str], _: str) -> Plan:
        """Undo the last change of the tasks that the words name."""
        text = _named_in(match)
        if said.UNLESS.match(text):
            return says(said.UNLIKE)
        if said.DELETED.match(text):
            return self._bring_back(text)
        return self._on_named(text, self.changes.all(), NOT_CHANGED)

    def bring_back(self, match: re.Match[str], _: str) -> Plan:
        """Bring back deleted tasks, if the conversation shows their deletion."""
        text = said.ON_LIST_AGAIN.sub("", _named_in(match)).strip(" ,")
        return says(said.UNLIKE) if said.UNLESS.match(text) else self._bring_back(text)

    def redo(self, _: re.Match[str], detail: str) -> Plan:
        """Take back the last undo. "Redo" is refused if something else was changed since."""
        undos = self.changes.last_undo()
        if not undos:
            return says(NO_UNDO_HERE)
        if detail != "undo" and self.changes.changed_after(undos[0].turn):
            return says(CHANGED_AFTER)
        return self._undone([{"operation_id": undo.id} for undo in undos], DONE_AGAIN, steps_back=True)

    def regret(self, _: re.Match[str], __: str) -> Plan:
        """Ask whether to undo what the last turn changed, because the message only regrets something."""
        if self.changes.ends_with_undo:
            return says(self._which_undo())
        changes = self.changes.last_turn()
        if not changes:
            return says(NOTHING_HERE)
        return says(self._undo_after_yes("Shall I undo that?", changes, steps_back=True))

    def _which_undo(self) -> str:
        return f"{TAKE_IT_BACK}{GO_BACK * bool(self.changes.all())}."

    def _bring_back(self, text: str) -> Plan:
        deletions = self.changes.all("delete_task")
        of_last = [change for change in deletions if change.since[0] == deletions[0].since[0]]
        words = said.DELETED.sub("", said.I_DELETED.sub("", text)).strip()
        are_last = said.THEM.fullmatch(words) or words.lower() == "what"
        wants_all = are_last or said.ALL_DELETED.fullmatch(words)
        if wants_all and deletions:
            if len(of_last) == len(deletions) or are_last:
                return self._undone([{"operation_id": change.id} for change in of_last])
            return says(self._undo_after_yes("Shall I bring back all of these?", deletions))
        is_it = said.IT.fullmatch(words) or said.THE_DELETED.fullmatch(words)
        if is_it or wants_all:
            if not deletions:
                return says(self._not_shown(NOT_DELETED, "a task", self.changes.last_turn("complete_task")))
            is_clear = len(deletions) == 1 or of_last == self.changes.last_turn() or "last" in words.lower()
            if is_clear and len(of_last) == 1:
                return self._undone([{"operation_id": of_last[0].id}])
            return self._choose(of_last if is_clear else deletions)
        if said.NTH_ONE.fullmatch(words) and deletions:
            return self._choose(deletions)
        return self._on_named(words, deletions, NOT_DELETED)

    def _on_named(self, text: str, changes: list[Change], missing: str) -> Plan:
        """Undo the last of these changes for each task that a text names by number or by the words of its title."""
        known = tasks_of(changes)
        tasks = [task for task, _ in known.values()]
        ids = selection.numbers_in(text)
        completed = [
            change
            for change in self.changes.all("complete_task")
            if [task["id"] for task in change.tasks] == ids or selection.matching(text, change.tasks)[0]
        ]
        named = f"task {ids[0]}" if len(ids) == 1 else f'"{title_of(text, capital=False)}"'
        if ids:
            found, is_same = [task for number in ids for task in tasks if task["id"] == number], True
            if len(found) < len(ids):
                return says(self._not_shown(missing, named, completed))
        elif said.IT.fullmatch(text) and len(self.named) == 1:
            return self._on_named(str(self.named[0]["id"]), changes, missing)
        else:
            found, is_same = selection.matching(text, tasks)
        if len(found) > 1 and not ids:
            return self._choose(changes, found)
        if not found:
            parts = [selection.matching(part, tasks) for part in parts_of(text)]
            if len(parts) < 2 or not all(same and len(each) == 1 for each, same in parts):
                return says(self._not_shown(missing, named, completed))
            found, is_same = [each[0] for each, _ in parts], True
        numbers = {known[task["id"]][1].id for task in found}
        chosen = [change for change in changes if change.id in numbers]
        if not is_same or any(len(change.tasks) > 1 for change in chosen):
            # One call can add several tasks, and undoing it removes them all.
            return says(self._undo_after_yes("Do you mean this?", chosen))
        return self._undone([{"operation_id": change.id} for change in chosen])

    def _not_shown(self, missing: str, named: str, completed: list[Change]) -> str:
        """Return the sentence for a change that the conversation does not show.

        If exactly one task was completed that could be meant, the sentence for a deletion says how to reopen it.
        """
        tasks = tasks_of(completed)
        if missing == NOT_DELETED and len(tasks) == 1:
            return ONLY_COMPLETED.format(*tasks)
        parts = [missing.format(named), "" if self.changes.all() else ELSEWHERE]
        return " ".join(filter(None, [*parts, NEW_TASK if missing == NOT_DELETED else ""]))

    def _choose(self, changes: list[Change], tasks: list[Task] | None = None) -> Plan:
        """Ask which task is meant. The next message can answer by number, by title or with "both"."""
        known = tasks_of(changes)
        shown = tasks if tasks is not None else [task for task, _ in reversed(known.values())]
        among = [known[task["id"]][1] for task in shown]

        def answered(words: str) -> Plan | None:
            words = said.BEGINS_WITH_YES.sub("", words)
            if said.THEM.fullmatch(words) or words.lower() in {"all", "all of them", "everything"}:
                return self._undone([{"operation_id": number} for number in dict.fromkeys(one.id for one in among)])
            nth = said.NTH_ONE.fullmatch(words)
            found = shown[said.NTHS[nth[1].lower()] :][:1] if nth else []
            if not found and (ids := selection.numbers_in(words)):
                found = [task for task in shown if task["id"] in ids] if {*ids} <= {t["id"] for t in shown} else []
            elif not found:
                found, _ = selection.matching(words, shown)
                found = found if len(found) == 1 else []
            chosen = dict.fromkeys(known[task["id"]][1].id for task in found)
            return self._undone([{"operation_id": number} for number in chosen]) if chosen else None

        return says(self._leave(f"{WHICH_TASK}{lines_of(shown)}", answered))

    def _undo_after_yes(self, question: str, changes: list[Change], *, steps_back: bool = False) -> str:
        """Ask whether to undo these changes, and show them."""
        yes = said.YES[UNDO, sum(len(change.tasks) for change in changes) == 1]
        lines = "".join(
            f"\n- {said.DONE.get(change.tool, 'Changed')} task {task['id']}: {described({'title': task.get('title')})}"
            for change in reversed(changes)
            for task in change.tasks
        )
        arguments = [{"operation_id": change.id} for change in changes]
        return self._leave(
            f'{question} Say "yes" to go on.{lines}',
            lambda words: self._undone(arguments, steps_back=steps_back) if yes.fullmatch(words) else None,
        )

    def _back(self, changes: list[Change]) -> Plan:
        """Undo the turns of these changes, the newest first, until one of them had changed something."""
        turns = list(dict.fromkeys(change.since[0] for change in changes))[:MOST_TURNS]
        for turn in turns:
            calls: list[Call] = [(UNDO, {"operation_id": change.id}) for change in changes if change.since[0] == turn]
            results = yield calls
            if not all(isinstance(result, str) and said.CHANGED_NOTHING.fullmatch(result) for result in results):
                self.steps_back = True
                return self._report(results, UNDONE)
        return said.NOTHING_TO_UNDO

    def _undone(self, arguments: list[dict[str, Any]], word: str = UNDONE, *, steps_back: bool = False) -> Plan:
        """Call the tool for each of these changes, and report what happened."""
        results = yield [(UNDO, each) for each in arguments]
        self.steps_back = steps_back
        return self._report(results, word)

    def _report(self, results: list[Result], word: str) -> str:
        """Return what the undos did, one line for each row, and each refusal once."""
        lines = list[str]()
        self.named = []
        for result in results:
            if isinstance(result, str):
                if len(results) == 1 or not said.CHANGED_NOTHING.fullmatch(result):
                    lines.append(result)
                continue
            rows = result.get("rows")
            for row in rows if isinstance(rows, list) else []:
                if isinstance(row, dict):
                    lines.append(f"{word}: {_row(row)}")
                    self.named += _tasks_left([row])
        self.named = list({task["id"]: task for task in self.named}.values())
        return "\n".join(dict.fromkeys(lines)) or said.NOTHING_TO_UNDO


def _named_in(match: re.Match[str]) -> str:
    """Return the words that name a task."""
    return next((words for name, words in match.groupdict().items() if name in {"t", "t2"} and words), "").strip()


def tasks_left_by(result: Result) -> list[Task]:
    """Return the tasks that exist after an undo with this result."""
    rows = result.get("rows") if isinstance(result, dict) else None
    return _tasks_left([row for row in rows if isinstance(row, dict)]) if isinstance(rows, list) else []


def _tasks_left(rows: list[dict[str, Any]]) -> list[Task]:
    there = [row for row in rows if row.get("kind") == "task" and row.get("change") != "removed"]
    return [{"id": row["id"], "title": row.get("title")} for row in there if isinstance(row.get("id"), int)]


def _row(row: dict[str, Any]) -> str:
    """Return a row of a result in words, such as 'task 3 “milk” is back.'."""
    title = said.on_one_line(row.get("title") or "")
    named = f"{said.on_one_line(row.get('kind'))} {row.get('id')}" + f" “{title}”" * bool(title)
    return f"{named} {said.UNDONE_ROWS.get(str(row.get('change')), 'was undone')}."
