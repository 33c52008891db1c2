"""The offline model: rules in place of a language model, for tasks and documents, openly labeled.

It keeps nothing between calls, but goes through the conversation each time: every clause of a user's message meets
the first row of `RULES` that fits, whose plan is a generator that yields tool calls and is sent their results. Those
that stand in the conversation are taken from it; the first calls without are asked for. Tools' results are only data.
"""

import json
import re
import time
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import replace
from functools import partial
from itertools import dropwhile
from typing import Any
from uuid import uuid4

from agents.items import ModelResponse, TResponseOutputItem, TResponseStreamEvent
from agents.models.interface import Model
from agents.tool import Tool
from agents.usage import Usage
from anyio.to_thread import run_sync
from openai.types import responses as wire

from backend.agent.offline import dates, selection
from backend.agent.offline import patterns as said
from backend.agent.offline.documents import Call, Librarian, Plan, Question, Result, Rule, ruled
from backend.mcp_server.server import QUOTED

Fields = dict[str, Any]
Task = dict[str, Any]
Act = Callable[[list[int]], Plan]
Made = tuple[int, Result]
"""When in the conversation a call was made, and its result."""
Turn = tuple[str, dict[str, list[Made]]]
MOST_AT_ONCE = 100
"""Tasks that one message may change; more would not fit into the responses of one turn."""
MOST_PAGES = 5
"""Pages of tasks that are looked through."""


def _key(name: object, arguments: object) -> str:
    return f"{name} {json.dumps(arguments, sort_keys=True)}"


def _clean(text: object) -> str:
    return said.BLANK.sub(" ", str(text)).strip()


def _text(content: object) -> str:
    parts = content if isinstance(content, list) else [content]
    return " ".join(str((part.get("text") if isinstance(part, dict) else part) or "") for part in parts)


def _data(text: str) -> Result:
    """Return the JSON object; other text is a sentence, a tool's error."""
    try:
        data = json.loads(text.removeprefix(QUOTED))
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict):
        return data
    # What follows the first line is a hint for models.
    return _clean(text.strip().partition("\n")[0])[:500] or "The tool gave no answer."


def _turns(items: list[Any]) -> list[Turn]:
    """Read the conversation: each user's message with the results of the calls that followed it."""
    turns: list[Turn] = [("", {})]
    calls: dict[str, tuple[list[Made], int]] = {}
    for place, item in enumerate(items):
        kind, call = item.get("type"), str(item.get("call_id"))
        if item.get("role") == "user":
            turns.append((_text(item.get("content")), {}))
        elif kind == "function_call":
            made = turns[-1][1].setdefault(_key(item.get("name"), _data(str(item.get("arguments")))), [])
            calls[call] = made, len(made)
            made.append((place, "The tool gave no answer."))
        elif kind == "function_call_output" and call in calls:
            made, nth = calls[call]
            made[nth] = made[nth][0], _data(_text(item.get("output")))
    return turns


def _rule(clause: str) -> Rule:
    """Return the plan of the first row that fits, what it acts with, and the match."""
    for words in (clause, said.POLITE.sub("", clause, count=1), _with_date_last(clause)):
        for plan, detail, pattern in said.RULES:
            if match := pattern.fullmatch(words):
                return plan, detail, match
    return "say", said.UNSURE, None


def _asked(rule: Rule, clause: str, message: str) -> Rule:
    """Return the rule that shows what "Task 3 is done?" asks about; without the question mark it is a change."""
    _, detail, match = rule
    is_statement = detail in {"complete_task", "reopen_task"} and said.STATES.match(match[0])
    if not is_statement or not re.search(rf"{re.escape(clause)}[\s.!]*\?", message):
        return rule
    is_kind = said.SEVERAL.match(match["t"]) and not selection.numbers_in(match["t"])
    return ("show", "", match) if is_kind else ("act", "get_task", match)


def _without_oops(rules: list[tuple[str, Rule]]) -> list[tuple[str, Rule]]:
    """Leave out "oops" and the like before a wish to reopen, which says what to do about it."""
    rest = list(dropwhile(lambda each: said.OOPS.fullmatch(each[0]), rules))
    return rest if rest and rest[0][1][0] == "reopen" else rules


def _with_date_last(clause: str) -> str:
    """Return "tomorrow remind me to call Ida" as "remind me to call Ida tomorrow"."""
    cut = dates.cut_leading_due(clause)
    return " ".join(cut) if cut else clause


def _hidden(line: str) -> str:
    """Return a line without its bullet, with straight quotes, and with what is quoted hidden from every pattern."""
    words = _clean(said.BULLET.sub("", line, count=1).translate(said.STRAIGHT))
    return said.QUOTES.sub(lambda quoted: quoted[0].translate(said.HIDE), words)


