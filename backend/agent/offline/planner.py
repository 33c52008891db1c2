"""The steps that all plans share: making calls, reporting their results, and asking questions."""

from collections.abc import Callable, Generator

from backend.agent.offline import patterns as said
from backend.agent.offline.clauses import rule_of
from backend.agent.offline.plan import Act, Call, Fields, Plan, Question, Result, Task
from backend.agent.offline.telling import described, lines_of, refusal, tasks_in

MOST_PAGES = 5
"""The most pages that are read when tasks are listed."""


class Planner:
    """The state of a conversation, and the steps that many plans share."""

    def __init__(self) -> None:
        self.named = list[Task]()
        """The tasks that the conversation mentioned last."""
        self.open_question: Question | None = None
        """The question that the next message may answer."""

    def _leave(self, words: str, answered: Callable[[str], Plan | None]) -> str:
        """Remember an open question, and return the question's words."""
        self.open_question = Question(words, answered)
        return words

    def _ask(self, question: str, answered: Callable[[str], Plan]) -> str:
        """Ask a question. The next message is the answer unless it matches a rule."""
        return self._leave(question, lambda words: answered(words) if rule_of(words)[1] == said.UNSURE else None)

    def _confirm(self, question: str, act: Act, tasks: list[Task], tool: str) -> str:
        """Ask before changing tasks. If the user answers with a yes or the tool's own verb, `act` runs."""
        self.named, ids = tasks, [task["id"] for task in tasks]
        yes = said.YES[tool, len(ids) == 1]
        return self._leave(
            f'{question} Say "yes" to go on.{lines_of(tasks)}', lambda words: act(ids) if yes.fullmatch(words) else None
        )

    def _offer(self, question: str, calls: list[Call]) -> str:
        """Ask whether to add tasks; `{}` in the question becomes "this task" or "these 3 tasks"."""
        yes = said.YES["add_task", len(calls) == 1]
        these = "this task" if len(calls) == 1 else f"these {len(calls)} tasks"
        shown = question.replace("{}", these) + "".join(f"\n- {described(arguments)}" for _, arguments in calls)
        return self._leave(shown, lambda words: self._each(calls) if yes.fullmatch(words) else None)

    def _each(self, calls: list[Call]) -> Plan:
        """Make several calls to one tool, and report the result of each call."""
        tool, results = calls[0][0], (yield calls)
        self.named = [task for result in results for task in tasks_in(result)] * (tool != "delete_task")
        lines, state = list[str](), "pending" if tool == "get_task" else ""
        for (_, arguments), result in zip(calls, results, strict=True):
            told = [f"{said.DONE[tool]} task {task['id']}: {described(task, state)}." for task in tasks_in(result)]
            lines += told or [refusal(result, arguments.get("task_id"))]
        return "\n".join(lines)

    def _for(self, tool: str, fields: Fields, ids: list[int]) -> Plan:
        """Make the same call for each of the given tasks."""
        return self._each([(tool, {"task_id": number, **fields}) for number in dict.fromkeys(ids)])

    def _pages(self, filters: Fields) -> Generator[list[Call], list[Result], tuple[list[Task], bool]]:
        """Return the tasks on the first pages, and whether there are more tasks."""
        (page,) = yield [("list_tasks", filters)]
        tasks = tasks_in(page)
        for _ in range(MOST_PAGES - 1):
            cursor = page.get("next_cursor") if isinstance(page, dict) else None
            if not cursor:
                return tasks, False
            (page,) = yield [("list_tasks", {**filters, "limit": 100, "cursor": str(cursor)})]
            tasks += tasks_in(page)
        return tasks, isinstance(page, dict) and bool(page.get("next_cursor"))
