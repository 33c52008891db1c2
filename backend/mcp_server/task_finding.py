"""Making tasks of what a document says is to be done."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from backend.database import Scope
from backend.documents.actions import Action, find_actions
from backend.documents.models import Document
from backend.documents.repository import DocumentRepository
from backend.documents.schemas import DocumentId
from backend.documents.tools import readable
from backend.errors import InvalidInput
from backend.mcp_server.due_words import split_due
from backend.operations.tool import tool
from backend.plain_text import NUMBER
from backend.tasks.dates import in_words
from backend.tasks.repository import TaskRepository

MOST_TASKS_AT_ONCE = 50
PAGES_AT_ONCE = 20
LONGEST_TITLE = 200

DryRun = Annotated[bool, Field(description="Only list what would be made: true unless told.")]
Numbers = Annotated[
    list[Annotated[int, Field(ge=1, le=100_000), NUMBER]],
    Field(max_length=MOST_TASKS_AT_ONCE, description="Only these, by their numbers in the list; all unless told."),
]


class TaskFound(BaseModel):
    """A task that stands in a document."""

    number: int
    title: str
    due: datetime | None
    due_understood: str | None
    page_number: int | None
    quote: str
    task_id: int | None = Field(description="The task, once it is made.")


class TasksFromDocument(BaseModel):
    """The tasks that stand in a document."""

    document_id: int
    filename: str
    status: Literal["dry_run", "created"]
    tasks: list[TaskFound]
    made_before: int = Field(description="Tasks of this document that were there already, and are not listed.")
    left_out: int = Field(description="Further ones, for another call.")

    def document_ids_read(self) -> list[int]:
        """Return the document whose words this holds."""
        return [self.document_id]


@tool(title="Create tasks from a document", writes=True, returns_documents=True)
def create_tasks_from_document(
    document_id: DocumentId, scope: Scope, dry_run: DryRun = True, only: Numbers | None = None
) -> TasksFromDocument:
    """Find what a document says is to be done, and make tasks of it that keep page and quote.

    Use it when the user wants the action items of a document as tasks: show the dry run, and make them with dry_run
    false only after the user agreed in a new message. None is made twice.
    """
    document = readable(DocumentRepository(scope).get(document_id))
    repository = TaskRepository(scope)
    there = {(task.page_number, task.quote): task.id for task in repository.taken_from(document_id)}
    found = [_task_found(number, action, document, there, scope) for number, action in _actions(document, scope)]
    wanted = _chosen(found, only, document_id) if only else [task for task in found if task.task_id is None]
    shown = wanted[:MOST_TASKS_AT_ONCE]
    for task in shown:
        if not dry_run and task.task_id is None:
            origin = {"document_id": document_id, "page_number": task.page_number, "quote": task.quote}
            task.task_id = repository.add(title=task.title, due=task.due, **origin).id
    return TasksFromDocument(
        document_id=document_id,
        filename=document.filename,
        status="dry_run" if dry_run else "created",
        tasks=shown,
        made_before=len(there),
        left_out=len(wanted) - len(shown),
    )


def _actions(document: Document, scope: Scope) -> list[tuple[int, Action]]:
    repository = DocumentRepository(scope)
    batches = range(1, document.pages_read + 1, PAGES_AT_ONCE)
    pages = (
        page for first in batches for page in repository.pages(document.id, first=first, last=first + PAGES_AT_ONCE - 1)
    )
    return list(enumerate(find_actions(pages), 1))


def _task_found(
    number: int, action: Action, document: Document, there: dict[tuple[int | None, str | None], int], scope: Scope
) -> TaskFound:
    title, due = split_due(action.text, now=scope.now, zone=scope.zone)
    page = action.page if document.has_pages else None
    return TaskFound(
        number=number,
        title=title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 1].rstrip()}…",
        due=due and due.astimezone(scope.zone),
        due_understood=due and in_words(due, scope.zone),
        page_number=page,
        quote=action.quote,
        task_id=there.get((page, action.quote)),
    )


def _chosen(found: list[TaskFound], only: list[int], document_id: int) -> list[TaskFound]:
    """Return the tasks of these numbers.

    Raises:
        InvalidInput: There is no such number.
    """
    if unknown := sorted(set(only) - {task.number for task in found}):
        raise InvalidInput(
            f"Document {document_id} has {len(found)} tasks, and none of number {unknown[0]}. Call "
            "create_tasks_from_document without `only` to see their numbers."
        )
    return [task for task in found if task.number in only]
