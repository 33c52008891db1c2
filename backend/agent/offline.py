"""The offline model: rules in place of a language model, for tasks and documents, openly labeled.

It keeps nothing between calls, but goes through the conversation each time: every clause of a user's message meets
the first row of `RULES` that fits, whose plan is a generator that yields tool calls and is sent their results. Those
that stand in the conversation are taken from it; the first calls without are asked for. Tools' results are only data.
"""

import json
import re
import time
from collections.abc import AsyncIterator, Callable, Generator
from functools import partial
from typing import Any
from uuid import uuid4

from agents.items import ModelResponse, TResponseOutputItem, TResponseStreamEvent
from agents.models.interface import Model
from agents.tool import Tool
from agents.usage import Usage
from anyio.to_thread import run_sync
from openai.types import responses as wire

from backend.agent import offline_patterns as said
from backend.agent.offline_documents import Call, Librarian, Plan, Result, Rule, ruled
from backend.mcp_server.server import QUOTED

Task = dict[str, Any]
Act = Callable[[list[int]], Plan]
Turn = tuple[str, dict[str, Result]]


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
    return data if isinstance(data, dict) else _clean(text)[:500] or "The tool gave no answer."


def _turns(items: list[Any]) -> list[Turn]:
    """Read the conversation: each user's message with the results of the calls that followed it."""
    turns: list[Turn] = [("", {})]
    keys: dict[str, str] = {}
    for item in items:
        kind, call = item.get("type"), str(item.get("call_id"))
        if item.get("role") == "user":
            turns.append((_text(item.get("content")), {}))
        elif kind == "function_call":
            keys[call] = _key(item.get("name"), _data(str(item.get("arguments"))))
            turns[-1][1].setdefault(keys[call], "The tool gave no answer.")
        elif kind == "function_call_output" and call in keys:
            turns[-1][1][keys[call]] = _data(_text(item.get("output")))
    return turns


def _rule(clause: str) -> Rule:
    """Return the plan of the first row that fits, what it acts with, and the match."""
    for words in (clause, said.POLITE.sub("", clause, count=1)):
        for plan, detail, pattern in said.RULES:
            if match := pattern.fullmatch(words):
                return plan, detail, match
    return "say", said.UNSURE, None


def _clauses(text: str) -> list[str]:
    """Cut a message where a new command starts, but neither inside a new task's title nor after "don't"."""
    first, *rest = said.CUT.split(text)
    clauses = [first]
    for cut, piece in zip(rest[::2], rest[1::2], strict=True):
        command = said.NO_VERB if ": " in clauses[-1] else said.COMMAND
        title = not command.match(piece) and _rule(clauses[-1])[0] == "add"
        if (title or said.DONT.match(clauses[-1])) and cut.strip()[-1] not in ".!?;":
            clauses[-1] += cut + piece
        else:
            clauses.append(piece)
    return list(dict.fromkeys(clause.strip(" ,;.!?") for clause in clauses if clause.strip(" ,;.!")))


def _level(words: str) -> str:
    found = re.search("medium|normal|low|no", words.lower())
    return {"normal": "medium", "no": "none"}.get(found[0], found[0]) if found else "high"


def _details(text: str) -> tuple[str, dict[str, Any]]:
    """Take due date, priority and tags off the ends of a text."""
    fields: dict[str, Any] = {}
    while match := next((match for tail in said.TAILS if (match := tail.search(text))), None):
        text, name = text[: match.start()], str(match.lastgroup)
        if name == "tags":
            fields["tags"] = [match[name].lstrip("#"), *fields.get("tags", [])]
        else:
            fields.setdefault(name, _level(match[name]) if name == "priority" else match[name])
    if "due" not in fields and (leading := said.LEADING.match(text)):
        text, fields["due"] = text[leading.end() :], leading["when"]
    return text, fields


def _title(text: str, *, capital: bool = True) -> str:
    """Return a quoted text as it stands, other words with a capital first."""
    text = text.strip(" ,.;:!?-")
    if quoted := said.VERBATIM.fullmatch(text):
        return quoted[2].translate(said.SHOW).strip()
    return (text[:1].upper() + text[1:] if capital else text).translate(said.SHOW)


