"""Work out what a message asks for, which plans it needs, and which tool calls are still to be made.

`respond` stores no state: each call goes through the whole conversation again. For every clause in a user message, the
first matching row in a table of rules applies. The row names a plan, which is a method of `TaskKeeper`, `Librarian` or
`Undoer`. A plan is a generator that yields tool calls and receives their results. If the conversation already has a
call's result, that result is used. The first calls without a result are returned, and the loop makes them. Text that
tools return is only treated as data.
"""

from typing import Any

from backend.agent.offline import patterns as said
from backend.agent.offline.clauses import asked, clauses_of, hidden, rule_of, without_oops
from backend.agent.offline.conversation import Made, Turn, key_of, turns_of
from backend.agent.offline.documents import Librarian, ruled
from backend.agent.offline.plan import Call, Plan, Question
from backend.agent.offline.tasks import TaskKeeper
from backend.agent.offline.telling import tasks_in
from backend.agent.offline.undoing import Undoer, tasks_left_by


class Mind(Librarian, TaskKeeper, Undoer):
    """Goes through a conversation and answers its last user message."""

    def __init__(self, there: set[str]) -> None:
        """Set the names of the tools that may be called."""
        super().__init__()
        self.there = there
        self.changed: dict[object, int] = {}
        """The tasks that earlier clauses of this turn changed, each with the position of its last change in the
        conversation."""

    def hear(self, turn: Turn, *, is_past: bool = False) -> str | list[Call]:
        """Return the answer to a message, or the calls to make first.

        In a past turn, calls of all tools are allowed, because these calls were already made.
        """
        if len(turn[0]) > said.LONGEST_MESSAGE:
            return said.TOO_LONG
        written = [line for line in turn[0].splitlines() if line.strip()]
        lines = [line for line in map(hidden, written) if line]
        words = "; ".join(lines)
        question, self.open_question = self.open_question, None
        self.changed = {}
        reply = words.strip(" .!?")
        doubts_it = words.endswith("?") and said.NO_ANSWER.fullmatch(reply) is not None
        if question and not doubts_it and (plan := question.answered(said.COURTESY.sub("", reply))):
            return self._run(plan, turn, is_past=is_past)
        if len(lines) > 1 and (plan := self.listed(lines, [bool(said.BULLET.match(line)) for line in written])):
            return self._run(plan, turn, is_past=is_past)
        answers, pending = list[str](), list[Call]()
        clauses = clauses_of(words)
        if len(clauses) > said.MOST_CLAUSES:
            return said.TOO_MUCH
        if question and (said.NO.fullmatch(reply) or rule_of(reply)[0] == "regret"):
            return said.NOTHING_CHANGED
        agreed = question and self._agreed(question, words, clauses)
        if question and not agreed and said.NO_ANSWER.fullmatch(reply):
            self.open_question = question
            return f"{said.NOT_SURE} {question.words}"
        rules = ruled(words, clauses, [asked(rule_of(clause), clause, words) for clause in clauses], self.there)
        rules = without_oops(rules)
        plans = {each for _, (name, detail, _) in rules for each in (name, detail)}
        if plans & said.LOST and plans & said.CHANGES:
            return said.PARTLY
        changing = [name for _, (name, detail, _) in rules if {name, detail} & (said.CHANGES | said.ADDS)]
        if len(changing) > 1 and said.UNDOES & {*changing}:
            return said.UNDO_ALONE
        for clause, (name, detail, match) in rules:
            if pending and said.EARLIER.match(clause):
                break
            if (name, detail) == ("say", said.UNSURE) and len(rules) == 1 and "?" not in words:
                return self.perhaps([clause])
            plan = agreed if agreed and clause == clauses[0] else None
            if plan is None and name != "say":
                plan = getattr(self, name)(match, detail)
            is_read = plan is not agreed and (name == "show" or detail == "get_task")
            outcome = self._run(plan, turn, is_past=is_past, is_read=is_read) if plan else detail
            if isinstance(outcome, str):
                answers.append(outcome)
                continue
            # Reads and writes are not in the same response, and the second of two changes to one task waits for the
            # first.
            ids = [arguments.get("task_id", tool) for tool, arguments in pending]
            mixed = len({tool in said.READS for tool, _ in pending + outcome}) > 1
            if mixed or any(arguments.get("task_id") in ids for _, arguments in outcome):
                break
            pending += [call for call in outcome if call not in pending]
        return pending or "\n\n".join([each for each in answers if each != said.HELLO] or answers) or said.UNSURE

    def recall(self, turn: Turn) -> None:
        """Go through an earlier turn. If its calls do not follow from these rules, use only their results."""
        if isinstance(calls := self.hear(turn, is_past=True), list) or (turn[1] and said.LOST & {*calls.split("\n\n")}):
            self.open_question = None
            found = [
                (key, task)
                for key, made in turn[1].items()
                for task in tasks_in(made[-1][1]) + tasks_left_by(made[-1][1])
            ]
            writes = [task for key, task in found if key.split()[0] not in said.READS]
            self.named = writes or [task for _, task in found]

    def _agreed(self, question: Question, words: str, clauses: list[str]) -> Plan | None:
        """Return the plan for a yes that comes with another request, as in "yes, and also delete task 3".

        Returns None if it is unclear whether the user says yes.
        """
        if not clauses:
            return None
        first, *more = clauses
        goes_on = said.AND_THEN.match(words.lstrip()[len(first) :]) is not None
        is_wish = bool(more) and all(rule_of(clause)[0] != "say" for clause in more)
        is_clear = said.AGREES.match(first) is not None and goes_on and is_wish and not said.UNLESS.match(words)
        return question.answered(first) if is_clear else None

    def _run(self, plan: Plan, turn: Turn, *, is_past: bool, is_read: bool = False) -> str | list[Call]:
        """Return the plan's answer, or the calls whose results the plan still needs."""
        try:
            calls = next(plan)
            while True:
                if not is_past and not (names := {name for name, _ in calls}) <= self.there:
                    return said.MAY_NOT_READ if names <= said.READS else said.MAY_NOT_CHANGE
                made = [self._found(call, turn, is_read=is_read) for call in calls]
                if missing := [call for call, found in zip(calls, made, strict=True) if found is None]:
                    return missing
                found = [each for each in made if each is not None]
                self.changed |= {
                    arguments.get("task_id", tool): place
                    for (tool, arguments), (place, _) in zip(calls, found, strict=True)
                    if tool not in said.READS
                }
                results = [result for _, result in found]
                if calls[0][0] == "list_tasks" and isinstance(results[0], str):
                    return results[0]
                calls = plan.send(results)
        except StopIteration as end:
            return str(end.value)

    def _found(self, call: Call, turn: Turn, *, is_read: bool) -> Made | None:
        """Return a call's position and result, or None if the call was not made yet.

        The result of a read is not used if a later call changed the task. But a plan that changes tasks keeps using the
        list that it read first, because it may have made the later changes itself.
        """
        tool, arguments = call
        since = -1
        if tool == "get_task":
            since = self.changed.get(arguments["task_id"], -1)
        elif tool == "list_tasks" and is_read:
            since = max(self.changed.values(), default=-1)
        return next((made for made in turn[1].get(key_of(*call), []) if made[0] > since), None)


def respond(conversation: str | list[Any], tools: set[str]) -> str | list[Call]:
    """Return the answer to the conversation's last message, or the tool calls to make first.

    `tools` has the names of the tools that may be called.
    """
    items = [{"role": "user", "content": conversation}] if isinstance(conversation, str) else conversation
    *earlier, now = turns_of(items)
    mind = Mind(tools)
    for number, turn in enumerate(earlier):
        if number >= len(earlier) - said.REMEMBERED_TURNS:
            mind.recall(turn)
        mind.changes.add(turn)
    return mind.hear(now)