def _clauses(text: str) -> list[str]:
    """Cut a message where a new command starts, but neither inside a new task's title nor after "don't".

    "Extract the action items from a file and add them as tasks" is one wish. A date stays with what it is the date of:
    in "Tomorrow, remind me to call Ida" and in "Add a task to buy tea and remind me tomorrow".
    """
    first, *rest = said.CUT.split(text)
    clauses = [first]
    for cut, piece in zip(rest[::2], rest[1::2], strict=True):
        if cut.strip() == "," and clauses[-1].strip() and dates.is_made_of_dates(clauses[-1]):
            clauses[-1] += cut + piece
            continue
        reminds = said.REMINDS.fullmatch(piece.rstrip(" .!?"))
        if reminds and dates.is_made_of_dates(_details(reminds["when"])[0]) and _rule(clauses[-1])[0] != "show":
            clauses[-1] += f" {reminds['when'].strip()}" if _has_date(reminds["when"]) else cut + piece
            continue
        command = said.NO_VERB if ": " in clauses[-1] else said.COMMAND
        title = not command.match(piece) and _rule(clauses[-1])[0] == "add"
        one_wish = said.EXTRACTS.match(clauses[-1]) and said.AS_TASKS.fullmatch(piece.rstrip(" .!?"))
        if one_wish or ((title or said.DONT.match(clauses[-1])) and cut.strip()[-1] not in ".!?;"):
            clauses[-1] += cut + piece
        else:
            clauses.append(piece)
    cleaned = [said.COURTESY.sub("", clause.strip(" ,;.!?")) for clause in clauses]
    return list(dict.fromkeys(clause for clause in cleaned if clause))


def _parts(text: str) -> list[str]:
    """Return the tasks that a text lists; none where it is not clear where one ends."""
    if ";" in text:
        return text.split(";")
    parts = re.split(r",(?! *\d{4}\b) *", text)
    if len(parts) > 1 and parts[-1].startswith("and "):
        return [*parts[:-1], parts[-1].removeprefix("and ")]
    first, *more = parts[-1].split(" and ", maxsplit=1)
    if not more:
        return parts
    listed = [*parts[:-1], first, *more]
    lengths = [len(part.split()) for part in listed]
    # "Buy mac and cheese" is one task, "milk and eggs" are two.
    are_clear = min(lengths[-2:]) > 1 or max(lengths) == 1
    return listed if are_clear and (len(parts) > 1 or " and " not in more[0]) else []


def _details(text: str) -> tuple[str, Fields]:
    """Take due date, priority and tags off the ends of a text."""
    fields: Fields = {}
    while True:
        if match := next((match for tail in said.TAILS if (match := tail.search(text))), None):
            text, name = text[: match.start()].rstrip(" ,;-\u2013\u2014"), str(match.lastgroup)
            if name == "tags":
                fields["tags"] = [*_tags(match[name]), *fields.get("tags", [])]
            else:
                fields.setdefault("priority", selection.level_of(match["priority"]))
        elif "due" not in fields and (cut := dates.cut_due(text)):
            text, fields["due"] = cut
        else:
            break
    if "due" not in fields and (cut := dates.cut_leading_due(text)):
        text, fields["due"] = cut
    return text, fields


def _tags(words: str) -> list[str]:
    return [word.strip("#") for word in re.split(r"[\s,&]+|\band\b", words) if word.strip("#")]


def _has_date(text: str) -> bool:
    rest, fields = _details(text)
    return "due" in fields or bool(dates.doubts(rest))


def _new_task(text: str) -> tuple[Fields, list[dates.Doubt]]:
    """Return the arguments of add_task as they are best understood, and what in them is doubtful."""
    rest, fields = _details(text)
    rest = said.LINK.sub("", said.ON_LIST.sub("", rest), count=1)
    found = dates.doubts(rest, says_due="due" not in fields)
    unsure = [doubt for doubt in found if not doubt.is_name]
    if len(unsure) == 1 and unsure[0].due and "due" not in fields:
        rest = f"{rest[: unsure[0].start].rstrip(' ,;:(')} {rest[unsure[0].end :].lstrip(' ,;:)')}"
        fields["due"] = unsure[0].due
        rest = said.LINK.sub("", rest, count=1)
    return {"title": _title(rest), **fields}, found


def _why(doubt: dates.Doubt) -> str:
    sentence = said.REPEATED if doubt.repeats else said.PERHAPS_DUE if doubt.due else said.DOUBTFUL
    return sentence.format(_shown(doubt.words))


def _shown(text: str) -> str:
    return text.translate(said.SHOW)