def _ids(text: str) -> list[int]:
    """Return the numbers of the tasks that a text names; none when it describes a task."""
    words = re.sub(r"#(?=\d)", "task ", re.sub(r"[,&()]", " ", text.lower())).split()
    numbers = said.NUMBERS | {word: int(word) for word in words if re.fullmatch("[0-9]{1,18}", word)}
    if all(word in numbers or word in said.STOP or word in {"number", "no."} for word in words):
        return [numbers[w] for w in words if w in numbers and (w != "one" or "task one" in " ".join(words))]
    return [int(first[1])] if (first := said.TASK_NUMBER.match(" ".join(words))) else []


def _words(text: object) -> list[str]:
    return [w for w in re.findall(r"\w+", str(text).translate(said.SHOW).lower()) if w not in said.STOP]


def _matches(text: str, tasks: list[Task]) -> list[Task]:
    """Return the tasks of that title, else those whose titles have all its words, give or take endings."""

    def has(title: list[str], word: str) -> bool:
        stem = word if len(word) < 5 else word[: max(4, len(word) - 3)]
        return any(token.startswith(stem) or (len(token) > 2 and word.startswith(token)) for token in title)

    words, titles = _words(text), [(task, _words(task.get("title"))) for task in tasks]
    exact = [task for task, title in titles if title == words]
    return exact or [task for task, title in titles if all(has(title, word) for word in words)]


def _told(task: Task, state: str = "") -> str:
    due, rank, tags = task.get("due_understood") or task.get("due"), task.get("priority"), task.get("tags")
    told = [f'ask {task["id"]}: "{_clean(task.get("title"))}"', "completed" if task.get("completed") else state]
    told += [f"due {due}" if due else "", f"{rank} priority" if rank in ("low", "medium", "high") else ""]
    told += [f"#{tag}" for tag in tags] if isinstance(tags, list) else []
    told += [f'with the note "{_clean(task["description"])[:100]}"' if task.get("description") else ""]
    return _clean(", ".join(filter(None, told)))


