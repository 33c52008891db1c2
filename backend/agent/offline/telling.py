"""Describe tasks, and errors about them, in words."""

from backend.agent.offline import patterns as said
from backend.agent.offline.plan import Result, Task


def described(task: Task, state: str = "") -> str:
    """Return a task on one line: its title in quotes, then its other fields.

    `state` describes a task that is not completed.
    """
    due, rank, tags = task.get("due_understood") or task.get("due"), task.get("priority"), task.get("tags")
    parts = [f'"{said.on_one_line(task.get("title"))}"', "completed" if task.get("completed") else state]
    parts += [f"due {due}" if due else "", f"{rank} priority" if rank in ("low", "medium", "high") else ""]
    parts += [f"#{tag}" for tag in tags] if isinstance(tags, list) else []
    parts += [f'with the note "{said.on_one_line(task["description"])[:100]}"' if task.get("description") else ""]
    return said.on_one_line(", ".join(filter(None, parts)))


def lines_of(tasks: list[Task]) -> str:
    """Return a list of tasks with their numbers. Each line has one task and begins with a line break."""
    # The lines do not begin with "3. …", because a page that renders Markdown would renumber such lines from 1.
    return "".join(f"\n- Task {task['id']}: {described(task)}" for task in tasks)


def tasks_in(result: Result) -> list[Task]:
    """Return the tasks in a result."""
    rows = result.get("tasks", [result]) if isinstance(result, dict) else None
    dicts = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    named = [row | {"id": row.get("task_id", row.get("id"))} for row in dicts]
    return [row for row in named if isinstance(row["id"], int) and {"filename", "text_left_out"}.isdisjoint(row)]


def refusal(result: Result, number: object) -> str:
    """Return a tool's error about a task, reworded for people if the task does not exist."""
    return said.THERE_IS_NONE.format(number) if said.NO_TASK.fullmatch(str(result)) else str(result)