def _title(text: str, *, capital: bool = True) -> str:
    """Return a quoted text as it stands, other words with a capital first."""
    text = text.strip(" ,.;:!?-")
    if quoted := said.VERBATIM.fullmatch(text):
        return _shown(quoted[2]).strip()
    return _shown(text[:1].upper() + text[1:] if capital else text)


def _described(task: Task, state: str = "") -> str:
    due, rank, tags = task.get("due_understood") or task.get("due"), task.get("priority"), task.get("tags")
    parts = [f'"{_clean(task.get("title"))}"', "completed" if task.get("completed") else state]
    parts += [f"due {due}" if due else "", f"{rank} priority" if rank in ("low", "medium", "high") else ""]
    parts += [f"#{tag}" for tag in tags] if isinstance(tags, list) else []
    parts += [f'with the note "{_clean(task["description"])[:100]}"' if task.get("description") else ""]
    return _clean(", ".join(filter(None, parts)))


def _lines(tasks: list[Task]) -> str:
    # Not "3. …": a page that renders Markdown would count such lines from 1.
    return "".join(f"\n- Task {task['id']}: {_described(task)}" for task in tasks)


def _tasks(result: Result) -> list[Task]:
    """Return the tasks that a result names."""
    rows = result.get("tasks", [result]) if isinstance(result, dict) else None
    dicts = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    named = [row | {"id": row.get("task_id", row.get("id"))} for row in dicts]
    return [row for row in named if isinstance(row["id"], int) and {"filename", "text_left_out"}.isdisjoint(row)]