def _lines(tasks: list[Task]) -> str:
    # Not "3. …": a page that renders Markdown would count such lines anew.
    return "".join(f"\n- T{_told(task)}" for task in tasks)


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
        self.follow: Callable[[str], Plan | None] | None = None

    def hear(self, turn: Turn, tools: set[str] | None = None) -> str | list[Call]:
        """Return the answer to a message, or the calls that it takes first; all may be called without `tools`."""
        if len(turn[0]) > said.LONGEST_MESSAGE:
            return said.TOO_LONG
        words = _clean(said.NEW_LINE.sub("; ", turn[0].strip()).translate(said.STRAIGHT))
        words = said.QUOTES.sub(lambda quoted: quoted[0].translate(said.HIDE), words)
        follow, self.follow = self.follow, None
        if follow and (plan := follow(words.strip(" .!?"))):
            return self._run(plan, turn, tools)
        answers, pending = list[str](), list[Call]()
        clauses = _clauses(words)
        if len(clauses) > said.MOST_CLAUSES:
            return said.TOO_MUCH
        rules = ruled(words, clauses, [_rule(clause) for clause in clauses], self.there)
        plans = {detail or name for _, (name, detail, _) in rules}
        if plans & said.LOST and plans & said.CHANGES:
            return said.PARTLY
        for clause, (name, detail, match) in rules:
            if pending and said.EARLIER.match(clause):
                break
            outcome = detail if name == "say" else self._run(getattr(self, name)(match, detail), turn, tools)
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
            self.follow = None
            found = [(key, task) for key, result in turn[1].items() for task in _tasks(result)]
            writes = [task for key, task in found if key.split()[0] not in said.READS]
            self.named = writes or [task for _, task in found]

    def _run(self, plan: Plan, turn: Turn, tools: set[str] | None) -> str | list[Call]:
        try:
            calls = next(plan)
            while True:
                if tools is not None and not (names := {name for name, _ in calls}) <= tools:
                    return said.MAY_NOT_READ if names <= said.READS else said.MAY_NOT_CHANGE
                if missing := [call for call in calls if _key(*call) not in turn[1]]:
                    return missing
                results = [turn[1][_key(*call)] for call in calls]
                if calls[0][0] == "list_tasks" and isinstance(results[0], str):
                    return results[0]
                calls = plan.send(results)
        except StopIteration as end:
            return str(end.value)

    def _ask(self, question: str, answered: Callable[[str], Plan]) -> str:
        """Leave a question open; a next message that no row fits is its answer."""
        self.follow = lambda words: answered(words) if _rule(words)[1] == said.UNSURE else None
        return question

    def _confirm(self, question: str, act: Act, tasks: list[Task]) -> str:
        self.named, ids = tasks, [task["id"] for task in tasks]
        self.follow = lambda words: act(ids) if said.YES.fullmatch(words) else None
        return f'{question} Say "yes" to go on.{_lines(tasks)}'

    def _each(self, calls: list[Call]) -> Plan:
        tool, results = calls[0][0], (yield calls)
        self.named = [task for result in results for task in _tasks(result)] * (tool != "delete_task")
        lines, state = list[str](), "pending" if tool == "get_task" else ""
        for result in results:
            told = [f"{said.DONE[tool]} t{_told(task, state)}." for task in _tasks(result)]
            lines += told or [said.NO_TASK.sub(said.THERE_IS_NONE, str(result))]
        return "\n".join(lines)

    def _for(self, tool: str, fields: dict[str, Any], ids: list[int]) -> Plan:
        return self._each([(tool, {"task_id": number, **fields}) for number in dict.fromkeys(ids)])

    def _wanted(self, text: str) -> Generator[list[Call], list[Result], tuple[list[Task], str, bool]]:
        """List the tasks that a text asks for, with words for what was asked and whether there are more."""
        found = {name: match[1] for name, row in said.FILTERS.items() if (match := row.search(text))}
        wanted = {"status": next((status for status in ("pending", "completed") if status in found), "all")}
        if "due_before" in found and "completed" not in found:
            wanted |= {"status": "pending", "due_before": said.LATE.sub("now", found["due_before"])}
        wanted |= {name: _title(found[name], capital=False) for name in ("tag", "query") if name in found}
        level = _level(found["rank"]) if "rank" in found else ""
        (page,) = yield [("list_tasks", wanted)]
        due = wanted.get("due_before", "")
        told = ["overdue" if due == "now" else wanted["status"].replace("all", ""), f"{level}-priority" * bool(level)]
        told += ["tasks", f"due by {due}" if due not in {"", "now"} else ""]
        told += [f'{said.ASKED[name]} "{wanted[name]}"' for name in said.ASKED if name in wanted]
        tasks = [task for task in _tasks(page) if level in ("", task.get("priority"))]
        return tasks, " ".join(filter(None, told)), isinstance(page, dict) and bool(page.get("next_cursor"))

    def _on(self, text: str, act: Act, among: list[Task] | None = None, *, sure: object = True) -> Plan:
        """Act on the tasks that a text means: by number, by "it" and the like, or by title."""
        text = said.OFF_LIST.sub("", text).strip()
        known = among or self.named
        ids = [task["id"] for task in known] if said.THEM.fullmatch(text) else _ids(text)
        if said.UNLESS.match(text):
            return said.UNLIKE
        if ids and (not among or {*ids} <= {task["id"] for task in among}):
            return (yield from act(ids))
        if nth := said.NTH_ONE.fullmatch(text):
            found = known[said.NTHS[nth[1].lower()] :][:1]
        elif among or not _words(text) or said.IT.fullmatch(text):
            found = known if said.IT.fullmatch(text) else _matches(text, known)
        else:
            for wanted in ({"query": max(_words(text), key=len)}, {}):
                (page,) = yield [("list_tasks", wanted)]
                if found := _matches(text, _tasks(page)):
                    break
            else:
                return f'No task of yours matches "{_title(text, capital=False)}".'
            if not sure and len(found) == 1 and _words(found[0].get("title")) != _words(text):
                return self._confirm("Do you mean this task?", act, found)
        if len(found) == 1:
            return (yield from act([found[0]["id"]]))
        question = f"Which of these do you mean?{_lines(found)}" if found else said.WHICH
        return self._ask(question, lambda words: self._on(words, act, found or among))

    def act(self, match: re.Match[str], tool: str) -> Plan:
        """Complete, delete or tell: one, several, or all of a kind; all there are only after a yes."""
        act = partial(self._for, tool, {})
        if not said.EVERY.fullmatch(match["t"]):
            sure = tool != "delete_task" or said.SAYS_TASK.search(match["t"])
            return (yield from self._on(match["t"], act, sure=sure))
        tasks, words, _ = yield from self._wanted(match["t"])
        tasks = [task for task in tasks if tool != "complete_task" or not task.get("completed")]
        if not tasks or words != "tasks":
            return (yield from act([task["id"] for task in tasks])) if tasks else f"You have no {words}."
        these = "all of these" if len(tasks) > 1 else "this"
        return self._confirm(f"Shall I {tool.split('_')[0]} {these}?", act, tasks)

    def add(self, match: re.Match[str], title: str) -> Plan:
        """Add a task, or several; the title may have been asked for."""
        found, calls = match.groupdict(default=""), list[Call]()
        text = ", ".join(filter(None, (said.ON_LIST.sub("", title or found["t"]), *map(found.get, ("rank", "when")))))
        for part in re.split(r",? and |[,;] *", text) if "many" in found else [text]:
            rest, fields = _details(part)
            if title := _title(said.LINK.sub("", rest, count=1)):
                calls.append(("add_task", {"title": title, **fields}))
            elif calls:
                calls[-1][1].update(fields)
        if calls:
            return (yield from self._each(calls))
        return self._ask("What should the task say?", partial(self.add, match))

    def clear(self, match: re.Match[str], _: str) -> Plan:
        """Take a due date, priority or description away."""
        name = said.FIELDS.get(match["field"].lower(), match["field"].lower())
        return self._on(match["t"], partial(self._for, "update_task", {name: "none" if name == "priority" else ""}))

    def change(self, match: re.Match[str], _: str) -> Plan:
        """Change a task's title, due date, priority, description or tags."""
        text, fields = _details(re.sub("^its ", "it ", match["t"]))
        of = said.FIELD_OF.match(text := re.sub("(?i) (?:to )?be$", "", text))
        text, value = text[of.end() :] if of else text, ""
        if split := said.VALUE.fullmatch(text) or (None if fields else said.NUMBER_VALUE.fullmatch(text)):
            text, value = split[1], split[2]
        its = said.ITS_FIELD.search(text)
        text = text[: its.start()] if its else text
        name = (of or its or {"field": "title"})["field"].lower()
        if value and (name == "priority" or re.fullmatch("(?i)high|medium|low|urgent|important", value)):
            fields["priority"] = _level(value)
        elif value and name.startswith("tag"):
            fields["tags"] = [tag.strip("# ") for tag in re.split(",| and ", value)]
        elif value and not (of or its or said.RENAMES.match(match[0]) or said.VERBATIM.fullmatch(value.strip())):
            return said.WHAT
        elif value:
            fields[said.FIELDS.get(name, name)] = _title(value)
        return (yield from self._on(text, partial(self._for, "update_task", fields))) if fields else said.WHAT

    def show(self, match: re.Match[str], _: str) -> Plan:
        """List or count tasks."""
        self.named, words, more = yield from self._wanted(match[0])
        if not self.named:
            return said.NO_TASKS if words == "tasks" else f"You have no {words}."
        lines = "" if re.match("(?i)how many|count", match[0]) else _lines(self.named)
        total = f"You have {'at least ' * more}{len(self.named)} {words.replace('tasks', 'task', len(self.named) == 1)}"
        return f"{total}:{lines}" + "\n\nThere are more; ask for fewer at a time." * more if lines else f"{total}."


def _answer(conversation: str | list[Any], tools: list[Tool]) -> str | list[Call]:
    items = [{"role": "user", "content": conversation}] if isinstance(conversation, str) else conversation
    *earlier, now = _turns(items)
    mind = _Mind({tool.name for tool in tools})
    for turn in earlier[-said.REMEMBERED_TURNS :]:
        mind.recall(turn)
    return mind.hear(now, {tool.name for tool in tools})


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
