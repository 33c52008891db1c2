"""The repository of documents: their rows, originals, pages and passages."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import TextClause, delete, func, insert, or_, text
from sqlmodel import col, select

from backend.documents.models import Chunk, Document, DocumentBytes, DocumentPage, Postings
from backend.documents.quota import MOST_DOCUMENTS, KeepingRules, NoRoom, TooManyDocuments, in_words
from backend.errors import Conflict, NotFound
from backend.identity.accounts import AccountRepository
from backend.postgres.notifications import notify
from backend.postgres.repository import UserRepository, escaped

SLICE_BYTES = 256 * 1024
"""The size of the slices that an original is stored in. The driver uses about six times this memory for each slice, and
every pooled connection keeps a buffer for the largest slice it ever sent."""

Kept = Literal["new", "retried", "there"]
"""How `keep` stored a file: as a new document, as the retry of a failed document, or not at all because the user has a
document with the same bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """The metadata of a file that will become a document."""

    filename: str
    original_filename: str
    content_type: str
    file_size: int
    sha256: str
    title: str = ""


class DocumentNotFound(NotFound):
    """The user has no such document."""

    def __init__(self, document_id: int) -> None:
        super().__init__(
            f"Document {document_id} does not exist.", hint="Call list_documents to see the user's documents."
        )


class PageNotFound(NotFound):
    """The document has no such page, or the page has not been read yet."""


class PassageNotFound(NotFound):
    """The document has no such passage."""

    def __init__(self, passage_id: int) -> None:
        super().__init__(f"Passage {passage_id} does not exist in this document. It may have been indexed again.")


class CannotComeBack(Conflict):
    """A deleted document cannot be restored."""

    code = "cannot_come_back"