class _Mind(Librarian):
    """What a conversation has come to: the tasks named last and the question that was left open."""

    def __init__(self, there: set[str]) -> None:
        self.there, self.named = there, list[Task]()
        self.open_question: Question | None = None
        self.completed: int | None = None
        """The task that this conversation completed last, unless it was reopened or deleted since."""
        self.changed: dict[object, int] = {}
        """When in this turn the clauses so far last changed each task."""

    def hear(self, turn: Turn, tools: set[str] | None = None) -> str | list[Call]:
        """Return the answer to a message, or the calls that it takes first; all may be called without `tools`."""
        if len(turn[0]) > said.LONGEST_MESSAGE:
            return said.TOO_LONG
        written = [line for line in turn[0].splitlines() if line.strip()]
        lines = [line for line in map(_hidden, written) if line]
        words = "; ".join(lines)
        question, self.open_question = self.open_question, None
        self.changed = {}
        reply = words.strip(" .!?")
        doubts_it = words.endswith("?") and said.NO_ANSWER.fullmatch(reply) is not None
        if question and not doubts_it and (plan := question.answered(said.COURTESY.sub("", reply))):
            return self._run(plan, turn, tools)
        if len(lines) > 1 and (plan := self._listed(lines, [bool(said.BULLET.match(line)) for line in written])):
            return self._run(plan, turn, tools)
        answers, pending = list[str](), list[Call]()
        clauses = _clauses(words)
        if len(clauses) > said.MOST_CLAUSES:
            return said.TOO_MUCH
        if question and said.NO.fullmatch(reply):
            return said.NOTHING_CHANGED
        agreed = question and self._agreed(question, words, clauses)
        if question and not agreed and said.NO_ANSWER.fullmatch(reply):
            self.open_question = question
            return f"{said.NOT_SURE} {question.words}"
        rules = ruled(words, clauses, [_asked(_rule(clause), clause, words) for clause in clauses], self.there)
        rules = _without_oops(rules)
        plans = {each for _, (name, detail, _) in rules for each in (name, detail)}
        if plans & said.LOST and plans & said.CHANGES:
            return said.PARTLY
        for clause, (name, detail, match) in rules:
            if pending and said.EARLIER.match(clause):
                break
            if (name, detail) == ("say", said.UNSURE) and len(rules) == 1 and "?" not in words:
                return self._perhaps([clause])
            plan = agreed if agreed and clause == clauses[0] else None
            if plan is None and name != "say":
                plan = getattr(self, name)(match, detail)
            is_read = plan is not agreed and (name == "show" or detail == "get_task")
            outcome = self._run(plan, turn, tools, is_read=is_read) if plan else detail
            if isinstance(outcome, str):
                answers.append(outcome)
                continue
            # What reads comes after what writes, and of two changes to one task the second waits.
            ids = [arguments.get("task_id", tool) for tool, arguments in pending]
            mixed = len({tool in said.READS for tool, _ in pending + outcome}) > 1
            if mixed or any(arguments.get("task_id") in ids for _, arguments in outcome):
                break
            pending += [call for call in outcome if call not in pending]
        return pending or "\n\n".join([each for each in answers if each != said.HELLO] or answers) or said.UNSURE

    def recall(self, turn: Turn) -> None:
        """Go through an earlier turn; one that went otherwise than by these rules counts by its results."""
        if isinstance(calls := self.hear(turn), list) or (turn[1] and said.LOST & {*calls.split("\n\n")}):
            self.open_question = None
            found = [(key, task) for key, made in turn[1].items() for task in _tasks(made[-1][1])]
            for key, task in found:
                self._note(key.split()[0], task["id"])
            writes = [task for key, task in found if key.split()[0] not in said.READS]
            self.named = writes or [task for _, task in found]

    def _agreed(self, question: Question, words: str, clauses: list[str]) -> Plan | None:
        """Return what the yes leads to in "yes, and also delete task 3"; None where it is not clear."""
        if not clauses:
            return None
        first, *more = clauses
        goes_on = said.AND_THEN.match(words.lstrip()[len(first) :]) is not None
        is_wish = bool(more) and all(_rule(clause)[0] != "say" for clause in more)
        is_clear = said.AGREES.match(first) is not None and goes_on and is_wish and not said.UNLESS.match(words)
        return question.answered(first) if is_clear else None

    def _run(self, plan: Plan, turn: Turn, tools: set[str] | None, *, is_read: bool = False) -> str | list[Call]:
        """Return the plan's answer, or the calls that it lacks the results of."""
        try:
            calls = next(plan)
            while True:
                if tools is not None and not (names := {name for name, _ in calls}) <= tools:
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
        """Return when a call was made and its result; what was read before a change of the task does not count.

        A plan that changes tasks chooses them by the list from before: its own change may stand after that list.
        """
        tool, arguments = call
        since = -1
        if tool == "get_task":
            since = self.changed.get(arguments["task_id"], -1)
        elif tool == "list_tasks" and is_read:
            since = max(self.changed.values(), default=-1)
        return next((made for made in turn[1].get(_key(*call), []) if made[0] > since), None)

    def _ask(self, question: str, answered: Callable[[str], Plan]) -> str:
        """Leave a question open; a next message that no row fits is its answer."""
        return self._leave(question, lambda words: answered(words) if _rule(words)[1] == said.UNSURE else None)

    def _confirm(self, question: str, act: Act, tasks: list[Task], tool: str) -> str:
        self.named, ids = tasks, [task["id"] for task in tasks]
        yes = said.YES[tool, len(ids) == 1]
        return self._leave(
            f'{question} Say "yes" to go on.{_lines(tasks)}', lambda words: act(ids) if yes.fullmatch(words) else None
        )

    def _offer(self, question: str, calls: list[Call]) -> str:
        """Ask whether to add tasks; the question has a place for "this task"."""
        yes = said.YES["add_task", len(calls) == 1]
        these = "this task" if len(calls) == 1 else f"these {len(calls)} tasks"
        shown = question.replace("{}", these) + "".join(f"\n- {_described(arguments)}" for _, arguments in calls)
        return self._leave(shown, lambda words: self._each(calls) if yes.fullmatch(words) else None)

    def _each(self, calls: list[Call]) -> Plan:
        tool, results = calls[0][0], (yield calls)
        self.named = [task for result in results for task in _tasks(result)] * (tool != "delete_task")
        lines, state = list[str](), "pending" if tool == "get_task" else ""
        for (_, arguments), result in zip(calls, results, strict=True):
            for task in _tasks(result):
                self._note(tool, task["id"])
            told = [f"{said.DONE[tool]} task {task['id']}: {_described(task, state)}." for task in _tasks(result)]
            lines += told or [_refusal(result, arguments.get("task_id"))]
        return "\n".join(lines)

    def _note(self, tool: str, task_id: int) -> None:
        if tool == "complete_task":
            self.completed = task_id
        elif tool in {"reopen_task", "delete_task"} and task_id == self.completed:
            self.completed = None

    def _for(self, tool: str, fields: Fields, ids: list[int]) -> Plan:
        return self._each([(tool, {"task_id": number, **fields}) for number in dict.fromkeys(ids)])

    def _tagged(self, tags: list[str], fields: Fields, ids: list[int]) -> Plan:
        """Update tasks, whose tags stay and get others beside them."""
        results = yield [("get_task", {"task_id": number}) for number in ids]
        calls: list[Call] = []
        for task in (task for result in results for task in _tasks(result)):
            there = task.get("tags")
            kept = [*map(str, there)] if isinstance(there, list) else []
            calls.append(("update_task", {"task_id": task["id"], **fields, "tags": list(dict.fromkeys(kept + tags))}))
        missing = [
            _refusal(result, number) for number, result in zip(ids, results, strict=True) if isinstance(result, str)
        ]
        updated = (yield from self._each(calls)) if calls else ""
        return "\n".join(filter(None, [updated, *missing]))

    def _pages(self, filters: Fields) -> Generator[list[Call], list[Result], tuple[list[Task], bool]]:
        """List the tasks of the first pages, and whether there are more."""
        (page,) = yield [("list_tasks", filters)]
        tasks = _tasks(page)
        for _ in range(MOST_PAGES - 1):
            cursor = page.get("next_cursor") if isinstance(page, dict) else None
            if not cursor:
                return tasks, False
            (page,) = yield [("list_tasks", {**filters, "limit": 100, "cursor": str(cursor)})]
            tasks += _tasks(page)
        return tasks, isinstance(page, dict) and bool(page.get("next_cursor"))

    def _on(self, text: str, act: Act, tool: str, among: list[Task] | None = None, *, sure: bool = True) -> Plan:
        """Act on the tasks that a text means: by number, by "it" and the like, by title, or all of a kind.

        What a text names beyond that is never ignored: then nothing is done, and the answer says so.
        """
        text = said.OFF_LIST.sub("", said.HARMLESS.sub("", text)).strip(" ,")
        if among:
            text = said.BEGINS_WITH_YES.sub("", text)
        known = among or self.named
        if said.UNLESS.match(text):
            return said.UNLIKE
        are_known = said.THEM.fullmatch(text) or (among and text.lower() in {"all", "all of them", "everything"})
        ids = [task["id"] for task in known] if are_known else selection.numbers_in(text)
        if ids and (not among or {*ids} <= {task["id"] for task in among}):
            return (yield from act(ids))
        if nth := said.NTH_ONE.fullmatch(text):
            # Of one task that was named, "the first" says nothing: another one may be meant.
            found = known[said.NTHS[nth[1].lower()] :][:1] if len(known) > 1 else []
        elif said.IT.fullmatch(text) or are_known:
            found = known
        elif among:
            found, _ = selection.matching(text, among)
        elif said.A_TASK.search(text):
            return said.LEFT_OVER.format(_shown(text))
        elif said.SEVERAL.match(text):
            return (yield from self._on_all(text, act, tool))
        elif not selection.words_of(text):
            found = []
        else:
            return (yield from self._on_title(text, act, tool, sure=sure))
        if len(found) == 1:
            return (yield from act([found[0]["id"]]))
        question = f"Which of these do you mean?{_lines(found)}" if found else said.WHICH
        return self._ask(question, lambda words: self._on(words, act, tool, found or among))

    def _on_title(self, text: str, act: Act, tool: str, *, sure: bool) -> Plan:
        """Act on the one task whose title has the words; ask where it could be another."""
        tasks: list[Task] = []
        for filters in ({"query": max(selection.words_of(text), key=len)}, {}):
            tasks, more = yield from self._pages(filters)
            if more:
                return said.TOO_MANY
            found, same = selection.matching(text, tasks)
            if found:
                break
        else:
            found, same = selection.matching(selection.without_dates(text), tasks)[0], False
            if not found:
                return f'No task of yours matches "{_title(text, capital=False)}".'
            sure = False
        if len(found) > 1:
            return self._ask(
                f"Which of these do you mean?{_lines(found)}", lambda words: self._on(words, act, tool, found)
            )
        if selection.words_of(found[0].get("title")) != selection.words_of(text) and (
            not sure or (tool == "delete_task" and not same)
        ):
            return self._confirm("Do you mean this task?", act, found, tool)
        return (yield from act([found[0]["id"]]))

    def _on_all(self, text: str, act: Act, tool: str) -> Plan:
        """Act on all tasks of a kind, after a yes; what is completed may be deleted at once."""
        wanted = selection.wanted(text)
        if wanted.unclear:
            return said.UNCLEAR.format(_shown(wanted.unclear.strip()))
        if wanted.filters.get("due_before", "now") != "now":
            return said.BY_DATE
        if wanted.filters["status"] == said.CHANGED_ALREADY.get(tool):
            return said.SO_ALREADY[tool]
        if tool == "reopen_task":
            wanted = replace(wanted, filters={**wanted.filters, "status": "completed"})
        tasks, more = yield from self._pages(wanted.filters)
        tasks = [task for task in tasks if wanted.keeps(task)]
        if tool == "complete_task":
            tasks = [task for task in tasks if not task.get("completed")]
        if not tasks:
            return f"You have no {wanted.rendered()}."
        if more or len(tasks) > MOST_AT_ONCE:
            return said.TOO_MANY
        if tool == "delete_task" and wanted == selection.Wanted(filters={"status": "completed"}):
            return (yield from act([task["id"] for task in tasks]))
        these = "all of these" if len(tasks) > 1 else "this"
        return self._confirm(f"Shall I {said.VERBS[tool]} {these}?", act, tasks, tool)

    def act(self, match: re.Match[str], tool: str) -> Plan:
        """Complete, delete or show: one, several, or all of a kind."""
        sure = tool != "delete_task" or bool(said.SAYS_TASK.search(match["t"]))
        text = match["t"].strip()
        if not text and len(self.named) == 1:
            text = "it"
        return self._on(text, partial(self._for, tool, {}), tool, sure=sure)

    def reopen(self, match: re.Match[str], _: str) -> Plan:
        """Mark tasks as not done; of one that is open the answer says so."""
        text = match["t"].strip()
        if not text and len(self.named) == 1:
            text = "it"
        text = "" if said.LAST_COMPLETED.fullmatch(text) else said.WAS_COMPLETED.sub("", text)
        return self._on(text, self._reopened, "reopen_task")

    def _reopened(self, ids: list[int]) -> Plan:
        ids = list(dict.fromkeys(ids))
        results = yield [("get_task", {"task_id": number}) for number in ids]
        tasks = [task for result in results for task in _tasks(result)]
        calls: list[Call] = [("reopen_task", {"task_id": task["id"]}) for task in tasks if task.get("completed")]
        reopened = (yield from self._each(calls)) if calls else ""
        lines = [f"Task {task['id']} is not completed: {_described(task)}." for task in tasks if not task["completed"]]
        lines += [
            _refusal(result, number) for number, result in zip(ids, results, strict=True) if isinstance(result, str)
        ]
        self.named = tasks
        return "\n".join(filter(None, [reopened, *lines]))

    def add(self, match: re.Match[str], _: str) -> Plan:
        """Add a task, or several."""
        found = match.groupdict(default="")
        if said.A_TASK.search(match[0]):
            return _says(said.NOT_NEW)
        text = said.ON_LIST.sub("", found["t"])
        parts = _parts(text.strip(" :,-")) if "many" in found else [text]
        rank = f", {found['rank']}" if found.get("rank") else ""
        return self._add([part + rank for part in parts]) if parts else _says(said.WHICH_PARTS)

    def _listed(self, lines: list[str], bulleted: list[bool]) -> Plan | None:
        """Return the plan for a message in lines that lists tasks: each line is one, whatever it says."""
        if said.MANY.fullmatch(lines[0]):
            return self._add(lines[1:]) if len({*bulleted[1:]}) == 1 else _says(said.WHICH_PARTS)
        if all(bulleted) and all(_rule(line)[1] == said.UNSURE for line in lines):
            return _says(self._perhaps(lines))
        return None

    def _add(self, texts: list[str], known: Fields | None = None) -> Plan:
        """Add tasks, unless a date or a repetition in one of them is not understood: then ask."""
        calls, found, fields = list[Call](), list[dates.Doubt](), dict(known or {})
        for text in texts:
            if said.A_TASK.search(text):
                return said.NOT_NEW
            arguments, doubts = _new_task(text)
            title = arguments.pop("title")
            found += doubts
            if title:
                calls.append(("add_task", {"title": title, **fields, **arguments}))
            elif calls:
                calls[-1][1].update(arguments)
            else:
                fields |= arguments
        if not calls:
            return self._ask("What should the task say?", lambda words: self._add([words], fields))
        if unsure := [doubt for doubt in found if not doubt.is_name]:
            return self._offer(" ".join([*dict.fromkeys(map(_why, unsure)), said.INSTEAD]), calls)
        names = [said.AS_A_NAME.format(re.sub("(?i)^(?:the|an?) ", "", doubt.words)) for doubt in found]
        return " ".join([(yield from self._each(calls)), *names])

    def _perhaps(self, texts: list[str]) -> str:
        """Offer to add words that are no command as tasks, where they are a list or have a date."""
        read = [_new_task(text) for text in texts]
        is_task = len(texts) > 1 or ("due" in read[0][0] and not read[0][1])
        if not is_task or any(not arguments["title"] for arguments, _ in read):
            return said.UNSURE
        if any(said.A_TASK.search(text) for text in texts):
            return said.UNSURE
        unsure = [_why(doubt) for _, doubts in read for doubt in doubts if not doubt.is_name]
        return self._offer(
            " ".join([*dict.fromkeys(unsure), said.IS_IT_A_TASK]), [("add_task", new) for new, _ in read]
        )

    def clear(self, match: re.Match[str], _: str) -> Plan:
        """Take a due date, priority or description away."""
        name = said.FIELDS.get(match["field"].lower(), match["field"].lower())
        act = partial(self._for, "update_task", {name: "none" if name == "priority" else ""})
        return self._on(match["t"], act, "update_task")

    def tag(self, match: re.Match[str], _: str) -> Plan:
        """Add tags to those that a task has."""
        tags = [tag.lower() for tag in _tags(match["tags"])]
        if not tags or any(tag in said.STOP for tag in tags):
            return _says(said.WHICH_TAGS)
        return self._on(match["t"], partial(self._tagged, tags, {}), "update_task")

    def amend(self, match: re.Match[str], field: str) -> Plan:
        """Give a task a priority or a due date: "Add high priority to task 1"."""
        value = selection.level_of(match["v"])
        if field == "due" and not (value := dates.whole_due(match["v"])):
            return _says(said.NOT_A_DATE.format(_shown(match["v"])))
        return self._on(match["t"], partial(self._for, "update_task", {field: value}), "update_task")

    def change(self, match: re.Match[str], _: str) -> Plan:
        """Change a task's title, due date, priority, description or tags."""
        text = re.sub("^its ", "it ", match["t"])
        renames = re.match("(?i)rename", match[0]) is not None
        target, name, value = _target(text, numbered=renames)
        if value.lower() in {"to", "as", "into", "with"}:
            return _says(said.WHAT)
        if value and (renames or name in {"title", "description", "tags"}):
            return self._set(target, name or "title", value)
        if value and name in {"", "due"} and (due := dates.whole_due(value)):
            return self._on(said.MOVED.sub("", target), partial(self._for, "update_task", {"due": due}), "update_task")
        return self._change(text, may_rename=said.RENAMES.match(match[0]) is not None)

    def _change(self, text: str, *, may_rename: bool) -> Plan:
        """Change what stands at the end of a text, several fields in any order among it."""
        text, fields = _details(text)
        text = said.MOVED.sub("", re.sub("(?i) (?:to )?be$", "", text))
        target, name, value = _target(text, numbered=not fields)
        dated = dates.doubts(value or ("" if fields else target))
        if value and (name == "priority" or said.LEVEL.fullmatch(value)):
            fields["priority"] = selection.level_of(value)
        elif said.VERBATIM.fullmatch(value.strip()):
            fields["title"] = _title(value)
        elif value and may_rename and name in {"", "title"}:
            if dated and dated[0].words == value.strip():
                return _says(said.NOT_A_DATE.format(_shown(value)))
            if dated or "due" in fields:
                return _says(said.DATE_OR_TITLE.format(_shown(dated[0].words if dated else fields["due"])))
            if not fields:
                return self._set(target, "title", value)
            fields["title"] = _title(value)
        elif value:
            return _says(said.NOT_A_DATE.format(_shown(value)) if name == "due" or dated else said.WHAT)
        if not fields:
            return _says(said.NOT_A_DATE.format(_shown(dated[-1].words)) if dated else said.WHAT)
        tags = fields.pop("tags", [])
        act = partial(self._tagged, tags, fields) if tags else partial(self._for, "update_task", fields)
        return self._on(target, act, "update_task")

    def _set(self, target: str, name: str, value: str) -> Plan:
        """Set a field whose value stands in the user's own words up to the end: a title, a description or tags."""
        if name == "tags":
            return self._on(target, partial(self._for, "update_task", {"tags": _tags(value)}), "update_task")
        is_sure = selection.numbers_in(target) or said.IT.fullmatch(target) or said.VERBATIM.fullmatch(value.strip())
        if not is_sure and re.search(r"(?i) (?:to|as|into) ", value):
            return _says(said.WHICH_TITLE)
        return self._on(target, partial(self._for, "update_task", {name: _title(value)}), "update_task")

    def show(self, match: re.Match[str], _: str) -> Plan:
        """List or count tasks, or show some by their numbers."""
        if ids := selection.numbers_in(said.SHOW_THEM.sub("", match[0], count=1)):
            return (yield from self._for("get_task", {}, ids))
        wanted = selection.wanted(said.MAKES_LIST.sub("", match[0]), is_question=True)
        if wanted.unclear:
            return said.UNCLEAR.format(_shown(wanted.unclear.strip()))
        if wanted.level or wanted.words:
            tasks, more = yield from self._pages(wanted.filters)
        else:
            (page,) = yield [("list_tasks", wanted.filters)]
            tasks, more = _tasks(page), isinstance(page, dict) and bool(page.get("next_cursor"))
        self.named, words = [task for task in tasks if wanted.keeps(task)], _shown(wanted.rendered())
        if not self.named:
            return said.NO_TASKS if wanted.is_all else f"You have no {words}."
        if re.search(r"(?i)\bfirst\b", match[0]):
            self.named.sort(key=_urgency)
        lines = "" if re.match("(?i)how many|count", match[0]) else _lines(self.named)
        words = words if len(self.named) != 1 else words.replace("tasks", "task", 1)
        total = f"You have {'at least ' * more}{len(self.named)} {words}"
        return f"{total}:{lines}" + "\n\nThere are more; ask for fewer at a time." * more if lines else f"{total}."


