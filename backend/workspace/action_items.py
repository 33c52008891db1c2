"""Create tasks from the action items in a document."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from backend.documents.models import DocumentPage
from backend.documents.repository import DocumentRepository
from backend.documents.schemas import DocumentId
from backend.documents.tools import StillIndexing, readable
from backend.errors import DocuTalkError, InvalidInput
from backend.operations.perform import OpenScope
from backend.operations.tool import PREPARED, tool
from backend.plain_text import NUMBER
from backend.postgres.database import Scope
from backend.tasks.dates import in_words
from backend.tasks.repository import TaskRepository
from backend.workspace.due_words import split_due

MOST_TASKS_AT_ONCE = 50
PAGES_AT_ONCE = 20
LONGEST_TITLE = 200

DryRun = Annotated[bool, Field(description="Only list what would be made; true by default.")]
Numbers = Annotated[
    list[Annotated[int, Field(ge=1, le=100_000), NUMBER]],
    Field(max_length=MOST_TASKS_AT_ONCE, description="Only these, by their numbers in the list; all by default."),
]


class TaskFound(BaseModel):
    """A task found in a document."""

    number: int
    title: str
    due: datetime | None
    due_understood: str | None
    page_number: int | None
    quote: str
    task_id: int | None = Field(description="The task, once it is made.")


class TasksFromDocument(BaseModel):
    """The tasks found in a document."""

    document_id: int
    filename: str
    status: Literal["dry_run", "created"]
    tasks: list[TaskFound]
    made_before: int = Field(description="Tasks of this document that were there already, and are not listed.")
    left_out: int = Field(description="Further ones, for another call.")

    def document_ids_read(self) -> list[int]:
        """Return the id of the document that the tasks were found in."""
        return [self.document_id]


Place = tuple[int | None, str]
"""Where a task was found in its document: the page, if the format has pages, and the quote."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A task found in the document, with all fields that it needs to be created."""

    title: str
    due: datetime | None


@dataclass(frozen=True, slots=True)
class ToDo:
    """All tasks found in a document."""

    places: list[Place]
    """The places of all tasks, in document order. A task's number is its position here, counted from 1."""
    proposals: dict[int, Proposal]
    """The tasks that this call may show, by number."""


def find_to_do(arguments: dict[str, Any], open_scope: OpenScope) -> ToDo | None:
    """Find all tasks in a document, and the due dates of those that the call may show.

    No transaction is open while the text is searched. Returns None if the document cannot be read now; the tool itself
    then raises the reason.
    """
    # Imported here because compiling the module's patterns takes a tenth of a second, which would delay the start.
    from backend.workspace.action_rules import find_actions

    with open_scope() as scope:
        repository = DocumentRepository(scope)
        try:
            document = readable(repository.get(arguments["document_id"]))
        except DocuTalkError:
            return None
        document_id, has_pages, last = document.id, document.has_pages, document.pages_read
        made = _made_before(document_id, scope)
        now, zone = scope.now, scope.zone
    actions = list(find_actions(_pages(document_id, last, open_scope)))
    places: list[Place] = [(action.page if has_pages else None, action.quote) for action in actions]
    numbers = arguments.get("only") or [number for number, place in enumerate(places, 1) if place not in made]
    proposals = {}
    for number in numbers[:MOST_TASKS_AT_ONCE]:
        if number <= len(actions):
            title, due = split_due(actions[number - 1].text, now=now, zone=zone)
            proposals[number] = Proposal(_fitting(title), due and due.astimezone(zone))
    return ToDo(places, proposals)


@tool(title="Create tasks from a document", writes=True, returns_documents=True)
def create_tasks_from_document(
    document_id: DocumentId,
    scope: Scope,
    to_do: Annotated[ToDo | None, PREPARED],
    dry_run: DryRun = True,
    only: Numbers | None = None,
) -> TasksFromDocument:
    """Find the action items in a document, and create tasks from them that keep page and quote.

    Use it when the user wants the action items of a document as tasks: show the dry run first, and set dry_run to false
    only after the user agreed in a new message. No task is created twice.
    """
    # If tasks are created, the document is locked, so that the second of two simultaneous calls sees the tasks of the
    # first.
    document = readable(DocumentRepository(scope).get(document_id, lock=not dry_run))
    if to_do is None:
        # The document became readable only after the preparation ran.
        raise StillIndexing(document)
    made = _made_before(document_id, scope)
    every = dict(enumerate(to_do.places, 1))
    wanted = _chosen(every, only, document_id) if only else [number for number in every if every[number] not in made]
    # Another call may have created or deleted tasks since the preparation ran, so a wanted task may have no proposal.
    # Such a task is left for the next call.
    shown = [number for number in wanted if number in to_do.proposals]
    tasks = []
    for number in shown:
        proposal, (page, quote) = to_do.proposals[number], every[number]
        task_id = made.get((page, quote))
        if not dry_run and task_id is None:
            origin = {"document_id": document_id, "page_number": page, "quote": quote}
            task_id = TaskRepository(scope).add(title=proposal.title, due=proposal.due, **origin).id
        tasks.append(
            TaskFound(
                number=number,
                title=proposal.title,
                due=proposal.due,
                due_understood=proposal.due and in_words(proposal.due, scope.zone),
                page_number=page,
                quote=quote,
                task_id=task_id,
            )
        )
    return TasksFromDocument(
        document_id=document_id,
        filename=document.filename,
        status="dry_run" if dry_run else "created",
        tasks=tasks,
        made_before=len(made),
        left_out=len(wanted) - len(shown),
    )


def _made_before(document_id: int, scope: Scope) -> dict[tuple[int | None, str | None], int]:
    """Return the ids of the tasks that were created from a document, by the place in the document."""
    return {(task.page_number, task.quote): task.id for task in TaskRepository(scope).taken_from(document_id)}


def _pages(document_id: int, last: int, open_scope: OpenScope) -> Iterator[DocumentPage]:
    """Yield a document's pages. No transaction is open while the caller works on a page.

    Reading in several transactions is safe because a document's text never changes.
    """
    for first in range(1, last + 1, PAGES_AT_ONCE):
        with open_scope() as scope:
            pages = DocumentRepository(scope).pages(document_id, first=first, last=first + PAGES_AT_ONCE - 1)
            # Detach the rows, because they are used after the transaction ends.
            scope.session.expunge_all()
        yield from pages


def _fitting(title: str) -> str:
    return title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 1].rstrip()}…"


def _chosen(every: dict[int, Place], only: list[int], document_id: int) -> list[int]:
    """Return the wanted task numbers in order.

    Raises:
        InvalidInput: No task in the document has one of these numbers.
    """
    if unknown := sorted(set(only) - set(every)):
        raise InvalidInput(
            f"Document {document_id} has {len(every)} tasks, so there is no number {unknown[0]}.",
            hint="Call create_tasks_from_document without `only` to see their numbers.",
        )
    return sorted(set(only))