class DocumentRepository(UserRepository[Document]):
    """The user's documents."""

    model = Document

    def get(self, document_id: int, *, lock: bool = False, even_deleted: bool = False) -> Document:
        """Return a document. With `lock`, lock its row until the transaction ends, so that the row can be changed."""
        statement = self._mine().where(Document.id == document_id)
        if not even_deleted:
            statement = statement.where(col(Document.deleted_at).is_(None))
        if lock:
            # Reload the row: the session may hold values from before it waited for the lock.
            statement = statement.with_for_update().execution_options(populate_existing=True)
        document = self._session.exec(statement).one_or_none()
        if document is None:
            raise DocumentNotFound(document_id)
        return document

    def find(self, document_id: int) -> Document | None:
        """Return a document, even a deleted one, with its row locked until the transaction ends; None after a purge."""
        return self._session.exec(self._mine().where(Document.id == document_id).with_for_update()).one_or_none()

    def find_equal(self, sha256: str) -> Document | None:
        """Return the user's document with the same bytes, unless it is deleted."""
        equal = self._mine().where(Document.sha256 == sha256, col(Document.deleted_at).is_(None))
        return self._session.exec(equal).one_or_none()

    def find_deleted(self, document_id: int) -> Document | None:
        """Return a document that is deleted but not purged yet, locked until the transaction ends."""
        deleted = self._mine().where(Document.id == document_id, col(Document.deleted_at).is_not(None))
        return self._session.exec(deleted.with_for_update()).one_or_none()

    def all(
        self, *, query: str | None = None, status: str = "all", before: int | None = None, limit: int
    ) -> list[Document]:
        """Return at most `limit` matching documents with ids below `before`, newest first."""
        statement = self._mine().where(col(Document.deleted_at).is_(None))
        if before is not None:
            statement = statement.where(col(Document.id) < before)
        if status != "all":
            statement = statement.where(Document.status == status)
        for word in (query or "").split()[:10]:
            pattern = f"%{escaped(word)}%"
            statement = statement.where(or_(col(Document.filename).ilike(pattern), col(Document.title).ilike(pattern)))
        return list(self._session.exec(statement.order_by(col(Document.id).desc()).limit(limit)))

    def still_there(self, document_ids: set[int]) -> set[int]:
        """Return the ids of those documents that the user still has and has not deleted."""
        there = self._mine().where(col(Document.id).in_(document_ids), col(Document.deleted_at).is_(None))
        return {document.id for document in self._session.exec(there)}

    def used_bytes(self) -> int:
        """Return the total size in bytes of the user's files that are not purged.

        A file whose original is not kept still counts, because its pages, passages and vectors take room.
        """
        mine = self._mine().subquery()
        return int(self._session.exec(select(func.coalesce(func.sum(mine.c.file_size), 0))).one())

    def keep(self, file: NewFile, slices: Iterable[bytes], rules: KeepingRules) -> tuple[Document, Kept]:
        """Store a file and its bytes, in slices of `SLICE_BYTES`, unless the user already has the same bytes.

        A failed document with the same bytes is retried. The commit notifies every process that there is a document to
        ingest.

        Raises:
            NoRoom: The file exceeds what the user, all guests together, or all users together may store.
            TooManyDocuments: The user already has as many documents as allowed.
        """
        if (equal := self.find_equal(file.sha256)) is None:
            number = self._next("document")
            # Getting the number locks the counter until the commit. If another transaction stored an equal file while
            # this one waited for the lock, that file is visible now.
            if (equal := self.find_equal(file.sha256)) is None:
                self._require_room(file.file_size, rules)
                return self._add(number, file, slices, rules), "new"
        if equal.status == "failed" and (failed := self.get(equal.id, lock=True)).status == "failed":
            return self._retry(failed, slices, rules), "retried"
        return equal, "there"

    def delete(self, document_id: int, *, purge: bool = False) -> Document:
        """Hide a document everywhere at once. Its rows stay until the document is purged.

        With `purge`, also mark the document to be purged early; the document may already be deleted.
        """
        document = self.get(document_id, lock=True, even_deleted=purge)
        document.purge_wanted = document.purge_wanted or purge
        if document.deleted_at is None:
            document.deleted_at = document.updated_at = self._scope.now
            document.cancel_requested = document.ended_at is None
            self._keep(document, "deleted")
        return document

    def restore(self, document_id: int) -> Document:
        """Show a deleted document again, and continue its ingestion if that had not ended.

        Raises:
            DocumentNotFound: The document was purged.
            CannotComeBack: The document is being purged, or the user has the same file again.
        """
        document = self.get(document_id, lock=True, even_deleted=True)
        if document.purge_wanted:
            raise CannotComeBack(f"Document {document_id} is being removed for good, so it cannot come back.")
        # `keep` holds this counter while it stores an equal file.
        self._hold("document")
        if (equal := self.find_equal(document.sha256)) is not None and equal.id != document_id:
            raise CannotComeBack(
                f"You have the same file again, as document {equal.id}, so document {document_id} stays deleted."
            )
        document.deleted_at, document.cancel_requested, document.updated_at = None, False, self._scope.now
        self._keep(document, "restored")
        if document.ended_at is None:
            notify(self._session, "document", str(document_id))
        return document

    def purge_some(self, document_id: int, *, most: int) -> int:
        """Remove at most `most` rows of a deleted document for good. Return the number removed, 0 when no row is left.

        Removing a passage also removes its vectors. The document's own row is removed last.
        """
        for table in ("chunks", "postings", "document_pages", "document_bytes"):
            if count := self._delete_some(table, most=most, document_id=document_id):
                break
        else:
            table, count = "documents", self._delete_some("documents", most=1, id=document_id)
        if count:
            self._written("purged", table=table, document_id=document_id, rows=count)
        return count

    def find_slice(self, document_id: int, number: int) -> bytes | None:
        """Return a slice of the original file by its number, from 0, or None after the last slice."""
        mine = _of(DocumentBytes, self._scope.user_id, document_id)
        return self._session.exec(
            select(DocumentBytes.content).where(*mine, DocumentBytes.number == number)
        ).one_or_none()

    def page(self, document: Document, number: int) -> DocumentPage:
        """Return a page by its number, from 1.

        Raises:
            PageNotFound: There is no such page, or the page has not been read yet.
        """
        if found := self.pages(document.id, first=number, last=number):
            return found[0]
        if document.ended_at is None:
            raise PageNotFound(f"Page {number} of document {document.id} has not been read yet. Try again in a moment.")
        there = {0: "no pages", 1: "1 page"}.get(document.pages_read, f"{document.pages_read} pages")
        raise PageNotFound(f"Document {document.id} has {there}: there is no page {number}.")

    def pages(self, document_id: int, *, first: int, last: int) -> list[DocumentPage]:
        """Return the pages from `first` to `last`, in order."""
        mine = _of(DocumentPage, self._scope.user_id, document_id)
        within = col(DocumentPage.number).between(first, last)
        return list(self._session.exec(select(DocumentPage).where(*mine, within).order_by(col(DocumentPage.number))))

    def passages(self, page: DocumentPage) -> list[Chunk]:
        """Return a page's passages, in order."""
        return list(
            self._session.exec(
                select(Chunk)
                .where(*_of(Chunk, self._scope.user_id, page.document_id), Chunk.page == page.number)
                .order_by(col(Chunk.chunk_index))
            )
        )

    def passage(self, document_id: int, passage_id: int) -> Chunk:
        """Return a document's passage by its id; raise PassageNotFound if the document has no such passage."""
        found = self._session.exec(
            select(Chunk).where(*_of(Chunk, self._scope.user_id, document_id), Chunk.id == passage_id)
        ).one_or_none()
        if found is None:
            raise PassageNotFound(passage_id)
        return found

    def _require_room(self, size: int, rules: KeepingRules) -> None:
        user = AccountRepository(self._scope).find()
        is_guest = user is None or user.kind == "guest"
        left = rules.left_of(self.used_bytes(), is_guest=is_guest)
        if left is not None and size > left:
            raise NoRoom(
                f"The file has {in_words(size)}, but of your {in_words(rules.most_of(is_guest=is_guest))} only "
                f"{in_words(left)} are left. Delete documents permanently to make room.",
                left=left,
            )
        if is_guest and not self._is_room(_GUESTS_HAVE_ROOM, size, rules.most_bytes_of_guests):
            raise NoRoom(
                "The space that all guests share on this server has no room for this file. Upload a smaller file, or "
                "ask the administrator for more space."
            )
        if not self._is_room(_HAS_ROOM, size, rules.most_bytes):
            raise NoRoom("This server has no room for this file. Ask the administrator for more space.")
        if int(self._session.exec(select(func.count()).select_from(self._mine().subquery())).one()) >= MOST_DOCUMENTS:
            raise TooManyDocuments

    def _is_room(self, statement: TextClause, size: int, most: int) -> bool:
        return not most or bool(self._session.execute(statement, {"bytes": size, "most": most}).scalar_one())

    def _add(self, number: int, file: NewFile, slices: Iterable[bytes], rules: KeepingRules) -> Document:
        now = self._scope.now
        document = Document(
            user_id=self._scope.user_id,
            id=number,
            filename=file.filename,
            original_filename=file.original_filename,
            content_type=file.content_type,
            file_size=file.file_size,
            sha256=file.sha256,
            title=file.title,
            is_original_kept=rules.store_originals,
            created_at=now,
            updated_at=now,
        )
        self._keep(document, "added")
        self._write(number, slices)
        notify(self._session, "document", str(number))
        return document

    def _retry(self, document: Document, slices: Iterable[bytes], rules: KeepingRules) -> Document:
        """Reset a failed document to be read again from the start.

        `attempt` is not reset, because it keeps earlier attempts from writing.
        """
        for table in (DocumentBytes, DocumentPage, Chunk, Postings):
            self._session.execute(delete(table).where(*_of(table, self._scope.user_id, document.id)))
        for name, value in _UNREAD.items():
            setattr(document, name, value)
        # The current rule applies. It may differ from the rule at the first upload.
        document.is_original_kept = rules.store_originals
        document.updated_at = self._scope.now
        self._keep(document, "retried")
        self._write(document.id, slices)
        notify(self._session, "document", str(document.id))
        return document

    def _write(self, document_id: int, slices: Iterable[bytes]) -> None:
        for number, content in enumerate(slices):
            row = {"user_id": self._scope.user_id, "document_id": document_id, "number": number, "content": content}
            self._session.execute(insert(DocumentBytes), row)

    def _keep(self, document: Document, outcome: str) -> Document:
        self._session.add(document)
        self._session.flush()
        self._written(outcome, document_id=document.id)
        return document


_HAS_ROOM = text("select has_room_for(:bytes, :most)")
_GUESTS_HAVE_ROOM = text("select guests_have_room_for(:bytes, :most)")

_UNREAD: dict[str, Any] = {
    "status": "pending",
    "reason": None,
    "pages": None,
    "pages_read": 0,
    "pages_cut": 0,
    "chunks": 0,
    "words": 0,
    "is_read": False,
    "has_pages": False,
    "fruitless": 0,
    "lease_owner": None,
    "lease_until": None,
    "cancel_requested": False,
    "ended_at": None,
}


def _of(table: type[Any], user_id: str, document_id: int) -> tuple[Any, Any]:
    return col(table.user_id) == user_id, col(table.document_id) == document_id