def _refusal(result: Result, number: object) -> str:
    """Return a tool's error about a task, in words for people where there is no such task."""
    return said.THERE_IS_NONE.format(number) if said.NO_TASK.fullmatch(str(result)) else str(result)


def _says(sentence: str) -> Plan:
    """Return the plan that only says a sentence."""
    yield from ()
    return sentence


def _target(text: str, *, numbered: bool) -> tuple[str, str, str]:
    """Return what a change is made to, the field that it names and the value: "task 1", "title" and "Buy tea"."""
    of = said.FIELD_OF.match(text)
    rest = text[of.end() :] if of else text
    split = said.VALUE.fullmatch(rest) or (said.NUMBER_VALUE.fullmatch(rest) if numbered else None)
    target, value = (split[1], split[2]) if split else (rest, "")
    its = None if of else said.ITS_FIELD.search(target)
    return target[: its.start()] if its else target, _field_of(of or its), value


def _field_of(found: re.Match[str] | None) -> str:
    """Return the field that the words name, or nothing."""
    name = found["field"].lower() if found else ""
    return "tags" if name.startswith("tag") else said.FIELDS.get(name, name)


def _urgency(task: Task) -> tuple[bool, str, int]:
    ranks = ["high", "medium", "low"]
    rank = task.get("priority")
    return not task.get("due"), str(task.get("due") or ""), ranks.index(rank) if rank in ranks else len(ranks)


