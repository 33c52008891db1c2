"""The plans for tasks."""

import re
from dataclasses import replace
from functools import partial

from backend.agent.offline import dates, selection
from backend.agent.offline import patterns as said
from backend.agent.offline.clauses import rule_of
from backend.agent.offline.details import details_of, new_task, parts_of, tags_of, target_of, title_of, why
from backend.agent.offline.plan import Act, Call, Fields, Plan, Task, says
from backend.agent.offline.planner import Planner
from backend.agent.offline.telling import described, lines_of, refusal, tasks_in

MOST_AT_ONCE = 100
"""The most tasks that one message may change. Changing more tasks would take more responses than one turn allows."""


class TaskKeeper(Planner):
    """The plans for tasks."""

    def act(self, match: re.Match[str], tool: str) -> Plan:
        """Complete, delete or show tasks: one task, several tasks, or all tasks of a kind."""
        sure = tool != "delete_task" or bool(said.SAYS_TASK.search(match["t"]))
        text = match["t"].strip()
        if not text and len(self.named) == 1:
            text = "it"
        return self._on(text, partial(self._for, tool, {}), tool, sure=sure)

    def reopen(self, match: re.Match[str], _: str) -> Plan:
        """Mark tasks as not done. The answer says which tasks were already open."""
        text = match["t"].strip()
        if not text and len(self.named) == 1:
            text = "it"
        text = "" if said.LAST_COMPLETED.fullmatch(text) else said.WAS_COMPLETED.sub("", text)
        return self._on(text, self._reopened, "reopen_task")

    def _reopened(self, ids: list[int]) -> Plan:
        """Reopen those of the given tasks that are completed, and report the others as already open."""
        ids = list(dict.fromkeys(ids))
        results = yield [("get_task", {"task_id": number}) for number in ids]
        tasks = [task for result in results for task in tasks_in(result)]
        calls: list[Call] = [("reopen_task", {"task_id": task["id"]}) for task in tasks if task.get("completed")]
        reopened = (yield from self._each(calls)) if calls else ""
        lines = [f"Task {task['id']} is not completed: {described(task)}." for task in tasks if not task["completed"]]
        lines += [
            refusal(result, number) for number, result in zip(ids, results, strict=True) if isinstance(result, str)
        ]
        self.named = tasks
        return "\n".join(filter(None, [reopened, *lines]))

    def add(self, match: re.Match[str], _: str) -> Plan:
        """Add one or more tasks."""
        found = match.groupdict(default="")
        if said.A_TASK.search(match[0]):
            return says(said.NOT_NEW)
        text = said.ON_LIST.sub("", found["t"])
        parts = parts_of(text.strip(" :,-")) if "many" in found else [text]
        rank = f", {found['rank']}" if found.get("rank") else ""
        return self._add([part + rank for part in parts]) if parts else says(said.WHICH_PARTS)

    def listed(self, lines: list[str], bulleted: list[bool]) -> Plan | None:
        """Return the plan for a message in which each line is a task, or None for any other message."""
        if said.MANY.fullmatch(lines[0]):
            return self._add(lines[1:]) if len({*bulleted[1:]}) == 1 else says(said.WHICH_PARTS)
        if all(bulleted) and all(rule_of(line)[1] == said.UNSURE for line in lines):
            return says(self.perhaps(lines))
        return None

    def _add(self, texts: list[str], known: Fields | None = None) -> Plan:
        """Add tasks. If a date or repetition in them is not understood, ask first."""
        calls, found, fields = list[Call](), list[dates.Doubt](), dict(known or {})
        for text in texts:
            if said.A_TASK.search(text):
                return said.NOT_NEW
            arguments, doubts = new_task(text)
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
            return self._offer(" ".join([*dict.fromkeys(map(why, unsure)), said.INSTEAD]), calls)
        names = [said.AS_A_NAME.format(re.sub("(?i)^(?:the|an?) ", "", doubt.words)) for doubt in found]
        return " ".join([(yield from self._each(calls)), *names])

    def perhaps(self, texts: list[str]) -> str:
        """Offer to add texts as tasks, if they are a list or have a date. The texts are not commands."""
        read = [new_task(text) for text in texts]
        is_task = len(texts) > 1 or ("due" in read[0][0] and not read[0][1])
        if not is_task or any(not arguments["title"] for arguments, _ in read):
            return said.UNSURE
        if any(said.A_TASK.search(text) for text in texts):
            return said.UNSURE
        unsure = [why(doubt) for _, doubts in read for doubt in doubts if not doubt.is_name]
        return self._offer(
            " ".join([*dict.fromkeys(unsure), said.IS_IT_A_TASK]), [("add_task", new) for new, _ in read]
        )

    def clear(self, match: re.Match[str], _: str) -> Plan:
        """Clear a due date, priority or description."""
        name = said.FIELDS.get(match["field"].lower(), match["field"].lower())
        act = partial(self._for, "update_task", {name: "none" if name == "priority" else ""})
        return self._on(match["t"], act, "update_task")

    def tag(self, match: re.Match[str], _: str) -> Plan:
        """Add tags to a task, and keep the tags that the task already has."""
        tags = [tag.lower() for tag in tags_of(match["tags"])]
        if not tags or any(tag in said.STOP for tag in tags):
            return says(said.WHICH_TAGS)
        return self._on(match["t"], partial(self._tagged, tags, {}), "update_task")

    def _tagged(self, tags: list[str], fields: Fields, ids: list[int]) -> Plan:
        """Update the given tasks, and add the new tags to each task's own tags."""
        results = yield [("get_task", {"task_id": number}) for number in ids]
        calls: list[Call] = []
        for task in (task for result in results for task in tasks_in(result)):
            there = task.get("tags")
            kept = [*map(str, there)] if isinstance(there, list) else []
            calls.append(("update_task", {"task_id": task["id"], **fields, "tags": list(dict.fromkeys(kept + tags))}))
        missing = [
            refusal(result, number) for number, result in zip(ids, results, strict=True) if isinstance(result, str)
        ]
        updated = (yield from self._each(calls)) if calls else ""
        return "\n".join(filter(None, [updated, *missing]))

    def amend(self, match: re.Match[str], field: str) -> Plan:
        """Set a priority or due date, as in "Add high priority to task 1"."""
        value = selection.level_of(match["v"])
        if field == "due" and not (value := dates.whole_due(match["v"])):
            return says(said.NOT_A_DATE.format(said.shown(match["v"])))
        return self._on(match["t"], partial(self._for, "update_task", {field: value}), "update_task")

    def change(self, match: re.Match[str], _: str) -> Plan:
        """Change a task's title, due date, priority, description or tags."""
        text = re.sub("^its ", "it ", match["t"])
        renames = re.match("(?i)rename", match[0]) is not None
        target, name, value = target_of(text, numbered=renames)
        if value.lower() in {"to", "as", "into", "with"}:
            return says(said.WHAT)
        if value and (renames or name in {"title", "description", "tags"}):
            return self._set(target, name or "title", value)
        if value and name in {"", "due"} and (due := dates.whole_due(value)):
            return self._on(said.MOVED.sub("", target), partial(self._for, "update_task", {"due": due}), "update_task")
        return self._change(text, may_rename=said.RENAMES.match(match[0]) is not None)

    def _change(self, text: str, *, may_rename: bool) -> Plan:
        """Change the fields that are named at the end of a text, in any order."""
        text, fields = details_of(text)
        text = said.MOVED.sub("", re.sub("(?i) (?:to )?be$", "", text))
        target, name, value = target_of(text, numbered=not fields)
        dated = dates.doubts(value or ("" if fields else target))
        if value and (name == "priority" or said.LEVEL.fullmatch(value)):
            fields["priority"] = selection.level_of(value)
        elif said.VERBATIM.fullmatch(value.strip()):
            fields["title"] = title_of(value)
        elif value and may_rename and name in {"", "title"}:
            if dated and dated[0].words == value.strip():
                return says(said.NOT_A_DATE.format(said.shown(value)))
            if dated or "due" in fields:
                return says(said.DATE_OR_TITLE.format(said.shown(dated[0].words if dated else fields["due"])))
            if not fields:
                return self._set(target, "title", value)
            fields["title"] = title_of(value)
        elif value:
            return says(said.NOT_A_DATE.format(said.shown(value)) if name == "due" or dated else said.WHAT)
        if not fields:
            return says(said.NOT_A_DATE.format(said.shown(dated[-1].words)) if dated else said.WHAT)
        tags = fields.pop("tags", [])
        act = partial(self._tagged, tags, fields) if tags else partial(self._for, "update_task", fields)
        return self._on(target, act, "update_task")

    def _set(self, target: str, name: str, value: str) -> Plan:
        """Set a title, a description or tags. The value is the rest of the text in the user's own words."""
        if name == "tags":
            return self._on(target, partial(self._for, "update_task", {"tags": tags_of(value)}), "update_task")
        is_sure = selection.numbers_in(target) or said.IT.fullmatch(target) or said.VERBATIM.fullmatch(value.strip())
        if not is_sure and re.search(r"(?i) (?:to|as|into) ", value):
            return says(said.WHICH_TITLE)
        return self._on(target, partial(self._for, "update_task", {name: title_of(value)}), "update_task")

    def show(self, match: re.Match[str], _: str) -> Plan:
        """List or count tasks, or show tasks by their numbers."""
        if ids := selection.numbers_in(said.SHOW_THEM.sub("", match[0], count=1)):
            return (yield from self._for("get_task", {}, ids))
        wanted = selection.wanted(said.MAKES_LIST.sub("", match[0]), is_question=True)
        if wanted.unclear:
            return said.UNCLEAR.format(said.shown(wanted.unclear.strip()))
        if wanted.level or wanted.words:
            tasks, more = yield from self._pages(wanted.filters)
        else:
            (page,) = yield [("list_tasks", wanted.filters)]
            tasks, more = tasks_in(page), isinstance(page, dict) and bool(page.get("next_cursor"))
        self.named, words = [task for task in tasks if wanted.keeps(task)], said.shown(wanted.rendered())
        if not self.named:
            return said.NO_TASKS if wanted.is_all else f"You have no {words}."
        if re.search(r"(?i)\bfirst\b", match[0]):
            self.named.sort(key=_urgency)
        lines = "" if re.match("(?i)how many|count", match[0]) else lines_of(self.named)
        words = words if len(self.named) != 1 else words.replace("tasks", "task", 1)
        total = f"You have {'at least ' * more}{len(self.named)} {words}"
        return f"{total}:{lines}" + "\n\nThere are more; ask for fewer at a time." * more if lines else f"{total}."

    def _on(self, text: str, act: Act, tool: str, among: list[Task] | None = None, *, sure: bool = True) -> Plan:
        """Act on the tasks that a text names: by number, by a word such as "it", by title, or as all tasks of a kind.

        If the text has further words, nothing is done, and the answer says so.
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
            # If only one task was mentioned before, "the first" may mean a different task.
            found = known[said.NTHS[nth[1].lower()] :][:1] if len(known) > 1 else []
        elif said.IT.fullmatch(text) or are_known:
            found = known
        elif among:
            found, _ = selection.matching(text, among)
        elif said.A_TASK.search(text):
            return said.LEFT_OVER.format(said.shown(text))
        elif said.SEVERAL.match(text):
            return (yield from self._on_all(text, act, tool))
        elif not selection.words_of(text):
            found = []
        else:
            return (yield from self._on_title(text, act, tool, sure=sure))
        if len(found) == 1:
            return (yield from act([found[0]["id"]]))
        question = f"Which of these do you mean?{lines_of(found)}" if found else said.WHICH
        return self._ask(question, lambda words: self._on(words, act, tool, found or among))

    def _on_title(self, text: str, act: Act, tool: str, *, sure: bool) -> Plan:
        """Act on the one task whose title has the words of the text. Ask if the user could mean another task."""
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
                return f'No task of yours matches "{title_of(text, capital=False)}".'
            sure = False
        if len(found) > 1:
            return self._ask(
                f"Which of these do you mean?{lines_of(found)}", lambda words: self._on(words, act, tool, found)
            )
        if selection.words_of(found[0].get("title")) != selection.words_of(text) and (
            not sure or (tool == "delete_task" and not same)
        ):
            return self._confirm("Do you mean this task?", act, found, tool)
        return (yield from act([found[0]["id"]]))

    def _on_all(self, text: str, act: Act, tool: str) -> Plan:
        """Act on all tasks of a kind after the user says yes. Only the deletion of all completed tasks needs no yes."""
        wanted = selection.wanted(text)
        if wanted.unclear:
            return said.UNCLEAR.format(said.shown(wanted.unclear.strip()))
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


def _urgency(task: Task) -> tuple[bool, str, int]:
    ranks = ["high", "medium", "low"]
    rank = task.get("priority")
    return not task.get("due"), str(task.get("due") or ""), ranks.index(rank) if rank in ranks else len(ranks)