def _answer(conversation: str | list[Any], tools: list[Tool]) -> str | list[Call]:
    items = [{"role": "user", "content": conversation}] if isinstance(conversation, str) else conversation
    *earlier, now = _turns(items)
    mind = _Mind({tool.name for tool in tools})
    for turn in earlier[-said.REMEMBERED_TURNS :]:
        mind.recall(turn)
    answer = mind.hear(now, {tool.name for tool in tools})
    if isinstance(answer, str) and mind.completed is not None:
        named = said.NO_UNDO.replace(said.REOPEN_IT, f'"Reopen task {mind.completed}"')
        return answer.replace(said.NO_UNDO, named)
    return answer


class OfflineModel(Model):
    """The SDK's model interface over the rules; it uses no tokens."""

    async def get_response(
        self, system_instructions: Any, input: Any, model_settings: Any, tools: list[Tool], *_: Any, **__: Any
    ) -> ModelResponse:
        """Return the answer, or the tool calls that it takes first."""
        answer, output = await run_sync(_answer, input, tools), list[TResponseOutputItem]()
        if isinstance(answer, str):
            text = wire.ResponseOutputText(text=answer, type="output_text", annotations=[])
            item = {"id": uuid4().hex, "role": "assistant", "status": "completed", "type": "message"}
            output.append(wire.ResponseOutputMessage.model_validate(item | {"content": [text]}))
        for name, arguments in answer if isinstance(answer, list) else []:
            item = {"call_id": uuid4().hex, "type": "function_call", "name": name, "arguments": json.dumps(arguments)}
            output.append(wire.ResponseFunctionToolCall.model_validate(item))
        return ModelResponse(output=output, usage=Usage(requests=1), response_id=None)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[TResponseStreamEvent]:
        """Do the same in events, with the answer word by word."""
        output = (await self.get_response(*args, **kwargs)).output
        shape = {"id": uuid4().hex, "created_at": time.time(), "model": said.NAME, "object": "response", "output": []}
        shape |= {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
        response = wire.Response.model_validate(shape)
        yield wire.ResponseCreatedEvent(response=response, type="response.created", sequence_number=0)
        number = 0
        for item in output:
            for part in item.content if isinstance(item, wire.ResponseOutputMessage) else []:
                for number, delta in enumerate(re.findall(r"\s*\S+", getattr(part, "text", "")), 1):
                    event = {"content_index": 0, "delta": delta, "item_id": item.id, "logprobs": [], "output_index": 0}
                    event |= {"type": "response.output_text.delta", "sequence_number": number}
                    yield wire.ResponseTextDeltaEvent.model_validate(event)
        usage: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
        usage["input_tokens_details"] = {"cached_tokens": 0, "cache_write_tokens": 0}
        usage["output_tokens_details"] = {"reasoning_tokens": 0}
        done = response.model_copy(update={"output": output, "usage": wire.ResponseUsage.model_validate(usage)})
        yield wire.ResponseCompletedEvent(response=done, type="response.completed", sequence_number=number + 1)
